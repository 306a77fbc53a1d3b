//! What is told of one stream: its sessions, and what belongs to them, read from its events.

use std::collections::{BTreeMap, HashMap, HashSet};

use css_callbacks::{
    Kind, Payload, Timestamp,
    payload::push::{Errcode, Push},
    payload::record_status::{RecordEvent, RecordStatus},
};

use super::Board;
use crate::event::{Event, Seq};
use crate::inbox::StoreError;
use crate::stream::{Session, StreamRow};

/// Sessions that are shown at most.
const SESSIONS: usize = 100;
/// Events read at once: their bodies may be long.
const PART: usize = 50;
/// A longer body is not what it should be, and not read.
const LONGEST: usize = 64 << 10;

/// One stream, as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct StreamDetail {
    /// What the board says.
    pub stream: StreamRow,
    /// The newest sessions, the newest first.
    pub sessions: Vec<SessionDetail>,
    /// Push exceptions of all sessions that are kept.
    pub exceptions: u64,
    /// The last screenshot.
    pub snapshot: Option<Event>,
    /// Recordings by what is known of them, the latest first.
    pub recordings: Vec<Recording>,
    /// The latest verdicts of moderation.
    pub audits: Vec<Event>,
    /// Events, the latest first, without their bodies.
    pub timeline: Vec<Event>,
    /// Where the next part of them begins.
    pub next: Option<Seq>,
}

/// A session with what its begin and its end say.
#[derive(Debug, Clone)]
pub(crate) struct SessionDetail {
    /// The session.
    pub session: Session,
    /// It has no end, but a newer one came.
    pub superseded: bool,
    /// The address of the pusher.
    pub pusher: Option<String>,
    /// Width and height, pixels.
    pub resolution: Option<(i64, i64)>,
    /// Why it ended.
    pub errcode: Option<Errcode>,
    /// The same in the platform's free text.
    pub errmsg: Option<String>,
    /// Push exceptions.
    pub exceptions: u64,
}

/// A recording: a session of steps, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recording {
    /// The recording session, or the file.
    pub id: String,
    /// Its last step; of a file `file`.
    pub state: String,
    /// Whether nothing has ended it.
    pub open: bool,
    /// When it started, as far as is known.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// Where the file is.
    pub url: Option<String>,
}

impl Board {
    /// Everything about a stream; of sessions and events up to `limit` each, the events from before the event `before`.
    pub(crate) async fn story(
        &self,
        stream: StreamRow,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<StreamDetail, StoreError> {
        let mut found = self.details(&stream, before, limit).await?;
        found.sessions.truncate(SESSIONS);
        let next = (found.timeline.len() > limit).then(|| {
            found.timeline.truncate(limit);
            found.timeline.last().copied()
        });
        let ends = found.sessions.iter().flat_map(|session| {
            let end = session.end.map(|(_, seq)| seq);
            session.begin.into_iter().chain(end)
        });
        let read: HashSet<Seq> = ends.chain(found.notable.iter().copied()).collect();
        let mut wanted: Vec<Seq> = read.iter().chain(&found.timeline).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut events: HashMap<Seq, Event> = HashMap::with_capacity(wanted.len());
        for part in wanted.chunks(PART) {
            for event in self.inbox.by_seq(part.to_vec()).await? {
                let whole = read.contains(&event.seq()) && event.body().len() <= LONGEST;
                let event = if whole { event } else { event.without_body() };
                events.insert(event.seq(), event);
            }
        }
        let these = |seqs: &[Seq]| -> Vec<Event> {
            seqs.iter()
                .filter_map(|seq| events.get(seq).cloned())
                .collect()
        };
        let notable = these(&found.notable);
        let of_kinds = |kinds: &[Kind]| -> Vec<Event> {
            let fits = |event: &&Event| kinds.contains(&event.kind());
            notable.iter().filter(fits).cloned().collect()
        };
        let mut audits = of_kinds(&[Kind::ImageAudit, Kind::AudioAudit]);
        audits.sort_by_key(|event| std::cmp::Reverse(event.attributes().time));
        let exceptions: HashMap<Option<&str>, u64> = found
            .exceptions
            .iter()
            .map(|(sequence, number)| (sequence.as_deref(), *number))
            .collect();
        let sessions = found.sessions.iter().enumerate().map(|(at, session)| {
            let number = session
                .sequence
                .as_deref()
                .and_then(|sequence| exceptions.get(&Some(sequence)));
            SessionDetail::of(session, at > 0, number.copied().unwrap_or(0), &events)
        });
        Ok(StreamDetail {
            sessions: sessions.collect(),
            exceptions: exceptions.values().sum(),
            snapshot: of_kinds(&[Kind::Snapshot]).pop(),
            recordings: recordings(&notable),
            audits,
            timeline: these(&found.timeline),
            next: next.flatten(),
            stream,
        })
    }
}

impl SessionDetail {
    fn of(
        session: &Session,
        has_newer: bool,
        exceptions: u64,
        events: &HashMap<Seq, Event>,
    ) -> Self {
        let push = |seq: Option<Seq>| -> Option<Box<Push>> {
            match events.get(&seq?)?.payload().ok()? {
                Payload::StreamBegin(push) | Payload::StreamEnd(push) => Some(push),
                _ => None,
            }
        };
        let begin = push(session.begin);
        let end = push(session.end.map(|(_, seq)| seq));
        // The end knows what the begin could not know yet.
        let both = || end.iter().chain(&begin);
        let resolution = both().find_map(|push| {
            let size = push.width.zip(push.height)?;
            (size.0 > 0 && size.1 > 0).then_some(size)
        });
        Self {
            superseded: has_newer && session.is_open(),
            pusher: both().find_map(|push| push.user_ip.clone()),
            resolution,
            errcode: end.as_ref().and_then(|push| push.errcode),
            errmsg: end.as_ref().and_then(|push| push.errmsg.clone()),
            exceptions,
            session: session.clone(),
        }
    }
}

/// A step of a recording, and when it was.
type RecordingStep = (Option<Timestamp>, Box<RecordStatus>);

/// From the steps of recordings and the files that came of them, the latest of each first.
fn recordings(events: &[Event]) -> Vec<Recording> {
    let mut steps: BTreeMap<String, Vec<RecordingStep>> = BTreeMap::new();
    let mut recordings = Vec::new();
    for event in events {
        match event.payload() {
            Ok(Payload::RecordStatus(step)) => {
                let id = step.session_id.clone().or_else(|| step.task_id.clone());
                let steps = steps.entry(id.unwrap_or_default()).or_default();
                steps.push((event.attributes().time, step));
            }
            Ok(Payload::Record(file)) => recordings.push(Recording {
                id: file.file_id.or(file.video_id).unwrap_or_default(),
                state: "file".to_owned(),
                open: false,
                start: file.start_time.map(Timestamp::from_seconds),
                end: file.end_time.map(Timestamp::from_seconds),
                url: file.video_url,
            }),
            _ => {}
        }
    }
    for (id, mut steps) in steps {
        // Not in the order in which they arrived; a step of the same second that ends it comes last.
        steps.sort_by_key(|(time, step)| (*time, is_over(step), step.seq.clone()));
        let Some((last, step)) = steps.last() else {
            continue;
        };
        let started = steps
            .iter()
            .find(|(_, step)| step.record_event == Some(RecordEvent::StartSucceeded));
        recordings.push(Recording {
            id,
            state: step
                .record_event
                .as_ref()
                .map_or("", RecordEvent::as_str)
                .to_owned(),
            open: !is_over(step),
            start: started.and_then(|(time, _)| *time),
            end: last.filter(|_| is_over(step)),
            url: None,
        });
    }
    recordings.sort_by_key(|recording| std::cmp::Reverse(recording.start.max(recording.end)));
    recordings
}

fn is_over(step: &RecordStatus) -> bool {
    matches!(
        step.record_event,
        Some(RecordEvent::Ended | RecordEvent::StartFailed)
    )
}
