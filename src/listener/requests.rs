//! Passes requests to the router, and enforces the rules of HTTP/1.1 that hyper leaves to its user.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Method, Request, Response, Version};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::service::{HttpService, service_fn};
use tower_service::Service;

use super::Arrival;
use super::connection_state::{ConnectionState, Phase};
use super::fixed_response::{self, FixedResponse};

/// A head that is longer, in bytes, is charged. A request with a longer head or body is large.
const LONG: u64 = 8192;

/// The service for one connection. A spare connection may send health probes and nothing else.
pub(super) fn service(
    router: Router,
    state: Arc<ConnectionState>,
    is_spare: bool,
) -> impl HttpService<Incoming, ResBody = TrackedBody, Error = Infallible, Future: Send> + Unpin {
    service_fn(move |request: Request<Incoming>| {
        state.set(Phase::Answering);
        let response = match is_spare && !is_probe(&request) {
            true => Some(&fixed_response::TOO_MANY),
            false => protocol_error(&request),
        };
        // hyper keeps a grown buffer until the connection closes, which it does for strangers.
        let long_head = long_head(&state, &request);
        let max_body = request.body().size_hint().upper();
        let is_large = long_head > 0 || max_body.is_none_or(|max| max > LONG);
        let answer = match response {
            None => Ok(route(&router, &state, request, long_head)),
            Some(response) => Err(response),
        };
        let state = state.clone();
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await?,
                Err(response) => response.response(),
            };
            let is_last = is_spare
                || is_large && !state.is_authentic()
                || state.shared.draining.load(Ordering::Relaxed);
            if is_last {
                let headers = answer.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if answer.body().size_hint().exact().is_none() {
                state.set(Phase::Streaming);
            }
            Ok(answer.map(|body| TrackedBody { body, state }))
        }
    })
}

fn route(
    router: &Router,
    state: &Arc<ConnectionState>,
    request: Request<Incoming>,
    long_head: u64,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
    let mut request = request.map(Body::new);
    let arrival = Arrival::new(state.clone(), long_head);
    request.extensions_mut().insert(arrival);
    router.clone().call(request)
}

fn is_probe(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && matches!(request.uri().path(), "/healthz" | "/readyz")
}

/// The length of a long head in bytes; 0 for all others.
fn long_head(state: &ConnectionState, request: &Request<Incoming>) -> u64 {
    // The count may include bytes of the body that arrived in the same read.
    if state.head_bytes() <= LONG {
        return 0;
    }
    let headers = request.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let path = request.uri().path_and_query();
    let length = (headers + path.map_or(0, |path| path.as_str().len())) as u64;
    if length > LONG { length } else { 0 }
}

/// The error in a request that breaks a rule of HTTP/1.1 which hyper does not check.
fn protocol_error(request: &Request<Incoming>) -> Option<&'static FixedResponse> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => {}
        (None, None) if request.version() < Version::HTTP_11 => {}
        _ => return Some(&fixed_response::HOST),
    }
    // Of valid bodies, only a chunked one has no length.
    if request.body().size_hint().exact().is_none() {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let only = codings.next().filter(|_| codings.next().is_none());
        if !only.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Some(&fixed_response::CODING);
        }
    }
    let mut expectations = headers.get_all(EXPECT).iter();
    expectations
        .any(|expected| !expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        .then_some(&fixed_response::EXPECTATION)
}

/// Whether the value can be a host with or without a port. It may be empty.
fn is_host(value: &HeaderValue) -> bool {
    let wrong = |byte: &u8| !byte.is_ascii_graphic() || b"/\\@,?#\"<>^`{|}".contains(byte);
    !value.as_bytes().iter().any(wrong)
}

/// The body of a response. Dropping it marks the response as complete.
pub(super) struct TrackedBody {
    body: Body,
    state: Arc<ConnectionState>,
}

impl hyper::body::Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.state.set(Phase::Answered);
    }
}
