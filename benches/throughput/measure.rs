//! One measurement of one server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::generator;
use crate::process::Machine;
use crate::sender::{Answers, Load, Pace};
use crate::subject::Server;
use crate::table::Sample;

/// Of the open loop, which goes at half the rate that the closed one has with as many.
pub const OPEN_CONNECTIONS: u32 = 64;

/// How often handlers are asked whether they are behind.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What differs between a measurement and a trial whether everything works.
pub struct Effort {
    pub seconds: u32,
    /// Before each measurement, on the same store.
    pub warm_up: u32,
    /// Appends that are timed.
    pub appends: usize,
    /// Events per second of the open loop at most.
    pub highest_rate: f64,
}

impl Effort {
    /// As many requests as it takes. Takes two seeds, this one and the next.
    pub fn closed_loop(
        &self,
        server: &Server,
        connections: u32,
        seed: u32,
    ) -> anyhow::Result<Sample> {
        let load = |seconds, seed| {
            let load = generator::Load {
                connections,
                seconds,
                seed,
            };
            let answers = load.put_on(server.port);
            answers.with_context(|| server.process.log_tail())
        };
        if self.warm_up > 0 {
            load(self.warm_up, seed)?;
            server.catch_up(ASK_EVERY)?;
        }
        let (before, stored_before) = (server.process.usage()?, server.stored()?);
        let machine = Machine::now()?;
        let answers = load(self.seconds, seed + 1)?;
        // What handlers do belongs to the event: it is waited for, and counted.
        server.catch_up(ASK_EVERY)?;
        let (after, stored_after) = (server.process.usage()?, server.stored()?);
        let stored = match (stored_before, stored_after) {
            (Some(before), Some(after)) => after - before,
            _ => answers.answers,
        };
        ensure!(
            stored >= answers.answers,
            "{} requests were answered 200, but only {stored} events are stored",
            answers.answers
        );
        let cpu = after.cpu - before.cpu;
        Ok(Sample {
            rate: answers.answers as f64 / answers.seconds,
            p50: answers.p50_ms,
            p99: answers.p99_ms,
            cpu: cpu.as_secs_f64() / stored as f64,
            memory: after.peak_memory,
            others: machine.others_since(cpu)?,
        })
    }

    /// Requests when they are due, whether earlier ones were answered or not.
    pub fn open_loop(&self, server: &Server, rate: f64) -> anyhow::Result<Answers> {
        let load = |seconds, seed| {
            let load = Load {
                port: server.port,
                connections: OPEN_CONNECTIONS as usize,
                pace: Pace::Open { rate, seconds },
                seed,
            };
            let answers = load.send();
            answers.with_context(|| server.process.log_tail())
        };
        if self.warm_up > 0 {
            load(self.warm_up, 0)?;
        }
        load(self.seconds, 1)
    }
}

/// For a store; it is gone when this is dropped.
pub fn folder(parent: &Path) -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("throughput-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot make a folder in {}", parent.display()))
}
