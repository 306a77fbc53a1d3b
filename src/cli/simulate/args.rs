//! The arguments of `livehook simulate`, and their conversion to settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::{ArgGroup, ValueEnum};
use css_callbacks::{Kind, Secret};
use css_simulator::{
    Checks, HttpEndpoint, Pace, Settings, board::LiveBoard, template::Template, verify::Verifier,
};

use crate::outbound;
use crate::settings;

/// The number of events without `--events` and `--duration`.
const DEFAULT_EVENTS: u64 = 100;
/// Events per second without `--rate` and `--connections`.
const DEFAULT_RATE: f64 = 10.0;
/// The most requests at a time with `--rate`, without `--connections`.
const DEFAULT_CONNECTIONS: usize = 256;

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("checks").multiple(true).args(["verify", "verify_streams"]))]
#[command(after_help = "\
Examples:
  livehook simulate --url http://127.0.0.1:8080/css --key-file key
  livehook simulate --url http://127.0.0.1:8080/css --key-file key --rate 500 --duration 1m --bad 0.01 --verify http://127.0.0.1:9090
  livehook simulate --url http://127.0.0.1:8080/css --key-file key --conformance")]
pub(in crate::cli) struct SimulateArgs {
    /// The receiver, such as http://127.0.0.1:8080/css; callbacks are posted to `{URL}/{kind}`
    #[arg(help_heading = "Receiver", long, value_name = "URL")]
    url: String,
    /// The CallbackKey to sign with
    #[arg(
        help_heading = "Receiver",
        long,
        value_name = "KEY",
        conflicts_with = "key_file"
    )]
    key: Option<String>,
    /// A file with the key in its first line
    #[arg(help_heading = "Receiver", long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The token of the URLs, sent as ?token=
    #[arg(
        help_heading = "Receiver",
        long,
        value_name = "TOKEN",
        conflicts_with = "token_file"
    )]
    token: Option<String>,
    /// A file with the token in its first line
    #[arg(help_heading = "Receiver", long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Post all callbacks to {URL} itself
    #[arg(help_heading = "Receiver", long)]
    single_url: bool,

    /// Send this many events per second, without waiting for earlier answers; latency counts from
    /// when an event is due [default: 10, without --connections]
    #[arg(help_heading = "Pace", long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// The most requests at a time; without --rate, each connection sends the next event after an
    /// answer [default: 256 with --rate]
    #[arg(help_heading = "Pace", long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: Option<u32>,
    /// Stop after this many events [default: 100, without --duration]
    #[arg(help_heading = "Pace", long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,
    /// Send new events for this time, such as 10s; retries continue until each event is
    /// acknowledged or given up
    #[arg(help_heading = "Pace", long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// The number of streams
    #[arg(help_heading = "Traffic", long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    streams: u32,
    /// Only these kinds, such as stream-begin,record [default: all but `unknown`]
    #[arg(help_heading = "Traffic", long, value_name = "KIND,…", value_delimiter = ',', value_parser = kind)]
    kinds: Vec<Kind>,
    /// The share of events that are sent twice, half of these at the same moment
    #[arg(help_heading = "Traffic", long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    duplicates: f64,
    /// Forged and malformed requests per event; the receiver must refuse them
    #[arg(help_heading = "Traffic", long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    bad: f64,
    /// Send some events after later events of their stream, and some as late retries
    #[arg(help_heading = "Traffic", long)]
    reorder: bool,
    /// Send kinds that may come without sign and t unsigned; without a key, all kinds
    #[arg(help_heading = "Traffic", long)]
    unsigned: bool,
    /// Divide the pauses between retries by this factor: 60 turns a minute into a second
    #[arg(help_heading = "Pace", long, value_name = "FACTOR", default_value_t = 1.0, value_parser = time_scale)]
    time_scale: f64,
    /// Set the sender's clock ahead of this machine's by this time, or behind it, such as -5m
    #[arg(help_heading = "Pace", long, value_name = "TIME", default_value = "0s", allow_hyphen_values = true, value_parser = offset)]
    clock_offset: i64,
    /// Also keep this many connections open that send almost nothing
    #[arg(help_heading = "Traffic", long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    slow_connections: u32,
    /// Repeat the same traffic with new times [default: random]
    #[arg(help_heading = "Traffic", long, value_name = "N")]
    seed: Option<u64>,

    /// At the end, check at this admin listener of livehook that all acknowledged events are
    /// stored, such as http://127.0.0.1:9090
    #[arg(help_heading = "Result", long, value_name = "URL")]
    verify: Option<String>,
    /// At the end, check at this admin listener that the board shows the right state of each stream
    #[arg(help_heading = "Result", long, value_name = "URL")]
    verify_streams: Option<String>,
    /// The name of the source in that livehook [default: the last part of the URL's path]
    #[arg(
        help_heading = "Result",
        long,
        value_name = "NAME",
        requires = "checks"
    )]
    source: Option<String>,
    /// A file with the token of the admin listener
    #[arg(
        help_heading = "Result",
        long,
        value_name = "FILE",
        requires = "checks"
    )]
    admin_token_file: Option<PathBuf>,
    /// Check the receiver case by case instead, and print pass or fail with the reason; exits 1 if
    /// one case fails
    #[arg(help_heading = "Grading", long, conflicts_with_all = [
        "rate", "connections", "events", "duration", "streams", "kinds", "duplicates", "bad", "reorder", "time_scale",
        "slow_connections", "verify", "verify_streams",
    ])]
    pub(super) conformance: bool,
    /// Also check that the receiver acts once on each event: this URL answers a number, which must
    /// grow by one with each push that begins, and with nothing else
    #[arg(
        help_heading = "Grading",
        long,
        value_name = "URL",
        requires = "conformance"
    )]
    pub(super) count_url: Option<String>,
    /// The form of the report
    #[arg(
        help_heading = "Result",
        long,
        value_name = "FORM",
        default_value = "text"
    )]
    pub(super) report: ReportForm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportForm {
    /// Text for people
    Text,
    /// One JSON object
    Json,
}

impl SimulateArgs {
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let token = secret("--token", self.token.as_deref(), self.token_file.as_deref())?;
        let key = secret("--key", self.key.as_deref(), self.key_file.as_deref())?;
        if key.is_none() && token.is_none() && !self.unsigned {
            bail!(
                "name the key to sign with: --key or --key-file; or use --token for a template without a key; or --unsigned"
            );
        }
        let mut template = outbound::url(&self.url, "http://127.0.0.1:8080/css")
            .and_then(|url| Template::new(url, token, self.single_url))
            .map_err(|problem| anyhow!("--url: `{}` {problem}", without_secrets(&self.url)))?;
        if let Some(source) = &self.source {
            template = template.of_source(source);
        }
        if self.slow_connections > 0 && template.base().scheme() != "http" {
            bail!("--slow-connections: works only with receivers without TLS, http://");
        }
        let pace = match (self.rate, self.connections) {
            (Some(rate), _) => Pace::Open { rate },
            (None, Some(_)) => Pace::Closed,
            (None, None) => Pace::Open { rate: DEFAULT_RATE },
        };
        let endless = self.events.is_none() && self.duration.is_none();
        let kinds = match &*self.kinds {
            [] => Kind::ALL.to_vec(),
            some => some.to_vec(),
        };
        Ok(Settings {
            template,
            key,
            pace,
            connections: self
                .connections
                .map_or(DEFAULT_CONNECTIONS, |number| number as usize),
            events: if endless {
                Some(DEFAULT_EVENTS)
            } else {
                self.events
            },
            duration: self.duration,
            streams: self.streams as usize,
            kinds,
            duplicates: self.duplicates,
            bad: self.bad,
            reorder: self.reorder,
            unsigned: self.unsigned,
            time_scale: self.time_scale,
            clock_offset: self.clock_offset,
            slow_connections: self.slow_connections as usize,
            seed: self.seed.unwrap_or_else(rand::random),
        })
    }

    pub(super) fn checks(&self, template: &Template) -> anyhow::Result<Checks> {
        let token = secret("--admin-token", None, self.admin_token_file.as_deref())?;
        if let Some(source) = &self.source {
            settings::check_name("--source", source)?;
        }
        Ok(Checks {
            stored: livehook_check("--verify", &self.verify, template, |endpoint, source| {
                Verifier::new(endpoint, token.clone(), source)
            })?,
            streams: livehook_check(
                "--verify-streams",
                &self.verify_streams,
                template,
                |endpoint, source| LiveBoard::new(endpoint, token.clone(), source),
            )?,
        })
    }
}

/// Makes a check from the URL of an option. It needs the source of the template.
fn livehook_check<T>(
    option: &str,
    url: &Option<String>,
    template: &Template,
    new: impl FnOnce(HttpEndpoint, &str) -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    let Some(url) = url else {
        return Ok(None);
    };
    let source = template.source().with_context(|| {
        format!("{option}: --url names no source: let it end in one such as /css, or use --source")
    })?;
    endpoint(url, "http://127.0.0.1:9090")
        .and_then(|endpoint| new(endpoint, source))
        .with_context(|| format!("{option}: `{}`", without_secrets(url)))
        .map(Some)
}

/// What livehook can ask at a URL. The error is the rest of a sentence that begins with the URL's
/// place.
pub(super) fn endpoint(url: &str, example: &str) -> anyhow::Result<HttpEndpoint> {
    let url = outbound::url(url, example).map_err(anyhow::Error::msg)?;
    let client = outbound::client(&url, |client| client)?;
    Ok(HttpEndpoint { client, url })
}

/// A URL without the parts that may be secret: a user before an `@`, and the query.
pub(super) fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match (url.find("://"), url.find('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://…{}", &url[..scheme], &url[at..]),
        _ => url.to_owned(),
    }
}

/// Reads a secret from an option, or from the file that its `-file` variant names.
fn secret(name: &str, text: Option<&str>, file: Option<&Path>) -> anyhow::Result<Option<Secret>> {
    let (text, place) = match (text, file) {
        (Some(text), _) => (text.to_owned(), name.to_owned()),
        (None, Some(file)) => {
            let place = format!("{name}-file");
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("{place}: cannot read {}", file.display()))?;
            let first = settings::trimmed(&text).lines().next();
            (
                settings::trimmed(first.unwrap_or_default()).to_owned(),
                place,
            )
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(settings::checked(&text, place)?))
}

fn rate(text: &str) -> Result<f64, String> {
    number(
        text,
        |rate| (1e-3..=1e6).contains(&rate),
        "a number of events per second from 0.001 to 1000000",
    )
}

fn share(text: &str) -> Result<f64, String> {
    number(
        text,
        |share| (0.0..=1.0).contains(&share),
        "a share from 0 to 1",
    )
}

fn time_scale(text: &str) -> Result<f64, String> {
    number(
        text,
        |scale| (1.0..=1e6).contains(&scale),
        "a factor from 1 to 1000000",
    )
}

fn number(text: &str, fits: impl Fn(f64) -> bool, what: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number| fits(*number))
        .ok_or_else(|| format!("it must be {what}"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = humantime::parse_duration(text).ok();
    read.filter(|duration| !duration.is_zero() && *duration <= settings::MAX_DURATION)
        .ok_or_else(|| "it must be a time such as 10s or 5m".to_owned())
}

fn offset(text: &str) -> Result<i64, String> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text),
    };
    let read = humantime::parse_duration(text)
        .ok()
        .filter(|offset| *offset <= settings::MAX_DURATION);
    let seconds = read.and_then(|offset| i64::try_from(offset.as_secs()).ok());
    seconds
        .map(|seconds| sign * seconds)
        .ok_or_else(|| "it must be a time such as 5m or -5m".to_owned())
}

fn kind(text: &str) -> Result<Kind, String> {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};
    let text: StrDeserializer<Error> = text.trim().into_deserializer();
    serde::Deserialize::deserialize(text).map_err(|error: Error| error.to_string())
}
