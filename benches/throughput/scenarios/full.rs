//! Measures whether a large store makes the server slower.

use std::path::Path;

use super::{Extent, Findings};
use crate::fill::fill;
use crate::measure::{OPEN_CONNECTIONS, folder};
use crate::subject::Subject;
use crate::table::percentile;

const EVENTS: u64 = 10_000_000;

/// Alternates between an empty and a full store. A load adds few events compared with those in the
/// full store.
pub fn run(dir: &Path, extent: &Extent) -> anyhow::Result<Findings> {
    let events = EVENTS.min(extent.events);
    fill(dir, events)?;
    let rate = |dir: &Path, seed| {
        let server = Subject::Livehook.start(dir)?;
        let sample = extent.effort.closed_loop(&server, OPEN_CONNECTIONS, seed)?;
        anyhow::Ok(sample.rate)
    };
    let (mut empty, mut full, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..extent.rounds {
        let fresh = folder(extent.dir)?;
        let without = rate(fresh.path(), 0)?;
        let with = rate(dir, 2 * round)?;
        eprintln!("round {}: {without:.0}/s, full {with:.0}/s", round + 1);
        empty.push(without);
        full.push(with);
        ratios.push(with / without);
    }
    let mut findings = Findings::new("full: answers/s of (b) at 64 connections");
    let mut add = |what: String, values: &mut [f64]| {
        findings.add(what, format!("{:.0}", percentile(values, 0.5)), "");
    };
    add("empty store".to_owned(), &mut empty);
    add(format!("{events} events stored"), &mut full);
    let ratio = percentile(&mut ratios, 0.5);
    findings.add("× empty store", format!("{ratio:.2}"), "≥ 0.9");
    Ok(findings)
}
