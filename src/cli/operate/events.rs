//! `livehook events`: lists, follows and deletes events.

use std::collections::HashSet;

use clap::Args;
use serde_json::json;

use super::follow::MessageStream;
use super::printer::Printer;
use super::query::{ListArgs, ReceivedArgs, StreamArgs};
use super::remote::Remote;
use super::table::{cell, kind, printable, printable_json, stream};
use super::{Operate, confirm, counted, json_line, newest, print_line};
use crate::api::{CloudEventView, CountAnswer, EventView, message};
use crate::cli::Failed;

#[derive(Debug, Args)]
pub(in crate::cli) struct EventsArgs {
    /// Show this whole event, as handlers receive it
    #[arg(value_name = "ID", conflicts_with_all = ["kind", "source", "from", "to", "domain", "stream", "follow", "delete"])]
    id: Option<String>,
    #[command(flatten)]
    received: ReceivedArgs,
    #[command(flatten)]
    stream: StreamArgs,
    #[command(flatten)]
    shown: ListArgs,
    /// Then show events as they arrive, until interrupted
    #[arg(long, short, conflicts_with_all = ["from", "to"])]
    follow: bool,
    /// Delete the events of a stream for good, with their pending deliveries; live/room-7 includes
    /// events of room-7 without an appname
    #[arg(long, requires = "stream", conflicts_with_all = ["follow", "limit"])]
    delete: bool,
    /// With --delete: only count the events
    #[arg(long, requires = "delete")]
    dry_run: bool,
    /// With --delete: do not ask for confirmation
    #[arg(long, short, requires = "delete")]
    yes: bool,
}

impl Operate for EventsArgs {
    fn run(&self, remote: &Remote) -> Result<(), Failed> {
        if let Some(id) = &self.id {
            let event: CloudEventView = remote.get(&["events", id], &[])?;
            let event = json!(event);
            let text = match self.shown.json {
                true => event.to_string(),
                false => format!("{event:#}"),
            };
            return print_line(&printable_json(&text)).map(drop);
        }
        if self.delete {
            return self.delete(remote);
        }
        let limit = self.shown.limit(self.follow)?;
        // Following starts before the list is read, so that no event is missed; known ones are
        // skipped below.
        let messages = match self.follow {
            true => {
                let path = &["events", "stream"];
                Some(remote.block_on(MessageStream::start(remote, path, self.query()))?)
            }
            false => None,
        };
        let items = newest(remote, &["events"], &self.query(), limit)?;
        let mut printer = Printer::new(self.shown.json, HEAD, row);
        if !printer.print(&items)? {
            return Ok(());
        }
        let Some(messages) = messages else {
            return Ok(());
        };
        let mut known: HashSet<String> = items.iter().map(|item| item.id.clone()).collect();
        remote.block_on(messages.each(message::EVENT, |item: EventView| {
            if known.remove(&item.id) {
                Ok(true)
            } else {
                printer.print(&[item])
            }
        }))
    }
}

impl EventsArgs {
    fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = self.received.query();
        query.extend(self.stream.query());
        query
    }

    fn delete(&self, remote: &Remote) -> Result<(), Failed> {
        let query = self.query();
        let ask = |dry_run: bool| {
            let mut query = query.clone();
            query.push(("dry_run", dry_run.to_string()));
            let answer: CountAnswer = remote.delete(&["events"], &query)?;
            let count = counted(answer.count, "event");
            let nameless = match (answer.without_appname, answer.maybe_another_app) {
                (None, _) => String::new(),
                (Some(nameless), maybe) => format!(
                    "; {nameless} of them have no appname, {} of these may belong to another app's stream",
                    maybe.unwrap_or_default()
                ),
            };
            Ok((answer, count, nameless))
        };
        let filters = query.iter().map(|(name, value)| format!("{name} {value}"));
        let filters = printable(&filters.collect::<Vec<_>>().join(", "));
        let (mut answer, mut count, nameless) = ask(true)?;
        if !self.dry_run {
            let question = format!("{count} will be deleted for good ({filters}){nameless}.");
            if !confirm(&question, self.yes)? {
                return print_line("nothing was deleted").map(drop);
            }
            (answer, count, _) = ask(false)?;
        }
        let text = match (self.shown.json, self.dry_run) {
            (true, _) => json_line(&answer),
            (false, true) => format!("{count} would be deleted ({filters}){nameless}"),
            (false, false) => format!("{count} deleted ({filters})"),
        };
        print_line(&text).map(drop)
    }
}

const HEAD: &[&str] = &["RECEIVED", "KIND", "SOURCE", "STREAM", "ID"];

/// The cells below [`HEAD`].
fn row(item: &EventView) -> Vec<String> {
    vec![
        cell(&item.receivedtime),
        kind(&item.r#type),
        cell(item.source.trim_start_matches('/')),
        stream([&item.domain, &item.appname, &item.streamid]),
        cell(&item.id),
    ]
}
