//! Asking a livehook which streams are live, to hold it against what was sent.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use css_callbacks::{Secret, Timestamp};
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::admin::{AdminClient, FIRST_TIMEOUT, PAUSE, RESTART_TIMEOUT};
use super::oracle::{ExpectedState, Newest, Oracle, StreamName};
use crate::HttpEndpoint;

/// Tells how far the board is behind what is stored.
const LAG_METRIC: &str = "livehook_streams_lag_events";

/// How long the board may get no nearer to what is stored: a process that was killed keeps its lease of it for a while, and on a
/// busy machine the board steps back behind everything.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The board of streams of a livehook, as its admin listener shows it.
pub struct LiveBoard {
    admin: AdminClient,
    source: String,
}

/// What was on it before anything was sent.
pub struct Before(BTreeMap<StreamName, ExpectedState>);

/// How the board compares with what was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// StreamCounts of which a push was sent, and whose state on the board can be judged.
    pub compared: u64,
    /// The others: too much of them was not acknowledged, or they were on the board with something newer before.
    pub undecided: u64,
    /// StreamCounts that became live, but not by this simulation.
    pub others: u64,
    /// What is not as it must be.
    pub differences: Vec<Difference>,
}

/// A stream whose state on the board is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its domain, app and name.
    pub stream: String,
    /// What it must be by what was acknowledged; null if no push of it was.
    pub expected: Option<ExpectedState>,
    /// What the board has; null if it does not know the stream.
    pub found: Option<ExpectedState>,
}

/// As the end of a sentence.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |state: &Option<ExpectedState>| match state {
            Some(state) => state.to_string(),
            None => "not known".to_owned(),
        };
        let (expected, found) = (told(&self.expected), told(&self.found));
        // Names may begin with a blank.
        write!(f, "`{}` must be {expected}, and is {found}", self.stream)
    }
}

impl LiveBoard {
    /// Will ask the admin listener at `endpoint` about the streams of a source. The error is the rest of a sentence that begins
    /// with the option's name.
    pub fn new(
        endpoint: HttpEndpoint,
        token: Option<Secret>,
        source: &str,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            admin: AdminClient::new(endpoint, token, "--verify-streams")?,
            source: source.to_owned(),
        })
    }

    /// Whether it answers, and what it has.
    pub async fn begin(&self) -> anyhow::Result<Before> {
        self.lag(FIRST_TIMEOUT).await?;
        self.list(FIRST_TIMEOUT).await.map(Before)
    }

    /// Waits until everything stored is on the board, and holds it against what was sent.
    pub(super) async fn compare(
        self,
        before: &Before,
        oracle: &Oracle,
    ) -> anyhow::Result<Compared> {
        self.catch_up().await?;
        let mut listed = self.list(RESTART_TIMEOUT).await?;
        let mut compared = Compared::default();
        for (name, known) in &oracle.0 {
            let found = listed.remove(name);
            let before = before.0.get(name);
            // Nothing that was there before may be newer.
            let decides =
                |newest: &Newest| before.is_none_or(|before| before.since < Some(newest.start));
            let possible = known.possible.as_ref();
            let possible = possible.filter(|all| all.iter().flatten().all(decides));
            let Some(possible) = possible else {
                compared.undecided += 1;
                continue;
            };
            compared.compared += 1;
            let expected = |newest: &Option<Newest>| match newest {
                Some(newest) => Some(newest.state()),
                None => before.cloned(),
            };
            let is_right = possible.iter().any(|newest| match expected(newest) {
                Some(state) => found.as_ref() == Some(&state),
                // It may be there because of something else, but not live.
                None => found.as_ref().is_none_or(|found| found.since.is_none()),
            });
            if !is_right {
                compared.differences.push(Difference {
                    stream: name.to_string(),
                    expected: expected(&known.surely),
                    found,
                });
            }
        }
        let became_live = listed
            .iter()
            .filter(|(name, state)| state.live && before.0.get(*name) != Some(*state));
        compared.others = became_live.count() as u64;
        Ok(compared)
    }

    async fn list(&self, timeout: Duration) -> anyhow::Result<BTreeMap<StreamName, ExpectedState>> {
        let fields = [("source", &*self.source)];
        let items = self.admin.list("/api/streams", &fields, timeout, |item| {
            let text = |name: &str| item[name].as_str().map(str::to_owned);
            let name = StreamName {
                domain: text("domain").unwrap_or_default(),
                appname: text("appname").unwrap_or_default(),
                streamid: text("streamid").unwrap_or_default(),
            };
            let state = ExpectedState {
                live: item["live"]
                    .as_bool()
                    .context("the list has an item without live")?,
                since: time(&item["since"])?,
                pushsequence: text("pushsequence"),
            };
            Ok((name, state))
        });
        Ok(items.await?.into_iter().collect())
    }

    /// Waits as long as it gets nearer.
    async fn catch_up(&self) -> anyhow::Result<()> {
        let mut least = u64::MAX;
        let mut until = Instant::now();
        loop {
            let lag = self.lag(RESTART_TIMEOUT).await?;
            if lag == 0 {
                return Ok(());
            }
            if lag < least {
                least = lag;
                until = Instant::now() + STALL_TIMEOUT;
            }
            if Instant::now() >= until {
                bail!("the board stays {lag} events behind what is stored");
            }
            sleep(PAUSE).await;
        }
    }

    /// Stored events that are not on the board yet.
    async fn lag(&self, timeout: Duration) -> anyhow::Result<u64> {
        let answer = self.admin.ask("/metrics", &[], timeout).await?;
        if answer.status != StatusCode::OK {
            bail!(
                self.admin
                    .not_livehook(format_args!("it answers {}", answer.status))
            );
        }
        let text = String::from_utf8_lossy(&answer.body);
        let value = text.lines().find_map(|line| {
            line.strip_prefix(LAG_METRIC)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        });
        value.with_context(|| {
            self.admin
                .not_livehook(format_args!("it tells no {LAG_METRIC}"))
        })
    }
}

fn time(value: &Value) -> anyhow::Result<Option<Timestamp>> {
    match value.as_str() {
        Some(text) => Timestamp::from_rfc3339(text)
            .map(Some)
            .context("the list has an item whose since is no time"),
        None => Ok(None),
    }
}
