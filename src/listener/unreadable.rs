//! Counts and logs requests that are not HTTP/1.1: a proxy that forwards TLS, HTTP/2 or the PROXY
//! protocol would lose every callback. Scanners send the same, so there is no alert.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;

use super::LogThrottle;

/// Counts requests that are not HTTP/1.1, and logs one a minute.
#[derive(Debug)]
pub(crate) struct Unreadable {
    counter: Counter,
    log: Mutex<LogThrottle>,
}

impl Unreadable {
    pub(crate) fn new(counter: Counter) -> Self {
        Self {
            counter,
            log: Mutex::default(),
        }
    }

    pub(super) fn note(&self, peer: SocketAddr, error: &hyper::Error) {
        self.counter.inc();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_due() {
            tracing::info!(
                %peer,
                %error,
                "received something that is not HTTP/1.1; if the peer is your load balancer, configure it to send plain HTTP/1.1, \
                 without TLS, HTTP/2 or the PROXY protocol"
            );
        }
    }
}
