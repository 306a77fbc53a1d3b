//! One stream as text: its state, sessions, recordings, audits, last snapshot and last events.

use std::time::Duration;

use super::super::table::{TextTable, cell, kind, maybe, stream};
use crate::api::{SessionView, StoryView};

/// The lines of the whole text. Tables have the newest last.
pub(super) fn lines(story: &StoryView, width: Option<usize>) -> Vec<String> {
    let mut lines = head(story);
    for table in [
        sessions(story),
        recordings(story),
        audits(story),
        snapshot(story),
        events(story),
    ] {
        if !table.is_empty() {
            lines.push(String::new());
            lines.extend(table.lines(&mut Vec::new(), width));
        }
    }
    lines
}

fn head(story: &StoryView) -> Vec<String> {
    let item = &story.stream;
    let source = cell(item.source.trim_start_matches('/'));
    let name = stream([&item.domain, &item.appname, &item.streamid]);
    let state = match (item.live, &item.since) {
        (true, Some(since)) => format!("live since {}", cell(since)),
        (false, Some(since)) => format!("offline since {}", cell(since)),
        (_, None) => "offline, no push is known".to_owned(),
    };
    vec![
        format!("{name} of {source}: {state}"),
        format!("last event    {}", cell(&item.last)),
        format!("exceptions    {}", story.push_exceptions),
    ]
}

fn sessions(story: &StoryView) -> TextTable {
    let mut table = TextTable::new(&[
        "START",
        "END",
        "DURATION",
        "EXCEPTIONS",
        "PUSHER",
        "SIZE",
        "SESSION",
        "REASON",
    ]);
    for session in story.sessions.iter().rev() {
        // Without a begin, the start is computed from the end and the duration.
        let about = if session.begin_known { "" } else { "~" };
        table.row([
            format!("{about}{}", cell(&session.start)),
            maybe(session.end.as_ref()),
            maybe(session.duration_seconds.map(lasted)),
            cell(session.push_exceptions),
            maybe(session.pusher.as_ref()),
            size(session.width, session.height),
            maybe(session.pushsequence.as_ref()),
            reason(session),
        ]);
    }
    table
}

/// Why a session ended, or that it has not.
fn reason(session: &SessionView) -> String {
    if session.end.is_none() {
        return if session.superseded {
            "end unknown, a newer session began"
        } else {
            "live"
        }
        .to_owned();
    }
    let code = session.errcode.map(|code| code.to_string());
    let parts = [&code, &session.end_reason, &session.errmsg];
    let parts: Vec<&str> = parts.into_iter().filter_map(Option::as_deref).collect();
    maybe(Some(parts.join(", ")).filter(|reason| !reason.is_empty()))
}

fn lasted(seconds: f64) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(seconds.round() as u64))
}

fn recordings(story: &StoryView) -> TextTable {
    let mut table = TextTable::new(&["RECORDING", "START", "END", "ID", "URL"]);
    for recording in story.recordings.iter().rev() {
        table.row([
            cell(&recording.state),
            maybe(recording.start.as_ref()),
            maybe(recording.end.as_ref()),
            cell(&recording.id),
            maybe(recording.url.as_ref()),
        ]);
    }
    table
}

fn audits(story: &StoryView) -> TextTable {
    let mut table = TextTable::new(&["AUDIT", "KIND", "SUGGESTION", "LABEL", "ID"]);
    for audit in story.audits.iter().rev() {
        table.row([
            maybe(audit.time.as_ref()),
            kind(&audit.r#type),
            maybe(audit.suggestion.as_ref()),
            maybe(audit.label.as_ref()),
            cell(&audit.id),
        ]);
    }
    table
}

fn snapshot(story: &StoryView) -> TextTable {
    let mut table = TextTable::new(&["SNAPSHOT", "SIZE", "URL"]);
    if let Some(snapshot) = &story.last_snapshot {
        table.row([
            maybe(snapshot.time.as_ref()),
            size(snapshot.width, snapshot.height),
            maybe(snapshot.url.as_ref()),
        ]);
    }
    table
}

fn events(story: &StoryView) -> TextTable {
    let mut table = TextTable::new(&["TIME", "KIND", "RECEIVED", "ID"]);
    for event in story.timeline.iter().rev() {
        table.row([
            maybe(event.time.as_ref()),
            kind(&event.r#type),
            cell(&event.receivedtime),
            cell(&event.id),
        ]);
    }
    table
}

fn size(width: Option<i64>, height: Option<i64>) -> String {
    let size = width.zip(height);
    maybe(size.map(|(width, height)| format!("{width}x{height}")))
}
