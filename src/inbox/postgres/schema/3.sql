-- Clocks may be set. A time too far in the future was written by a wrong clock.

-- As accept_1, but an event whose stored time is more than a window in the future makes no duplicate.
CREATE FUNCTION livehook.accept_2(
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
                WHERE e.id = g.id AND (g.late OR (e.stored > this_moment - dedupe_window
                    AND e.stored <= this_moment + dedupe_window)) OFFSET 0
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

-- As replay_1, but a due or waiting delivery is counted: it stays in its lane, and the head of the lane becomes due now. One
-- that is `owed` gets no row if it has none.
CREATE FUNCTION livehook.replay_2(of_handler bigint, seqs bigint[], lanes bigint[], owed boolean[], dry_run boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    wanted record;
    had record;
    replayed bigint := 0;
BEGIN
    PERFORM 1 FROM livehook.handlers WHERE id = of_handler FOR NO KEY UPDATE;
    FOR wanted IN SELECT * FROM unnest(seqs, lanes, owed) WITH ORDINALITY AS w(seq, lane, is_owed, place) ORDER BY place LOOP
        IF NOT dry_run THEN
            SELECT d.state, d.lane INTO had FROM livehook.deliveries d WHERE d.handler = of_handler AND d.seq = wanted.seq;
            IF had.state IS NULL THEN
                CONTINUE WHEN NOT wanted.is_owed AND NOT livehook.wait_1(of_handler, wanted.seq, wanted.lane);
            ELSIF had.state = 2 THEN
                UPDATE livehook.deliveries SET attempts = 0, first_attempt = NULL, due = 0, lane = wanted.lane,
                    state = EXISTS (SELECT 1 FROM livehook.deliveries d
                        WHERE d.handler = of_handler AND d.lane = wanted.lane AND d.state < 2)::int
                WHERE handler = of_handler AND seq = wanted.seq;
            ELSE
                UPDATE livehook.deliveries SET due = 0
                WHERE handler = of_handler AND lane = had.lane AND state = 0 AND due <> 0;
            END IF;
        END IF;
        replayed := replayed + 1;
    END LOOP;
    RETURN replayed;
END $$;

-- As sweep_1, but it examines events up to `stop`, and continues past young ones: `last_old` is the last old one. An event that
-- was stored in the far future is old if a later one is old; `known_old` is an old one that was found before.
CREATE FUNCTION livehook.sweep_2(
    configured bigint[], start bigint, stop bigint, known_old bigint, retention bigint, parked_retention bigint, given_now bigint,
    most bigint)
RETURNS TABLE(upto bigint, looked bigint, last_old bigint, dropped bigint, forgotten text[], owed bigint[])
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    this_moment bigint := coalesce(given_now, livehook.now_1());
    lowest bigint;
    gone bigint;
    step bigint;
    one record;
    -- The clock says that it is earlier than when the newest event arrived: what is ahead of it may be right.
    behind boolean := coalesce((SELECT stored > this_moment FROM livehook.events ORDER BY seq DESC LIMIT 1), false);
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
    UPDATE livehook.handlers SET seen = this_moment
        WHERE (id = ANY (configured) AND seen < this_moment) OR (NOT behind AND seen > this_moment + retention);
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
        UPDATE livehook.deliveries SET parked = this_moment WHERE handler = one.id AND seq IN (
            SELECT seq FROM livehook.deliveries
            WHERE NOT behind AND handler = one.id AND parked > this_moment + parked_retention LIMIT most);
        DELETE FROM livehook.deliveries WHERE handler = one.id AND seq IN (
            SELECT seq FROM livehook.deliveries
            WHERE handler = one.id AND parked < this_moment - parked_retention AND state = 2 LIMIT most);
        GET DIAGNOSTICS step = ROW_COUNT;
        dropped := dropped + step;
    END LOOP;
    lowest := coalesce((SELECT min(position) FROM livehook.handlers), 9223372036854775807);
    SELECT coalesce(max(o.seq), start), count(*), max(o.seq) FILTER (WHERE o.stored < this_moment - retention)
        INTO upto, looked, last_old FROM (
            SELECT e.seq, e.stored FROM livehook.events e WHERE e.seq > start AND e.seq <= least(lowest, stop)
            ORDER BY e.seq LIMIT most
        ) AS o;
    lowest := least(upto, greatest(last_old, known_old));
    IF lowest > start THEN
        DELETE FROM livehook.events e WHERE e.seq > start AND e.seq <= lowest
            AND (e.stored < this_moment - retention OR e.stored > this_moment + retention)
            AND NOT EXISTS (SELECT 1 FROM livehook.deliveries d WHERE d.seq = e.seq);
        -- Whoever begins now must not begin before what is gone.
        INSERT INTO livehook.meta VALUES ('last_seq', lowest)
            ON CONFLICT (name) DO UPDATE SET value = greatest(livehook.meta.value, excluded.value);
    END IF;
    RETURN NEXT;
END $$;
