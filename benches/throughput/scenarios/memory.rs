//! Measures the memory of the server.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context;

use super::{Extent, Findings, dead_handler};
use crate::callback::Kinds;
use crate::sender::{Load, Pace};
use crate::subject::{livehook, program};

const EVENTS: u64 = 5_000_000;
const CONNECTIONS: usize = 256;
/// The pause after the start and after the load.
const PAUSE: Duration = Duration::from_secs(1);

/// Measures an idle server, and one after a load that is entirely inside the duplicate window and
/// still undelivered.
pub fn run(dir: &Path, extent: &Extent) -> anyhow::Result<Findings> {
    let number = EVENTS.min(extent.events);
    let server = livehook(program(), &dead_handler("dead")?, dir, &dir.join("log.txt"))?;
    server.wait_until_ready()?;
    sleep(PAUSE);
    let mut findings = Findings::new("memory: resident, one handler whose target is down");
    let mut add = |when: &str, goal: &str| {
        let (now, peak) = server.process.memory()?;
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        findings.add(format!("{when}, now"), mebibytes(now), goal);
        findings.add(format!("{when}, at most"), mebibytes(peak), goal);
        anyhow::Ok(())
    };
    add("idle after the start", "< 15 MiB")?;
    let load = Load {
        port: server.port,
        connections: CONNECTIONS,
        pace: Pace::Closed { number },
        seed: 0,
        kinds: Kinds::Begins,
    };
    let answers = load.send();
    answers.with_context(|| server.process.log_tail())?;
    sleep(PAUSE);
    add(
        &format!("after {number} events on {CONNECTIONS} connections"),
        "< 64 MiB",
    )?;
    Ok(findings)
}
