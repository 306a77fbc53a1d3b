//! `livehook replay`: starts a replay and, if wanted, waits for its end.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::anyhow;
use clap::{ArgGroup, Args};
use css_callbacks::Timestamp;
use tokio::time::sleep;

use super::query::time;
use super::remote::{ANSWER_TIMEOUT, Remote};
use super::table::cell;
use super::{Operate, confirm, counted, print_line};
use crate::api::{CountAnswer, HandlerView, PageView, SelectionRequest, Time};
use crate::cli::Failed;
use crate::clock::Clock;
use crate::dispatch::HandlerState;

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
        let now = || Clock::system().now();
        let to = self.from.map(|_| self.to.unwrap_or_else(now));
        let mut body = SelectionRequest {
            event: self.event.clone(),
            parked: self.parked.then_some(true),
            from: self.from.map(Time::from),
            to: to.map(Time::from),
            dry_run: true,
        };
        let path = ["handlers", &*self.handler, "replay"];
        let ask = |body: &SelectionRequest| {
            let answer: CountAnswer = remote.post(&path, body, ANSWER_TIMEOUT)?;
            // The server names its oldest event if the range begins before it.
            let oldest = match &answer.oldest {
                None => String::new(),
                Some(oldest) => {
                    format!("; the oldest stored event was received at {}", cell(oldest))
                }
            };
            Ok((answer.count, oldest))
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
        body.dry_run = false;
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
                Ok(PageView::<HandlerView> { items, .. }) => {
                    failures = 0;
                    let Some(handler) = items.first() else {
                        let problem = anyhow!("there is no handler {} any more", self.handler);
                        break Err(Failed::Run(problem));
                    };
                    if handler.replaying == 0 {
                        break Ok(self.outcome(handler.parked));
                    }
                    line.show(handler);
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

    fn outcome(&self, parked: u64) -> String {
        let are = if parked == 1 { "is" } else { "are" };
        let parked = counted(parked, "event");
        format!(
            "the replay to {} is over, {parked} {are} parked",
            self.handler
        )
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

    fn show(&mut self, handler: &HandlerView) {
        let left = handler.replaying;
        self.most = self.most.max(left);
        // These states explain why it takes long.
        let explains = [HandlerState::Paused, HandlerState::Failing].map(HandlerState::slug);
        let state = match &*handler.state {
            state if explains.contains(&state) => format!(" ({state})"),
            _ => String::new(),
        };
        let name = cell(&handler.name);
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
