//! Measures one server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::callback::Kinds;
use crate::generator;
use crate::process::Machine;
use crate::sender::{Answers, Load, Pace};
use crate::subject::Server;
use crate::table::Sample;

/// The connections of the open loop. Its rate is half of that of the closed loop with as many
/// connections.
pub const OPEN_CONNECTIONS: u32 = 64;

/// How often the lag of the handlers is read.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What differs between a measurement and a trial run.
pub struct Effort {
    pub seconds: u32,
    /// Seconds of load before each measurement, on the same store.
    pub warm_up: u32,
    /// The number of appends that are timed.
    pub appends: usize,
    /// The number of callbacks until whose work is all done.
    pub cost_of: u64,
    /// The highest rate of the open loop, in events per second.
    pub highest_rate: f64,
}

impl Effort {
    /// Sends as fast as the server answers. Uses two seeds, this one and the next.
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
        // The work of the handlers belongs to the events, so it is awaited and counted.
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

    /// Sends at a fixed rate, without waiting for earlier answers.
    pub fn open_loop(&self, server: &Server, rate: f64) -> anyhow::Result<Answers> {
        let load = |seconds, seed| {
            let load = Load {
                port: server.port,
                connections: OPEN_CONNECTIONS as usize,
                pace: Pace::Open { rate, seconds },
                seed,
                kinds: Kinds::Begins,
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

/// Makes a temporary folder for a store.
pub fn folder(parent: &Path) -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("throughput-")
        .tempdir_in(parent)
        .with_context(|| format!("cannot make a folder in {}", parent.display()))
}
