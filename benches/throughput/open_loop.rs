//! Livehook at a fixed rate, beside the bare server and the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::disk::{self, Appends};
use crate::measure::{Effort, folder};
use crate::sender::Answers;
use crate::subject::Subject;
use crate::table::percentile;

/// One measurement at one rate.
#[derive(Debug, Clone, Copy)]
pub struct OpenLoop {
    pub answers: Answers,
    /// The answers of the bare server.
    bare: Answers,
    disk: Appends,
}

/// The rate of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpenPace {
    /// Half the rate of the closed loop.
    Half,
    /// The same on every machine.
    Common,
}

/// Measures the bare server, the disk, and then livehook, each with a new process and a new store.
pub fn measure(rate: f64, parent: &Path, effort: &Effort) -> anyhow::Result<OpenLoop> {
    let bare = {
        let dir = folder(parent)?;
        effort.open_loop(&Subject::Axum.start(dir.path())?, rate)?
    };
    let dir = folder(parent)?;
    let disk = disk::appends(dir.path(), effort.appends)?;
    let server = Subject::Livehook.start(dir.path())?;
    let answers = effort.open_loop(&server, rate)?;
    Ok(OpenLoop {
        answers,
        bare,
        disk,
    })
}

/// Writes medians over the rounds.
pub fn write_table(
    loops: &BTreeMap<OpenPace, Vec<OpenLoop>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    if loops.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "\n| (b), open loop | p50 ms | p99 ms | p99.9 ms | most ms | (a) p99 ms | fdatasync p50 ms | p99 ms | p99 × (a)'s | p99 × fdatasync's | generator CPU µs/event |"
    )?;
    writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")?;
    for (pace, rounds) in loops {
        row(*pace, rounds, f)?;
    }
    let kept_up = |open: &&OpenLoop| open.answers.kept_up && open.bare.kept_up;
    let all = loops.values().flatten();
    let late = all.clone().filter(|open| !kept_up(open)).count();
    if late > 0 {
        writeln!(
            f,
            "\nIn {late} of {} open loops the GENERATOR did not keep up: their times are too long.",
            all.count()
        )?;
    }
    Ok(())
}

fn row(pace: OpenPace, rounds: &[OpenLoop], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let median =
        |of: fn(&OpenLoop) -> f64| percentile(&mut rounds.iter().map(of).collect::<Vec<_>>(), 0.5);
    writeln!(
        f,
        "| {:.0}/s{} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} |",
        median(|open| open.answers.rate),
        match pace {
            OpenPace::Half => ", half its rate",
            OpenPace::Common => "",
        },
        median(|open| open.answers.p50),
        median(|open| open.answers.p99),
        median(|open| open.answers.p999),
        median(|open| open.answers.max),
        median(|open| open.bare.p99),
        median(|open| open.disk.p50),
        median(|open| open.disk.p99),
        median(|open| open.answers.p99 / open.bare.p99),
        median(|open| open.answers.p99 / open.disk.p99),
        median(|open| open.answers.cpu * 1e6),
    )
}
