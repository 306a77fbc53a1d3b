//! Inserts the same rows into a table with the same keys, with little code: the upper limit of this
//! PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_postgres::types::{ToSql, Type};

use crate::callback::{Kinds, Template};
use crate::measure::Effort;

/// The connections that insert at a time, as in livehook. Each inserts its share of the rows that
/// would wait for an answer.
const WRITERS: u32 = 2;

const TABLE: &str = "CREATE TABLE bare(
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        received bigint NOT NULL, stored bigint NOT NULL, source text NOT NULL, kind integer NOT NULL,
        id bytea NOT NULL, body bytea NOT NULL);
    CREATE INDEX ON bare(id);
    CREATE INDEX ON bare(received, seq)";

const INSERT: &str = "INSERT INTO bare(received, stored, source, kind, id, body)
    SELECT $1, $1, 'css', 1, id, body FROM unnest($2::bytea[], $3::bytea[]) AS new(id, body)";

/// Rows per second with this many rows in flight; each batch has its own commit.
pub fn rate(url: &str, under_way: u32, effort: &Effort) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = connect(url).await?;
        client.batch_execute(TABLE).await?;
        let seconds = Duration::from_secs(effort.seconds.into());
        let begin = Instant::now();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(insert(
                    url.to_owned(),
                    writer,
                    under_way / WRITERS,
                    begin + seconds,
                ))
            })
            .collect();
        let mut rows = 0;
        for writer in writers {
            rows += timeout(2 * seconds, writer).await???;
        }
        Ok(rows as f64 / begin.elapsed().as_secs_f64())
    })
}

/// Inserts until this time. Returns the number of rows.
async fn insert(url: String, writer: u32, batch: u32, until: Instant) -> anyhow::Result<u64> {
    let client = connect(&url).await?;
    let mut template = Template::new(0, writer, Kinds::Begins);
    let mut rows = 0;
    while Instant::now() < until {
        let bodies: Vec<Vec<u8>> = (rows..rows + u64::from(batch))
            .map(|number| template.body(number).to_vec())
            .collect();
        // Random, like the hash of an event.
        let ids: Vec<Vec<u8>> = bodies
            .iter()
            .map(|_| rand::random::<[u8; 16]>().to_vec())
            .collect();
        let received = i64::try_from(rows)?;
        let values: [(&(dyn ToSql + Sync), Type); 3] = [
            (&received, Type::INT8),
            (&ids, Type::BYTEA_ARRAY),
            (&bodies, Type::BYTEA_ARRAY),
        ];
        client
            .query_typed(INSERT, &values)
            .await
            .context("cannot insert")?;
        rows += u64::from(batch);
    }
    Ok(rows)
}

async fn connect(url: &str) -> anyhow::Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
