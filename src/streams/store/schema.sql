-- The board of streams, written behind: see Store. All of it follows from the events of the inbox.
-- Times are milliseconds since 1970.

-- `cursor`: the last event that the file has; `revision`: the highest; `streams`: the highest number.
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL);

CREATE TABLE streams(
    no INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    domain TEXT NOT NULL,
    appname TEXT NOT NULL,
    streamid TEXT NOT NULL,
    live INTEGER NOT NULL,
    since INTEGER,
    session TEXT,                   -- key of the session that decides
    last INTEGER NOT NULL,          -- time of its latest event
    revision INTEGER NOT NULL,
    start INTEGER,                  -- of the session that decides
    begin_seq INTEGER,              -- its begin
    begin_received INTEGER,
    announced INTEGER NOT NULL,     -- the `live` that was announced last
    announced_by INTEGER NOT NULL,  -- the event that announced it
    changes INTEGER NOT NULL,       -- how many changes were announced
    announce_at INTEGER,            -- when to announce a change
    applied INTEGER NOT NULL,       -- its last event
    oldest INTEGER,                 -- arrival of its oldest event that is not removed
    newest INTEGER,                 -- arrival of its newest one
    next_block INTEGER NOT NULL,
    tail BLOB NOT NULL,             -- the places that are in no block yet
    UNIQUE (source, domain, appname, streamid)
);
CREATE INDEX streams_live ON streams(live, no) WHERE live = 1;
CREATE INDEX streams_offline ON streams(newest) WHERE live = 0;
CREATE INDEX streams_unannounced ON streams(announce_at) WHERE announce_at IS NOT NULL;
CREATE INDEX streams_by_revision ON streams(revision);

-- The begins and ends of a push. `~`: of all that have no `sequence`.
CREATE TABLE pushes(
    stream INTEGER NOT NULL,
    sequence TEXT NOT NULL,
    facts BLOB NOT NULL,
    PRIMARY KEY (stream, sequence)
) WITHOUT ROWID;

-- Where the events of a stream are in the inbox.
CREATE TABLE places(
    stream INTEGER NOT NULL,
    block INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    places BLOB NOT NULL,
    PRIMARY KEY (stream, block)
) WITHOUT ROWID;

-- The pinned begins of live streams: retention keeps them.
CREATE TABLE pinned(seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL);
