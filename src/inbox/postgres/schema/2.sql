-- The board of streams, which all receivers share. All tables are derived from `stream_facts`, by the rule that receivers have
-- in code: one function adds facts and returns all facts of the changed pushes, another one takes the sessions that follow.
-- In between, another receiver may have changed the same stream: then the older sessions are dropped.

CREATE SEQUENCE livehook.stream_revisions;

CREATE TABLE livehook.streams(
    no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    domain text NOT NULL,
    appname text NOT NULL,
    streamid text NOT NULL,
    live boolean NOT NULL DEFAULT false,
    since bigint,              -- milliseconds since 1970, as all times
    session text,              -- the newest session
    last bigint NOT NULL,      -- the time of its newest fact
    announced boolean NOT NULL DEFAULT false, -- whether it was live at the last announcement
    changes bigint NOT NULL DEFAULT 0,        -- how many announcements there were
    settle_at bigint,          -- when to announce the change
    revision bigint NOT NULL DEFAULT nextval('livehook.stream_revisions'),
    looks bigint NOT NULL DEFAULT 0           -- how often its facts have changed
) WITH (fillfactor = 70);
-- Hashes, because names may be too long for an index.
CREATE UNIQUE INDEX streams_by_name ON livehook.streams(
    md5(source || chr(1) || domain || chr(1) || appname || chr(1) || streamid));
CREATE INDEX streams_that_are_live ON livehook.streams(live, no);
CREATE INDEX streams_unsettled ON livehook.streams(settle_at) WHERE settle_at IS NOT NULL;
CREATE INDEX streams_by_revision ON livehook.streams(revision);

CREATE TABLE livehook.stream_facts(
    seq bigint PRIMARY KEY,
    stream bigint NOT NULL,
    id bytea NOT NULL,
    kind integer NOT NULL,
    at bigint NOT NULL,
    received bigint NOT NULL,
    sequence text,
    lasted bigint,
    gone boolean NOT NULL DEFAULT false       -- its event was removed; see stream_forget_1
);
CREATE INDEX facts_of_stream ON livehook.stream_facts(stream, at);
CREATE INDEX facts_of_push ON livehook.stream_facts(stream, md5(sequence)) WHERE kind IN (0, 1);

CREATE TABLE livehook.stream_sessions(
    stream bigint NOT NULL,
    key text NOT NULL,
    sequence text,
    rank text COLLATE "C" NOT NULL,
    start bigint NOT NULL,
    begin_seq bigint,
    end_at bigint,
    end_seq bigint
);
CREATE INDEX sessions_by_start ON livehook.stream_sessions(stream, start);
CREATE INDEX sessions_by_push ON livehook.stream_sessions(stream, md5(sequence));

-- The pinned begins of live streams.
CREATE TABLE livehook.stream_held(seq bigint PRIMARY KEY, stream bigint NOT NULL);

-- Updates streams whose facts have changed, and returns all facts of their changed pushes; for a push without facts, one row
-- without a fact. `decides`: whether the changed fact was a begin or end.
CREATE FUNCTION livehook.stream_touched_1(streams bigint[], pushes text[], decides boolean[], numberless bigint)
RETURNS TABLE(stream bigint, looks bigint, push text, seq bigint, id bytea, kind integer, at bigint, received bigint, lasted bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    UPDATE livehook.streams s SET looks = s.looks + 1,
        last = coalesce((SELECT max(f.at) FROM livehook.stream_facts f WHERE f.stream = s.no), s.last)
        WHERE s.no = ANY (streams);
    DELETE FROM livehook.stream_sessions d WHERE d.stream = ANY (streams)
        AND NOT EXISTS (SELECT 1 FROM livehook.stream_facts f WHERE f.stream = d.stream);
    DELETE FROM livehook.streams s WHERE s.no = ANY (streams)
        AND NOT EXISTS (SELECT 1 FROM livehook.stream_facts f WHERE f.stream = s.no);
    RETURN QUERY
    SELECT t.stream, s.looks, t.push, f.seq, f.id, f.kind, f.at, f.received, f.lasted
    FROM (SELECT DISTINCT u.stream, u.push FROM unnest(streams, pushes, decides) AS u(stream, push, decides) WHERE u.decides) AS t
    JOIN livehook.streams s ON s.no = t.stream
    LEFT JOIN LATERAL (
        (SELECT o.* FROM livehook.stream_facts o
        WHERE t.push IS NOT NULL AND o.stream = t.stream AND md5(o.sequence) = md5(t.push) AND o.sequence = t.push
            AND o.kind IN (0, 1)
        ORDER BY o.at DESC, o.id DESC, o.seq LIMIT numberless)
        UNION ALL
        (SELECT o.* FROM livehook.stream_facts o
        WHERE t.push IS NULL AND o.stream = t.stream AND md5(o.sequence) IS NULL AND o.kind IN (0, 1)
        ORDER BY o.at DESC, o.id DESC, o.seq LIMIT numberless)
    ) AS f ON true;
END $$;

-- Adds facts. With `first` and `last`, they replace all facts in this range whose events are not removed.
CREATE FUNCTION livehook.stream_tell_1(
    sources text[], domains text[], appnames text[], streamids text[], seqs bigint[], ids bytea[], kinds integer[], ats bigint[],
    receiveds bigint[], sequences text[], lasteds bigint[], first bigint, last bigint, numberless bigint)
RETURNS TABLE(stream bigint, looks bigint, push text, seq bigint, id bytea, kind integer, at bigint, received bigint, lasted bigint)
LANGUAGE plpgsql VOLATILE SET jit = off AS $$
#variable_conflict use_column
DECLARE
    streams bigint[] := '{}';
    pushes text[] := '{}';
    decides boolean[] := '{}';
    one record;
BEGIN
    PERFORM set_config('lock_timeout', '4s', true);
    PERFORM pg_advisory_xact_lock(7810209847125);
    FOR one IN DELETE FROM livehook.stream_facts f WHERE f.seq BETWEEN first AND last AND NOT f.gone
        RETURNING f.stream, f.sequence, f.kind
    LOOP
        streams := streams || one.stream;
        pushes := array_append(pushes, one.sequence);
        decides := decides || (one.kind IN (0, 1));
    END LOOP;
    INSERT INTO livehook.streams(source, domain, appname, streamid, last)
        SELECT g.source, g.domain, g.appname, g.streamid, min(g.at)
        FROM unnest(sources, domains, appnames, streamids, ats, seqs) AS g(source, domain, appname, streamid, at, seq)
        GROUP BY 1, 2, 3, 4 ORDER BY min(g.seq)
        ON CONFLICT DO NOTHING;
    FOR one IN
        WITH added AS (
            INSERT INTO livehook.stream_facts AS f (seq, stream, id, kind, at, received, sequence, lasted)
            SELECT g.seq, s.no, g.id, g.kind, g.at, g.received, g.sequence, g.lasted
            FROM unnest(sources, domains, appnames, streamids, seqs, ids, kinds, ats, receiveds, sequences, lasteds)
                AS g(source, domain, appname, streamid, seq, id, kind, at, received, sequence, lasted)
            JOIN livehook.streams s
                ON md5(s.source || chr(1) || s.domain || chr(1) || s.appname || chr(1) || s.streamid)
                = md5(g.source || chr(1) || g.domain || chr(1) || g.appname || chr(1) || g.streamid)
            ON CONFLICT DO NOTHING
            RETURNING f.stream, f.sequence, f.kind
        ) SELECT * FROM added
    LOOP
        streams := streams || one.stream;
        pushes := array_append(pushes, one.sequence);
        decides := decides || (one.kind IN (0, 1));
    END LOOP;
    RETURN QUERY SELECT * FROM livehook.stream_touched_1(streams, pushes, decides, numberless);
END $$;

-- Removes facts of removed events. Facts of a session are removed together, and those of a stream's newest session only when
-- all begins of the stream are removed: else an older session would decide, and an ended stream could become live.
CREATE FUNCTION livehook.stream_forget_1(seqs bigint[], numberless bigint)
RETURNS TABLE(stream bigint, looks bigint, push text, seq bigint, id bytea, kind integer, at bigint, received bigint, lasted bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    streams bigint[] := '{}';
    pushes text[] := '{}';
    decides boolean[] := '{}';
    of_stream bigint;
    newest record;
    one record;
BEGIN
    PERFORM set_config('lock_timeout', '4s', true);
    PERFORM pg_advisory_xact_lock(7810209847125);
    UPDATE livehook.stream_facts f SET gone = true WHERE f.seq = ANY (seqs);
    FOR of_stream IN SELECT DISTINCT f.stream FROM livehook.stream_facts f WHERE f.seq = ANY (seqs) LOOP
        SELECT s.* INTO newest FROM livehook.stream_sessions s WHERE s.stream = of_stream
            AND EXISTS (SELECT 1 FROM livehook.stream_facts f WHERE f.stream = of_stream AND f.kind = 1 AND NOT f.gone)
            ORDER BY s.start DESC, s.rank DESC LIMIT 1;
        FOR one IN DELETE FROM livehook.stream_facts f WHERE f.stream = of_stream AND f.gone
            AND NOT (f.kind IN (0, 1) AND CASE
            WHEN f.sequence IS NOT NULL THEN coalesce(f.sequence = newest.sequence, false) OR EXISTS (
                SELECT 1 FROM livehook.stream_facts o WHERE o.stream = of_stream AND md5(o.sequence) = md5(f.sequence)
                AND o.sequence = f.sequence AND o.kind IN (0, 1) AND NOT o.gone)
            ELSE coalesce(f.seq IN (newest.begin_seq, newest.end_seq), false) OR EXISTS (
                SELECT 1 FROM livehook.stream_facts o WHERE o.stream = of_stream AND md5(o.sequence) IS NULL
                AND o.kind IN (0, 1) AND NOT o.gone AND (o.id = f.id OR EXISTS (
                    SELECT 1 FROM livehook.stream_sessions s WHERE s.stream = of_stream AND md5(s.sequence) IS NULL
                    AND o.seq IN (s.begin_seq, s.end_seq) AND f.seq IN (s.begin_seq, s.end_seq))))
            END)
            RETURNING f.sequence, f.kind
        LOOP
            streams := streams || of_stream;
            pushes := array_append(pushes, one.sequence);
            decides := decides || (one.kind IN (0, 1));
        END LOOP;
    END LOOP;
    RETURN QUERY SELECT * FROM livehook.stream_touched_1(streams, pushes, decides, numberless);
END $$;

-- Writes the sessions of these pushes, unless the stream has changed since. Returns how many streams went back to their old
-- state before the change was announced.
CREATE FUNCTION livehook.stream_settle_1(
    streams bigint[], look bigint[], pushes text[], session_streams bigint[], keys text[], sequences text[], ranks text[],
    starts bigint[], begins bigint[], end_ats bigint[], end_seqs bigint[], given_settle_at bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    of_stream bigint;
    newest record;
    before record;
    is_live boolean;
    is_since bigint;
    flaps bigint := 0;
    current bigint[];
BEGIN
    PERFORM set_config('lock_timeout', '4s', true);
    PERFORM pg_advisory_xact_lock(7810209847125);
    current := ARRAY(SELECT DISTINCT s.no FROM unnest(streams, look) AS u(no, looks)
        JOIN livehook.streams s ON s.no = u.no AND s.looks = u.looks);
    DELETE FROM livehook.stream_sessions d USING unnest(streams, pushes) AS u(no, push)
        WHERE d.stream = u.no AND md5(d.sequence) IS NOT DISTINCT FROM md5(u.push) AND u.no = ANY (current);
    INSERT INTO livehook.stream_sessions
        SELECT n.* FROM unnest(session_streams, keys, sequences, ranks, starts, begins, end_ats, end_seqs)
            AS n(stream, key, sequence, rank, start, begin_seq, end_at, end_seq)
        WHERE n.stream = ANY (current);
    FOREACH of_stream IN ARRAY current LOOP
        SELECT s.* INTO newest FROM livehook.stream_sessions s WHERE s.stream = of_stream
            ORDER BY s.start DESC, s.rank DESC LIMIT 1;
        SELECT s.* INTO before FROM livehook.streams s WHERE s.no = of_stream;
        is_live := newest.key IS NOT NULL AND newest.end_at IS NULL;
        is_since := coalesce(newest.end_at, newest.start);
        CONTINUE WHEN (before.live, before.since, before.session) IS NOT DISTINCT FROM (is_live, is_since, newest.key);
        UPDATE livehook.streams SET live = is_live, since = is_since, session = newest.key,
            settle_at = CASE WHEN announced = is_live THEN NULL ELSE coalesce(settle_at, given_settle_at) END,
            revision = nextval('livehook.stream_revisions')
            WHERE no = of_stream;
        IF before.settle_at IS NOT NULL AND before.announced = is_live THEN
            flaps := flaps + 1;
        END IF;
    END LOOP;
    RETURN flaps;
END $$;
