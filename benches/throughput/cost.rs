//! What an event costs when all work for it is done, the board of streams included: bytes written to
//! the disk, and processor time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::callback::{Kinds, SIZE};
use crate::measure::{OPEN_CONNECTIONS, folder};
use crate::sender::{Load, Pace};
use crate::subject::{Server, Subject};
use crate::table::percentile;

/// One measurement, per event.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Without the zeros.
    pub bytes: f64,
    /// Zeros written ahead, which events overwrite later.
    zeros: f64,
    /// Seconds of processor time.
    cpu: f64,
    bare_cpu: f64,
}

/// Sends this many callbacks to a new server with a new store, and ends it in an orderly way. The
/// bare server gets as many before.
pub fn measure(kinds: Kinds, number: u64, parent: &Path) -> anyhow::Result<Cost> {
    let send = |server: &Server| {
        let load = Load {
            port: server.port,
            connections: OPEN_CONNECTIONS as usize,
            pace: Pace::Closed { number },
            seed: 0,
            kinds,
        };
        load.send().with_context(|| server.process.log_tail())
    };
    let per_event = |cpu: Duration| cpu.as_secs_f64() / number as f64;
    let bare_cpu = {
        let dir = folder(parent)?;
        let server = Subject::Axum.start(dir.path())?;
        let before = server.process.usage()?.cpu;
        send(&server)?;
        per_event(server.process.usage()?.cpu - before)
    };
    let dir = folder(parent)?;
    let mut server = Subject::Livehook.start(dir.path())?;
    let (bytes_before, zeros_before) = (server.settle()?, server.zeros()?);
    let cpu_before = server.process.usage()?.cpu;
    send(&server)?;
    let stored = server.stored()?.unwrap_or(0);
    ensure!(
        stored == number,
        "of {number} events {stored} are stored as new ones"
    );
    // The zeros are counted only once they are all written.
    server.settle()?;
    let cpu = per_event(server.process.usage()?.cpu - cpu_before);
    let zeros = server.zeros()? - zeros_before;
    let bytes = server.process.stop_and_count()? - bytes_before;
    let bytes = bytes.checked_sub(zeros);
    let bytes = bytes.context("more zeros than bytes are said to be written")?;
    Ok(Cost {
        bytes: bytes as f64 / number as f64,
        zeros: zeros as f64 / number as f64,
        cpu,
        bare_cpu,
    })
}

/// Writes medians over the rounds.
pub fn write_table(costs: &BTreeMap<Kinds, Vec<Cost>>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if costs.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "\n| (b), all work done | bytes written/event | × body | zeros ahead, bytes/event | CPU µs/event | CPU × (a) |"
    )?;
    writeln!(f, "|---|--:|--:|--:|--:|--:|")?;
    for (kinds, rounds) in costs {
        let median =
            |of: fn(&Cost) -> f64| percentile(&mut rounds.iter().map(of).collect::<Vec<_>>(), 0.5);
        let bytes = median(|cost| cost.bytes);
        writeln!(
            f,
            "| {kinds} | {bytes:.0} | {:.2} | {:.0} | {:.1} | {:.2} |",
            bytes / SIZE as f64,
            median(|cost| cost.zeros),
            median(|cost| cost.cpu * 1e6),
            median(|cost| cost.cpu / cost.bare_cpu),
        )?;
    }
    Ok(())
}
