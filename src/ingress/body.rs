//! Reading a body: so long, so much, so many at once.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::EXPECT;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use super::answer::CallbackAnswer;
use crate::budget::{Budget, Charge};

/// What a request takes beside its body.
pub(super) const OVERHEAD: u64 = 512;
/// Up to this length a body is copied out of the connection's buffer.
const COPIED: usize = 2048;
/// So much of a body that is too long is still read, so that its sender gets to the answer.
const DRAINED: u64 = 16 << 20;

/// The whole body, with its share of the budget, into which `long_head` counts, too. It is the caller who waits no longer than until `deadline`; a body that is
/// too long is read on until then.
pub(super) async fn read(
    request: Request,
    max: u64,
    budget: &Budget,
    long_head: u64,
    deadline: Instant,
) -> Result<(Bytes, Charge), CallbackAnswer> {
    let asks_first = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    let announced = body.size_hint().lower();
    if announced > max {
        // A sender that asks first has not begun to write.
        if !asks_first {
            drain(body, deadline).await;
        }
        return Err(CallbackAnswer::BodyTooLong);
    }
    // What has arrived is charged, not what is announced: a few connections that announce much and send nothing would keep
    // everybody else out.
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
        // Most bodies come in one piece. One that is short does not hold the connection's buffer, which would have to be
        // replaced while it waits for the store; a longer one needs no copy.
        if whole.is_none() && parts.is_empty() {
            whole = Some(if data.len() <= COPIED {
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

/// Reads on without keeping anything: a sender that is still writing would not see the answer.
async fn drain(mut body: Body, deadline: Instant) {
    let mut drained = 0;
    while drained < DRAINED
        && let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await
    {
        drained += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
}
