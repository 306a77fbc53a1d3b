//! The events for the cases. They come from a scenario, but where a verdict could depend on it,
//! they are the same in each run.
//!
//! A scenario makes each body in a random form. A grade must not depend on chance, so enough bodies
//! are sampled to see every form of a kind, most likely.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use css_callbacks::{Kind, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::Value;

use super::shape::{Shape, differences, names, shape};
use crate::content::{Content, Style};
use crate::scenario::Scenario;

/// The number of bodies sampled per kind. One in ten has the rarest form.
const SAMPLE: usize = 100;
/// A typical query that a pusher adds to its URL.
const PARAM: &str = "txSecret=0f5e8c1d2b3a49687f0e1d2c3b4a5968&txTime=6B04D280";

/// Makes events. No two are the same.
pub(super) struct Events {
    seed: u64,
    kinds: HashMap<Kind, Sample>,
}

/// Unused events of a kind, by their number of members and their shape. The form with the most
/// members is first.
struct Sample {
    rng: StdRng,
    shapes: BTreeMap<(Reverse<usize>, Shape), Vec<Content>>,
}

impl Events {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            kinds: HashMap::new(),
        }
    }

    /// Returns an event in the form with the most members.
    pub(super) fn plain(&mut self, kind: Kind, now: Timestamp) -> Content {
        let sample = self.sample(kind, now);
        loop {
            // The first of them is reserved for `forms`.
            let fullest = sample.shapes.values_mut().next();
            match fullest.filter(|contents| contents.len() > 1) {
                Some(contents) => {
                    if let Some(content) = contents.pop() {
                        return content;
                    }
                }
                None => sample.draw(kind, now),
            }
        }
    }

    /// Returns one event in the form with the most members, and one for each other form that
    /// members of this kind may have, with a note about it.
    pub(super) fn forms(&mut self, kind: Kind, now: Timestamp) -> Vec<(Content, Option<String>)> {
        let mut forms = Vec::new();
        let mut seen = Shape::new();
        let mut always: Option<BTreeSet<String>> = None;
        for ((_, shape), contents) in &self.sample(kind, now).shapes {
            let names = names(shape);
            let note = match &always {
                None => None,
                Some(always) => match differences(shape, &seen, &(always - &names)) {
                    note if note.is_empty() => continue,
                    note => Some(note),
                },
            };
            always = Some(match always {
                None => names,
                Some(always) => &always & &names,
            });
            seen.extend(shape.iter().cloned());
            forms.extend(contents.first().map(|content| (content.clone(), note)));
        }
        forms
    }

    fn sample(&mut self, kind: Kind, now: Timestamp) -> &mut Sample {
        self.kinds.entry(kind).or_insert_with(|| {
            let own = kind.code().unwrap_or(-1).unsigned_abs();
            let mut sample = Sample {
                rng: StdRng::seed_from_u64(self.seed.rotate_left(32) ^ own),
                shapes: BTreeMap::new(),
            };
            sample.draw(kind, now);
            sample
        })
    }
}

impl Sample {
    /// Replaces the sample by new events.
    fn draw(&mut self, kind: Kind, now: Timestamp) {
        self.shapes.clear();
        let mut scenario = Scenario::new(self.rng.next_u64(), 1, &[kind]);
        for _ in 0..SAMPLE {
            let mut content = scenario.next(now);
            self.normalize(&mut content);
            let key = (Reverse(content.members.len()), shape(&content));
            self.shapes.entry(key).or_default().push(content);
        }
    }

    /// Removes oddities of other cases from an event, and gives it a stream of its own, so that the
    /// receiver's knowledge of a stream does not matter.
    fn normalize(&mut self, content: &mut Content) {
        content.style = Style::default();
        if let Some(Value::String(param)) = content.members.get_mut("stream_param")
            && !param.is_empty()
        {
            PARAM.clone_into(param);
        }
        let name = format!("conformance-{:08x}", self.rng.random::<u32>());
        for member in ["stream_id", "channel_id", "streamId", "channelId"] {
            if let Some(value) = content.members.get_mut(member) {
                *value = name.as_str().into();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_420_800);

    fn notes(seed: u64, kind: Kind) -> Vec<Option<String>> {
        let forms = Events::new(seed).forms(kind, NOW).into_iter();
        forms.map(|(_, note)| note).collect()
    }

    /// The plain form, all forms of members together, and the members that are always there.
    fn covered(seed: u64, kind: Kind) -> [Shape; 3] {
        let forms = Events::new(seed).forms(kind, NOW).into_iter();
        let shapes: Vec<Shape> = forms.map(|(content, _)| shape(&content)).collect();
        let all = shapes.iter().flatten().cloned().collect();
        let always = shapes
            .iter()
            .skip(1)
            .fold(shapes[0].clone(), |always, other| {
                let names = names(other);
                let there = always.into_iter().filter(|(name, _)| names.contains(name));
                there.collect()
            });
        [shapes[0].clone(), all, always]
    }

    #[test]
    fn what_is_tried_of_a_kind_is_the_same_in_each_run() {
        for kind in Kind::all_and_unknown() {
            let first = covered(1, kind);
            for seed in 2..5 {
                assert_eq!(covered(seed, kind), first, "{kind}");
            }
        }
    }

    #[test]
    fn what_the_documentation_shows_in_two_ways_is_sent_in_both() {
        let said = |kind| {
            let notes: Vec<_> = notes(3, kind).into_iter().flatten().collect();
            notes.join(", ")
        };
        for (kind, note) in [
            (Kind::StreamBegin, "without `idc_id`"),
            (Kind::StreamBegin, "with `stream_param` as an empty string"),
            (Kind::ImageAudit, "with `socre` as a number"),
            (Kind::ImageAudit, "with `objectResults` as null"),
            (Kind::AudioAudit, "with `task_id` as a string"),
            (Kind::Record, "without `stream_param`"),
            (Kind::RecordStatus, "with `record_detail` as an object"),
            (Kind::Snapshot, "with `file_size` as a string"),
            (Kind::PushException, "without `user_ip`"),
            (Kind::AssessmentAverage, "with `event_type` 345"),
            (Kind::Relay, "without `event_time`"),
            (Kind::Relay, "without `stream_id`"),
        ] {
            assert!(said(kind).contains(note), "{kind}: {}", said(kind));
        }
        assert_eq!(notes(3, Kind::StreamMix), [None]);
    }

    #[test]
    fn a_seed_makes_the_same_events_again_in_any_order() {
        let (mut one, mut other) = (Events::new(6), Events::new(6));
        let body = |content: Content| content.body(None);
        let plain = body(one.plain(Kind::Relay, NOW));
        let forms = one.forms(Kind::Relay, NOW);
        let others = other.forms(Kind::Relay, NOW);
        assert_eq!(plain, body(other.plain(Kind::Relay, NOW)));
        let bodies = |forms: Vec<(Content, _)>| -> BTreeSet<String> {
            forms.into_iter().map(|(form, _)| body(form)).collect()
        };
        let forms = bodies(forms);
        assert_eq!(forms, bodies(others));
        assert!(!forms.contains(&plain));
        assert_ne!(plain, body(Events::new(7).plain(Kind::Relay, NOW)));
    }

    #[test]
    fn plain_events_are_alike_but_not_the_same() {
        let mut events = Events::new(4);
        let mut bodies = BTreeSet::new();
        for _ in 0..500 {
            let mut content = events.plain(Kind::StreamBegin, NOW);
            assert_eq!(content.members["set_id"], 2);
            assert_eq!(content.members["stream_param"], PARAM);
            content.members.remove("stream_id");
            content.members.remove("channel_id");
            assert!(bodies.insert(content.body(None)));
        }
    }
}
