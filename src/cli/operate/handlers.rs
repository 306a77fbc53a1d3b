//! `livehook handlers` and `livehook parked`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::query::{ListArgs, ReceivedArgs, StreamArgs};
use super::remote::{ANSWER_TIMEOUT, Remote};
use super::table::{TextTable, cell, kind, maybe, stream};
use super::{MAX_PAGE, Operate, newest, print_json, print_line, print_table};
use crate::api::{EmptyRequest, HandlerView, PageView, ParkedView, StateAnswer};
use crate::cli::Failed;

#[derive(Debug, Args)]
pub(in crate::cli) struct HandlersArgs {
    /// Pause this handler: it starts no more attempts, even after a restart
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pause: Option<String>,
    /// Resume this handler
    #[arg(long, value_name = "NAME")]
    resume: Option<String>,
    /// Print one JSON object per line instead of a table
    #[arg(long)]
    json: bool,
}

impl Operate for HandlersArgs {
    fn run(&self, remote: &Remote) -> Result<(), Failed> {
        for (name, what) in [(&self.pause, "pause"), (&self.resume, "resume")] {
            if let Some(name) = name {
                let answer: StateAnswer =
                    remote.post(&["handlers", name, what], &EmptyRequest {}, ANSWER_TIMEOUT)?;
                return print_line(&format!("{name}: {}", cell(&answer.state))).map(drop);
            }
        }
        let items = all(remote)?;
        if self.json {
            return print_json(&items);
        }
        let mut table = TextTable::new(&[
            "NAME",
            "TYPE",
            "STATE",
            "LAG",
            "BEHIND",
            "RETRYING",
            "WAITING",
            "PARKED",
            "REPLAYING",
            "LAST ERROR",
        ]);
        for item in &items {
            let behind = Duration::from_secs(item.lag_seconds.max(0.0) as u64);
            let failure = item.last_failure.as_ref();
            table.row([
                cell(&item.name),
                cell(&item.r#type),
                cell(&item.state),
                cell(item.lag_events),
                humantime::format_duration(behind).to_string(),
                cell(item.retrying),
                cell(item.waiting),
                cell(item.parked),
                cell(item.replaying),
                maybe(failure.map(|last| format!("{} {}", last.time, last.error))),
            ]);
        }
        print_table(&table)
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ParkedArgs {
    /// Only the events of this handler
    #[arg(value_name = "HANDLER")]
    handler: Option<String>,
    #[command(flatten)]
    received: ReceivedArgs,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    shown: ListArgs,
}

/// A parked delivery and its handler.
#[derive(Debug, Serialize)]
struct ParkedAt {
    handler: String,
    #[serde(flatten)]
    parked: ParkedView,
}

impl Operate for ParkedArgs {
    fn run(&self, remote: &Remote) -> Result<(), Failed> {
        let limit = self.shown.limit(false)?;
        let handlers = match &self.handler {
            Some(handler) => vec![handler.clone()],
            None => all(remote)?.into_iter().map(|item| item.name).collect(),
        };
        let mut query = self.received.query();
        query.extend(self.stream.query());
        let mut items = Vec::new();
        for handler in &handlers {
            let path = ["handlers", handler, "parked"];
            for parked in newest(remote, &path, &query, limit)? {
                let handler = handler.clone();
                items.push(ParkedAt { handler, parked });
            }
        }
        if self.shown.json {
            return print_json(&items);
        }
        let mut table = TextTable::new(&[
            "PARKED", "HANDLER", "KIND", "STREAM", "ATTEMPTS", "ID", "ERROR",
        ]);
        for ParkedAt { handler, parked } in &items {
            let event = &parked.event;
            table.row([
                cell(&parked.parked_at),
                cell(handler),
                kind(&event.r#type),
                stream([&event.domain, &event.appname, &event.streamid]),
                cell(parked.attempts),
                cell(&event.id),
                cell(&parked.error),
            ]);
        }
        print_table(&table)
    }
}

fn all(remote: &Remote) -> Result<Vec<HandlerView>, Failed> {
    let page: PageView<HandlerView> =
        remote.get(&["handlers"], &[("limit", MAX_PAGE.to_string())])?;
    Ok(page.items)
}
