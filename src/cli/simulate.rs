//! `livehook simulate`: runs a simulation or a conformance check, and shows its progress and
//! report.

mod args;
mod conformance;
mod display;

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use css_simulator::{Checks, Now, Settings, Stop};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use self::args::ReportForm;
pub(super) use self::args::SimulateArgs;
use self::display::ProgressDisplay;
use super::serve::Stops;
use super::{Failed, print};
use crate::clock::Clock;

pub(super) fn simulate(args: &SimulateArgs) -> Result<(), Failed> {
    let settings = args.settings().map_err(Failed::Setup)?;
    if args.conformance {
        let settings = conformance::settings(args, settings).map_err(Failed::Setup)?;
        return block_on(conformance::run(args, settings));
    }
    let checks = args.checks(&settings.template).map_err(Failed::Setup)?;
    block_on(run(args, settings, checks))
}

fn block_on(work: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    crate::server::raise_descriptor_limit();
    // One thread sends: more would only take processors from a receiver on the same machine.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::Run(error.into()))?;
    runtime.block_on(work)
}

async fn run(args: &SimulateArgs, settings: Settings, checks: Checks) -> Result<(), Failed> {
    let (stop, stopped) = watch::channel(Stop::Not);
    let display = ProgressDisplay::new(settings.events, settings.duration);
    let simulation = css_simulator::run(settings, checks, time_of_day(), stopped, |progress| {
        display.show(progress);
    });
    let (report, left) = interruptible(simulation, stop, STOP_NOTE).await?;
    display.end();
    show(&report, args.report)?;
    if left {
        return Err(stopped_at_once());
    }
    match report.faults() {
        faults if faults.is_empty() => Ok(()),
        faults => Err(Failed::Run(anyhow!("{}", faults.join("; ")))),
    }
}

/// The machine's clock.
fn time_of_day() -> Now {
    let clock = Clock::system();
    Arc::new(move || clock.now())
}

const STOP_NOTE: &str =
    "stopping: waiting for answers to open requests; interrupt again to stop at once\n";
/// Signals closer together than this count as one: `timeout` sends two.
const SIGNAL_GAP: Duration = Duration::from_millis(300);

/// Runs `work` and handles signals: the first asks it to stop soon and prints `note`, the second
/// asks it to stop now, the third abandons it. Returns the result of the work, and whether there
/// was a second signal.
async fn interruptible<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    stop: watch::Sender<Stop>,
    note: &str,
) -> Result<(T, bool), Failed> {
    let mut stops = Stops::new().map_err(|error| Failed::Run(error.into()))?;
    tokio::pin!(work);
    let mut last: Option<Instant> = None;
    loop {
        tokio::select! {
            done = &mut work => {
                return done.map(|done| (done, *stop.borrow() == Stop::Now)).map_err(Failed::Run);
            }
            () = stops.next() => {
                if last.is_some_and(|last| last.elapsed() < SIGNAL_GAP) {
                    continue;
                }
                last = Some(Instant::now());
                let before = *stop.borrow();
                match before {
                    Stop::Not => {
                        stop.send_replace(Stop::Soon);
                        // Standard error may be closed.
                        let _ = std::io::stderr().write_all(note.as_bytes());
                    }
                    Stop::Soon => drop(stop.send_replace(Stop::Now)),
                    Stop::Now => return Err(stopped_at_once()),
                }
            }
        }
    }
}

fn stopped_at_once() -> Failed {
    Failed::Run(anyhow!("stopped at once by a second signal"))
}

/// Prints a report in the wanted form.
fn show(report: &(impl Display + Serialize), form: ReportForm) -> Result<(), Failed> {
    print(&match form {
        ReportForm::Text => report.to_string(),
        ReportForm::Json => {
            serde_json::to_string(report).map_err(|error| Failed::Run(error.into()))? + "\n"
        }
    })
}
