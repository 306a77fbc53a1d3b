//! Makes realistic bodies of all kinds, with the oddities that the documentation shows.
//!
//! Each body follows its section of the protocol. If a table and a sample disagree, names and types
//! come from the sample. Some bodies have an older or a rarer form.

mod audits;
mod generated;
mod pushes;
mod recordings;
mod tasks;

use css_callbacks::{Kind, Timestamp};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

use super::scenario::{PlannedPush, Stream};

/// The account of all callbacks.
const APPID: i64 = 1_250_000_000;

/// The input for a body.
pub(super) struct Moment<'a> {
    pub(super) rng: &'a mut StdRng,
    pub(super) stream: &'a Stream,
    pub(super) session: &'a PlannedPush,
    /// The time of the event.
    pub(super) now: Timestamp,
    /// Different in each body.
    pub(super) number: u64,
}

impl Moment<'_> {
    /// Returns true with this probability.
    fn chance(&mut self, likelihood: f64) -> bool {
        self.rng.random_bool(likelihood)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.choose(self.rng).expect("there is a choice")
    }

    /// A score, as an audit reports it.
    fn score(&mut self) -> i64 {
        self.rng.random_range(60..100)
    }

    /// A number; some bodies have it as a string.
    fn number_or_text(&mut self, number: i64) -> Value {
        if self.chance(0.1) {
            number.to_string().into()
        } else {
            number.into()
        }
    }

    /// An empty list, which the platform sometimes writes as null.
    fn list_or_null(&mut self) -> Value {
        if self.chance(0.5) {
            Value::Null
        } else {
            json!([])
        }
    }

    /// A new number of 19 digits. It fits in 64 bits, but not in an `f64`.
    fn long_id(&self) -> u64 {
        5_285_890_813_738_000_001 + self.number * 7
    }

    fn file(&self, bucket: &str, ending: &str) -> String {
        let name = &self.stream.name.trim();
        format!(
            "http://{bucket}-{APPID}.cos.ap-guangzhou.example.com/{name}/{}.{ending}",
            self.number
        )
    }
}

/// Returns the members of a body of this kind, without `t` and `sign`.
pub(super) fn members(kind: Kind, moment: &mut Moment) -> Map<String, Value> {
    let body = match kind {
        Kind::StreamBegin => pushes::begin(moment),
        Kind::StreamEnd => pushes::end(moment),
        Kind::PushException => pushes::exception(moment),
        Kind::StreamMix => pushes::mix(moment),
        Kind::Record => recordings::file(moment),
        Kind::RecordStatus => recordings::status(moment),
        Kind::RecordException => recordings::exception(moment),
        Kind::Snapshot => recordings::snapshot(moment),
        Kind::ImageAudit => audits::image(moment),
        Kind::AudioAudit => audits::audio(moment),
        Kind::QualityControl => audits::quality(moment),
        Kind::AssessmentThreshold => audits::threshold(moment),
        Kind::AssessmentAverage => audits::average(moment),
        Kind::Relay => tasks::relay(moment),
        Kind::Monitor => tasks::monitor(moment),
        Kind::Subtitle => generated::subtitle(moment),
        Kind::SmartErase => generated::erase(moment),
        Kind::Summary => generated::summary(moment),
        Kind::Highlight => generated::highlight(moment),
        Kind::StreamliveBegin => tasks::streamlive(moment, 329),
        Kind::StreamliveEnd => tasks::streamlive(moment, 330),
        // `Kind::Unknown`; the platform never sends the derived kinds. A test of the scenario finds a kind that has no arm.
        _ => tasks::unknown(moment),
    };
    match body {
        Value::Object(members) => members,
        other => unreachable!("a body is an object, not {other}"),
    }
}

fn remove(body: &mut Value, names: &[&str]) {
    if let Some(members) = body.as_object_mut() {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
}
