//! `livehook streams`: lists streams, shows one in detail, and rebuilds the board.

mod detail;

use std::collections::HashMap;

use anyhow::anyhow;
use clap::Args;
use css_callbacks::Timestamp;
use percent_encoding::percent_decode_str;

use super::follow::MessageStream;
use super::printer::Printer;
use super::query::{ListArgs, StreamArgs};
use super::remote::{Remote, SLOW_TIMEOUT};
use super::table::{cell, maybe, stream};
use super::{
    MAX_PAGE, Operate, confirm, counted, print_json, print_line, print_lines, terminal_width,
};
use crate::api::{CountAnswer, EmptyRequest, PageView, StoryView, StreamView, Time, message};
use crate::cli::Failed;

#[derive(Debug, Args)]
pub(in crate::cli) struct StreamsArgs {
    /// Show this stream in detail: source/domain/app/stream, such as
    /// css/push.example.com/live/room-7; write %2F for a slash within a part and - for an empty
    /// part
    #[arg(value_name = "STREAM", conflicts_with_all = ["all", "offline", "source", "domain", "stream", "search", "follow", "rebuild"])]
    one: Option<String>,
    /// Also streams that are not live
    #[arg(long)]
    all: bool,
    /// Only streams that are not live
    #[arg(long, conflicts_with = "all")]
    offline: bool,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    #[command(flatten)]
    stream: StreamArgs,
    /// Only streams with this text in domain/app/stream
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    #[command(flatten)]
    shown: ListArgs,
    /// Then show each change of a stream, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Rebuild the board of streams from the stored events
    #[arg(long, conflicts_with_all = ["all", "offline", "source", "domain", "stream", "search", "follow", "limit"])]
    rebuild: bool,
    /// With --rebuild: do not ask for confirmation
    #[arg(long, short, requires = "rebuild")]
    yes: bool,
}

impl Operate for StreamsArgs {
    fn run(&self, remote: &Remote) -> Result<(), Failed> {
        if self.rebuild {
            return self.rebuild(remote);
        }
        let limit = self.shown.limit(self.follow)?;
        if let Some(one) = &self.one {
            return self.show_detail(remote, &parse_name(one).map_err(Failed::Setup)?, limit);
        }
        // Following starts before the list is read, so that no change is missed; known states are
        // skipped below.
        let messages = match self.follow {
            true => {
                let path = &["streams", "stream"];
                let query = self.query(self.offline.then_some(false));
                Some(remote.block_on(MessageStream::start(remote, path, query))?)
            }
            false => None,
        };
        let live = (!self.all).then_some(!self.offline);
        let items = newest_changed(remote, &self.query(live), limit)?;
        let mut printer = Printer::new(self.shown.json, HEAD, row);
        if !printer.print(&items)? {
            return Ok(());
        }
        let Some(messages) = messages else {
            return Ok(());
        };
        let mut known: HashMap<_, _> = items
            .iter()
            .map(|item| (stream_name(item), state(item)))
            .collect();
        remote.block_on(messages.each(message::STREAM, |item: StreamView| {
            match known.remove(&stream_name(&item)) {
                Some(shown) if shown == state(&item) => Ok(true),
                _ => printer.print(&[item]),
            }
        }))
    }
}

impl StreamsArgs {
    fn query(&self, live: Option<bool>) -> Vec<(&'static str, String)> {
        let mut query = self.stream.query();
        query.extend(live.map(|live| ("live", live.to_string())));
        for (name, value) in [("source", &self.source), ("search", &self.search)] {
            query.extend(value.clone().map(|value| (name, value)));
        }
        query
    }

    fn show_detail(
        &self,
        remote: &Remote,
        parts: &[String; 4],
        limit: usize,
    ) -> Result<(), Failed> {
        let [source, domain, appname, streamid] = parts;
        let limit = limit.min(MAX_PAGE).to_string();
        let detail: StoryView = remote.get(
            &["streams", source, domain, appname, streamid],
            &[("limit", limit)],
        )?;
        if self.shown.json {
            return print_json(&[detail]);
        }
        print_lines(detail::lines(&detail, terminal_width()))
    }

    fn rebuild(&self, remote: &Remote) -> Result<(), Failed> {
        let question = "The board of streams will be rebuilt from the stored events.";
        if !confirm(question, self.yes)? {
            return print_line("nothing was rebuilt").map(drop);
        }
        let answer: CountAnswer =
            remote.post(&["streams", "rebuild"], &EmptyRequest {}, SLOW_TIMEOUT)?;
        if self.shown.json {
            return print_json(&[answer]);
        }
        let count = counted(answer.count, "event");
        print_line(&format!("the board of streams was rebuilt from {count}")).map(drop)
    }
}

/// Splits the name of a stream into source, domain, appname and streamid.
fn parse_name(text: &str) -> anyhow::Result<[String; 4]> {
    let problem = || {
        anyhow!(
            "write the stream as source/domain/app/stream, such as css/push.example.com/live/room-7"
        )
    };
    let part = |part: &str| {
        let part = percent_decode_str(part).decode_utf8();
        let part = part.map_err(|_| problem())?.into_owned();
        Ok(if part.is_empty() {
            "-".to_owned()
        } else {
            part
        })
    };
    // Lists show a source as `/css`.
    let parts = text.strip_prefix('/').unwrap_or(text).split('/').map(part);
    let parts: Vec<String> = parts.collect::<anyhow::Result<_>>()?;
    parts.try_into().map_err(|_| problem())
}

/// The `limit` streams whose state changed last, the oldest change first. The server sorts streams
/// by their first event, so all pages are read.
fn newest_changed(
    remote: &Remote,
    query: &[(&'static str, String)],
    limit: usize,
) -> Result<Vec<StreamView>, Failed> {
    let mut items: Vec<StreamView> = Vec::new();
    let mut after = None;
    loop {
        let mut query = query.to_vec();
        query.push(("limit", MAX_PAGE.to_string()));
        query.extend(after.map(|after| ("after", after)));
        let page: PageView<StreamView> = remote.get(&["streams"], &query)?;
        items.extend(page.items);
        // Only streams that may be shown are kept, because there may be very many.
        items.sort_by_cached_key(|item| std::cmp::Reverse(changed_at(item)));
        items.truncate(limit);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    items.reverse();
    Ok(items)
}

/// When the state of a stream began, as far as known.
fn changed_at(item: &StreamView) -> Option<Timestamp> {
    let time = |time: &Time| Timestamp::from_rfc3339(&time.0);
    let since = item.since.as_ref().and_then(time);
    since.or_else(|| time(&item.last))
}

fn stream_name(item: &StreamView) -> (String, [Option<String>; 3]) {
    let parts = [&item.domain, &item.appname, &item.streamid];
    (item.source.clone(), parts.map(Clone::clone))
}

/// The parts of an item whose change is shown.
fn state(item: &StreamView) -> (bool, Option<Time>, Option<String>) {
    (item.live, item.since.clone(), item.pushsequence.clone())
}

const HEAD: &[&str] = &["STATE", "SINCE", "SOURCE", "STREAM", "LAST"];

/// The cells below [`HEAD`].
fn row(item: &StreamView) -> Vec<String> {
    vec![
        if item.live { "live" } else { "offline" }.to_owned(),
        maybe(item.since.as_ref()),
        cell(item.source.trim_start_matches('/')),
        stream([&item.domain, &item.appname, &item.streamid]),
        cell(&item.last),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_named_by_four_parts() {
        let named = |text: &str| parse_name(text).ok().map(|parts| parts.join("|"));
        let four = |text: &str| Some(text.to_owned());
        assert_eq!(
            named("css/push.example.com/live/room-7"),
            four("css|push.example.com|live|room-7")
        );
        assert_eq!(named("/css/d/a/s"), four("css|d|a|s"));
        assert_eq!(named("css/-//a%2Fb%20%E7%9B%B4"), four("css|-|-|a/b 直"));
        assert_eq!(named("css/d/a/100%"), four("css|d|a|100%"));
        for bad in ["", "css", "css/d/a", "css/d/a/s/t", "css/d/a/%FF"] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }
}
