CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('readable_by', 1), ('last_seq', 0);

-- Only ever appended to in the order of seq; nothing else may be indexed here.
CREATE TABLE events(
    seq INTEGER PRIMARY KEY,
    received INTEGER NOT NULL, -- milliseconds since 1970
    source TEXT NOT NULL,
    kind INTEGER NOT NULL,     -- event_type, -1 if unknown
    id BLOB NOT NULL,
    body BLOB NOT NULL
);

-- Ids of past events in sorted runs, for the duplicate check and for finding an event by its id.
CREATE TABLE id_runs(
    run INTEGER PRIMARY KEY,
    first INTEGER NOT NULL, last INTEGER NOT NULL,    -- seq
    oldest INTEGER NOT NULL, newest INTEGER NOT NULL  -- received
);
CREATE TABLE id_parts(part INTEGER PRIMARY KEY, ids BLOB NOT NULL);

CREATE TABLE handlers(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    position INTEGER NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,  -- since when; 0 if it is not
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

-- What of the ids is held in memory. Runs that were merged have numbers below zero.
ALTER TABLE id_runs ADD COLUMN filter BLOB;

PRAGMA application_id = 1818783595;
PRAGMA user_version = 2;
