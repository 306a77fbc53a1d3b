//! Accepting: many waiting callbacks become one batch, one statement, one commit.
//!
//! Callbacks are answered only after the commit. Each batch has a fixed cost for the server, so a
//! second batch is sent beside the first only if many callbacks wait. If the answer of a batch does
//! not come, its callbacks have failed. If they were stored all the same, their repeats are duplicates.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::query::Parameter;
use super::{Shared, raise_to};
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::inbox::{Receipt, StoreError};

/// Batches that are sent and not answered.
const MAX_IN_FLIGHT: usize = 2;
/// A second batch is sent only with at least this many callbacks.
const SECOND_BATCH: usize = 64;
/// Callbacks in one batch.
const MAX_BATCH: usize = 2048;
/// The sender has stopped waiting by then.
const COMMIT_WITHIN: Duration = Duration::from_secs(6);

const ACCEPT: &str = "SELECT number, duplicate FROM livehook.accept_2($1, $2, $3, $4, $5, $6, $7, $8, $9) ORDER BY place";

pub(super) struct AcceptRequest {
    pub(super) callback: Authentic,
    pub(super) charge: Option<Charge>,
    pub(super) unless_ever_stored: bool,
    pub(super) reply: oneshot::Sender<Result<Receipt, StoreError>>,
}

/// Stores requests until the channel is closed and all of them are answered.
pub(super) async fn run(shared: Arc<Shared>, mut requests: mpsc::UnboundedReceiver<AcceptRequest>) {
    let mut in_flight = FuturesUnordered::new();
    let mut batch = Vec::new();
    let mut ended = false;
    while !ended || !batch.is_empty() || !in_flight.is_empty() {
        let enough = match in_flight.len() {
            0 => 1,
            n if n < MAX_IN_FLIGHT => SECOND_BATCH,
            _ => usize::MAX,
        };
        if batch.len() >= enough {
            in_flight.push(shared.accept(std::mem::take(&mut batch)));
        }
        let room = MAX_BATCH - batch.len();
        tokio::select! {
            Some(()) = in_flight.next() => {}
            received = requests.recv_many(&mut batch, room), if room > 0 && !ended => ended = received == 0,
            else => {}
        }
    }
}

impl Shared {
    async fn accept(&self, batch: Vec<AcceptRequest>) {
        let began = Instant::now();
        match self.store(&batch).await {
            Ok(rows) => {
                self.set_working(true);
                self.metrics.commit_batch_size.observe(batch.len() as f64);
                self.metrics
                    .commit_duration
                    .observe(began.elapsed().as_secs_f64());
                let receipts: Vec<Receipt> = rows
                    .iter()
                    .map(|row| Receipt::new(row.get(0), row.get(1)))
                    .collect();
                // Before the receipts: who has one finds its event announced.
                let fresh = receipts.iter().filter(|receipt| !receipt.is_duplicate());
                if let Some(newest) = fresh.map(Receipt::seq).max() {
                    self.announce(newest);
                    raise_to(&self.stored_here, newest);
                }
                for (request, receipt) in batch.into_iter().zip(receipts) {
                    drop(request.charge);
                    let _ = request.reply.send(Ok(receipt));
                }
            }
            Err(problem) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        store.error = problem,
                        "the waiting callbacks could not be stored and are refused"
                    );
                }
                for request in batch {
                    let _ = request.reply.send(Err(StoreError::Failed));
                }
            }
        }
    }

    async fn store(&self, batch: &[AcceptRequest]) -> Result<Vec<Row>, String> {
        let each = || batch.iter().map(|request| &request.callback);
        let received: Vec<i64> = each()
            .map(|callback| callback.received().millis())
            .collect();
        let sources: Vec<&str> = each().map(|callback| &**callback.source()).collect();
        let kinds: Vec<i32> = each()
            .map(|callback| callback.kind().stored() as i32)
            .collect();
        let ids: Vec<Vec<u8>> = each()
            .map(|callback| callback.id().as_bytes().to_vec())
            .collect();
        let bodies: Vec<&[u8]> = each().map(|callback| &callback.body()[..]).collect();
        let late: Vec<bool> = batch
            .iter()
            .map(|request| request.unless_ever_stored)
            .collect();
        let window = millis(self.settings.dedupe_window);
        let now = self.manual_now();
        let require_sync = !self.own.allow_async_commit;
        let values: [Parameter; 9] = [
            (&received, Type::INT8_ARRAY),
            (&sources, Type::TEXT_ARRAY),
            (&kinds, Type::INT4_ARRAY),
            (&ids, Type::BYTEA_ARRAY),
            (&bodies, Type::BYTEA_ARRAY),
            (&late, Type::BOOL_ARRAY),
            (&window, Type::INT8),
            (&now, Type::INT8),
            (&require_sync, Type::BOOL),
        ];
        let rows = self.query_within(COMMIT_WITHIN, ACCEPT, &values).await?;
        if rows.len() == batch.len() {
            Ok(rows)
        } else {
            Err(format!(
                "{} answers came for {} callbacks",
                rows.len(),
                batch.len()
            ))
        }
    }
}

/// For the database. A longer duration becomes the longest one.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
