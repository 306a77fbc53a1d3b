-- The board of streams. All tables are derived from `facts`, and `facts` from the inbox.

CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL);

CREATE TABLE streams(
    no INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    domain TEXT NOT NULL,
    appname TEXT NOT NULL,
    streamid TEXT NOT NULL,
    live INTEGER NOT NULL DEFAULT 0,
    since INTEGER,                          -- milliseconds since 1970, as all times
    session TEXT,                           -- key of the newest one
    last INTEGER NOT NULL,                  -- time of its latest event
    announced INTEGER NOT NULL DEFAULT 0,   -- the `live` that was announced last
    changes INTEGER NOT NULL DEFAULT 0,     -- how many changes were announced
    settle_at INTEGER,                      -- when to announce a change
    revision INTEGER NOT NULL,
    UNIQUE (source, domain, appname, streamid)
);
CREATE INDEX streams_that_are_live ON streams(live, no);
CREATE INDEX streams_unsettled ON streams(settle_at) WHERE settle_at IS NOT NULL;
CREATE INDEX streams_by_revision ON streams(revision);

CREATE TABLE facts(
    seq INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    received INTEGER NOT NULL,
    sequence TEXT,
    lasted INTEGER,
    gone INTEGER NOT NULL DEFAULT 0         -- its event is removed; see Shelf::forget
);
CREATE INDEX facts_of_stream ON facts(stream, at);
CREATE INDEX facts_of_push ON facts(stream, sequence, at) WHERE kind IN (0, 1);

CREATE TABLE sessions(
    stream INTEGER NOT NULL,
    key TEXT NOT NULL,
    sequence TEXT,
    rank TEXT NOT NULL,
    start INTEGER NOT NULL,
    begin_seq INTEGER,
    end_at INTEGER,
    end_seq INTEGER,
    PRIMARY KEY (stream, key)
) WITHOUT ROWID;
CREATE INDEX sessions_by_start ON sessions(stream, start, rank);

-- The pinned begins of live streams: retention keeps them.
CREATE TABLE held(seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL);
