//! The commands that ask a running server, over its admin API.

mod events;
mod follow;
mod handlers;
mod printer;
mod query;
mod rejected;
mod remote;
mod replay;
mod streams;
mod table;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

use anyhow::anyhow;
use clap::Args;
use serde_json::Value;

pub(super) use self::events::EventsArgs;
pub(super) use self::handlers::{HandlersArgs, ParkedArgs};
pub(super) use self::rejected::RejectedArgs;
use self::remote::{Access, Remote};
pub(super) use self::replay::ReplayArgs;
pub(super) use self::streams::StreamsArgs;
use self::table::TextTable;
use super::Failed;
use crate::event::Seq;

/// Items of one question at most, as the server has it.
const MAX_PAGE: usize = 1000;

/// A command that asks a server.
pub(super) trait Operate {
    fn run(&self, remote: &Remote) -> Result<(), Failed>;
}

// What it is asked, and where it is. (Words for the help would stand in the place of the command's own.)
#[derive(Debug, Args)]
pub(super) struct RemoteArgs<T: Args> {
    #[command(flatten)]
    what: T,
    #[command(flatten)]
    access: Access,
}

impl<T: Args + Operate> RemoteArgs<T> {
    /// Finds the server and asks it. `file` has its address, unless that is given.
    pub(super) fn operate(&self, file: &Path) -> Result<(), Failed> {
        let remote = Remote::find(&self.access, file).map_err(Failed::Setup)?;
        self.what.run(&remote)
    }
}

/// Prints a line at once; whether somebody reads on.
fn print_line(line: &str) -> Result<bool, Failed> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failed::Run(error.into())),
    }
}

/// Has the operator agree on a terminal; elsewhere that has to be said beforehand.
fn confirm(question: &str, yes: bool) -> Result<bool, Failed> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failed::Setup(anyhow!("{question} Say so with --yes")));
    }
    let mut err = std::io::stderr().lock();
    let asked = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    asked.map_err(|error| Failed::Run(error.into()))?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failed::Run(error.into()))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// `1 event`, `2 events`.
fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// The newest of a list, oldest first.
fn newest(
    remote: &Remote,
    path: &[&str],
    query: &[(&'static str, String)],
    limit: usize,
) -> Result<Vec<Value>, Failed> {
    let mut items: Vec<Value> = Vec::new();
    let mut after = None;
    while items.len() < limit {
        let mut query = query.to_vec();
        query.push(("order", "newest".to_owned()));
        query.push(("limit", MAX_PAGE.min(limit - items.len()).to_string()));
        query.extend(after.map(|after: Seq| ("after", after.to_string())));
        let page = remote.get(path, &query)?;
        items.extend(page["items"].as_array().into_iter().flatten().cloned());
        after = next(&page);
        if after.is_none() {
            break;
        }
    }
    items.reverse();
    Ok(items)
}

/// Where the next part of a list begins.
fn next(page: &Value) -> Option<Seq> {
    page["next"].as_str()?.parse().ok()
}

fn print_json(items: &[Value]) -> Result<(), Failed> {
    print_lines(items.iter().map(json_line))
}

fn json_line(item: &Value) -> String {
    table::printable_json(&item.to_string())
}

fn print_table(table: &TextTable) -> Result<(), Failed> {
    print_lines(table.lines(&mut Vec::new(), terminal_width()))
}

/// Columns of the terminal, if it is one.
fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(size.ws_col.into()).filter(|columns| *columns > 0)
}

fn print_lines(lines: impl IntoIterator<Item = String>) -> Result<(), Failed> {
    for line in lines {
        if !print_line(&line)? {
            break;
        }
    }
    Ok(())
}
