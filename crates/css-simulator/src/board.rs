//! Compares the board of streams of a livehook with the callbacks that were sent.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, bail};
use css_callbacks::{Secret, Timestamp};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::admin::{AdminClient, FIRST_TIMEOUT, PAUSE, RESTART_TIMEOUT};
use super::oracle::{ExpectedState, Newest, Oracle, StreamName};
use crate::HttpEndpoint;

/// The metric with the number of stored events that are not on the board yet.
const LAG_METRIC: &str = "livehook_streams_lag_events";

/// The longest time without progress of the board. A killed process keeps its lease for a while,
/// and on a busy machine the board is updated late.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The board of streams of a livehook.
pub struct LiveBoard {
    admin: AdminClient,
    source: String,
}

/// The board before anything was sent.
pub struct Before(BTreeMap<StreamName, ExpectedState>);

/// The result of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Streams whose state was compared: a push of them was sent, and its state is known.
    pub compared: u64,
    /// Streams that cannot be judged: too many of their events were not acknowledged, or the board
    /// already had something newer.
    pub undecided: u64,
    /// Streams that became live, but not by this simulation.
    pub others: u64,
    /// Streams with a wrong state.
    pub differences: Vec<Difference>,
}

/// A stream with a wrong state on the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its domain, app and name.
    pub stream: String,
    /// The state by the acknowledged events; null if no push of the stream was acknowledged.
    pub expected: Option<ExpectedState>,
    /// The state on the board; null if the stream is not on it.
    pub found: Option<ExpectedState>,
}

/// The end of a sentence.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |state: &Option<ExpectedState>| match state {
            Some(state) => state.to_string(),
            None => "not known".to_owned(),
        };
        let (expected, found) = (told(&self.expected), told(&self.found));
        // Quoted, because a name may begin with a space.
        write!(f, "`{}` must be {expected}, and is {found}", self.stream)
    }
}

/// An item of the list of streams, as far as it is read.
#[derive(Deserialize)]
struct ListedStream {
    #[serde(flatten)]
    name: StreamName,
    live: bool,
    since: Option<Timestamp>,
    pushsequence: Option<String>,
}

impl LiveBoard {
    /// Prepares the check at the admin listener `endpoint`, for the streams of a source. An error
    /// continues a sentence that begins with the option's name.
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

    /// Reads the board before the simulation.
    ///
    /// # Errors
    ///
    /// Fails if the admin listener does not answer as a livehook does.
    pub async fn begin(&self) -> anyhow::Result<Before> {
        self.lag(FIRST_TIMEOUT).await?;
        self.list(FIRST_TIMEOUT).await.map(Before)
    }

    /// Waits until the board has all stored events, then compares it with what was sent.
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
            // The stream counts only if nothing that was there before is newer.
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
                // It may be on the board for another reason, but it must not be live.
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
        let items: Vec<ListedStream> = self.admin.list("/api/streams", &fields, timeout).await?;
        let items = items.into_iter().map(|item| {
            let state = ExpectedState {
                live: item.live,
                since: item.since,
                pushsequence: item.pushsequence,
            };
            (item.name, state)
        });
        Ok(items.collect())
    }

    /// Waits until the lag is zero, as long as it gets smaller.
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

    /// The number of stored events that are not on the board yet.
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
