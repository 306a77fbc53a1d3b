//! Sends the requests of each case and judges the answers.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use css_callbacks::{Kind, Secret, Timestamp};
use reqwest::Url;
use tokio::task::JoinSet;

use super::count::Counter;
use super::events::Events;
use super::report::CaseOutcome;
use super::trial::{Repeat, Trial};
use super::{GradingSettings, judge};
use crate::Now;
use crate::RequestEnd;
use crate::bad::{Bad, Secrets};
use crate::connections::Connections;
use crate::content::{Content, Signature};
use crate::sender::{VALIDITY, answer_timeout};
use crate::time_ahead;

/// The most cases at a time.
const PARALLEL_CASES: usize = 4;
/// The most requests at a time: each case may send four at once.
const PARALLEL_REQUESTS: usize = 4 * PARALLEL_CASES;

pub(super) struct Grader {
    pub(super) settings: GradingSettings,
    connections: Connections,
    now: Now,
    events: Mutex<Events>,
    /// Every `t` that was used.
    used: Mutex<HashSet<i64>>,
}

/// A genuine callback, ready to be sent.
pub(super) struct TrialRequest {
    pub(super) url: Url,
    /// The kind that decides the URL and the timeout.
    kind: Kind,
    body: String,
    /// What is special about it, if the name of the case does not say it.
    note: Option<String>,
}

impl Grader {
    pub(super) fn new(settings: GradingSettings, now: Now) -> anyhow::Result<Self> {
        let connections = Connections::new(&settings.template, PARALLEL_REQUESTS)?.used_once();
        Ok(Self {
            events: Mutex::new(Events::new(settings.seed)),
            settings,
            connections,
            now,
            used: Mutex::default(),
        })
    }

    /// Reports the outcome of each case as soon as it is known. Cases that count run last and
    /// alone, because other requests would change the count.
    pub(super) async fn grade(
        self: &Arc<Self>,
        trials: &[Trial],
        mut known: impl FnMut(usize, CaseOutcome),
    ) -> anyhow::Result<()> {
        let numbered = || trials.iter().copied().enumerate();
        let mut waiting = numbered().filter(|(_, trial)| !trial.counts());
        let mut running = JoinSet::new();
        loop {
            while running.len() < PARALLEL_CASES
                && let Some((at, trial)) = waiting.next()
            {
                let grader = self.clone();
                running.spawn(async move { (at, grader.outcome(trial).await) });
            }
            let Some(ended) = running.join_next().await else {
                break;
            };
            let (at, outcome) = ended.context("a case broke off")?;
            known(at, outcome);
        }
        for (at, trial) in numbered().filter(|(_, trial)| trial.counts()) {
            known(at, self.outcome(trial).await);
        }
        Ok(())
    }

    async fn outcome(&self, trial: Trial) -> CaseOutcome {
        if let Some(reason) = trial.skipped(&self.settings) {
            return CaseOutcome::Skip(reason);
        }
        let result = match trial {
            Trial::Genuine(kind) => self.genuine(kind).await,
            Trial::Unsigned(kind) => self.unsigned(kind).await,
            Trial::Bad(bad) => self.refused(bad).await,
            Trial::Odd(odd) => self.acknowledged(self.odd(odd)).await,
            Trial::Repeated(again) => self.repeated(again).await,
            Trial::CountedOnce(again) => self.counted_once(again).await,
            Trial::CountedEach => self.counted_each().await,
        };
        result.map_or_else(CaseOutcome::Fail, |()| CaseOutcome::Pass)
    }

    /// Tests every form of a kind.
    async fn genuine(&self, kind: Kind) -> Result<(), String> {
        let forms = self.events(|events, now| events.forms(kind, now));
        let requests = forms
            .into_iter()
            .map(|(content, note)| self.signed(&content).noted(note));
        self.acknowledged(requests.collect()).await
    }

    async fn unsigned(&self, kind: Kind) -> Result<(), String> {
        let body = self.plain(kind).body(None);
        self.acknowledged(vec![self.request(kind, body)]).await
    }

    async fn refused(&self, bad: Bad) -> Result<(), String> {
        let content = self.plain(Kind::StreamBegin);
        let GradingSettings { template, key, .. } = &self.settings;
        let secrets = Secrets {
            key: key.as_ref(),
            token: template.token(),
        };
        let (url, body) = bad.request(&content, self.now().seconds(), secrets, template);
        judge::refused(bad, &self.post(url, body, content.kind).await)
    }

    /// Tests one event that is sent again, after its acknowledgement or at the same moment.
    async fn repeated(&self, again: Repeat) -> Result<(), String> {
        let content = self.plain(Kind::StreamBegin);
        let signed = |note: &str| self.signed(&content).noted(Some(note.to_owned()));
        let first = signed("the first");
        let repeat = |note: &str| TrialRequest {
            url: first.url.clone(),
            body: first.body.clone(),
            note: Some(note.to_owned()),
            ..first
        };
        match again {
            Repeat::Same => {
                let repeat = repeat("the repeat");
                self.acknowledged(vec![first, repeat]).await
            }
            Repeat::Renewed => {
                let repeat = signed("the repeat");
                self.acknowledged(vec![first, repeat]).await
            }
            Repeat::AtOnce => {
                let copies = [1, 2, 3, 4].map(|_| repeat("one of four at once"));
                let (a, b, c, d) = tokio::join!(
                    self.try_one(&copies[0]),
                    self.try_one(&copies[1]),
                    self.try_one(&copies[2]),
                    self.try_one(&copies[3]),
                );
                a.and(b).and(c).and(d)
            }
        }
    }

    async fn counted_once(&self, again: Repeat) -> Result<(), String> {
        let counter = self.counter()?;
        let before = counter.at_rest().await?;
        self.repeated(again).await?;
        let grown = counter.growth(before, 1).await?;
        judge::counted_once(grown)
    }

    async fn counted_each(&self) -> Result<(), String> {
        let counter = self.counter()?;
        let before = counter.at_rest().await?;
        self.acknowledged(self.of_one_second()).await?;
        let grown = counter.growth(before, 2).await?;
        judge::counted_each(grown)
    }

    fn counter(&self) -> Result<&Counter, String> {
        self.settings
            .counter
            .as_ref()
            .ok_or_else(|| "nobody counts".to_owned())
    }

    /// Sends requests one after the other. Stops at the first that is not acknowledged.
    async fn acknowledged(&self, requests: Vec<TrialRequest>) -> Result<(), String> {
        for request in &requests {
            self.try_one(request).await?;
        }
        Ok(())
    }

    async fn try_one(&self, request: &TrialRequest) -> Result<(), String> {
        let TrialRequest {
            url,
            kind,
            body,
            note,
        } = request;
        let reply = self.post(url.clone(), body.clone(), *kind).await;
        judge::acknowledged(*kind, &reply).map_err(|reason| match note {
            Some(note) => format!("{note}: {reason}"),
            None => reason,
        })
    }

    async fn post(&self, url: Url, body: String, kind: Kind) -> RequestEnd {
        let slot = self.connections.slot().await;
        slot.post(&url, body, answer_timeout(kind)).await
    }

    /// Two events of the same second, which differ only in their bodies.
    pub(super) fn of_one_second(&self) -> Vec<TrialRequest> {
        let signature = self.signature(self.fresh_t());
        let notes = ["the first", "the second"];
        let requests = notes.map(|note| {
            let body = self.plain(Kind::StreamBegin).body(Some(&signature));
            self.request(Kind::StreamBegin, body)
                .noted(Some(note.to_owned()))
        });
        requests.into()
    }

    /// Signs a callback as for its first attempt.
    pub(super) fn signed(&self, content: &Content) -> TrialRequest {
        let signature = self.signature(self.fresh_t());
        self.request(content.kind, content.body(Some(&signature)))
    }

    pub(super) fn request(&self, kind: Kind, body: String) -> TrialRequest {
        TrialRequest {
            url: self.settings.template.url(kind),
            kind,
            body,
            note: None,
        }
    }

    pub(super) fn signature(&self, t: i64) -> Signature {
        Signature::new(self.settings.key.as_ref().map(Secret::reveal), t)
    }

    /// The latest `t` that no other request has. A receiver that uses the signature as an id must
    /// fail only the case that tests this.
    fn fresh_t(&self) -> i64 {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut t = self.now().seconds() + VALIDITY;
        while !used.insert(t) {
            t -= 1;
        }
        t
    }

    /// An event without anything special.
    pub(super) fn plain(&self, kind: Kind) -> Content {
        self.events(|events, now| events.plain(kind, now))
    }

    fn events<T>(&self, take: impl FnOnce(&mut Events, Timestamp) -> T) -> T {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut events, self.now())
    }

    pub(super) fn now(&self) -> Timestamp {
        time_ahead(&self.now, self.settings.clock_offset)
    }
}

impl TrialRequest {
    pub(super) fn noted(mut self, note: Option<String>) -> Self {
        self.note = note;
        self
    }
}
