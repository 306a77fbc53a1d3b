//! Tests that run the built binary: real processes, real sockets, real files, only loopback.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod support;

mod admin;
mod answers;
mod architecture;
mod authentication;
mod cli;
mod clients;
mod clocks;
mod conformance;
mod console;
mod contract;
mod crash;
mod deliveries;
mod demo;
mod deployment;
mod diagrams;
mod disk_full;
mod docs;
mod docs_handlers;
mod docs_kinds;
mod docs_verify;
mod duplicates;
mod examples;
mod hangs;
mod hostile_target;
mod kinds;
mod misrouted;
mod monitoring;
mod operations;
mod ordering;
mod postgres;
mod power_cut;
mod programs;
mod proof;
mod recovery;
mod reload;
mod replay;
mod shutdown;
mod simulate;
mod smoke;
mod streams;
mod sync_before_answer;
