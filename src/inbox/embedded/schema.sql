CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
-- The oldest format whose readers may still open the file.
INSERT INTO meta VALUES ('readable_by', 1);

CREATE TABLE handlers(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    -- Up to this event each event is finished or has a row in deliveries.
    position INTEGER NOT NULL,
    -- Since when the handler is paused, in milliseconds since 1970. 0 if it is not.
    paused INTEGER NOT NULL DEFAULT 0,
    missing_since INTEGER
);

-- Only deliveries that are out of line.
CREATE TABLE deliveries(
    handler INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL, -- 0 due, 1 waiting, 2 parked
    attempts INTEGER NOT NULL,
    first_attempt INTEGER,
    due INTEGER NOT NULL,
    parked INTEGER,         -- since when; stays while it is replayed
    error TEXT NOT NULL,
    PRIMARY KEY (handler, seq)
) WITHOUT ROWID;
CREATE INDEX deliveries_by_due ON deliveries(handler, state, due);
CREATE INDEX deliveries_by_lane ON deliveries(handler, lane, state, seq);
CREATE INDEX deliveries_by_parked ON deliveries(handler, parked) WHERE parked IS NOT NULL;
CREATE INDEX deliveries_parked_in_order ON deliveries(handler, seq) WHERE parked IS NOT NULL;
CREATE INDEX deliveries_by_seq ON deliveries(seq);

-- Events that retention removed, a whole segment of the log at a time. Neighbours are one row.
CREATE TABLE removed(first INTEGER PRIMARY KEY, last INTEGER NOT NULL);

-- Copies of events that are owed or parked, although their segment is removed.
CREATE TABLE kept(
    seq INTEGER PRIMARY KEY,
    received INTEGER NOT NULL, -- milliseconds since 1970
    source TEXT NOT NULL,
    kind INTEGER NOT NULL,     -- event_type, -1 if unknown
    id BLOB NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL       -- CRC-32 of all that
);
CREATE INDEX kept_by_id ON kept(id);

-- Deleted events whose record is still in the log. erased: their bodies are overwritten.
CREATE TABLE deleted(seq INTEGER PRIMARY KEY, erased INTEGER NOT NULL);
CREATE INDEX deleted_not_erased ON deleted(seq) WHERE erased = 0;

-- Events whose record in the log is damaged.
CREATE TABLE damaged(seq INTEGER PRIMARY KEY, found INTEGER NOT NULL);
