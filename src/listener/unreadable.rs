//! What is no HTTP/1.1: a proxy that goes on with TLS, with the PROXY protocol or with HTTP/2 would lose every callback without a
//! trace. A scanner does the same, so it calls for nobody.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;

use super::Seldom;

/// Counts requests that could not be read, and tells of them once a minute.
#[derive(Debug)]
pub(crate) struct Unreadable {
    counter: Counter,
    told: Mutex<Seldom>,
}

impl Unreadable {
    /// With what counts them.
    pub(crate) fn new(counter: Counter) -> Self {
        Self {
            counter,
            told: Mutex::default(),
        }
    }

    pub(super) fn note(&self, peer: SocketAddr, error: &hyper::Error) {
        self.counter.inc();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_due() {
            tracing::info!(
                %peer,
                %error,
                "what came is no HTTP/1.1: if it came from the load balancer, it must speak plain HTTP/1.1 here, without TLS, HTTP/2 or \
                 the PROXY protocol"
            );
        }
    }
}
