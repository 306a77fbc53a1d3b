//! Reads a body within its limits: length, deadline, and the budget for requests in flight.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::EXPECT;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::answer::CallbackAnswer;
use crate::budget::{Budget, Charge};

/// The bytes that a request is charged in addition to its body.
pub(super) const OVERHEAD: u64 = 512;
/// A body up to this length is copied out of the connection's buffer.
const COPY_LIMIT: usize = 2048;
/// How much of a body over the limit is still read, so that the sender gets to read the answer.
const DRAIN_LIMIT: u64 = 16 << 20;

/// Reads the whole body. Returns it with its charge, which includes `long_head` bytes. The caller
/// must enforce `deadline`; it is used here only to drain a body that is too long.
pub(super) async fn read(
    request: Request,
    max: u64,
    budget: &Budget,
    long_head: u64,
    deadline: Instant,
) -> Result<(Bytes, Charge), CallbackAnswer> {
    let expects_continue = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    let announced = body.size_hint().lower();
    if announced > max {
        // A sender that waits for `100 Continue` has not started to send.
        if !expects_continue {
            drain(body, deadline).await;
        }
        return Err(CallbackAnswer::BodyTooLong);
    }
    // Only bytes that have arrived are charged: else a few connections that announce long bodies
    // and send nothing would block all others.
    let mut charge = budget
        .charge(OVERHEAD + long_head)
        .ok_or(CallbackAnswer::Overloaded)?;
    let mut whole: Option<Bytes> = None;
    let mut parts = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| CallbackAnswer::BodyBroken)?.into_data() else {
            continue;
        };
        let length = (whole.as_ref().map_or(parts.len(), Bytes::len) + data.len()) as u64;
        if length > max {
            drain(body, deadline).await;
            return Err(CallbackAnswer::BodyTooLong);
        }
        if !charge.grow(data.len() as u64) {
            return Err(CallbackAnswer::Overloaded);
        }
        // Most bodies arrive in one piece. A short one is copied, so that the connection can reuse
        // its buffer while the body waits for the store. A longer one is not copied.
        if whole.is_none() && parts.is_empty() {
            whole = Some(if data.len() <= COPY_LIMIT {
                Bytes::copy_from_slice(&data)
            } else {
                data
            });
        } else {
            if let Some(first) = whole.take() {
                parts.extend_from_slice(&first);
            }
            parts.extend_from_slice(&data);
        }
    }
    Ok((whole.unwrap_or_else(|| parts.freeze()), charge))
}

/// Reads and discards the rest: a sender that is still writing would not see the answer.
async fn drain(mut body: Body, deadline: Instant) {
    let mut drained = 0;
    while drained < DRAIN_LIMIT
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        drained += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
