#![allow(clippy::unwrap_used)]

use super::*;
use crate::handlers::tests::event;
use crate::log::Written;

#[tokio::test]
async fn one_line_has_the_attributes_and_no_body() {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let event = event(
        r#"{"app":"push.example.com","appname":"live","stream_id":"a\nb\u001b","user_ip":"192.0.2.7"}"#,
    );
    Log::new("trace").handle(&event).await.unwrap();
    drop(guard);
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
