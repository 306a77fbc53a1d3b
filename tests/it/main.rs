//! Tests that run the built binary: real processes, real sockets, real files, only loopback.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod support;

mod architecture;
mod crash;
mod examples;
mod smoke;
mod sync_before_answer;
