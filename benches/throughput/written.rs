//! The bytes that livehook has the disk write for an event.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::callback::{Kinds, SIZE};
use crate::measure::{OPEN_CONNECTIONS, folder};
use crate::sender::{Load, Pace};
use crate::subject::Subject;
use crate::table::percentile;

/// One measurement, per event.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Without the zeros.
    pub bytes: f64,
    /// Zeros written ahead, which events overwrite later.
    zeros: f64,
}

/// Sends this many callbacks to a new server with a new store, and ends it in an orderly way.
pub fn measure(kinds: Kinds, number: u64, parent: &Path) -> anyhow::Result<Written> {
    let dir = folder(parent)?;
    let mut server = Subject::Livehook.start(dir.path())?;
    let (bytes_before, zeros_before) = (server.settle()?, server.zeros()?);
    let load = Load {
        port: server.port,
        connections: OPEN_CONNECTIONS as usize,
        pace: Pace::Closed { number },
        seed: 0,
        kinds,
    };
    load.send().with_context(|| server.process.log_tail())?;
    let stored = server.stored()?.unwrap_or(0);
    ensure!(
        stored == number,
        "of {number} events {stored} are stored as new ones"
    );
    // The zeros are counted only once they are all written.
    server.settle()?;
    let zeros = server.zeros()? - zeros_before;
    let bytes = server.process.stop_and_count()? - bytes_before;
    let bytes = bytes.checked_sub(zeros);
    let bytes = bytes.context("more zeros than bytes are said to be written")?;
    Ok(Written {
        bytes: bytes as f64 / number as f64,
        zeros: zeros as f64 / number as f64,
    })
}

/// Writes medians over the rounds.
pub fn write_table(
    written: &BTreeMap<Kinds, Vec<Written>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    if written.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "\n| (b), written to the disk | bytes/event | × body | zeros ahead, bytes/event |"
    )?;
    writeln!(f, "|---|--:|--:|--:|")?;
    for (kinds, rounds) in written {
        let median = |of: fn(&Written) -> f64| {
            percentile(&mut rounds.iter().map(of).collect::<Vec<_>>(), 0.5)
        };
        let bytes = median(|written| written.bytes);
        writeln!(
            f,
            "| {kinds} | {bytes:.0} | {:.2} | {:.0} |",
            bytes / SIZE as f64,
            median(|written| written.zeros)
        )?;
    }
    Ok(())
}
