#![allow(clippy::unwrap_used)]

use std::io::{PipeWriter, Write};
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::handlers::tests::event;
use crate::log::{CapturedLog, Format};

fn log(format: Format, writer: impl std::io::Write + Send + 'static) -> Log {
    Log {
        name: "trace".to_owned(),
        lines: Box::leak(Box::new(Lines::to(format, writer))),
    }
}

#[tokio::test]
async fn one_line_has_the_attributes_and_no_body() {
    let written = CapturedLog::default();
    let log = log(Format::Text, written.clone());
    let event = event(
        r#"{"app":"push.example.com","appname":"live","stream_id":"a\nb\u001b","user_ip":"192.0.2.7"}"#,
    );
    log.handle(&event).await.unwrap();
    let line = written.text();
    assert_eq!(line.lines().count(), 1, "{line}");
    for expected in [
        r#"handler.name="trace""#,
        r#"event.type="css.stream-begin""#,
        r#"event.source="/css""#,
        r#"event.streamid="a\nb\u{1b}""#,
        r#"event.domain="push.example.com""#,
        &format!("event.id={:?}", "ab".repeat(16)),
        r#"event.subject="push.example.com/live/a"#,
    ] {
        assert!(line.contains(expected), "{expected} in {line}");
    }
    for absent in ["192.0.2.7", "event.time", "pushsequence"] {
        assert!(!line.contains(absent), "{absent} in {line}");
    }
}

#[tokio::test]
async fn lines_are_json_if_the_log_is_and_whatever_its_level_is() {
    let quiet = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .finish();
    let _guard = tracing::subscriber::set_default(quiet);
    let written = CapturedLog::default();
    let log = log(Format::Json, written.clone());
    log.handle(&event(r#"{"stream_id":"a"}"#)).await.unwrap();
    let line: serde_json::Value = serde_json::from_str(&written.text()).unwrap();
    assert_eq!(line["message"], "event received");
    assert_eq!(line["event.streamid"], "a");
}

/// A full pipe that nobody reads.
fn full_pipe() -> (std::io::PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    while (&writer).write_all(&[b'.'; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    (reader, writer)
}

#[tokio::test]
async fn a_line_is_done_when_it_was_written_and_waits_for_whoever_reads() {
    let (mut reader, writer) = full_pipe();
    let log = log(Format::Text, writer);
    let event = event(r#"{"stream_id":"a"}"#);
    // The attempt was given up: so the only runtime thread of this test was not blocked.
    let given_up = timeout(Duration::from_millis(50), log.handle(&event)).await;
    assert!(given_up.is_err(), "nobody has read it");
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    log.handle(&event).await.unwrap();
}

#[tokio::test]
async fn a_line_that_cannot_be_written_is_a_retry() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let log = log(Format::Text, writer);
    let failure = log.handle(&event("{}")).await.unwrap_err();
    let expected = "cannot write to standard error: Broken pipe";
    assert!(failure.reason().starts_with(expected), "{failure:?}");
}
