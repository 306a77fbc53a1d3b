//! Options of the commands that list something.

use anyhow::anyhow;
use clap::Args;
use css_callbacks::{Kind, Timestamp};

use crate::cli::Failed;
use crate::clock::Clock;
use crate::rejected::Reason;

type Query = Vec<(&'static str, String)>;

/// Filters by kind, source and time.
#[derive(Debug, Args)]
pub(super) struct ReceivedArgs {
    /// Only this kind, such as stream-begin
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Only received since this time, such as 2026-11-23T08:00:00Z, or 15m for 15 minutes ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    from: Option<Timestamp>,
    /// Only received before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    to: Option<Timestamp>,
}

impl ReceivedArgs {
    pub(super) fn query(&self) -> Query {
        [
            ("kind", self.kind.map(|kind| kind.slug().to_owned())),
            ("source", self.source.clone()),
            ("from", self.from.map(|time| time.to_string())),
            ("to", self.to.map(|time| time.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// Filters by stream.
#[derive(Debug, Args)]
pub(super) struct StreamArgs {
    /// Only this push or play domain
    #[arg(long)]
    domain: Option<String>,
    /// Only this stream: room-7, or live/room-7
    #[arg(long)]
    stream: Option<String>,
}

impl StreamArgs {
    pub(super) fn query(&self) -> Query {
        [("domain", &self.domain), ("stream", &self.stream)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }
}

/// Options for the output of a list.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Show at most this many, the newest
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Print one JSON object per line instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

impl ListArgs {
    /// The most items to list. Zero is allowed only with `--follow`.
    pub(super) fn limit(&self, follow: bool) -> Result<usize, Failed> {
        if self.limit == 0 && !follow {
            let problem = "--limit 0 shows nothing; write 1 or more";
            return Err(Failed::Setup(anyhow!(problem)));
        }
        Ok(self.limit)
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::from_slug(text).ok_or_else(|| {
        let known: Vec<&str> = Kind::every().map(Kind::slug).collect();
        format!("the kinds are {}", known.join(", "))
    })
}

pub(super) fn reason(text: &str) -> Result<Reason, String> {
    Reason::from_slug(text).ok_or_else(|| {
        let known: Vec<&str> = Reason::all().map(Reason::slug).collect();
        format!("the reasons are {}", known.join(", "))
    })
}

/// Parses a time, or a duration before now.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Some(time) = Timestamp::from_rfc3339(text) {
        return Ok(time);
    }
    let ago = humantime::parse_duration(text.trim_start_matches('-'));
    ago.map(|ago| Clock::system().now().minus(ago))
        .map_err(|_| {
            "write a time such as 2026-11-23T08:00:00Z, or a duration such as 15m for 15 minutes ago".to_owned()
        })
}
