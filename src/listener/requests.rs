//! From a request to the router's answer, and what HTTP asks of both.

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
use super::caller::{Caller, Phase};
use super::refusal::{self, FixedAnswer};

/// A longer head is counted with what the request takes, and a longer head or body is large.
const LONG: u64 = 8192;

/// Answers the requests of one connection. One of the spare places has room for a health probe, nothing else.
pub(super) fn answering(
    router: Router,
    caller: Arc<Caller>,
    is_spare: bool,
) -> impl HttpService<Incoming, ResBody = Answering, Error = Infallible, Future: Send> + Unpin {
    service_fn(move |request: Request<Incoming>| {
        caller.set(Phase::Busy);
        let refusal = match is_spare && !is_probe(&request) {
            true => Some(&refusal::TOO_MANY),
            false => flaw(&request),
        };
        // hyper keeps a buffer that has grown. A stranger's is not kept.
        let long_head = long_head(&caller, &request);
        let most = request.body().size_hint().upper();
        let is_large = long_head > 0 || most.is_none_or(|most| most > LONG);
        let answer = match refusal {
            None => Ok(route(&router, &caller, request, long_head)),
            Some(refusal) => Err(refusal),
        };
        let caller = caller.clone();
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await?,
                Err(refusal) => refusal.response(),
            };
            let is_last = is_spare
                || is_large && !caller.is_genuine()
                || caller.rules.draining.load(Ordering::Relaxed);
            if is_last {
                let headers = answer.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            if answer.body().size_hint().exact().is_none() {
                caller.set(Phase::Streaming);
            }
            Ok(answer.map(|body| Answering { body, caller }))
        }
    })
}

fn route(
    router: &Router,
    caller: &Arc<Caller>,
    request: Request<Incoming>,
    long_head: u64,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
    let mut request = request.map(Body::new);
    let arrival = Arrival::new(caller.clone(), long_head);
    request.extensions_mut().insert(arrival);
    router.clone().call(request)
}

fn is_probe(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && matches!(request.uri().path(), "/healthz" | "/readyz")
}

/// The bytes of a long head; 0 for all others.
fn long_head(caller: &Caller, request: &Request<Incoming>) -> u64 {
    // What is known is the length with what came in the same piece.
    if caller.head() <= LONG {
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

/// What makes it no request of HTTP/1.1, beside what was found while it was read.
fn flaw(request: &Request<Incoming>) -> Option<&'static FixedAnswer> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host) => {}
        (None, None) if request.version() < Version::HTTP_11 => {}
        _ => return Some(&refusal::HOST),
    }
    // Only a chunked body has no length.
    if request.body().size_hint().exact().is_none() {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let only = codings.next().filter(|_| codings.next().is_none());
        if !only.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Some(&refusal::CODING);
        }
    }
    let mut expectations = headers.get_all(EXPECT).iter();
    expectations
        .any(|expected| !expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        .then_some(&refusal::EXPECTATION)
}

/// Whether it can be a host with or without port; it may be empty.
fn is_host(value: &HeaderValue) -> bool {
    let wrong = |byte: &u8| !byte.is_ascii_graphic() || b"/\\@,?#\"<>^`{|}".contains(byte);
    !value.as_bytes().iter().any(wrong)
}

/// The body of an answer, which tells when it is over.
pub(super) struct Answering {
    body: Body,
    caller: Arc<Caller>,
}

impl hyper::body::Body for Answering {
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

impl Drop for Answering {
    fn drop(&mut self) {
        self.caller.set(Phase::Answered);
    }
}
