//! The detail of one stream: its sessions, recordings, verdicts and timeline, read from its events.

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

/// How many sessions a detail shows at most.
const MAX_SESSIONS: usize = 100;
/// How many events one query reads. Their bodies may be long, so few.
const CHUNK: usize = 50;
/// A longer body is not parsed: no body of these kinds should be so long. In bytes.
const MAX_BODY: usize = 64 << 10;

/// A stream as the API and the console show it.
#[derive(Debug, Clone)]
pub(crate) struct StreamDetail {
    pub stream: StreamRow,
    /// The newest sessions first.
    pub sessions: Vec<SessionDetail>,
    /// The number of push exceptions in all sessions that the board still has.
    pub exceptions: u64,
    /// The latest screenshot.
    pub snapshot: Option<Event>,
    /// The latest first.
    pub recordings: Vec<Recording>,
    /// The latest verdicts of moderation, the latest first.
    pub audits: Vec<Event>,
    /// Events without their bodies, the latest first.
    pub timeline: Vec<Event>,
    /// The event after which the next page of the timeline begins. `None` on the last page.
    pub next: Option<Seq>,
}

/// A session with the data of its begin and end events.
#[derive(Debug, Clone)]
pub(crate) struct SessionDetail {
    pub session: Session,
    /// Whether it has no end although a newer session exists.
    pub superseded: bool,
    /// The address of the pusher.
    pub pusher: Option<String>,
    /// Width and height in pixels.
    pub resolution: Option<(i64, i64)>,
    /// The reason of the end, as a code.
    pub errcode: Option<Errcode>,
    /// The reason of the end, as the platform's free text.
    pub errmsg: Option<String>,
    /// The number of push exceptions.
    pub exceptions: u64,
}

/// A recording: either a recording session, known from its steps, or a recorded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recording {
    /// The id of the recording session or of the file.
    pub id: String,
    /// The latest step, or `file` for a file.
    pub state: String,
    /// Whether the recording still runs: no step has ended it.
    pub open: bool,
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    /// The address of the file.
    pub url: Option<String>,
}

impl Board {
    /// Reads the detail of a stream: up to `limit` sessions and up to `limit` events before the event
    /// `before`.
    pub(crate) async fn detail(
        &self,
        stream: StreamRow,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<StreamDetail, StoreError> {
        let mut found = self.record(&stream, before, limit).await?;
        found.sessions.truncate(MAX_SESSIONS);
        let next = (found.timeline.len() > limit).then(|| {
            found.timeline.truncate(limit);
            found.timeline.last().copied()
        });
        let of_sessions = found.sessions.iter().flat_map(|session| {
            let end = session.end.map(|(_, seq)| seq);
            session.begin.into_iter().chain(end)
        });
        let parsed: HashSet<Seq> = of_sessions.chain(found.notable.iter().copied()).collect();
        let mut wanted: Vec<Seq> = parsed.iter().chain(&found.timeline).copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut events: HashMap<Seq, Event> = HashMap::with_capacity(wanted.len());
        for chunk in wanted.chunks(CHUNK) {
            for event in self.inbox.by_seq(chunk.to_vec()).await? {
                let with_body = parsed.contains(&event.seq()) && event.body().len() <= MAX_BODY;
                let event = if with_body {
                    event
                } else {
                    event.without_body()
                };
                events.insert(event.seq(), event);
            }
        }
        let events_of = |seqs: &[Seq]| -> Vec<Event> {
            seqs.iter()
                .filter_map(|seq| events.get(seq).cloned())
                .collect()
        };
        let notable = events_of(&found.notable);
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
            timeline: events_of(&found.timeline),
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
        // The end first: it has values that the begin could not have yet.
        let end_then_begin = || end.iter().chain(&begin);
        let resolution = end_then_begin().find_map(|push| {
            let size = push.width.zip(push.height)?;
            (size.0 > 0 && size.1 > 0).then_some(size)
        });
        Self {
            superseded: has_newer && session.is_open(),
            pusher: end_then_begin().find_map(|push| push.user_ip.clone()),
            resolution,
            errcode: end.as_ref().and_then(|push| push.errcode),
            errmsg: end.as_ref().and_then(|push| push.errmsg.clone()),
            exceptions,
            session: session.clone(),
        }
    }
}

/// A step of a recording, and its time.
type RecordingStep = (Option<Timestamp>, Box<RecordStatus>);

/// Builds recordings from step events and file events, the latest recording first.
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
        // By time, not by arrival. Within one second the step that ends the recording is the last.
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
