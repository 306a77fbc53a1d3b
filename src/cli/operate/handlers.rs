//! `livehook handlers` and `livehook parked`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::query::{ListArgs, ReceivedArgs, StreamArgs};
use super::remote::Remote;
use super::table::{TextTable, cell, kind, stream};
use super::{MAX_PAGE, Operate, newest, print_json, print_line, print_table};
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
                let answer = remote.post(&["handlers", name, what], &json!({}))?;
                return print_line(&format!("{name}: {}", cell(&answer["state"]))).map(drop);
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
            let seconds = item["lag_seconds"].as_f64().unwrap_or_default().max(0.0);
            let behind = Duration::from_secs(seconds as u64);
            let failure = &item["last_failure"];
            let error = match failure["error"].as_str() {
                Some(error) => format!(
                    "{} {}",
                    cell(&failure["time"]),
                    super::table::printable(error)
                ),
                None => "-".to_owned(),
            };
            let text = |name: &str| cell(&item[name]);
            table.row([
                text("name"),
                text("type"),
                text("state"),
                text("lag_events"),
                humantime::format_duration(behind).to_string(),
                text("retrying"),
                text("waiting"),
                text("parked"),
                text("replaying"),
                error,
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

impl Operate for ParkedArgs {
    fn run(&self, remote: &Remote) -> Result<(), Failed> {
        let limit = self.shown.limit(false)?;
        let handlers = match &self.handler {
            Some(handler) => vec![handler.clone()],
            None => {
                let all = all(remote)?;
                let names = all.iter().filter_map(|item| item["name"].as_str());
                names.map(str::to_owned).collect()
            }
        };
        let mut query = self.received.query();
        query.extend(self.stream.query());
        let mut items = Vec::new();
        for handler in &handlers {
            let path = ["handlers", handler, "parked"];
            for mut item in newest(remote, &path, &query, limit)? {
                item["handler"] = handler.clone().into();
                items.push(item);
            }
        }
        if self.shown.json {
            return print_json(&items);
        }
        let mut table = TextTable::new(&[
            "PARKED", "HANDLER", "KIND", "STREAM", "ATTEMPTS", "ID", "ERROR",
        ]);
        for item in &items {
            table.row([
                cell(&item["parked_at"]),
                cell(&item["handler"]),
                kind(item),
                stream(item),
                cell(&item["attempts"]),
                cell(&item["id"]),
                cell(&item["error"]),
            ]);
        }
        print_table(&table)
    }
}

fn all(remote: &Remote) -> Result<Vec<Value>, Failed> {
    let page = remote.get(&["handlers"], &[("limit", MAX_PAGE.to_string())])?;
    Ok(page["items"].as_array().cloned().unwrap_or_default())
}
