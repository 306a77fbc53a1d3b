#![allow(clippy::unwrap_used)]

use super::*;
use crate::log::CapturedLog;
use crate::metrics::TextFormat;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A callback that would have been authentic an hour earlier.
fn expired(kind: Kind, now: Timestamp) -> RefusedCallback {
    RefusedCallback {
        reason: Refusal::Expired,
        kind,
        is_signed: true,
        signed_t: Some(now.seconds() - 3600),
    }
}

fn forged(is_signed: bool) -> RefusedCallback {
    RefusedCallback {
        reason: match is_signed {
            true => Refusal::Signature,
            false => Refusal::Unsigned,
        },
        kind: Kind::StreamBegin,
        is_signed,
        signed_t: None,
    }
}

#[test]
fn a_few_late_retries_do_not_move_the_median() {
    let health = SourceHealth::default();
    for late in [0, 0, 0, 500, 0] {
        health.signed("css", NOW.seconds() + 600 - late, NOW);
    }
    let metrics = Metrics::default();
    health.measure(&"css".into(), &metrics, NOW);
    assert!(
        metrics
            .encode(TextFormat::Prometheus)
            .contains("livehook_clock_offset_seconds{source=\"css\"} 0")
    );
}

#[test]
fn the_window_runs_only_while_something_fails() {
    let health = SourceHealth::default();
    let metrics = Metrics::default();
    let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
    let shown = |seconds: u64| {
        health.measure(&"css".into(), &metrics, at(seconds));
        let text = metrics.encode(TextFormat::Prometheus);
        text.lines()
            .find(|line| line.starts_with("livehook_retry_window_remaining_seconds{"))
            .map(str::to_owned)
    };
    let answered = |kind, result, seconds| health.answered("css", kind, result, || at(seconds));
    let late =
        |kind, seconds| assert!(!health.refused("css", &expired(kind, at(seconds)), at(seconds)));
    assert_eq!(shown(0), None);
    answered(Kind::StreamBegin, CallbackResult::Failed, 0);
    answered(Kind::StreamBegin, CallbackResult::Failed, 60);
    assert_eq!(
        shown(70).as_deref(),
        Some("livehook_retry_window_remaining_seconds{source=\"css\"} 650.0")
    );
    // Screenshots are retried for ten minutes only. The shortest window of all kinds counts.
    late(Kind::Snapshot, 20);
    late(Kind::Snapshot, 75);
    late(Kind::Unknown, 75);
    assert_eq!(
        shown(75).as_deref(),
        Some("livehook_retry_window_remaining_seconds{source=\"css\"} 545.0")
    );
    answered(Kind::StreamBegin, CallbackResult::Accepted, 80);
    let windows = health.retry_windows(&"css".into(), at(80));
    let windows: Vec<_> = windows
        .iter()
        .map(|window| {
            (
                window.kind,
                window.window.as_secs(),
                window.remaining.as_secs(),
            )
        })
        .collect();
    assert_eq!(windows, [(Kind::Snapshot, 600, 540)]);
    answered(Kind::Snapshot, CallbackResult::Duplicate, 81);
    assert_eq!(shown(81), None);
    // Nothing arrived again, so the sender no longer retries it.
    answered(Kind::Record, CallbackResult::Overloaded, 100);
    assert!(shown(101).is_some());
    assert_eq!(shown(251), None);
    answered(Kind::Record, CallbackResult::Overloaded, 900);
    assert_eq!(
        shown(900).as_deref(),
        Some("livehook_retry_window_remaining_seconds{source=\"css\"} 720.0"),
        "it begins anew"
    );
}

#[test]
fn a_stranger_opens_no_window() {
    let health = SourceHealth::default();
    let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
    let css = "css".into();
    let windows = |seconds| health.retry_windows(&css, at(seconds)).len();
    // Not without a signature, and not with a forged one while genuine callbacks arrive.
    for seconds in (0..3600).step_by(50) {
        assert!(health.refused("css", &forged(false), at(seconds)));
        assert_eq!(windows(seconds), 0);
    }
    for seconds in (3600..7200).step_by(50) {
        if seconds % 500 == 100 {
            health.deaf_detector.note_authentic(at(seconds));
        }
        assert!(health.refused("css", &forged(true), at(seconds)));
        assert_eq!(windows(seconds), 0, "{seconds}");
    }
    // An attacker replays an expired signature.
    let found = expired(Kind::StreamBegin, at(7200));
    assert!(
        !health.refused("css", &found, at(7200)),
        "it may be genuine"
    );
    for seconds in (7260..9000).step_by(50) {
        health.deaf_detector.note_authentic(at(seconds));
        assert!(health.refused("css", &found, at(seconds)));
    }
    assert_eq!(windows(9000), 0);
}

#[test]
fn with_a_wrong_key_what_looks_forged_opens_windows() {
    let written = CapturedLog::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let health = SourceHealth::default();
    let metrics = Metrics::default();
    let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
    let css = "css".into();
    let shown = |seconds| {
        health.measure(&css, &metrics, at(seconds));
        let text = metrics.encode(TextFormat::Prometheus);
        let is_deaf = text.contains("livehook_source_deaf{source=\"css\"} 1");
        (is_deaf, health.retry_windows(&css, at(seconds)).len())
    };
    assert_eq!(shown(0), (false, 0));
    health.refused("css", &forged(true), at(0));
    assert_eq!(shown(0), (true, 1));
    // While the source is deaf, unsigned callbacks count too.
    let mut unsigned = forged(false);
    unsigned.kind = Kind::Relay;
    health.refused("css", &unsigned, at(30));
    assert_eq!(shown(30), (true, 2));
    health.refused("css", &forged(true), at(60));
    health.deaf_detector.note_authentic(at(70));
    assert!(!shown(70).0);
    drop(guard);
    let log = written.text();
    let told = log.matches("no authentic callback arrives at this source");
    assert_eq!(told.count(), 1, "{log}");
    assert!(log.contains("ERROR") && log.contains("callback.source=\"css\""));
}

#[test]
fn the_log_says_once_a_minute_what_is_about_to_be_lost() {
    let written = CapturedLog::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let health = SourceHealth::default();
    let answered = |kind, result, seconds| {
        let at = NOW.plus(Duration::from_secs(seconds));
        health.answered("css", kind, result, || at);
    };
    for seconds in (0..200).step_by(10) {
        answered(Kind::Subtitle, CallbackResult::Failed, seconds);
        // A failure that has just begun is not logged, however often it begins.
        answered(Kind::Relay, CallbackResult::Overloaded, seconds);
        answered(Kind::Relay, CallbackResult::Accepted, seconds + 5);
    }
    health.deaf_detector.note_authentic(NOW);
    for seconds in [0, 120] {
        let at = NOW.plus(Duration::from_secs(seconds));
        health.refused("css", &expired(Kind::Snapshot, at), at);
    }
    drop(guard);
    let log = written.text();
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    let subtitle = "callback.source=\"css\" callback.kind=\"subtitle\" callback.result=\"failed\"";
    let snapshot = "callback.source=\"css\" callback.kind=\"snapshot\" callback.result=\"refused\"";
    let failing = format!("ERROR callbacks could not be accepted since {NOW}: ");
    let refused = format!("WARN callbacks have been refused since {NOW}: ");
    assert_eq!(
        lines,
        [
            format!(
                "{failing}the sender retries the first of them for 2 min more, then it is lost {subtitle}"
            ),
            format!(
                "{failing}the sender retries the first of them for 1 min more, then it is lost {subtitle}"
            ),
            format!(
                "{failing}the sender no longer retries the first of them: it is lost {subtitle}"
            ),
            format!(
                "{refused}the sender retries the first of them for 8 min more, then it is lost unless the rejected list has it {snapshot}"
            ),
        ]
    );
}
