//! `livehook events`: what is stored, what arrives, and deleting it.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::sleep;

use super::query::{Received, Shown, Stream};
use super::remote::Remote;
use super::table::{Table, cell, kind, plain, plain_json, stream};
use super::{Operate, confirm, counted, json_line, newest, room, say};
use crate::cli::Failed;

/// Between two tries to watch on.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(in crate::cli) struct Events {
    /// One event whole, as handlers get it
    #[arg(value_name = "ID", conflicts_with_all = ["kind", "source", "from", "to", "domain", "stream", "follow", "delete"])]
    id: Option<String>,
    #[command(flatten)]
    received: Received,
    #[command(flatten)]
    stream: Stream,
    #[command(flatten)]
    shown: Shown,
    /// Go on with those that arrive, until interrupted
    #[arg(long, short, conflicts_with_all = ["from", "to"])]
    follow: bool,
    /// Instead of showing them: delete all of a stream for good, and what handlers still owe of them
    #[arg(long, requires = "stream", conflicts_with_all = ["follow", "limit"])]
    delete: bool,
    /// With --delete: only say how many it would be
    #[arg(long, requires = "delete")]
    dry_run: bool,
    /// With --delete: do not ask
    #[arg(long, short, requires = "delete")]
    yes: bool,
}

impl Operate for Events {
    fn run(&self, remote: &Remote) -> Result<(), Failed> {
        if let Some(id) = &self.id {
            let event = remote.get(&["events", id], &[])?;
            let text = match self.shown.json {
                true => event.to_string(),
                false => format!("{event:#}"),
            };
            return say(&plain_json(&text)).map(drop);
        }
        if self.delete {
            return self.delete(remote);
        }
        // What arrives while the list is read is not missed, and not shown twice.
        let watching = match self.follow {
            true => Some(remote.block_on(self.watch(remote, None))?),
            false => None,
        };
        let items = newest(remote, &["events"], &self.query(), self.shown.limit)?;
        let mut printer = Printer::new(self.shown.json);
        if !printer.print(&items)? {
            return Ok(());
        }
        let Some(watching) = watching else {
            return Ok(());
        };
        let known = items.iter().map(|item| item["id"].to_string()).collect();
        remote.block_on(self.follow(remote, watching, printer, known))
    }
}

impl Events {
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
            let answer = remote.delete(&["events"], &query)?;
            let count = answer["count"].as_u64().unwrap_or_default();
            Ok((answer, counted(count, "event")))
        };
        let filters = query.iter().map(|(name, value)| format!("{name} {value}"));
        let filters = plain(&filters.collect::<Vec<_>>().join(", "));
        let (mut answer, mut count) = ask(true)?;
        if !self.dry_run {
            let question = format!("{count} will be deleted for good ({filters}).");
            if !confirm(&question, self.yes)? {
                return say("nothing was done").map(drop);
            }
            (answer, count) = ask(false)?;
        }
        let text = match (self.shown.json, self.dry_run) {
            (true, _) => answer.to_string(),
            (false, true) => format!("{count} would be deleted ({filters})"),
            (false, false) => format!("{count} deleted ({filters})"),
        };
        say(&text).map(drop)
    }

    async fn watch(&self, remote: &Remote, last: Option<&str>) -> Result<Response, Failed> {
        let headers: Vec<_> = last
            .map(|last| ("last-event-id", last))
            .into_iter()
            .collect();
        remote
            .send(
                Method::GET,
                &["events", "stream"],
                &self.query(),
                &headers,
                None,
            )
            .await
    }

    async fn follow(
        &self,
        remote: &Remote,
        mut watching: Response,
        mut printer: Printer,
        mut known: HashSet<String>,
    ) -> Result<(), Failed> {
        let mut last: Option<String> = None;
        loop {
            let mut rest = Vec::new();
            // An answer that is cut off is taken up again.
            while let Ok(Some(chunk)) = watching.chunk().await {
                rest.extend_from_slice(&chunk);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line);
                    let line = line.trim_end();
                    if let Some(skipped) = line
                        .strip_prefix(": ")
                        .filter(|text| text.contains("skipped"))
                    {
                        eprintln!("livehook: {}", plain(skipped));
                    } else if let Some(id) = line.strip_prefix("id: ") {
                        last = Some(id.to_owned());
                    } else if let Some(data) = line.strip_prefix("data: ")
                        && let Ok(item) = serde_json::from_str::<Value>(data)
                        && item["id"].is_string()
                        && !known.remove(&item["id"].to_string())
                        && !printer.print(&[item])?
                    {
                        return Ok(());
                    }
                }
            }
            loop {
                sleep(PAUSE).await;
                match self.watch(remote, last.as_deref()).await {
                    Ok(response) => {
                        watching = response;
                        break;
                    }
                    Err(Failed::Setup(error)) => return Err(Failed::Setup(error)),
                    // It may just be starting again.
                    Err(Failed::Run(_)) => {}
                }
            }
        }
    }
}

/// Prints what came, below what came before.
struct Printer {
    json: bool,
    widths: Vec<usize>,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self {
            json,
            widths: Vec::new(),
        }
    }

    /// Whether somebody reads on.
    fn print(&mut self, items: &[Value]) -> Result<bool, Failed> {
        let lines: Vec<String> = if self.json {
            items.iter().map(json_line).collect()
        } else {
            let is_first = self.widths.is_empty();
            let mut table = Table::new(&["RECEIVED", "KIND", "SOURCE", "STREAM", "ID"]);
            for item in items {
                let source = item["source"].as_str().unwrap_or_default();
                table.row([
                    cell(&item["receivedtime"]),
                    kind(item),
                    plain(source.trim_start_matches('/')),
                    stream(item),
                    cell(&item["id"]),
                ]);
            }
            let lines = table.lines(&mut self.widths, room());
            lines.into_iter().skip(usize::from(!is_first)).collect()
        };
        for line in lines {
            if !say(&line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
