//! Measures other promises than the throughput. Each scenario prints a small table with figures and
//! goals.

mod full;
mod memory;
mod neighbours;
mod postgres;
mod start;
mod streams;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::measure::{Effort, folder};
use crate::process::free_port;

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Answers with 10 million events stored against an empty store
    Full,
    /// From exec to ready, with a million events that a handler has not had
    Start,
    /// Resident memory, idle and after 5 million events
    Memory,
    /// The acknowledgement beside handlers that are dead or slow
    Neighbours,
    /// Several receivers on one PostgreSQL, against the embedded store and bare inserts
    Postgres,
    /// The board with 100,000 streams that are live
    Streams,
    /// The program's size
    Size,
    /// All of these
    All,
}

impl Scenario {
    const EACH: [Self; 7] = [
        Self::Full,
        Self::Start,
        Self::Memory,
        Self::Neighbours,
        Self::Postgres,
        Self::Streams,
        Self::Size,
    ];
}

/// The size of the scenarios.
pub struct Extent<'a> {
    /// The folder of the stores.
    pub dir: &'a Path,
    pub effort: &'a Effort,
    pub rounds: u32,
    pub pairs: u32,
    /// The most events in a store.
    pub events: u64,
}

/// A table of figures.
pub struct Findings {
    title: String,
    rows: Vec<[String; 3]>,
}

impl Findings {
    fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            rows: Vec::new(),
        }
    }

    fn add(&mut self, what: impl Into<String>, figure: impl Into<String>, goal: &str) {
        self.rows
            .push([what.into(), figure.into(), goal.to_owned()]);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| {} | | goal |\n|---|--:|--:|", self.title)?;
        for [what, figure, goal] in &self.rows {
            writeln!(f, "| {what} | {figure} | {goal} |")?;
        }
        Ok(())
    }
}

/// Runs scenarios one after the other, and prints the result of each.
pub fn run(chosen: &[Scenario], extent: &Extent) -> anyhow::Result<()> {
    crate::generator::check()?;
    let all = chosen.contains(&Scenario::All);
    for scenario in Scenario::EACH {
        if !all && !chosen.contains(&scenario) {
            continue;
        }
        let dir = folder(extent.dir)?;
        let findings = match scenario {
            Scenario::Full => full::run(dir.path(), extent),
            Scenario::Start => start::run(dir.path(), extent),
            Scenario::Memory => memory::run(dir.path(), extent),
            Scenario::Neighbours => neighbours::run(extent),
            Scenario::Postgres => postgres::run(extent),
            Scenario::Streams => streams::run(dir.path(), extent),
            Scenario::Size | Scenario::All => size(dir.path()),
        };
        let findings = findings.with_context(|| format!("{scenario:?}: this run is INVALID"))?;
        print!("{findings}");
    }
    Ok(())
}

/// Measures the size of the release build.
fn size(dir: &Path) -> anyhow::Result<Findings> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_livehook"));
    let stripped = dir.join("stripped");
    // The existing build may contain symbols.
    let mut strip = Command::new("strip");
    let status = strip
        .arg("-o")
        .args([&stripped, &program])
        .status()
        .context("cannot start strip; on Debian and Ubuntu: apt-get install binutils")?;
    ensure!(status.success(), "strip ended with {status}");
    let bytes = std::fs::metadata(stripped)?.len();
    let mut findings = Findings::new("size: the program without symbols");
    findings.add("bytes", bytes.to_string(), "");
    Ok(findings)
}

/// The configuration of a handler that starts with the oldest event and whose target is down.
fn dead_handler(name: &str) -> anyhow::Result<String> {
    let port = free_port()?;
    Ok(format!(
        "[handlers.{name}]\nstart = \"oldest\"\nto = {{ type = \"http\", url = \"http://127.0.0.1:{port}/\" }}\n"
    ))
}
