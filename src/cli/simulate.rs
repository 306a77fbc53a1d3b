//! `livehook simulate`: a simulation or a grading, its progress and its report.

mod args;
mod conformance;
mod gauge;

use std::fmt::Display;

use anyhow::anyhow;
use serde::Serialize;
use tokio::sync::watch;

pub(super) use self::args::Args;
use self::args::Form;
use self::gauge::Gauge;
use super::serve::Stops;
use super::{Failed, print};
use crate::clock::Clock;
use crate::simulate::verify::Verifier;
use crate::simulate::{self, Settings};

pub(super) fn simulate(args: &Args) -> Result<(), Failed> {
    let settings = args.settings().map_err(Failed::Setup)?;
    if args.conformance {
        let settings = conformance::settings(args, settings).map_err(Failed::Setup)?;
        return block_on(conformance::run(args, settings));
    }
    let verifier = args.verifier(&settings.template).map_err(Failed::Setup)?;
    block_on(run(args, settings, verifier))
}

fn block_on(work: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    crate::server::raise_descriptor_limit();
    // One thread sends: more would only take the cores from the receiver on the same machine.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::Run(error.into()))?;
    runtime.block_on(work)
}

async fn run(args: &Args, settings: Settings, verifier: Option<Verifier>) -> Result<(), Failed> {
    let (stop, stopped) = watch::channel(false);
    let display = Gauge::new(settings.events, settings.duration);
    let simulation = simulate::run(settings, verifier, Clock::system(), stopped, |progress| {
        display.show(progress);
    });
    let report = interruptible(simulation, stop).await?;
    display.end();
    show(&report, args.report)?;
    match report.faults() {
        faults if faults.is_empty() => Ok(()),
        faults => Err(Failed::Run(anyhow!("{}", faults.join("; ")))),
    }
}

/// Tells the work to stop at a signal, and leaves it at a second one.
async fn interruptible<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    stop: watch::Sender<bool>,
) -> Result<T, Failed> {
    let mut stops = Stops::new().map_err(|error| Failed::Run(error.into()))?;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done.map_err(Failed::Run),
            () = stops.next() => {
                if stop.send_replace(true) {
                    return Err(Failed::Run(anyhow!("stopped at once by a second signal")));
                }
            }
        }
    }
}

/// Prints a report in the wanted form.
fn show(report: &(impl Display + Serialize), form: Form) -> Result<(), Failed> {
    print(&match form {
        Form::Text => report.to_string(),
        Form::Json => {
            serde_json::to_string(report).map_err(|error| Failed::Run(error.into()))? + "\n"
        }
    })
}
