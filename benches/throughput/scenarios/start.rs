//! Measures the time from exec to ready, after different ends and with many pending events.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Extent, Findings, dead_handler};
use crate::callback::Kinds;
use crate::fill::fill;
use crate::measure::OPEN_CONNECTIONS;
use crate::sender::{Load, Pace};
use crate::subject::{Server, livehook, program};
use crate::table::percentile;

const EVENTS: u64 = 1_000_000;

/// Starts first with a new handler, then in turns after a clean stop and after a kill under load.
pub fn run(dir: &Path, extent: &Extent) -> anyhow::Result<Findings> {
    let events = EVENTS.min(extent.events);
    fill(dir, events)?;
    let handler = dead_handler("dead")?;
    let start = || {
        let begin = Instant::now();
        let server = livehook(program(), &handler, dir, &dir.join("log.txt"))?;
        server.wait_until_ready()?;
        anyhow::Ok((begin.elapsed(), server))
    };
    let (first, mut server) = start()?;
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for round in 0..extent.rounds {
        server.process.stop()?;
        let (took, next) = start()?;
        clean.push(took.as_secs_f64());
        server = next;
        let load = Duration::from_secs(extent.effort.seconds.into());
        kill_under_load(&mut server, load, round)?;
        let (took, next) = start()?;
        killed.push(took.as_secs_f64());
        server = next;
    }
    let mut findings = Findings::new(format!(
        "start: to /readyz, {events} events and more owed to a handler"
    ));
    let seconds = |seconds: f64| format!("{seconds:.3} s");
    findings.add("the handler is new", seconds(first.as_secs_f64()), "< 1 s");
    for (what, times) in [
        ("after a clean stop", &mut clean),
        ("after kill -9 under load", &mut killed),
    ] {
        findings.add(
            format!("{what}, median"),
            seconds(percentile(times, 0.5)),
            "< 1 s",
        );
        findings.add(
            format!("{what}, longest"),
            seconds(percentile(times, 1.0)),
            "",
        );
    }
    Ok(findings)
}

fn kill_under_load(server: &mut Server, after: Duration, seed: u32) -> anyhow::Result<()> {
    let load = Load {
        port: server.port,
        connections: OPEN_CONNECTIONS as usize,
        pace: Pace::Closed { number: u64::MAX },
        seed,
        kinds: Kinds::Begins,
    };
    let ended = std::thread::scope(|scope| {
        let sending = scope.spawn(|| load.send());
        sleep(after);
        let ended = sending.is_finished();
        server.process.kill()?;
        anyhow::Ok(ended)
    })?;
    ensure!(!ended, "the load ended too early");
    Ok(())
}
