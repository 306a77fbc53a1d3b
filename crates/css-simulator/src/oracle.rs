//! The expected state of each stream, from the callbacks that were sent and answered 200.
//!
//! It is computed from the simulation's own pushes and shares no code with the receiver. The newest
//! push of a stream decides: the one that began last, then the one with the higher number. If only
//! the end of a push is known, its begin is the end minus its duration. The receiver may or may not
//! know an event that was sent but not answered 200, so more than one state may be right.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::{Kind, Timestamp};
use serde::{Deserialize, Serialize};

use super::ack_log::SentEvent;
use super::content::Content;

/// All combinations of unacknowledged pushes are tried, up to this number of pushes.
const UNCERTAIN: usize = 6;
/// A begin is exact to the second, an end to the millisecond.
const COARSE: Duration = Duration::from_secs(2);

/// The name of a stream of the source that receives the callbacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(default)]
pub(super) struct StreamName {
    pub(super) domain: String,
    pub(super) appname: String,
    pub(super) streamid: String,
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.domain, self.appname, self.streamid)
    }
}

/// The begin or the end of a push.
#[derive(Debug, Clone)]
pub(super) struct PushEdge {
    pub(super) stream: Arc<StreamName>,
    sequence: u64,
    at: Timestamp,
    /// The duration of the push; none if this is its begin.
    lasted: Option<Duration>,
}

/// The expected state of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpectedState {
    /// Whether the stream is live.
    pub live: bool,
    /// The time of its last change; null if no push is known.
    pub since: Option<Timestamp>,
    /// The sequence of the push that decides.
    pub pushsequence: Option<String>,
}

/// The end of a sentence.
impl fmt::Display for ExpectedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.live { "live" } else { "offline" })?;
        if let Some(since) = self.since {
            write!(f, " since {since}")?;
        }
        if let Some(sequence) = &self.pushsequence {
            write!(f, " by {sequence}")?;
        }
        Ok(())
    }
}

/// The newest push of a stream. It decides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) start: Timestamp,
    sequence: u64,
    end: Option<Timestamp>,
}

/// What is known about a stream.
#[derive(Debug)]
pub(super) struct Known {
    /// From the acknowledged events; none if no push was acknowledged.
    pub(super) surely: Option<Newest>,
    /// All possible states, with and without the unacknowledged events; none if there are too many
    /// combinations.
    pub(super) possible: Option<Vec<Option<Newest>>>,
}

/// What is known about each stream of which a push was sent.
pub(super) struct Oracle(pub(super) BTreeMap<Arc<StreamName>, Known>);

/// The number of streams by state, from the acknowledged events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StreamCounts {
    /// Streams that were live when the simulation ended.
    pub live: u64,
    /// Streams that were no longer live.
    pub offline: u64,
    /// Streams whose state depends on whether unacknowledged events are stored.
    pub uncertain: u64,
}

impl PushEdge {
    /// The begin or end that a callback reports, if any.
    pub(super) fn of(content: &Content) -> Option<Self> {
        let member = |name: &str| &content.members[name];
        let text = |name: &str| member(name).as_str().map(str::to_owned);
        let lasted = match content.kind {
            Kind::StreamBegin => None,
            Kind::StreamEnd => {
                let millis = member("push_duration").as_str()?.parse().ok()?;
                Some(Duration::from_millis(millis))
            }
            _ => return None,
        };
        Some(Self {
            stream: Arc::new(StreamName {
                domain: text("app")?,
                appname: text("appname")?,
                streamid: text("stream_id")?,
            }),
            sequence: member("sequence").as_str()?.parse().ok()?,
            at: Timestamp::from_seconds(member("event_time").as_i64()?),
            lasted,
        })
    }
}

impl Newest {
    /// The newest of these pushes.
    fn of<'a>(pushes: impl Iterator<Item = &'a PushEdge>) -> Option<Self> {
        let mut sessions: BTreeMap<u64, (Option<&PushEdge>, Option<&PushEdge>)> = BTreeMap::new();
        for push in pushes {
            let (begin, end) = sessions.entry(push.sequence).or_default();
            *(if push.lasted.is_none() { begin } else { end }) = Some(push);
        }
        let newest = sessions.into_iter().filter_map(|(sequence, (begin, end))| {
            let told = |end: &PushEdge| end.at.minus(end.lasted.unwrap_or_default());
            Some(Self {
                start: begin.map(|begin| begin.at).or(end.map(told))?,
                sequence,
                end: end.map(|end| end.at),
            })
        });
        newest.max_by_key(|session| (session.start, session.sequence))
    }

    pub(super) fn state(&self) -> ExpectedState {
        ExpectedState {
            live: self.end.is_none(),
            since: Some(self.end.unwrap_or(self.start)),
            pushsequence: Some(self.sequence.to_string()),
        }
    }
}

impl Known {
    fn of(pushes: &[(&PushEdge, bool)]) -> Self {
        let acknowledged = || pushes.iter().filter(|(_, is)| *is).map(|(push, _)| *push);
        let surely = Newest::of(acknowledged());
        // A push that is older than the newest makes no difference.
        let matters = |push: &PushEdge| {
            surely.is_none_or(|newest| {
                push.sequence == newest.sequence || push.at.plus(COARSE) >= newest.start
            })
        };
        let unsure: Vec<&PushEdge> = pushes
            .iter()
            .filter(|(push, acknowledged)| !acknowledged && matters(push))
            .map(|(push, _)| *push)
            .collect();
        let possible = (unsure.len() <= UNCERTAIN).then(|| {
            let mut possible = Vec::new();
            for combination in 0..1_u32 << unsure.len() {
                let stored = |at: &usize| combination & (1 << at) != 0;
                let stored = (0..unsure.len()).filter(stored).map(|at| unsure[at]);
                let newest = Newest::of(acknowledged().chain(stored));
                if !possible.contains(&newest) {
                    possible.push(newest);
                }
            }
            possible
        });
        Self { surely, possible }
    }
}

impl Oracle {
    /// Uses everything that was sent. Each push has the index of its entry.
    pub(super) fn of(entries: &[SentEvent], pushes: &[(usize, PushEdge)]) -> Self {
        let mut streams: BTreeMap<Arc<StreamName>, Vec<(&PushEdge, bool)>> = BTreeMap::new();
        for (number, push) in pushes {
            let acknowledged = entries[*number].acknowledged;
            let stream = streams.entry(push.stream.clone()).or_default();
            stream.push((push, acknowledged));
        }
        let known = |(name, pushes): (_, Vec<_>)| (name, Known::of(&pushes));
        Self(streams.into_iter().map(known).collect())
    }

    pub(super) fn streams(&self) -> StreamCounts {
        let mut streams = StreamCounts::default();
        for known in self.0.values() {
            match known.surely {
                Some(newest) if newest.end.is_none() => streams.live += 1,
                Some(_) => streams.offline += 1,
                None => {}
            }
            // For a stream that is offline, the begin makes no difference.
            let state = |newest: &Option<Newest>| newest.map(|newest| newest.state());
            let surely = known.surely.map(|newest| newest.state());
            let is_certain = known
                .possible
                .as_ref()
                .is_some_and(|all| all.iter().all(|newest| state(newest) == surely));
            streams.uncertain += u64::from(!is_certain);
        }
        streams
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BEGIN: i64 = 1_795_420_800;

    /// A begin `after` seconds after [`BEGIN`], or an end if `lasted` (milliseconds) is given.
    fn push(sequence: u64, after: i64, lasted: Option<u64>) -> PushEdge {
        PushEdge {
            stream: Arc::new(StreamName {
                domain: "d".into(),
                appname: "a".into(),
                streamid: "s".into(),
            }),
            sequence,
            at: Timestamp::from_seconds(BEGIN + after),
            lasted: lasted.map(Duration::from_millis),
        }
    }

    /// The sure state, and the number of possible states.
    fn known(pushes: &[(PushEdge, bool)]) -> (Option<(bool, u64, i64)>, Option<usize>) {
        let pushes: Vec<(&PushEdge, bool)> = pushes.iter().map(|(push, is)| (push, *is)).collect();
        let known = Known::of(&pushes);
        let state = known.surely.map(|newest| {
            let since = newest.state().since.unwrap().millis() - BEGIN * 1000;
            (newest.state().live, newest.sequence, since)
        });
        (state, known.possible.map(|all| all.len()))
    }

    #[test]
    fn the_newest_push_decides_whatever_the_order() {
        let (first, end, second) = (push(1, 0, None), push(1, 9, Some(9000)), push(2, 5, None));
        // The first push ends after the second one began.
        let all = [(first, true), (end, true), (second, true)];
        assert_eq!(known(&all), (Some((true, 2, 5000)), Some(1)));
        let [first, end, second] = all;
        let turned = [second, end, first];
        assert_eq!(known(&turned), (Some((true, 2, 5000)), Some(1)));
        // In the same second, the push with the greater number is newer.
        let (nine, ten) = (push(9, 0, None), push(10, 0, None));
        assert_eq!(known(&[(ten, true), (nine, true)]).0, Some((true, 10, 0)));
    }

    #[test]
    fn an_end_alone_began_as_long_before_as_it_lasted() {
        let (begin, end) = (push(1, 8, None), push(2, 10, Some(1500)));
        let both = [(begin.clone(), true), (end, true)];
        assert_eq!(known(&both).0, Some((false, 2, 10_000)));
        let end = push(2, 10, Some(2500));
        assert_eq!(
            known(&[(begin, true), (end, true)]).0,
            Some((true, 1, 8000))
        );
    }

    #[test]
    fn what_was_not_acknowledged_may_be_known_or_not() {
        let (begin, end) = (push(1, 0, None), push(1, 9, Some(9000)));
        let of = |begin_is, end_is| known(&[(begin.clone(), begin_is), (end.clone(), end_is)]);
        assert_eq!(of(true, false), (Some((true, 1, 0)), Some(2)));
        // It is offline with or without its begin.
        assert_eq!(of(false, true), (Some((false, 1, 9000)), Some(1)));
        assert_eq!(of(false, false), (None, Some(3)));
        // A push that ended long ago makes no difference.
        let later = push(2, 60, None);
        let old = [(begin, true), (end, false), (later, true)];
        assert_eq!(known(&old), (Some((true, 2, 60_000)), Some(1)));
        let many: Vec<_> = (0..20).map(|at| (push(at, 0, None), false)).collect();
        assert_eq!(known(&many), (None, None));
    }
}
