//! The commands that use the admin API of a running server.

mod backup;
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
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

pub(super) use self::backup::BackupArgs;
pub(super) use self::events::EventsArgs;
pub(super) use self::handlers::{HandlersArgs, ParkedArgs};
pub(super) use self::rejected::RejectedArgs;
use self::remote::{Access, Remote};
pub(super) use self::replay::ReplayArgs;
pub(super) use self::streams::StreamsArgs;
use self::table::TextTable;
use super::Failed;
use crate::api::PageView;

/// The most items of one page, as on the server.
const MAX_PAGE: usize = 1000;

/// A command that uses the API of a server.
pub(super) trait Operate {
    fn run(&self, remote: &Remote) -> Result<(), Failed>;
}

// A command and the server that it uses. (A doc comment here would replace the help of the
// command.)
#[derive(Debug, Args)]
pub(super) struct RemoteArgs<T: Args> {
    #[command(flatten)]
    what: T,
    #[command(flatten)]
    access: Access,
}

impl<T: Args + Operate> RemoteArgs<T> {
    /// Finds the server and runs the command. The address comes from the options, else from the
    /// configuration `file`.
    pub(super) fn operate(&self, file: &Path) -> Result<(), Failed> {
        let remote = Remote::find(&self.access, file).map_err(Failed::Setup)?;
        self.what.run(&remote)
    }
}

/// Prints a line at once. Returns false if nobody reads any more.
fn print_line(line: &str) -> Result<bool, Failed> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failed::Run(error.into())),
    }
}

/// Asks the operator for consent on a terminal. Without a terminal, `--yes` is needed.
fn confirm(question: &str, yes: bool) -> Result<bool, Failed> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failed::Setup(anyhow!("{question} Confirm with --yes")));
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
pub(super) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// The newest `limit` items of a list, the oldest of them first.
fn newest<T: DeserializeOwned>(
    remote: &Remote,
    path: &[&str],
    query: &[(&'static str, String)],
    limit: usize,
) -> Result<Vec<T>, Failed> {
    let mut items: Vec<T> = Vec::new();
    let mut after = None;
    while items.len() < limit {
        let mut query = query.to_vec();
        query.push(("order", "newest".to_owned()));
        query.push(("limit", MAX_PAGE.min(limit - items.len()).to_string()));
        query.extend(after.map(|after| ("after", after)));
        let page: PageView<T> = remote.get(path, &query)?;
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    items.reverse();
    Ok(items)
}

fn print_json<T: Serialize>(items: &[T]) -> Result<(), Failed> {
    print_lines(items.iter().map(json_line))
}

/// The members are in alphabetical order.
fn json_line(item: &impl Serialize) -> String {
    table::printable_json(&json!(item).to_string())
}

fn print_table(table: &TextTable) -> Result<(), Failed> {
    print_lines(table.lines(&mut Vec::new(), terminal_width()))
}

/// The columns of the terminal, if standard output is one.
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
