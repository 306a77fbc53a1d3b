//! The report of a simulation, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::ack_log::AckLog;
use super::board::Compared;
use super::oracle::StreamCounts;
use super::verify::StoreFindings;

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
    /// The names of some bad requests that were accepted.
    pub mistakes: Vec<&'static str>,
    /// Requests by the status of their answer.
    pub answers: BTreeMap<u16, u64>,
    /// Requests without an answer in time.
    pub timed_out: u64,
    /// Requests without a connection, or with one that broke.
    pub failed: u64,
    /// The result of the last genuine request that was not answered 200.
    pub last_trouble: Option<String>,
    /// Seconds from the first request to the last good answer.
    pub seconds: f64,
    /// Whether the sender started each event when it was due.
    pub kept_up: bool,
    /// Slow connections: opened, and closed by the receiver. Null if none were wanted.
    pub slow_connections: Option<[u64; 2]>,
    /// The comparison with the stored events; null without a verification.
    pub verified: Option<StoreFindings>,
    /// The reason if the stored events could not be read.
    pub verification_failed: Option<String>,
    /// The number of streams by state, from the acknowledged events.
    pub streams: StreamCounts,
    /// The comparison with the board of streams; null without a verification.
    pub streams_verified: Option<Compared>,
    /// The reason if the board could not be read.
    pub streams_verification_failed: Option<String>,
    /// The seed with which the same traffic is made again.
    pub seed: u64,
}

/// Percentiles of the latency in milliseconds; none without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

impl Report {
    pub(super) fn new(
        ack_log: &AckLog,
        streams: StreamCounts,
        seed: u64,
        kept_up: bool,
        slow: Option<[u64; 2]>,
    ) -> Self {
        let seconds = ack_log.lasted().as_secs_f64();
        let millis = |time: Duration| time.as_micros() as f64 / 1000.0;
        let percentile = |hundredths| ack_log.percentile(hundredths).map(millis);
        Self {
            sent: ack_log.entries.len() as u64,
            acknowledged: ack_log.acknowledged,
            refused: ack_log.refused,
            retried: ack_log.retried,
            given_up: ack_log.given_up,
            lost: None,
            rate: if seconds > 0.0 {
                (ack_log.good as f64 / seconds * 10.0).round() / 10.0
            } else {
                0.0
            },
            latency_ms: Latency {
                p50: percentile(50.0),
                p90: percentile(90.0),
                p99: percentile(99.0),
                p999: percentile(99.9),
                max: percentile(100.0),
            },
            pending: ack_log.pending,
            duplicates: ack_log.duplicates,
            bad: ack_log.bad,
            accepted_bad: ack_log.accepted_bad,
            mistakes: ack_log.mistakes.clone(),
            answers: ack_log.answers.clone(),
            timed_out: ack_log.timed_out,
            failed: ack_log.failed,
            last_trouble: ack_log.last_trouble.as_ref().map(ToString::to_string),
            seconds: (seconds * 1000.0).round() / 1000.0,
            kept_up,
            slow_connections: slow,
            verified: None,
            verification_failed: None,
            streams,
            streams_verified: None,
            streams_verification_failed: None,
            seed,
        }
    }

    pub(super) fn verified(&mut self, found: anyhow::Result<StoreFindings>) {
        match found {
            Ok(found) => {
                self.lost = Some(found.lost);
                self.verified = Some(found);
            }
            Err(error) => self.verification_failed = Some(format!("{error:#}")),
        }
    }

    pub(super) fn compared(&mut self, compared: anyhow::Result<Compared>) {
        match compared {
            Ok(compared) => self.streams_verified = Some(compared),
            Err(error) => self.streams_verification_failed = Some(format!("{error:#}")),
        }
    }

    /// The errors of the receiver, in words. Empty if there are none.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let settled = self.acknowledged + self.given_up + self.pending;
        let mut fault = |number: u64, what: &str| {
            if number > 0 {
                faults.push(format!("{number} {what}"));
            }
        };
        let trouble = self.last_trouble.as_deref().unwrap_or("none was sent");
        fault(
            self.given_up,
            &format!(
                "events were given up: the platform would have dropped them (the last trouble: {trouble})"
            ),
        );
        fault(self.accepted_bad, "bad requests were accepted");
        fault(
            self.sent.saturating_sub(settled),
            "events have no fate, which is a fault of livehook",
        );
        if let Some(found) = &self.verified {
            let all = found.lost == self.acknowledged && found.others == 0;
            let hint = if all {
                "; nothing at all of this source is there: is --verify the right server, and its --source the right name?"
            } else {
                ""
            };
            let lost = format!("events were acknowledged and are not stored{hint}");
            fault(found.lost, &lost);
            fault(
                found.wrong_content,
                "events are stored with another content",
            );
            fault(found.forged_stored, "forged events are stored");
        }
        if let Some(compared) = &self.streams_verified {
            let number = compared.differences.len() as u64;
            fault(number, "streams are not on the board as they were left");
        }
        if let Some(error) = &self.streams_verification_failed {
            faults.push(format!(
                "which streams are live could not be asked: {error}"
            ));
        }
        if let Some(error) = &self.verification_failed {
            faults.push(format!("what is stored could not be asked: {error}"));
        }
        faults
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_events(f)?;
        self.fmt_other_requests(f)?;
        self.fmt_answers(f)?;
        self.fmt_stored(f)?;
        self.fmt_streams(f)?;
        if !self.kept_up {
            writeln!(
                f,
                "note          not every event could begin when it was due: this machine is too slow for the rate, or too many events wait"
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn fmt_events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, seconds, seed) = (self.sent, self.seconds, self.seed);
        writeln!(
            f,
            "sent          {sent} events in {seconds:.1} s, seed {seed}"
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
        let [p50, p90, p99, p999, max] = [p50, p90, p99, p999, max]
            .map(|millis| millis.map_or("-".to_owned(), |millis| millis.to_string()));
        writeln!(
            f,
            "latency       p50 {p50} ms, p90 {p90}, p99 {p99}, p99.9 {p999}, longest {max}"
        )?;
        writeln!(
            f,
            "retried       {}, given up {}, still waiting {}",
            self.retried, self.given_up, self.pending
        )
    }

    fn fmt_other_requests(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        Ok(())
    }

    fn fmt_answers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers: Vec<_> = self
            .answers
            .iter()
            .map(|(status, times)| format!("{status}: {times}"))
            .collect();
        writeln!(
            f,
            "answers       {}; too late {}, broken off {}",
            answers.join(", "),
            self.timed_out,
            self.failed
        )?;
        match &self.last_trouble {
            Some(trouble) => writeln!(f, "              the last that was not 200: {trouble}"),
            None => Ok(()),
        }
    }

    fn fmt_stored(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(found) = &self.verified else {
            let reason = match self.verification_failed {
                Some(_) => "the receiver could not be asked",
                None => "--verify asks the receiver",
            };
            return writeln!(f, "lost          not known, {reason}");
        };
        writeln!(
            f,
            "lost          {}, wrong content {}, stored twice {}, forged and stored {}",
            found.lost, found.wrong_content, found.stored_twice, found.forged_stored
        )?;
        writeln!(
            f,
            "also stored   {} without an acknowledgement that arrived, {} of others",
            found.stored_unacknowledged, found.others
        )
    }

    fn fmt_streams(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StreamCounts {
            live,
            offline,
            uncertain,
        } = self.streams;
        if live + offline + uncertain > 0 {
            write!(f, "streams       {live} live, {offline} offline")?;
            match uncertain {
                0 => writeln!(f)?,
                _ => writeln!(f, ", {uncertain} not for sure: not all was acknowledged")?,
            }
        }
        if let Some(compared) = &self.streams_verified {
            let (number, undecided) = (compared.compared, compared.undecided);
            let wrong = compared.differences.len();
            writeln!(
                f,
                "on the board  {number} compared, {wrong} wrong, {undecided} undecided, {} of others",
                compared.others
            )?;
            for difference in &compared.differences {
                writeln!(f, "              {difference}")?;
            }
        }
        Ok(())
    }
}
