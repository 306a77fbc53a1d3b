//! Tests that run the built binary: real processes, real sockets, real files, only loopback.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod support;

mod crash;
mod disk_full;
mod hostile_target;
mod ordering;
mod outside;
mod smoke;
mod sync_before_answer;
