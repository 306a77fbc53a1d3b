//! How a simulation ended, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::ledger::Ledger;
use super::verify::Found;

/// The result of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Genuine events that were sent, each counted once.
    pub sent: u64,
    /// Events for which a 200 was received.
    pub acknowledged: u64,
    /// Bad requests that were refused, as they must be.
    pub refused: u64,
    /// Requests that repeated an event because it had not been acknowledged.
    pub retried: u64,
    /// Events that the platform would have dropped after the last retry.
    pub given_up: u64,
    /// Events that were acknowledged and are not stored; null without a verification.
    pub lost: Option<u64>,
    /// Requests answered 200 per second, from the first request to the last such answer.
    pub rate: f64,
    /// From when a request was due to its answer. Refusals and failures do not count, timeouts do.
    pub latency_ms: Latency,
    /// Events still waiting for a retry when the simulation was stopped.
    pub pending: u64,
    /// Requests that repeated an event although nothing was wrong.
    pub duplicates: u64,
    /// Bad requests that were sent.
    pub bad: u64,
    /// Bad requests that were answered 200, or another 2xx.
    pub accepted_bad: u64,
    /// What was wrong with some of these.
    pub mistakes: Vec<&'static str>,
    /// Requests by the status of their answer.
    pub answers: BTreeMap<u16, u64>,
    /// Requests without an answer in time.
    pub timed_out: u64,
    /// Requests without a connection, or with one that broke.
    pub failed: u64,
    /// Why the last one of these failed.
    pub last_failure: Option<String>,
    /// From the first request to the last good answer, seconds.
    pub seconds: f64,
    /// Whether the simulator itself could begin with events when they were due.
    pub kept_up: bool,
    /// Slow connections: opened, and closed by the receiver; null if there were none to be.
    pub slow_connections: Option<[u64; 2]>,
    /// What the receiver has stored; null without a verification.
    pub verified: Option<Found>,
    /// What makes the same traffic again.
    pub seed: u64,
}

/// Milliseconds that so many of a hundred requests took at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Report {
    pub(super) fn new(ledger: &Ledger, seed: u64, kept_up: bool, slow: Option<[u64; 2]>) -> Self {
        let seconds = ledger.lasted().as_secs_f64();
        let millis = |time: Duration| time.as_micros() as f64 / 1000.0;
        let percentile = |hundredths| millis(ledger.percentile(hundredths));
        Self {
            sent: ledger.entries.len() as u64,
            acknowledged: ledger.acknowledged,
            refused: ledger.refused,
            retried: ledger.retried,
            given_up: ledger.given_up,
            lost: None,
            rate: if seconds > 0.0 {
                (ledger.good as f64 / seconds * 10.0).round() / 10.0
            } else {
                0.0
            },
            latency_ms: Latency {
                p50: percentile(50.0),
                p90: percentile(90.0),
                p99: percentile(99.0),
                p999: percentile(99.9),
                max: millis(ledger.slowest()),
            },
            pending: ledger.pending,
            duplicates: ledger.duplicates,
            bad: ledger.bad,
            accepted_bad: ledger.accepted_bad,
            mistakes: ledger.mistakes.clone(),
            answers: ledger.answers.clone(),
            timed_out: ledger.timed_out,
            failed: ledger.failed,
            last_failure: ledger.last_failure.clone(),
            seconds: (seconds * 1000.0).round() / 1000.0,
            kept_up,
            slow_connections: slow,
            verified: None,
            seed,
        }
    }

    pub(super) fn verified(&mut self, found: Found) {
        self.lost = Some(found.lost);
        self.verified = Some(found);
    }

    /// What no receiver may do, in words; empty if all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let settled = self.acknowledged + self.given_up + self.pending;
        let mut fault = |number: u64, what: &str| {
            if number > 0 {
                faults.push(format!("{number} {what}"));
            }
        };
        fault(
            self.given_up,
            "events were given up: the platform would have dropped them",
        );
        fault(self.accepted_bad, "bad requests were accepted");
        fault(
            self.sent.saturating_sub(settled),
            "events have no fate, which is a fault of livehook",
        );
        if let Some(found) = &self.verified {
            fault(found.lost, "events were acknowledged and are not stored");
            fault(
                found.wrong_content,
                "events are stored with another content",
            );
            fault(found.forged_stored, "forged events are stored");
        }
        faults
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent          {} events in {:.1} s, seed {}",
            self.sent, self.seconds, self.seed
        )?;
        writeln!(
            f,
            "acknowledged  {} ({:.0} answers 200 per second)",
            self.acknowledged, self.rate
        )?;
        let Latency {
            p50,
            p90,
            p99,
            p999,
            max,
        } = self.latency_ms;
        writeln!(
            f,
            "latency       p50 {p50} ms, p90 {p90}, p99 {p99}, p99.9 {p999}, longest {max}"
        )?;
        writeln!(
            f,
            "retried       {}, given up {}, still waiting {}",
            self.retried, self.given_up, self.pending
        )?;
        if self.duplicates > 0 {
            writeln!(f, "duplicates    {}", self.duplicates)?;
        }
        if self.bad > 0 {
            writeln!(
                f,
                "bad           {}, of which {} were refused and {} accepted",
                self.bad, self.refused, self.accepted_bad
            )?;
            if !self.mistakes.is_empty() {
                writeln!(f, "              accepted: {}", self.mistakes.join(", "))?;
            }
        }
        if let Some([opened, closed]) = self.slow_connections {
            writeln!(
                f,
                "slow          {opened} connections opened, {closed} closed by the receiver"
            )?;
        }
        let answers: Vec<_> = self
            .answers
            .iter()
            .map(|(status, times)| format!("{status}: {times}"))
            .collect();
        writeln!(
            f,
            "answers       {}; too late {}, no connection {}",
            answers.join(", "),
            self.timed_out,
            self.failed
        )?;
        if let Some(why) = &self.last_failure {
            writeln!(f, "              the last without a connection: {why}")?;
        }
        match &self.verified {
            None => writeln!(f, "lost          not known, --verify asks the receiver")?,
            Some(found) => {
                writeln!(
                    f,
                    "lost          {}, wrong content {}, stored twice {}, forged and stored {}",
                    found.lost, found.wrong_content, found.stored_twice, found.forged_stored
                )?;
                writeln!(
                    f,
                    "also stored   {} without an acknowledgement that arrived, {} of others",
                    found.stored_unacknowledged, found.others
                )?;
            }
        }
        if !self.kept_up {
            writeln!(
                f,
                "note          not every event could begin when it was due: this machine is too slow for the rate, or too many events wait"
            )?;
        }
        Ok(())
    }
}
