//! Realistic streams: they begin, send snapshots, audits and exceptions, break off, end, and have
//! recordings.
//!
//! Each stream passes through its sessions in steps, and each step is a callback. In each round,
//! every stream takes one step, in random order. So with many streams, many begin at once in the
//! first round.

use std::collections::VecDeque;

use css_callbacks::{Kind, Timestamp};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};

use super::bodies::{self, Moment};
use super::content::{Content, Escaped, Style};

/// The kinds of callbacks during a push. A kind that stands here twice is twice as frequent.
const KINDS_DURING_PUSH: [Kind; 27] = [
    Kind::Snapshot,
    Kind::Snapshot,
    Kind::Snapshot,
    Kind::Snapshot,
    Kind::Snapshot,
    Kind::Snapshot,
    Kind::Subtitle,
    Kind::Subtitle,
    Kind::Subtitle,
    Kind::PushException,
    Kind::PushException,
    Kind::ImageAudit,
    Kind::ImageAudit,
    Kind::AudioAudit,
    Kind::AudioAudit,
    Kind::Relay,
    Kind::Relay,
    Kind::RecordStatus,
    Kind::RecordException,
    Kind::Monitor,
    Kind::QualityControl,
    Kind::AssessmentThreshold,
    Kind::AssessmentAverage,
    Kind::SmartErase,
    Kind::StreamMix,
    Kind::StreamliveBegin,
    Kind::StreamliveEnd,
];

/// The sequence of a sample. Every sequence that is sent is greater.
const FIRST_SEQUENCE: u64 = 6_674_468_118_806_626_493;

/// A stream with one session after the other.
pub(super) struct Stream {
    pub(super) domain: &'static str,
    pub(super) appname: &'static str,
    pub(super) name: String,
    pub(super) user_ip: String,
    session: PlannedPush,
    plan: VecDeque<Kind>,
}

/// A push, from its begin to the callbacks after its end.
#[derive(Clone, Default)]
pub(super) struct PlannedPush {
    /// 19 digits.
    pub(super) sequence: u64,
    pub(super) began: Timestamp,
    pub(super) param: String,
    pub(super) recorded: bool,
    pub(super) ended: bool,
}

/// Makes callbacks without end. The same seed makes the same callbacks, with new times.
pub(super) struct Scenario {
    rng: StdRng,
    kinds: Vec<Kind>,
    streams: Vec<Stream>,
    /// The streams that have not taken their step in this round.
    round: Vec<usize>,
    /// The wanted kinds of [`KINDS_DURING_PUSH`], shuffled like a deck of cards, so that none is
    /// missing for long.
    deck: Vec<Kind>,
    number: u64,
}

impl Scenario {
    /// A scenario with this many streams, and with only these kinds.
    pub(super) fn new(seed: u64, streams: usize, kinds: &[Kind]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        Self {
            kinds: kinds.to_vec(),
            streams: (0..streams.max(1))
                .map(|at| Stream::new(at, &mut rng))
                .collect(),
            round: Vec::new(),
            deck: Vec::new(),
            // Random, so that two scenarios do not send the same. Short enough for every kind.
            number: rng.next_u64() >> 24,
            rng,
        }
    }

    /// The next callback, at this time.
    pub(super) fn next(&mut self, now: Timestamp) -> Content {
        if self.round.is_empty() {
            self.round = (0..self.streams.len()).collect();
            self.round.shuffle(&mut self.rng);
        }
        let at = self.round.pop().unwrap_or_default();
        if self.streams[at].plan.is_empty() {
            self.plan_session(at, now);
        }
        let stream = &mut self.streams[at];
        let kind = stream.plan.pop_front().unwrap_or(Kind::StreamBegin);
        stream.session.ended |= kind == Kind::StreamEnd;
        self.number += 1;
        let members = bodies::members(
            kind,
            &mut Moment {
                rng: &mut self.rng,
                stream,
                session: &stream.session,
                now,
                number: self.number,
            },
        );
        stream.session.recorded |= kind == Kind::RecordStatus;
        Content {
            kind,
            members,
            style: self.style(),
        }
    }

    fn plan_session(&mut self, at: usize, now: Timestamp) {
        let mut plan = VecDeque::new();
        while plan.is_empty() {
            let mut steps = vec![Kind::StreamBegin];
            // The other pushes break off at once.
            if self.rng.random_bool(0.85) {
                steps.push(Kind::RecordStatus);
                for _ in 0..self.rng.random_range(2..8) {
                    steps.extend(self.next_kind());
                }
            }
            steps.extend([Kind::StreamEnd, Kind::Record]);
            for (kind, likelihood) in [
                (Kind::RecordStatus, 0.8),
                (Kind::Summary, 0.4),
                (Kind::Highlight, 0.4),
                (Kind::Unknown, 0.5),
            ] {
                if self.rng.random_bool(likelihood) {
                    steps.push(kind);
                }
            }
            plan = steps.into();
            plan.retain(|kind| self.kinds.contains(kind));
        }
        // Sequences grow: of two pushes in the same second, the one with the higher sequence is
        // later.
        let sequence = FIRST_SEQUENCE + (self.number << 16) + u64::from(self.rng.random::<u16>());
        let param = self.param();
        let stream = &mut self.streams[at];
        stream.session = PlannedPush {
            sequence,
            began: now,
            param,
            ..PlannedPush::default()
        };
        stream.plan = plan;
    }

    /// The next wanted kind for a stream that is live.
    fn next_kind(&mut self) -> Option<Kind> {
        if self.deck.is_empty() {
            let wanted = KINDS_DURING_PUSH
                .iter()
                .filter(|kind| self.kinds.contains(kind));
            self.deck = wanted.copied().collect();
            self.deck.shuffle(&mut self.rng);
        }
        self.deck.pop()
    }

    /// The query that the pusher added to its URL: mostly short, some with CJK, some very long.
    fn param(&mut self) -> String {
        let secret = self.rng.next_u64();
        let base = format!("txSecret={secret:016x}{secret:016x}&txTime=6B04D280");
        match self.rng.random_range(0..50) {
            0..20 => base,
            20..35 => String::new(),
            35..42 => format!("{base}&title=周年庆直播 第{}场", secret % 100),
            42..48 => format!("{base}&note=%E7%9B%B4%E6%92%AD"),
            _ => format!(
                "{base}&ext={}",
                "长a1%20".repeat(self.rng.random_range(300..800))
            ),
        }
    }

    fn style(&mut self) -> Style {
        let escaped = [
            Escaped::Nothing,
            Escaped::Nothing,
            Escaped::NonAscii,
            Escaped::Slashes,
        ];
        Style {
            t_as_text: self.rng.random_bool(0.05),
            escaped: *escaped.choose(&mut self.rng).unwrap_or(&Escaped::Nothing),
            spread: self.rng.random_bool(0.02),
        }
    }
}

impl Stream {
    fn new(at: usize, rng: &mut StdRng) -> Self {
        let name = match at % 20 {
            7 => format!("{at}号直播间"),
            11 => format!("room-{at}@hd#1"),
            // A sample of 2019 has this space.
            13 => format!(" room-{at}"),
            _ => format!("room-{at}"),
        };
        let host: u8 = rng.random();
        Self {
            domain: ["push.example.com", "push2.example.com"][at % 2],
            appname: ["live", "live", "vod"][at % 3],
            name,
            user_ip: format!("198.51.100.{host}"),
            session: PlannedPush::default(),
            plan: VecDeque::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use css_callbacks::{Callback, EventId, Payload};

    use super::*;
    use crate::content::Signature;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_420_800);

    fn all() -> Vec<Kind> {
        Kind::all_and_unknown().collect()
    }

    #[test]
    fn every_kind_happens_and_reads_as_what_it_is() {
        let mut scenario = Scenario::new(7, 20, &all());
        let signature = Signature::new(Some("key"), NOW.seconds());
        let mut seen: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut ids = HashSet::new();
        for _ in 0..3000 {
            let content = scenario.next(NOW);
            let body = content.body(Some(&signature));
            let callback = Callback::parse(body.as_bytes()).unwrap();
            assert_eq!(callback.kind(None), content.kind, "{body}");
            let id = EventId::derive("css", content.kind, callback.members(), || [0; 16]);
            assert!(ids.insert(id), "twice: {body}");
            if content.kind != Kind::Unknown {
                Payload::parse(content.kind, &body)
                    .unwrap_or_else(|error| panic!("{error}: {body}"));
            }
            *seen.entry(content.kind).or_default() += 1;
        }
        assert_eq!(seen.len(), Kind::ALL.len() + 1, "{seen:?}");
        assert!(seen[&Kind::StreamBegin] >= seen[&Kind::StreamEnd]);
        assert!(seen[&Kind::Snapshot] > seen[&Kind::StreamMix]);
    }

    #[test]
    fn only_the_wanted_kinds_happen() {
        for kind in all() {
            let mut scenario = Scenario::new(1, 3, &[kind]);
            for _ in 0..20 {
                assert_eq!(scenario.next(NOW).kind, kind);
            }
        }
    }

    #[test]
    fn the_first_round_is_every_stream_beginning() {
        let mut scenario = Scenario::new(1, 100, &Kind::ALL);
        let names: HashSet<String> = (0..100)
            .map(|_| {
                let content = scenario.next(NOW);
                assert_eq!(content.kind, Kind::StreamBegin);
                content.members["stream_id"].to_string()
            })
            .collect();
        assert_eq!(names.len(), 100);
    }

    #[test]
    fn every_push_has_a_higher_sequence_than_those_before() {
        let mut scenario = Scenario::new(3, 4, &[Kind::StreamBegin]);
        let sequences: Vec<u64> = (0..400)
            .map(|_| {
                let sequence = &scenario.next(NOW).members["sequence"];
                sequence.as_str().unwrap().parse().unwrap()
            })
            .collect();
        assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
        assert!(
            sequences
                .iter()
                .all(|sequence| sequence.to_string().len() == 19)
        );
    }

    #[test]
    fn a_seed_makes_the_same_day_again() {
        let first = |seed| {
            let mut scenario = Scenario::new(seed, 5, &Kind::ALL);
            (0..100)
                .map(|_| scenario.next(NOW).body(None))
                .collect::<Vec<_>>()
        };
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }
}
