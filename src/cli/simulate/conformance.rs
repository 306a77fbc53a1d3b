//! `livehook simulate --conformance`: checks a receiver case by case.

use anyhow::{Context, anyhow};
use css_simulator::{
    Settings, Stop,
    conformance::{self, Counter, Grades},
};
use indicatif::ProgressBar;
use tokio::sync::watch;

use super::args::{SimulateArgs, endpoint, without_secrets};
use super::{Failed, interruptible, show};

/// The settings of a conformance check; those shared with a simulation come from `settings`.
pub(super) fn settings(
    args: &SimulateArgs,
    settings: Settings,
) -> anyhow::Result<conformance::GradingSettings> {
    let counter = args.count_url.as_deref().map(|url| {
        endpoint(url, "http://127.0.0.1:8080/count")
            .map(Counter::new)
            .with_context(|| format!("--count-url: `{}`", without_secrets(url)))
    });
    Ok(conformance::GradingSettings {
        template: settings.template,
        key: settings.key,
        unsigned: settings.unsigned,
        counter: counter.transpose()?,
        clock_offset: settings.clock_offset,
        seed: settings.seed,
    })
}

pub(super) async fn run(
    args: &SimulateArgs,
    settings: conformance::GradingSettings,
) -> Result<(), Failed> {
    let (stop, stopped) = watch::channel(Stop::Not);
    // The bar appears on standard error, and only on a terminal.
    let bar = ProgressBar::new(0);
    let grading = conformance::run(settings, super::time_of_day(), stopped, |progress| {
        bar.set_length(progress.all as u64);
        bar.set_position(progress.done as u64);
    });
    let (report, _) = interruptible(grading, stop, "").await?;
    bar.finish_and_clear();
    show(&report, args.report)?;
    verdict(&report).map_err(Failed::Run)
}

fn verdict(report: &Grades) -> anyhow::Result<()> {
    if report.interrupted {
        return Err(anyhow!("interrupted before all cases were checked"));
    }
    match report.failed() {
        0 => Ok(()),
        1 => Err(anyhow!("1 case failed")),
        failed => Err(anyhow!("{failed} cases failed")),
    }
}
