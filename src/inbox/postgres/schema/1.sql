-- The shared inbox. Everything is in the schema "livehook". Each request of a receiver is one statement, or one call of a
-- function if it needs several steps, so that a receiver that is frozen or dead never leaves a lock behind. The name of a
-- function ends with the number of its version: a release keeps calling the versions that it was built with.

CREATE TABLE livehook.meta(name text PRIMARY KEY, value bigint NOT NULL);
INSERT INTO livehook.meta VALUES ('version', 1), ('readable_by', 1);

-- Numbers follow arrival: they are given under the lock of accept_1, which is held until the commit is done. So a reader that
-- sees a number sees all lower ones.
CREATE SEQUENCE livehook.numbers;

CREATE TABLE livehook.events(
    seq bigint PRIMARY KEY,
    received bigint NOT NULL,  -- milliseconds since 1970, by the receiver's clock
    stored bigint NOT NULL,    -- when it was stored, by the database's clock
    source text NOT NULL,
    kind integer NOT NULL,     -- event_type, -1 if unknown
    id bytea NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX events_by_id ON livehook.events(id);
CREATE INDEX events_by_time ON livehook.events(received, seq);

CREATE TABLE livehook.handlers(
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    position bigint NOT NULL,
    paused bigint,             -- when it was paused
    seen bigint NOT NULL,      -- when a receiver last had it in its configuration
    epoch bigint NOT NULL DEFAULT 0,
    receiver uuid,             -- the receiver that has the lease
    until timestamptz,         -- the end of the lease
    term bigint                -- its length in milliseconds from its renewal
) WITH (fillfactor = 50);

CREATE TABLE livehook.receivers(
    id uuid PRIMARY KEY,
    wanted bigint[] NOT NULL,  -- the handlers in its configuration
    until timestamptz NOT NULL -- after this it counts as dead
) WITH (fillfactor = 50);

-- Only deliveries that are due, waiting or parked.
CREATE TABLE livehook.deliveries(
    handler bigint NOT NULL,
    seq bigint NOT NULL REFERENCES livehook.events,
    lane bigint NOT NULL,
    state smallint NOT NULL,   -- 0 due, 1 waiting, 2 parked
    attempts bigint NOT NULL,
    first_attempt bigint,
    due bigint NOT NULL,
    parked bigint,             -- when it was parked; a replay does not clear it
    error text NOT NULL,
    PRIMARY KEY (handler, seq)
);
CREATE INDEX deliveries_by_due ON livehook.deliveries(handler, state, due);
CREATE INDEX deliveries_by_lane ON livehook.deliveries(handler, lane, state, seq);
CREATE INDEX deliveries_by_parked ON livehook.deliveries(handler, parked) WHERE parked IS NOT NULL;
CREATE INDEX deliveries_parked_in_order ON livehook.deliveries(handler, seq) WHERE parked IS NOT NULL;
CREATE INDEX deliveries_by_seq ON livehook.deliveries(seq);

-- Commands of one receiver for the one that delivers for a handler.
CREATE TABLE livehook.orders(
    id uuid PRIMARY KEY,
    handler bigint NOT NULL,
    what text NOT NULL,
    asked timestamptz NOT NULL DEFAULT now(),
    taken boolean NOT NULL DEFAULT false,
    answer bigint,             -- the count; -1 if it failed
    answered timestamptz
);

CREATE FUNCTION livehook.now_1() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Stores a batch in its order, without duplicates. A `late` callback is a duplicate of any stored event, not only of those in
-- the window. `given_now` replaces the database's time. `insist` refuses asynchronous commits. jit is off: until the table
-- was analyzed, a large batch seems so expensive that the server would compile code for it, which takes half a second.
CREATE FUNCTION livehook.accept_1(
    given_received bigint[], given_source text[], given_kind integer[], given_id bytea[], given_body bytea[],
    given_late boolean[], dedupe_window bigint, given_now bigint, insist boolean)
RETURNS TABLE(place bigint, number bigint, duplicate boolean)
LANGUAGE plpgsql VOLATILE SET jit = off AS $$
#variable_conflict use_column
DECLARE
    this_moment bigint;
BEGIN
    IF insist AND current_setting('synchronous_commit') = 'off' THEN
        RAISE EXCEPTION 'synchronous_commit is off' USING ERRCODE = 'LH001';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'default_transaction_isolation is not read committed' USING ERRCODE = 'LH001';
    END IF;
    -- Numbers become visible in their order. The wait is bounded, as the sender's is.
    PERFORM set_config('lock_timeout', '4s', true);
    PERFORM pg_advisory_xact_lock(7810209847123);
    this_moment := coalesce(given_now, livehook.now_1());
    -- A statement after the lock sees what was committed before it. Without a join: nobody knows beforehand how many there
    -- are, and joins for few take the square of many.
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT g.*, (
            -- OFFSET: else the newest events might be looked through for the one with the id.
            SELECT max(o.seq) FROM (
                SELECT e.seq FROM livehook.events e
                WHERE e.id = g.id AND (g.late OR e.stored > this_moment - dedupe_window) OFFSET 0
            ) o
        ) AS known
        FROM unnest(given_received, given_source, given_kind, given_id, given_body, given_late)
            WITH ORDINALITY AS g(received, source, kind, id, body, late, place)
    ), numbered AS MATERIALIZED (
        SELECT n.*, CASE WHEN n.place = n.first THEN nextval('livehook.numbers') END AS fresh
        FROM (
            SELECT g.*, min(g.place) FILTER (WHERE g.known IS NULL) OVER (PARTITION BY g.id) AS first
            FROM given g ORDER BY g.place OFFSET 0
        ) n
    ), stored AS (
        INSERT INTO livehook.events(seq, received, stored, source, kind, id, body)
        SELECT n.fresh, n.received, this_moment, n.source, n.kind, n.id, n.body
        FROM numbered n WHERE n.fresh IS NOT NULL
    )
    SELECT n.place, coalesce(max(n.fresh) OVER (PARTITION BY n.id ORDER BY n.place), n.known), n.fresh IS NULL
    FROM numbered n ORDER BY n.place;
END $$;

-- Gives every configured handler its number and position.
CREATE FUNCTION livehook.register_1(names text[], from_oldest boolean[], given_now bigint)
RETURNS TABLE(place bigint, handler bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    newest bigint;
BEGIN
    newest := greatest(
        (SELECT coalesce(max(seq), 0) FROM livehook.events),
        (SELECT coalesce(max(position), 0) FROM livehook.handlers),
        (SELECT coalesce(max(value), 0) FROM livehook.meta WHERE name = 'last_seq'));
    INSERT INTO livehook.handlers(name, position, seen)
    SELECT g.name, CASE WHEN g.oldest THEN 0 ELSE newest END, coalesce(given_now, livehook.now_1())
    FROM unnest(names, from_oldest) AS g(name, oldest)
    ORDER BY g.name
    ON CONFLICT (name) DO UPDATE SET seen = greatest(livehook.handlers.seen, excluded.seen);
    RETURN QUERY SELECT g.place, h.id FROM unnest(names) WITH ORDINALITY AS g(name, place)
        JOIN livehook.handlers h ON h.name = g.name ORDER BY g.place;
END $$;

-- Pauses a handler or resumes it. Its deliveries do not age during the pause.
CREATE FUNCTION livehook.pause_1(of_handler bigint, pauses boolean, this_moment bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    since bigint := (SELECT paused FROM livehook.handlers WHERE id = of_handler FOR NO KEY UPDATE);
BEGIN
    IF pauses AND since IS NULL THEN
        UPDATE livehook.handlers SET paused = this_moment WHERE id = of_handler;
    ELSIF NOT pauses AND since IS NOT NULL THEN
        UPDATE livehook.deliveries SET first_attempt = first_attempt + greatest(this_moment - since, 0)
        WHERE handler = of_handler AND state < 2 AND first_attempt IS NOT NULL;
        UPDATE livehook.handlers SET paused = NULL WHERE id = of_handler;
    END IF;
END $$;

-- Makes the first waiting delivery of a lane due, if the lane has no due one.
CREATE FUNCTION livehook.promote_1(of_handler bigint, of_lane bigint) RETURNS void LANGUAGE sql VOLATILE AS $$
    UPDATE livehook.deliveries SET state = 0, due = 0
    WHERE handler = of_handler
      AND seq = (SELECT min(seq) FROM livehook.deliveries WHERE handler = of_handler AND lane = of_lane AND state = 1)
      AND NOT EXISTS (SELECT 1 FROM livehook.deliveries WHERE handler = of_handler AND lane = of_lane AND state = 0)
$$;

-- Puts a delivery at the end of its lane. It is due at once if the lane is empty. Returns whether it got a row: not if it has
-- one, and not if its event was removed.
CREATE FUNCTION livehook.wait_1(of_handler bigint, of_seq bigint, of_lane bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO livehook.deliveries(handler, seq, lane, state, attempts, due, error)
    SELECT of_handler, of_seq, of_lane,
        EXISTS (SELECT 1 FROM livehook.deliveries d WHERE d.handler = of_handler AND d.lane = of_lane AND d.state < 2)::int,
        0, 0, ''
    WHERE EXISTS (SELECT 1 FROM livehook.events e WHERE e.seq = of_seq)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END $$;

-- Writes what became of deliveries, in this order. `what`: 0 wait, 1 retry, 2 park, 3 done. If another receiver has the
-- handler now, it writes nothing and returns false. Without an epoch it writes only if no receiver has the handler.
CREATE FUNCTION livehook.settle_1(
    of_handler bigint, of_epoch bigint, new_position bigint,
    what integer[], seqs bigint[], lanes bigint[], counts bigint[], firsts bigint[], times bigint[], errors text[])
RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    change record;
    left_lane bigint;
BEGIN
    PERFORM 1 FROM livehook.handlers
        WHERE id = of_handler AND ((of_epoch IS NULL AND receiver IS NULL) OR epoch = of_epoch) FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    FOR change IN
        SELECT * FROM unnest(what, seqs, lanes, counts, firsts, times, errors)
            WITH ORDINALITY AS c(what, seq, lane, attempts, first, at, error, place) ORDER BY place
    LOOP
        IF change.what = 0 THEN
            PERFORM livehook.wait_1(of_handler, change.seq, change.lane);
            CONTINUE;
        END IF;
        -- A replay that meets a running attempt can put it into another lane than the attempt knows of.
        left_lane := coalesce((SELECT lane FROM livehook.deliveries WHERE handler = of_handler AND seq = change.seq), change.lane);
        IF change.what = 3 THEN
            DELETE FROM livehook.deliveries WHERE handler = of_handler AND seq = change.seq;
        ELSE
            INSERT INTO livehook.deliveries AS d(handler, seq, lane, state, attempts, first_attempt, due, parked, error)
            SELECT of_handler, change.seq, change.lane, CASE change.what WHEN 1 THEN 0 ELSE 2 END, change.attempts, change.first,
                change.at, CASE change.what WHEN 2 THEN change.at END, change.error
            WHERE EXISTS (SELECT 1 FROM livehook.events e WHERE e.seq = change.seq)
            ON CONFLICT (handler, seq) DO UPDATE SET lane = excluded.lane, state = excluded.state, attempts = excluded.attempts,
                first_attempt = excluded.first_attempt, due = excluded.due, parked = coalesce(excluded.parked, d.parked),
                error = excluded.error;
            IF FOUND AND change.what = 1 THEN
                -- Whatever had moved up in its absence waits again.
                UPDATE livehook.deliveries SET state = 1
                WHERE handler = of_handler AND lane = change.lane AND state = 0 AND seq <> change.seq;
            END IF;
        END IF;
        PERFORM livehook.promote_1(of_handler, left_lane);
    END LOOP;
    UPDATE livehook.handlers SET position = new_position WHERE id = of_handler AND position < new_position;
    RETURN true;
END $$;

-- Makes these deliveries due again, in these lanes for replays, and returns how many. A due or waiting one is left alone.
CREATE FUNCTION livehook.replay_1(of_handler bigint, seqs bigint[], lanes bigint[], dry_run boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    wanted record;
    had_state integer;
    replayed bigint := 0;
BEGIN
    PERFORM 1 FROM livehook.handlers WHERE id = of_handler FOR NO KEY UPDATE;
    FOR wanted IN SELECT * FROM unnest(seqs, lanes) WITH ORDINALITY AS w(seq, lane, place) ORDER BY place LOOP
        had_state := (SELECT state FROM livehook.deliveries WHERE handler = of_handler AND seq = wanted.seq);
        IF had_state IS DISTINCT FROM 2 AND had_state IS NOT NULL THEN
            CONTINUE;
        ELSIF NOT dry_run AND had_state IS NULL THEN
            CONTINUE WHEN NOT livehook.wait_1(of_handler, wanted.seq, wanted.lane);
        ELSIF NOT dry_run THEN
            UPDATE livehook.deliveries SET attempts = 0, first_attempt = NULL, due = 0, lane = wanted.lane,
                state = EXISTS (SELECT 1 FROM livehook.deliveries d
                    WHERE d.handler = of_handler AND d.lane = wanted.lane AND d.state < 2)::int
            WHERE handler = of_handler AND seq = wanted.seq;
        END IF;
        replayed := replayed + 1;
    END LOOP;
    RETURN replayed;
END $$;

-- Removes the rows of these deliveries. Returns one result for each: its lane if it was due or waiting, else NULL.
CREATE FUNCTION livehook.discard_1(of_handler bigint, seqs bigint[]) RETURNS TABLE(lane bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    gone record;
BEGIN
    PERFORM 1 FROM livehook.handlers WHERE id = of_handler FOR NO KEY UPDATE;
    FOR gone IN
        DELETE FROM livehook.deliveries WHERE handler = of_handler AND seq = ANY (seqs) RETURNING lane, state
    LOOP
        IF gone.state <> 2 THEN
            PERFORM livehook.promote_1(of_handler, gone.lane);
            RETURN QUERY SELECT gone.lane;
        ELSE
            RETURN QUERY SELECT NULL::bigint;
        END IF;
    END LOOP;
END $$;

-- One round of retention, by one receiver at a time. Examines events after `start`, and at most `most` rows of each sort.
CREATE FUNCTION livehook.sweep_1(
    configured bigint[], start bigint, retention bigint, parked_retention bigint, given_now bigint, most bigint)
RETURNS TABLE(upto bigint, looked bigint, dropped bigint, forgotten text[], owed bigint[])
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    this_moment bigint := coalesce(given_now, livehook.now_1());
    lowest bigint;
    gone bigint;
    step bigint;
    one record;
BEGIN
    upto := start;
    looked := 0;
    dropped := 0;
    forgotten := '{}';
    owed := '{}';
    IF NOT pg_try_advisory_xact_lock(7810209847124) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE livehook.handlers SET seen = this_moment WHERE id = ANY (configured) AND seen < this_moment;
    DELETE FROM livehook.receivers WHERE until < clock_timestamp() - interval '1 hour';
    DELETE FROM livehook.orders WHERE asked < clock_timestamp() - interval '1 hour';
    -- Who does not know yet what is configured cannot say what is missing.
    FOR one IN SELECT id, name FROM livehook.handlers
        WHERE configured IS NOT NULL AND seen < this_moment - retention
    LOOP
        forgotten := forgotten || one.name;
        owed := owed || (SELECT count(*) FROM livehook.deliveries WHERE handler = one.id);
        DELETE FROM livehook.handlers WHERE id = one.id;
    END LOOP;
    -- Deliveries of forgotten handlers, found without reading those of the others.
    gone := (SELECT min(handler) FROM livehook.deliveries);
    WHILE gone IS NOT NULL LOOP
        IF NOT EXISTS (SELECT 1 FROM livehook.handlers WHERE id = gone) THEN
            DELETE FROM livehook.deliveries WHERE handler = gone
                AND seq IN (SELECT seq FROM livehook.deliveries WHERE handler = gone LIMIT most);
            GET DIAGNOSTICS step = ROW_COUNT;
            dropped := dropped + step;
            EXIT;
        END IF;
        gone := (SELECT min(handler) FROM livehook.deliveries WHERE handler > gone);
    END LOOP;
    FOR one IN SELECT id FROM livehook.handlers LOOP
        DELETE FROM livehook.deliveries WHERE handler = one.id AND seq IN (
            SELECT seq FROM livehook.deliveries
            WHERE handler = one.id AND parked < this_moment - parked_retention AND state = 2 LIMIT most);
        GET DIAGNOSTICS step = ROW_COUNT;
        dropped := dropped + step;
    END LOOP;
    lowest := coalesce((SELECT min(position) FROM livehook.handlers), 9223372036854775807);
    SELECT max(o.seq), count(*) INTO lowest, looked FROM (
        SELECT seq, bool_and(stored < this_moment - retention) OVER (ORDER BY seq) AS old FROM (
            SELECT seq, stored FROM livehook.events WHERE seq > start AND seq <= lowest ORDER BY seq LIMIT most
        ) AS chosen
    ) AS o WHERE o.old;
    IF looked > 0 THEN
        upto := lowest;
        DELETE FROM livehook.events e WHERE e.seq > start AND e.seq <= lowest
            AND NOT EXISTS (SELECT 1 FROM livehook.deliveries d WHERE d.seq = e.seq);
        GET DIAGNOSTICS step = ROW_COUNT;
        -- Whoever begins now must not begin before what is gone.
        INSERT INTO livehook.meta VALUES ('last_seq', lowest)
            ON CONFLICT (name) DO UPDATE SET value = greatest(livehook.meta.value, excluded.value);
    END IF;
    RETURN NEXT;
END $$;

-- Renews the leases of a receiver and gives it free ones, of the handlers that it wants, each for its term in milliseconds.
-- A free handler goes to the receiver with the fewest, or after a while to any. Projections, whose names have a dot, go to any
-- receiver and are not counted. `surplus`: another receiver has so few that this one should give the handler back.
CREATE FUNCTION livehook.lease_1(me uuid, wants bigint[], terms bigint[])
RETURNS TABLE(handler bigint, epoch bigint, surplus boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := clock_timestamp();
    free record;
    mine bigint;
    spare bigint;
BEGIN
    INSERT INTO livehook.receivers(id, wanted, until) VALUES (me, wants, moment + interval '6 s')
        ON CONFLICT (id) DO UPDATE SET wanted = excluded.wanted, until = excluded.until;
    UPDATE livehook.handlers h SET until = moment + w.term * interval '1 ms', term = w.term
        FROM unnest(wants, terms) AS w(id, term) WHERE h.id = w.id AND h.receiver = me;
    mine := (SELECT count(*) FROM livehook.handlers WHERE receiver = me AND id = ANY (wants) AND name NOT LIKE '%.%');
    -- Nobody is promised more than a term, so the database's clock has gone back. Counted anew, or it would not end.
    UPDATE livehook.handlers h SET until = moment + h.term * interval '1 ms'
        WHERE h.id = ANY (wants) AND h.until > moment + (h.term + 1000) * interval '1 ms';
    UPDATE livehook.receivers r SET until = moment + interval '6 s' WHERE r.until > moment + interval '7 s';
    FOR free IN
        SELECT h.id, w.term, coalesce(h.until, moment) AS since, h.name LIKE '%.%' AS is_part FROM livehook.handlers h
        JOIN unnest(wants, terms) AS w(id, term) ON w.id = h.id
        WHERE h.receiver IS DISTINCT FROM me AND (h.receiver IS NULL OR h.until < moment)
        ORDER BY h.id FOR UPDATE OF h SKIP LOCKED
    LOOP
        CONTINUE WHEN NOT free.is_part AND free.since > moment - interval '3 s' AND EXISTS (
            SELECT 1 FROM livehook.receivers r WHERE r.id <> me AND r.until > moment AND free.id = ANY (r.wanted)
            AND (SELECT count(*) FROM livehook.handlers o
                WHERE o.receiver = r.id AND o.until > moment AND o.name NOT LIKE '%.%') < mine);
        UPDATE livehook.handlers h SET receiver = me, epoch = h.epoch + 1, until = moment + free.term * interval '1 ms', term = free.term
            WHERE h.id = free.id;
        mine := mine + (NOT free.is_part)::int;
    END LOOP;
    -- One at a time.
    spare := (
        SELECT max(h.id) FROM livehook.handlers h JOIN livehook.receivers r ON h.id = ANY (r.wanted)
        WHERE h.receiver = me AND h.name NOT LIKE '%.%' AND r.id <> me AND r.until > moment
        AND (SELECT count(*) FROM livehook.handlers o
            WHERE o.receiver = r.id AND o.until > moment AND o.name NOT LIKE '%.%') + 1 < mine);
    RETURN QUERY SELECT h.id, h.epoch, h.id IS NOT DISTINCT FROM spare FROM livehook.handlers h
        WHERE h.receiver = me AND h.id = ANY (wants) ORDER BY h.id;
END $$;

-- The rejected list. A newer entry has a higher id; ids may have gaps.
CREATE TABLE livehook.rejected(
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    reason text NOT NULL,
    received bigint NOT NULL,
    url_kind integer,
    kind integer NOT NULL,
    client text,
    token_hash bytea,
    size bigint NOT NULL,
    body bytea
);
CREATE INDEX rejected_by_reason ON livehook.rejected(source, reason, id);

-- Adds to the rejected list and keeps the newest `entries` and `bytes` of bodies of each source and reason.
CREATE FUNCTION livehook.refuse_1(
    sources text[], reasons text[], times bigint[], url_kinds integer[], kinds integer[], clients text[], hashes bytea[],
    sizes bigint[], bodies bytea[], entries bigint, bytes bigint)
RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO livehook.rejected(source, reason, received, url_kind, kind, client, token_hash, size, body)
    SELECT * FROM unnest(sources, reasons, times, url_kinds, kinds, clients, hashes, sizes, bodies);
    DELETE FROM livehook.rejected r USING (
        SELECT id, row_number() OVER newest AS place, sum(coalesce(length(body), 0)) OVER newest AS held
        FROM livehook.rejected
        WHERE (source, reason) IN (SELECT * FROM unnest(sources, reasons))
        WINDOW newest AS (PARTITION BY source, reason ORDER BY id DESC)
    ) AS o WHERE r.id = o.id AND (o.place > entries OR o.held > bytes)
$$;
