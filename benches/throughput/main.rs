//! Measures the speed of livehook, as ratios to a server that only answers and to other servers
//! that do the same work. See `docs/benchmarks.md`.
//!
//! With cargo's `--bench` this measures. Without it, as in `cargo test`, it runs everything once
//! and briefly, and only checks that it works.
#![allow(missing_docs, unreachable_pub)]

mod bare;
mod callback;
mod callgrind;
mod cost;
mod disk;
mod fill;
mod generator;
mod instant;
mod instructions;
mod measure;
mod open_loop;
mod peer;
mod process;
mod scenarios;
mod sender;
mod subject;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use self::callback::Kinds;
use self::measure::{Effort, OPEN_CONNECTIONS, folder};
use self::open_loop::OpenPace;
use self::scenarios::{Extent, Scenario};
use self::subject::Subject;
use self::table::{Sample, Table};

/// The number of callbacks of `--instructions`.
const INSTRUCTIONS_OF: u64 = 20_000;

/// The number of pairs of servers with healthy and with failing handlers.
const PAIRS: u32 = 10;

/// Measures livehook beside other servers: see docs/benchmarks.md
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench throughput --")]
struct Options {
    /// The seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=300))]
    seconds: u32,
    /// Measure everything this many times, in turns; the table shows medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The number of connections
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "64,256", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Vec<u32>,
    /// The rate of the second open loop, in events per second
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// The folder of the stores, on the disk to measure [default: in the target directory]
    #[arg(long, value_name = "FOLDER", default_value = env!("CARGO_TARGET_TMPDIR"), hide_default_value = true)]
    dir: PathBuf,
    /// Only these servers of this repository
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<Subject>,
    /// Also these folders of benches/peers, or `all`; installs what they need
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    peers: Vec<String>,
    /// Only count instructions per callback, with valgrind
    #[arg(long)]
    instructions: bool,
    /// Only run these scenarios
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// At most this many events for --instructions and in the stores of --scenarios
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,
    /// The argument that cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn at_most(&self, events: u64) -> u64 {
        self.events.map_or(events, |most| most.min(events))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let first = arguments.get(1).map(String::as_str);
    let result = if first == Some(bare::ARGUMENT) {
        bare::serve(&arguments[2..])
    } else if first == Some(instant::ARGUMENT) {
        instant::serve(&arguments[2..])
    } else if arguments.iter().any(|argument| argument == "--bench") {
        measure(&Options::parse())
    } else {
        try_out(&arguments[1..])
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    if options.instructions {
        let callbacks = options.at_most(INSTRUCTIONS_OF);
        print!("{}", instructions::count(&options.dir, callbacks)?);
        return Ok(());
    }
    let effort = Effort {
        seconds: options.seconds,
        warm_up: 1,
        appends: 10_000,
        cost_of: 200_000,
        highest_rate: f64::INFINITY,
    };
    if !options.scenarios.is_empty() {
        let extent = Extent {
            dir: &options.dir,
            effort: &effort,
            rounds: options.rounds,
            pairs: PAIRS,
            events: options.at_most(u64::MAX),
        };
        return scenarios::run(&options.scenarios, &extent);
    }
    let mut subjects = match &*options.only {
        [] => Subject::OWN.to_vec(),
        only => only.to_vec(),
    };
    subjects.extend(peer::chosen(&options.peers)?.into_iter().map(Subject::Peer));
    print!("{}", run(options, &subjects, &effort)?);
    Ok(())
}

/// Runs everything once. Accepts the arguments of cargo's test harness that matter for a single
/// test.
fn try_out(arguments: &[String]) -> anyhow::Result<()> {
    const NAME: &str = "throughput";
    const WITH_VALUE: [&str; 5] = ["--color", "--format", "--skip", "--test-threads", "-Z"];
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let before = std::iter::once("").chain(arguments.iter().map(String::as_str));
    let (skips, filters): (Vec<_>, Vec<_>) = before
        .zip(arguments)
        .filter(|(before, this)| {
            *before == "--skip" || !this.starts_with('-') && !WITH_VALUE.contains(before)
        })
        .partition(|(before, _)| *before == "--skip");
    let names_it = |(_, part): &(&str, &String)| NAME.contains(&**part);
    if has("--ignored")
        || skips.iter().any(names_it)
        || !filters.is_empty() && !filters.iter().any(names_it)
    {
        return Ok(());
    }
    if has("--list") {
        println!("{NAME}: test");
        return Ok(());
    }
    println!("\nrunning 1 test");
    let options = Options {
        seconds: 1,
        rounds: 1,
        connections: vec![OPEN_CONNECTIONS],
        ..Options::parse_from(["throughput"])
    };
    let effort = Effort {
        seconds: 1,
        warm_up: 0,
        appends: 100,
        cost_of: 1_000,
        highest_rate: 200.0,
    };
    let table = run(&options, &Subject::OWN, &effort)?;
    let extent = Extent {
        dir: &options.dir,
        effort: &effort,
        rounds: 1,
        pairs: 1,
        events: 1000,
    };
    scenarios::run(&[Scenario::All], &extent)?;
    println!(
        "{table}\ntest {NAME} ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
    Ok(())
}

/// Measures the subjects in turns, so that other work on the machine affects all of them alike.
fn run(options: &Options, subjects: &[Subject], effort: &Effort) -> anyhow::Result<Table> {
    generator::check()?;
    for subject in subjects {
        if let Subject::Peer(name) = subject {
            peer::install(name).with_context(|| format!("cannot install {name}"))?;
        }
    }
    let mut table = Table::new(options.rounds, options.seconds);
    for round in 1..=options.rounds {
        let mut open_rate = None;
        for &connections in &options.connections {
            for subject in subjects {
                let sample = closed_loop(subject, connections, &options.dir, effort);
                let sample = sample.with_context(|| {
                    format!("{subject}, {connections} connections: this run is INVALID")
                })?;
                eprintln!(
                    "round {round}: {subject}, {connections} connections: {:.0}/s",
                    sample.rate
                );
                if (subject, connections) == (&Subject::Livehook, OPEN_CONNECTIONS) {
                    open_rate = Some((sample.rate / 2.0).min(effort.highest_rate));
                }
                table.add(subject, connections, sample);
            }
        }
        let Some(half) = open_rate else { continue };
        for (pace, rate) in [
            (OpenPace::Half, half),
            (
                OpenPace::Common,
                f64::from(options.rate).min(effort.highest_rate),
            ),
        ] {
            let open = open_loop::measure(rate, &options.dir, effort)
                .with_context(|| format!("open loop at {rate:.0}/s: this run is INVALID"))?;
            eprintln!(
                "round {round}: open loop at {rate:.0}/s: p99 {:.2} ms",
                open.answers.p99
            );
            table.add_open_loop(pace, open);
        }
        for kinds in [Kinds::BeginsAndEnds, Kinds::Mixed] {
            let cost = cost::measure(kinds, effort.cost_of, &options.dir)
                .with_context(|| format!("all work for {kinds}: this run is INVALID"))?;
            eprintln!(
                "round {round}: {kinds}: {:.0} bytes written for an event",
                cost.bytes
            );
            table.add_cost(kinds, cost);
        }
    }
    Ok(table)
}

/// Measures with a new process and a new store.
fn closed_loop(
    subject: &Subject,
    connections: u32,
    parent: &Path,
    effort: &Effort,
) -> anyhow::Result<Sample> {
    let dir = folder(parent)?;
    let server = subject.start(dir.path())?;
    effort.closed_loop(&server, connections, 0)
}
