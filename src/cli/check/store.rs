//! `livehook check --store`: whether the store on the disk is whole.

use std::path::Path;

use anyhow::anyhow;

use crate::cli::operate::counted;
use crate::cli::{Failed, print};
use crate::inbox::{CheckError, StoreCheck, check_store};

/// Checks the store in this directory, and prints a line for each damage and one in the end.
pub(in crate::cli) fn run(path: &Path) -> Result<(), Failed> {
    let report = check_store(path).map_err(|error| match error {
        CheckError::Unreadable { .. } => Failed::Run(error.into()),
        CheckError::NoStore(_) | CheckError::OldFormat(_) => Failed::Setup(error.into()),
    })?;
    print(&text(path, &report))?;
    match report.damage.len() {
        0 => Ok(()),
        _ => Err(Failed::Run(anyhow!(
            "{}: the store is damaged; what to do is in docs/operate/runbook.md",
            path.display()
        ))),
    }
}

fn text(path: &Path, report: &StoreCheck) -> String {
    let StoreCheck {
        damage,
        events,
        segments,
        unfinished_deletions,
    } = report;
    let mut text: String = damage.iter().map(|line| format!("{line}\n")).collect();
    let verdict = match damage.len() as u64 {
        0 => "is whole".to_owned(),
        count => format!("is damaged in {}", counted(count, "place")),
    };
    let (events, files) = (counted(*events, "event"), counted(*segments, "file"));
    text.push_str(&format!(
        "{} {verdict}: {events}, {files} of the log",
        path.display()
    ));
    if *unfinished_deletions > 0 {
        let count = counted(*unfinished_deletions, "deleted event");
        text.push_str(&format!(", {count} that the next start overwrites"));
    }
    text.push('\n');
    text
}
