//! Compares the events in the store of a livehook with those that it acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use css_callbacks::{EventId, Kind, Secret, Timestamp, json};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::ack_log::{BodyDigest, SentEvent};
use super::admin::{AdminClient, FIRST_TIMEOUT, RESTART_TIMEOUT};
use crate::HttpEndpoint;

/// The most requests at a time.
const PARALLEL_REQUESTS: usize = 16;
/// Kinds whose retries the receiver may store as new events.
const MAY_BE_NEW: [Kind; 3] = [Kind::Relay, Kind::StreamliveBegin, Kind::StreamliveEnd];

/// Reads the stored events through the admin listener of a livehook.
pub struct Verifier {
    admin: AdminClient,
    source: String,
}

/// The state before the simulation. Only events stored after it are compared.
pub struct Baseline {
    from: Timestamp,
    /// Earlier events with the same date: a date has whole seconds.
    before: Vec<EventId>,
}

/// The result of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreFindings {
    /// Acknowledged, but not stored.
    pub lost: u64,
    /// Stored, but no 200 was received: the answer was lost, or the sender was stopped.
    pub stored_unacknowledged: u64,
    /// Stored with other content than was sent.
    pub wrong_content: u64,
    /// Stored more than once.
    pub stored_twice: u64,
    /// Stored, but forged.
    pub forged_stored: u64,
    /// Stored since the start, but not sent by this simulation.
    pub others: u64,
}

/// An item of the list of stored events, as far as it is read.
#[derive(Deserialize)]
struct ListedEvent {
    id: EventId,
    r#type: String,
}

impl Verifier {
    /// Prepares the check at the admin listener `endpoint`, for the events of a source. An error
    /// continues a sentence that begins with the option's name.
    pub fn new(
        endpoint: HttpEndpoint,
        token: Option<Secret>,
        source: &str,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            admin: AdminClient::new(endpoint, token, "--verify")?,
            source: source.to_owned(),
        })
    }

    /// Reads the state before the simulation.
    ///
    /// # Errors
    ///
    /// Fails if the admin listener does not answer as a livehook does.
    pub async fn begin(&self) -> anyhow::Result<Baseline> {
        let answer = self
            .admin
            .ask("/api/events", &[("limit", "1")], FIRST_TIMEOUT)
            .await?;
        let other = |why: String| self.admin.not_livehook(why);
        if answer.status != StatusCode::OK {
            bail!(other(format!("it answers {}", answer.status)));
        }
        let date = answer.date.unwrap_or_default();
        let from = jiff::fmt::rfc2822::parse(&date)
            .map_err(|_| anyhow!(other("it tells no date".to_owned())))?
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

    /// Compares what was sent with what is stored.
    pub(super) async fn compare(
        self,
        baseline: &Baseline,
        entries: &[SentEvent],
        forged: &[EventId],
    ) -> anyhow::Result<StoreFindings> {
        let this = Arc::new(self);
        let mut listed = this.list(baseline).await?;
        // The list is in arrival order.
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
        let digests = this.digests(&listed, entries).await?;
        let mut found = StoreFindings::default();
        let random_id_counts = count_random_ids(entries, &listed, &digests);
        let mut own = 0;
        for entry in entries {
            let (stored, same) = match entry.identity.id {
                Some(id) => {
                    let stored = times.get(&id).copied().unwrap_or(0);
                    (
                        stored,
                        digests.get(&id) == Some(&Some(entry.identity.digest)),
                    )
                }
                None => (
                    random_id_counts
                        .get(&entry.identity.digest)
                        .copied()
                        .unwrap_or(0),
                    true,
                ),
            };
            own += stored;
            // An event without a fixed id, such as a relay without a time, is not merged with its
            // repeats: the receiver stores each as an event of its own.
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

    /// Returns everything that was stored since the start.
    async fn list(&self, baseline: &Baseline) -> anyhow::Result<Vec<ListedEvent>> {
        let from = baseline.from.to_string();
        let fields = [("source", &*self.source), ("from", &from)];
        let list = self.admin.list("/api/events", &fields, RESTART_TIMEOUT);
        list.await
    }

    /// Returns the digest of each stored event that must be compared; none if it is not stored.
    async fn digests(
        self: &Arc<Self>,
        listed: &[ListedEvent],
        entries: &[SentEvent],
    ) -> anyhow::Result<HashMap<EventId, Option<BodyDigest>>> {
        let known = entries.iter().filter_map(|entry| entry.identity.id);
        let may_be_new = MAY_BE_NEW.map(Kind::event_type);
        let unsure = listed.iter();
        let unsure = unsure.filter(|event| may_be_new.contains(&&*event.r#type));
        let unsure = unsure.map(|event| event.id);
        let mut wanted: Vec<EventId> = known.chain(unsure).collect();
        wanted.sort();
        wanted.dedup();
        let mut digests = HashMap::with_capacity(wanted.len());
        let mut asking = JoinSet::new();
        let mut wanted = wanted.into_iter();
        loop {
            while asking.len() < PARALLEL_REQUESTS
                && let Some(id) = wanted.next()
            {
                let this = self.clone();
                asking.spawn(async move { Ok::<_, anyhow::Error>((id, this.digest(id).await?)) });
            }
            match asking.join_next().await {
                Some(answer) => {
                    let (id, digest) = answer.context("a question broke off")??;
                    digests.insert(id, digest);
                }
                None => return Ok(digests),
            }
        }
    }

    async fn digest(&self, id: EventId) -> anyhow::Result<Option<BodyDigest>> {
        let path = format!("/api/events/{id}");
        let answer = self.admin.ask(&path, &[], RESTART_TIMEOUT).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let members = json::members(&answer.body).context("an event is not understood")?;
        // The bodies are UTF-8, so they are never in `data_base64`.
        let data = members.iter().find(|member| *member.name == *b"data");
        Ok(data.and_then(|data| BodyDigest::of(data.value)))
    }
}

/// Counts how often each content is stored under a random id.
fn count_random_ids(
    entries: &[SentEvent],
    listed: &[ListedEvent],
    digests: &HashMap<EventId, Option<BodyDigest>>,
) -> HashMap<BodyDigest, u64> {
    let mut times: HashMap<BodyDigest, u64> = entries
        .iter()
        .filter(|entry| entry.identity.id.is_none())
        .map(|entry| (entry.identity.digest, 0))
        .collect();
    for event in listed {
        if let Some(Some(digest)) = digests.get(&event.id)
            && let Some(times) = times.get_mut(digest)
        {
            *times += 1;
        }
    }
    times
}
