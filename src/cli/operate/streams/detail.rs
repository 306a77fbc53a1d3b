//! One stream as text: its state, sessions, recordings, audits, last snapshot and last events.

use std::time::Duration;

use serde_json::Value;

use super::super::table::{TextTable, cell, kind, printable, stream};

/// The lines of the whole text. Tables have the newest last.
pub(super) fn lines(detail: &Value, width: Option<usize>) -> Vec<String> {
    let mut lines = head(detail);
    let mut part = |table: &TextTable, items: &Value| {
        if items.as_array().is_some_and(|items| !items.is_empty()) {
            lines.push(String::new());
            lines.extend(table.lines(&mut Vec::new(), width));
        }
    };
    part(&sessions(detail), &detail["sessions"]);
    part(&recordings(detail), &detail["recordings"]);
    part(&audits(detail), &detail["audits"]);
    let snapshot = &detail["last_snapshot"];
    if !snapshot.is_null() {
        let mut table = TextTable::new(&["SNAPSHOT", "SIZE", "URL"]);
        table.row([
            cell(&snapshot["time"]),
            size(snapshot),
            cell(&snapshot["url"]),
        ]);
        part(&table, &Value::from_iter([snapshot.clone()]));
    }
    part(&events(detail), &detail["timeline"]);
    lines
}

fn head(detail: &Value) -> Vec<String> {
    let source = detail["source"].as_str().unwrap_or_default();
    let name = format!(
        "{} of {}",
        stream(detail),
        printable(source.trim_start_matches('/'))
    );
    let state = match (detail["live"].as_bool(), detail["since"].as_str()) {
        (Some(true), Some(since)) => format!("live since {}", printable(since)),
        (_, Some(since)) => format!("offline since {}", printable(since)),
        (_, None) => "offline, no push is known".to_owned(),
    };
    vec![
        format!("{name}: {state}"),
        format!("last event    {}", cell(&detail["last"])),
        format!("exceptions    {}", cell(&detail["push_exceptions"])),
    ]
}

fn sessions(detail: &Value) -> TextTable {
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
    for session in oldest_first(&detail["sessions"]) {
        // Without a begin, the start is computed from the end and the duration.
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

/// Why a session ended, or that it has not.
fn reason(session: &Value) -> String {
    if session["end"].is_null() {
        let superseded = session["superseded"].as_bool().unwrap_or_default();
        return if superseded {
            "end unknown, a newer session began"
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

fn recordings(detail: &Value) -> TextTable {
    let mut table = TextTable::new(&["RECORDING", "START", "END", "ID", "URL"]);
    for recording in oldest_first(&detail["recordings"]) {
        let names = ["state", "start", "end", "id", "url"];
        table.row(names.map(|name| cell(&recording[name])));
    }
    table
}

fn audits(detail: &Value) -> TextTable {
    let mut table = TextTable::new(&["AUDIT", "KIND", "SUGGESTION", "LABEL", "ID"]);
    for audit in oldest_first(&detail["audits"]) {
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

fn events(detail: &Value) -> TextTable {
    let mut table = TextTable::new(&["TIME", "KIND", "RECEIVED", "ID"]);
    for event in oldest_first(&detail["timeline"]) {
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
