//! What lists are asked for.

use anyhow::anyhow;
use clap::Args;
use css_callbacks::{Kind, Timestamp};

use crate::cli::Failed;
use crate::clock::Clock;
use crate::rejected::Reason;

type Query = Vec<(&'static str, String)>;

/// What arrived when.
#[derive(Debug, Args)]
pub(super) struct ReceivedArgs {
    /// Only this kind, such as stream-begin
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only what arrived since then: a time such as 2026-11-23T08:00:00Z, or so long ago, such as 15m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    from: Option<Timestamp>,
    /// Only what arrived before then
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

/// Which stream.
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

/// How a list is shown.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// One JSON object per line instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

impl ListArgs {
    /// How many at most. None of what is there makes sense only for those who wait for more.
    pub(super) fn limit(&self, follow: bool) -> Result<usize, Failed> {
        if self.limit == 0 && !follow {
            let problem = "--limit 0 shows nothing, write 1 or more";
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

/// A time, or how long ago it was.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    if let Some(time) = Timestamp::from_rfc3339(text) {
        return Ok(time);
    }
    let ago = humantime::parse_duration(text.trim_start_matches('-'));
    ago.map(|ago| Clock::system().now().minus(ago))
        .map_err(|_| {
            "write a time such as 2026-11-23T08:00:00Z, or so long ago, such as 15m".to_owned()
        })
}
