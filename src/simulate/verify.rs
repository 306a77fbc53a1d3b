//! Asking a livehook what it has stored, to hold it against what it acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use reqwest::header::DATE;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::ledger::{Entry, Seal};
use crate::clock::Timestamp;
use crate::identity::EventId;
use crate::json;
use crate::kind::Kind;
use crate::outbound;
use crate::settings::Secret;

/// How long the admin listener may be away: it may just be starting again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same before anything is sent, when a wrong address is likelier.
const AT_FIRST: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// Of one question.
const ANSWER: Duration = Duration::from_secs(20);
const NO_LIVEHOOK: &str = "what answers at --verify is no admin listener of a livehook";
/// Questions at a time.
const AT_ONCE: usize = 16;

/// Asks the admin listener of a livehook.
pub struct Verifier {
    client: Client,
    url: Url,
    source: String,
    token: Option<Secret>,
}

/// What was there before: only what is stored from then on is looked at.
pub struct Baseline {
    from: Timestamp,
    /// What was stored since then all the same: a date has whole seconds.
    before: Vec<EventId>,
}

/// What the receiver's store says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Acknowledged, but not stored.
    pub lost: u64,
    /// Stored, but no 200 was received: the answer got lost, or the sender was stopped.
    pub stored_unacknowledged: u64,
    /// Stored with another content than was sent.
    pub wrong_content: u64,
    /// Stored more than once.
    pub stored_twice: u64,
    /// Forged, and stored.
    pub forged_stored: u64,
    /// Stored meanwhile, but not sent by this simulation.
    pub others: u64,
}

/// A stored event as lists have it.
struct Listed {
    id: EventId,
    is_relay: bool,
}

impl Verifier {
    /// Will ask the admin listener at `url` about the events of a source. The error is the rest of a sentence that begins
    /// with the option's name.
    pub fn new(url: &str, token: Option<Secret>, source: &str) -> anyhow::Result<Self> {
        let mut url = outbound::url(url, "http://127.0.0.1:9090").map_err(anyhow::Error::msg)?;
        if !url.username().is_empty() || url.password().is_some() {
            bail!("must not hold a user or password; --admin-token-file takes the token");
        }
        url.set_query(None);
        Ok(Self {
            client: outbound::client(&url, |client| client.timeout(ANSWER))?,
            url,
            source: source.to_owned(),
            token,
        })
    }

    /// Whether it answers, and the time by its clock.
    pub async fn begin(&self) -> anyhow::Result<Baseline> {
        let url = self.endpoint("/api/events", &[("limit", "1")]);
        let answer = self.ask(url, AT_FIRST).await?;
        if answer.status != StatusCode::OK {
            bail!("{NO_LIVEHOOK} (it answers {})", answer.status);
        }
        let date = answer.date.unwrap_or_default();
        let from = jiff::fmt::rfc2822::parse(&date)
            .map_err(|_| anyhow!("{NO_LIVEHOOK} (it tells no date)"))?
            .timestamp()
            .as_millisecond();
        let mut baseline = Baseline {
            from: Timestamp::from_millis(from).minus(Duration::from_secs(1)),
            before: Vec::new(),
        };
        baseline.before = self
            .list(&baseline)
            .await?
            .into_iter()
            .map(|event| event.id)
            .collect();
        Ok(baseline)
    }

    /// Holds what was sent against what is stored.
    pub(super) async fn compare(
        self,
        baseline: &Baseline,
        entries: &[Entry],
        forged: &[EventId],
    ) -> anyhow::Result<Found> {
        let this = Arc::new(self);
        let mut listed = this.list(baseline).await?;
        // Lists are in arrival order.
        let before = baseline
            .before
            .iter()
            .zip(&listed)
            .take_while(|(id, event)| **id == event.id)
            .count();
        listed.drain(..before);
        let mut times: HashMap<EventId, u64> = HashMap::new();
        for event in &listed {
            *times.entry(event.id).or_default() += 1;
        }
        let seals = this.seals(&listed, entries).await?;
        let mut found = Found::default();
        let by_chance = anonymous(entries, &listed, &seals);
        let mut own = 0;
        for entry in entries {
            let (stored, same) = match entry.identity.id {
                Some(id) => {
                    let stored = times.get(&id).copied().unwrap_or(0);
                    (stored, seals.get(&id) == Some(&Some(entry.identity.seal)))
                }
                None => (
                    by_chance.get(&entry.identity.seal).copied().unwrap_or(0),
                    true,
                ),
            };
            own += stored;
            // A relay without time is never merged, so its retries and repeats are events of their own.
            found.stored_twice += u64::from(stored > 1 && entry.identity.id.is_some());
            let here = stored > 0 || (entry.identity.id.is_some() && same);
            match (here, entry.acknowledged) {
                (true, _) if !same => found.wrong_content += 1,
                (true, false) => found.stored_unacknowledged += 1,
                (false, true) => found.lost += 1,
                (true, true) | (false, false) => {}
            }
        }
        found.forged_stored = forged
            .iter()
            .map(|id| times.get(id).copied().unwrap_or(0))
            .sum();
        found.others = (listed.len() as u64).saturating_sub(own + found.forged_stored);
        Ok(found)
    }

    /// Everything that was stored since.
    async fn list(&self, baseline: &Baseline) -> anyhow::Result<Vec<Listed>> {
        let from = baseline.from.to_string();
        let mut all = Vec::new();
        let mut after = "0".to_owned();
        loop {
            let fields = [
                ("limit", "1000"),
                ("source", &self.source),
                ("from", &from),
                ("after", &after),
            ];
            let answer = self
                .ask(self.endpoint("/api/events", &fields), PATIENCE)
                .await?;
            let page: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let items = page["items"].as_array();
            let items = items
                .filter(|_| answer.status == StatusCode::OK)
                .with_context(|| format!("{NO_LIVEHOOK} (it answers {})", answer.status))?;
            for item in items {
                let text = |name: &str| item[name].as_str().unwrap_or_default();
                let id =
                    EventId::from_hex(text("id")).context("the list has an item without id")?;
                all.push(Listed {
                    id,
                    is_relay: text("type") == Kind::Relay.event_type(),
                });
            }
            match page["next"].as_str() {
                Some(next) if next == after => bail!("{NO_LIVEHOOK} (its list does not end)"),
                Some(next) => after = next.to_owned(),
                None => return Ok(all),
            }
        }
    }

    /// The seal of each event that is stored, as far as something is to be held against it; none where it is not there.
    async fn seals(
        self: &Arc<Self>,
        listed: &[Listed],
        entries: &[Entry],
    ) -> anyhow::Result<HashMap<EventId, Option<Seal>>> {
        let known = entries.iter().filter_map(|entry| entry.identity.id);
        let relays = listed
            .iter()
            .filter(|event| event.is_relay)
            .map(|event| event.id);
        let mut wanted: Vec<EventId> = known.chain(relays).collect();
        wanted.sort();
        wanted.dedup();
        let mut seals = HashMap::with_capacity(wanted.len());
        let mut asking = JoinSet::new();
        let mut wanted = wanted.into_iter();
        loop {
            while asking.len() < AT_ONCE
                && let Some(id) = wanted.next()
            {
                let this = self.clone();
                asking.spawn(async move { Ok::<_, anyhow::Error>((id, this.seal(id).await?)) });
            }
            match asking.join_next().await {
                Some(answer) => {
                    let (id, seal) = answer.context("a question broke off")??;
                    seals.insert(id, seal);
                }
                None => return Ok(seals),
            }
        }
    }

    async fn seal(&self, id: EventId) -> anyhow::Result<Option<Seal>> {
        let answer = self
            .ask(self.endpoint(&format!("/api/events/{id}"), &[]), PATIENCE)
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let members = json::members(&answer.body).context("an event is not understood")?;
        // What is sent is UTF-8, so it is never in `data_base64`.
        let data = members.iter().find(|member| *member.name == *b"data");
        Ok(data.and_then(|data| Seal::of(data.value)))
    }

    fn endpoint(&self, path: &str, fields: &[(&str, &str)]) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        if !fields.is_empty() {
            url.query_pairs_mut().extend_pairs(fields);
        }
        url
    }

    /// The answer, 200 or 404; waits for a listener that is away.
    async fn ask(&self, url: Url, patience: Duration) -> anyhow::Result<Answered> {
        let until = Instant::now() + patience;
        loop {
            match self.try_ask(url.clone()).await {
                Ok(answer) => match answer.status {
                    StatusCode::OK | StatusCode::NOT_FOUND => return Ok(answer),
                    StatusCode::UNAUTHORIZED => {
                        bail!("the admin listener wants another token: --admin-token-file")
                    }
                    status if status.is_server_error() && Instant::now() < until => {}
                    status => bail!("the admin listener answers {status}"),
                },
                Err(_) if Instant::now() < until => {}
                Err(error) => {
                    return Err(error)
                        .context(format!("no answer from the admin listener at {}", self.url));
                }
            }
            sleep(PAUSE).await;
        }
    }

    async fn try_ask(&self, url: Url) -> Result<Answered, reqwest::Error> {
        let mut request = self.client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        let date = answer
            .headers()
            .get(DATE)
            .and_then(|date| date.to_str().ok());
        Ok(Answered {
            status: answer.status(),
            date: date.map(str::to_owned),
            body: answer.bytes().await?.to_vec(),
        })
    }
}

struct Answered {
    status: StatusCode,
    date: Option<String>,
    body: Vec<u8>,
}

/// How often each content is stored that has its id by chance.
fn anonymous(
    entries: &[Entry],
    listed: &[Listed],
    seals: &HashMap<EventId, Option<Seal>>,
) -> HashMap<Seal, u64> {
    let mut times: HashMap<Seal, u64> = entries
        .iter()
        .filter(|entry| entry.identity.id.is_none())
        .map(|entry| (entry.identity.seal, 0))
        .collect();
    for event in listed {
        if let Some(Some(seal)) = seals.get(&event.id)
            && let Some(times) = times.get_mut(seal)
        {
            *times += 1;
        }
    }
    times
}
