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
    greatest_push TEXT NOT NULL,    -- the greatest key of a push in its blocks
    tail BLOB NOT NULL,             -- its newest block, which is not full yet
    UNIQUE (source, domain, appname, streamid)
);
CREATE INDEX streams_live ON streams(live, no) WHERE live = 1;
CREATE INDEX streams_offline ON streams(newest) WHERE live = 0;
CREATE INDEX streams_unannounced ON streams(announce_at) WHERE announce_at IS NOT NULL;
CREATE INDEX streams_by_revision ON streams(revision);

-- Where the earlier events of a stream are in the inbox, and its pushes with their begins and ends.
-- The key of a push is its `sequence`; `~`: all that have none. A push is in one block, or in the tail.
-- New blocks come last, whatever their stream: so a flush writes few pages.
CREATE TABLE blocks(
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    content BLOB NOT NULL
);
CREATE INDEX blocks_of_stream ON blocks(stream);

-- The pinned begins of live streams: retention keeps them.
CREATE TABLE pinned(seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL);
