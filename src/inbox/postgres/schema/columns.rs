//! The columns that the steps make. They are checked at the start: a column that somebody changed by
//! hand would make a query fail much later.

use tokio_postgres::Client;

use super::MigrationError;

/// Each table and its columns, as the server describes them. A later release may add others.
const COLUMNS: [(&str, &[&str]); 11] = [
    ("meta", &["name text NOT NULL", "value bigint NOT NULL"]),
    (
        "events",
        &[
            "seq bigint NOT NULL",
            "received bigint NOT NULL",
            "stored bigint NOT NULL",
            "source text NOT NULL",
            "kind integer NOT NULL",
            "id bytea NOT NULL",
            "body bytea NOT NULL",
        ],
    ),
    (
        "handlers",
        &[
            "id bigint NOT NULL",
            "name text NOT NULL",
            "position bigint NOT NULL",
            "paused bigint",
            "seen bigint NOT NULL",
            "epoch bigint NOT NULL",
            "receiver uuid",
            "until timestamp with time zone",
            "term bigint",
        ],
    ),
    (
        "receivers",
        &[
            "id uuid NOT NULL",
            "wanted bigint[] NOT NULL",
            "until timestamp with time zone NOT NULL",
        ],
    ),
    (
        "deliveries",
        &[
            "handler bigint NOT NULL",
            "seq bigint NOT NULL",
            "lane bigint NOT NULL",
            "state smallint NOT NULL",
            "attempts bigint NOT NULL",
            "first_attempt bigint",
            "due bigint NOT NULL",
            "parked bigint",
            "error text NOT NULL",
        ],
    ),
    (
        "orders",
        &[
            "id uuid NOT NULL",
            "handler bigint NOT NULL",
            "what text NOT NULL",
            "asked timestamp with time zone NOT NULL",
            "taken boolean NOT NULL",
            "answer bigint",
            "answered timestamp with time zone",
        ],
    ),
    (
        "rejected",
        &[
            "id bigint NOT NULL",
            "source text NOT NULL",
            "reason text NOT NULL",
            "received bigint NOT NULL",
            "url_kind integer",
            "kind integer NOT NULL",
            "client text",
            "token_hash bytea",
            "size bigint NOT NULL",
            "body bytea",
        ],
    ),
    (
        "streams",
        &[
            "no bigint NOT NULL",
            "source text NOT NULL",
            "domain text NOT NULL",
            "appname text NOT NULL",
            "streamid text NOT NULL",
            "live boolean NOT NULL",
            "since bigint",
            "session text",
            "last bigint NOT NULL",
            "announced boolean NOT NULL",
            "changes bigint NOT NULL",
            "settle_at bigint",
            "revision bigint NOT NULL",
            "looks bigint NOT NULL",
        ],
    ),
    (
        "stream_facts",
        &[
            "seq bigint NOT NULL",
            "stream bigint NOT NULL",
            "id bytea NOT NULL",
            "kind integer NOT NULL",
            "at bigint NOT NULL",
            "received bigint NOT NULL",
            "sequence text",
            "lasted bigint",
            "gone boolean NOT NULL",
        ],
    ),
    (
        "stream_sessions",
        &[
            "stream bigint NOT NULL",
            "key text NOT NULL",
            "sequence text",
            "rank text NOT NULL",
            "start bigint NOT NULL",
            "begin_seq bigint",
            "end_at bigint",
            "end_seq bigint",
        ],
    ),
    (
        "stream_held",
        &["seq bigint NOT NULL", "stream bigint NOT NULL"],
    ),
];

/// Lists every column of the schema as `table` and `name type`.
const FOUND: &str = "
    SELECT c.relname::text, a.attname || ' ' || format_type(a.atttypid, NULL)
        || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'livehook')
        AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped";

/// Fails if a column is missing or differs from what the steps made.
pub(super) async fn check(client: &Client) -> Result<(), MigrationError> {
    let rows = client.query_typed(FOUND, &[]).await?;
    let found: Vec<(&str, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let wanted = COLUMNS
        .iter()
        .flat_map(|(table, columns)| columns.iter().map(move |column| (*table, *column)));
    for (table, column) in wanted {
        if !found.contains(&(table, column)) {
            return Err(MigrationError::Changed { table, column });
        }
    }
    Ok(())
}
