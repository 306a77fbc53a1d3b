//! `livehook replay`: starts a replay and, if wanted, waits for its end.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::{ArgGroup, Args};
use css_callbacks::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::query::time;
use super::remote::Remote;
use super::table::cell;
use super::{Operate, confirm, counted, print_line};
use crate::cli::Failed;

/// The pause between two requests for the progress.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The most failed requests in a row. A restart of the server takes time.
const MAX_FAILURES: u32 = 60;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("selection").required(true).args(["event", "parked", "from"]))]
pub(in crate::cli) struct ReplayArgs {
    /// The handler that receives the events again
    #[arg(value_name = "HANDLER")]
    handler: String,
    /// Replay this event
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// Replay all parked events
    #[arg(long)]
    parked: bool,
    /// Replay events received since this time, such as 2026-11-23T08:00:00Z, or 15m for 15 minutes
    /// ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    from: Option<Timestamp>,
    /// With --from: only events received before this time [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time, requires = "from")]
    to: Option<Timestamp>,
    /// Only count the events
    #[arg(long)]
    dry_run: bool,
    /// Wait until the handler has processed all replayed events; a terminal shows the progress
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

impl Operate for ReplayArgs {
    fn run(&self, remote: &Remote) -> Result<(), Failed> {
        let mut body = match (&self.event, self.from) {
            (Some(id), _) => json!({ "event": id }),
            (None, Some(from)) => {
                let to = self
                    .to
                    .unwrap_or_else(|| crate::clock::Clock::system().now());
                json!({ "from": from, "to": to })
            }
            _ => json!({ "parked": true }),
        };
        body["dry_run"] = true.into();
        let path = ["handlers", &*self.handler, "replay"];
        let ask = |body: &Value| {
            let answer = remote.post(&path, body)?;
            // The server names its oldest event if the range begins before it.
            let oldest = match &answer["oldest"] {
                Value::Null => String::new(),
                oldest => format!("; the oldest stored event was received at {}", cell(oldest)),
            };
            Ok((answer["count"].as_u64().unwrap_or_default(), oldest))
        };
        let (would, oldest) = ask(&body)?;
        let would = counted(would, "event");
        if self.dry_run {
            return print_line(&format!(
                "{would} would be delivered to {} again{oldest}",
                self.handler
            ))
            .map(drop);
        }
        let question = format!(
            "{would} will be delivered to {} again{oldest}.",
            self.handler
        );
        if !confirm(&question, self.yes)? {
            return print_line("nothing was replayed").map(drop);
        }
        body["dry_run"] = false.into();
        let (count, oldest) = ask(&body)?;
        let are = if count == 1 { "is" } else { "are" };
        let count = counted(count, "event");
        let due = format!("{count} {are} due for {} again{oldest}", self.handler);
        let goes_on = print_line(&due)?;
        if self.wait && goes_on {
            self.wait(remote)?;
        }
        Ok(())
    }
}

impl ReplayArgs {
    /// Polls until nothing is left to replay. Events of earlier replays, and of those from
    /// elsewhere, count too.
    fn wait(&self, remote: &Remote) -> Result<(), Failed> {
        let mut line = ProgressLine::on_terminal();
        let mut failures = 0;
        let ended = loop {
            match remote.get(&["handlers"], &[("handler", self.handler.clone())]) {
                Ok(page) => {
                    failures = 0;
                    match self.outcome(&page["items"][0], &mut line) {
                        Ok(None) => {}
                        Ok(Some(outcome)) => break Ok(outcome),
                        Err(problem) => break Err(Failed::Run(problem)),
                    }
                }
                // The server may be restarting.
                Err(Failed::Run(_)) if failures < MAX_FAILURES => failures += 1,
                Err(failed) => break Err(failed),
            }
            remote.block_on(async { sleep(POLL_INTERVAL).await });
        };
        line.write("");
        print_line(&ended?).map(drop)
    }

    /// Returns the result when nothing is left to replay. Until then, shows how much is left.
    fn outcome(&self, handler: &Value, line: &mut ProgressLine) -> anyhow::Result<Option<String>> {
        if handler.is_null() {
            anyhow::bail!("there is no handler {} any more", self.handler);
        }
        match handler["replaying"].as_u64() {
            Some(0) => {
                let parked = handler["parked"].as_u64().unwrap_or_default();
                let are = if parked == 1 { "is" } else { "are" };
                let parked = counted(parked, "event");
                let outcome = format!(
                    "the replay to {} is over, {parked} {are} parked",
                    self.handler
                );
                Ok(Some(outcome))
            }
            Some(left) => {
                line.show(handler, left);
                Ok(None)
            }
            None => anyhow::bail!("the server is too old to report how much is left"),
        }
    }
}

/// A line on a terminal that shows the progress.
struct ProgressLine {
    is_terminal: bool,
    /// The largest number of events left so far.
    most: u64,
}

impl ProgressLine {
    fn on_terminal() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            most: 0,
        }
    }

    fn show(&mut self, handler: &Value, left: u64) {
        self.most = self.most.max(left);
        let state = match handler["state"].as_str() {
            // These states explain why it takes long.
            Some(state @ ("paused" | "failing")) => format!(" ({state})"),
            _ => String::new(),
        };
        let name = cell(&handler["name"]);
        self.write(&format!("{name}: {left} of {} left{state}", self.most));
    }

    /// Replaces the line. Write errors are ignored: the progress is not essential.
    fn write(&self, text: &str) {
        if self.is_terminal {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
        }
    }
}
