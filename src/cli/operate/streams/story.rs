//! One stream for people: what it is, its sessions, its recordings, its last screenshot, its last events.

use std::time::Duration;

use serde_json::Value;

use super::super::table::{TextTable, cell, kind, plain, stream};

/// Everything that is told of a stream; the newest last.
pub(super) fn lines(story: &Value, room: Option<usize>) -> Vec<String> {
    let mut lines = head(story);
    let mut part = |table: &TextTable, items: &Value| {
        if items.as_array().is_some_and(|items| !items.is_empty()) {
            lines.push(String::new());
            lines.extend(table.lines(&mut Vec::new(), room));
        }
    };
    part(&sessions(story), &story["sessions"]);
    part(&recordings(story), &story["recordings"]);
    part(&audits(story), &story["audits"]);
    let snapshot = &story["last_snapshot"];
    if !snapshot.is_null() {
        let mut table = TextTable::new(&["SNAPSHOT", "SIZE", "URL"]);
        table.row([
            cell(&snapshot["time"]),
            size(snapshot),
            cell(&snapshot["url"]),
        ]);
        part(&table, &Value::from_iter([snapshot.clone()]));
    }
    part(&events(story), &story["timeline"]);
    lines
}

fn head(story: &Value) -> Vec<String> {
    let source = story["source"].as_str().unwrap_or_default();
    let name = format!(
        "{} of {}",
        stream(story),
        plain(source.trim_start_matches('/'))
    );
    let state = match (story["live"].as_bool(), story["since"].as_str()) {
        (Some(true), Some(since)) => format!("live since {}", plain(since)),
        (_, Some(since)) => format!("offline since {}", plain(since)),
        (_, None) => "offline, nothing was heard of a push".to_owned(),
    };
    vec![
        format!("{name}: {state}"),
        format!("last event    {}", cell(&story["last"])),
        format!("exceptions    {}", cell(&story["push_exceptions"])),
    ]
}

fn sessions(story: &Value) -> TextTable {
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
    for session in oldest_first(&story["sessions"]) {
        // Without a begin it is reckoned from the end.
        let about = match session["begin_known"].as_bool() {
            Some(false) => "~",
            _ => "",
        };
        table.row([
            format!("{about}{}", cell(&session["start"])),
            cell(&session["end"]),
            lasted(session),
            cell(&session["push_exceptions"]),
            cell(&session["pusher"]),
            size(session),
            cell(&session["pushsequence"]),
            reason(session),
        ]);
    }
    table
}

/// Why it is over, if it is.
fn reason(session: &Value) -> String {
    if session["end"].is_null() {
        let superseded = session["superseded"].as_bool().unwrap_or_default();
        return if superseded {
            "no end, but a newer session"
        } else {
            "live"
        }
        .to_owned();
    }
    let parts = [
        &session["errcode"],
        &session["end_reason"],
        &session["errmsg"],
    ];
    let parts = parts.into_iter().filter(|part| !part.is_null()).map(cell);
    let reason = parts.collect::<Vec<_>>().join(", ");
    if reason.is_empty() {
        "-".to_owned()
    } else {
        reason
    }
}

fn lasted(session: &Value) -> String {
    match session["duration_seconds"].as_f64() {
        Some(seconds) if seconds >= 0.0 => {
            humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string()
        }
        _ => "-".to_owned(),
    }
}

fn recordings(story: &Value) -> TextTable {
    let mut table = TextTable::new(&["RECORDING", "START", "END", "ID", "URL"]);
    for recording in oldest_first(&story["recordings"]) {
        let names = ["state", "start", "end", "id", "url"];
        table.row(names.map(|name| cell(&recording[name])));
    }
    table
}

fn audits(story: &Value) -> TextTable {
    let mut table = TextTable::new(&["AUDIT", "KIND", "SUGGESTION", "LABEL", "ID"]);
    for audit in oldest_first(&story["audits"]) {
        table.row([
            cell(&audit["time"]),
            kind(audit),
            cell(&audit["suggestion"]),
            cell(&audit["label"]),
            cell(&audit["id"]),
        ]);
    }
    table
}

fn events(story: &Value) -> TextTable {
    let mut table = TextTable::new(&["TIME", "KIND", "RECEIVED", "ID"]);
    for event in oldest_first(&story["timeline"]) {
        table.row([
            cell(&event["time"]),
            kind(event),
            cell(&event["receivedtime"]),
            cell(&event["id"]),
        ]);
    }
    table
}

fn oldest_first(items: &Value) -> impl Iterator<Item = &Value> {
    items.as_array().into_iter().flatten().rev()
}

fn size(item: &Value) -> String {
    match (item["width"].as_i64(), item["height"].as_i64()) {
        (Some(width), Some(height)) => format!("{width}x{height}"),
        _ => "-".to_owned(),
    }
}
