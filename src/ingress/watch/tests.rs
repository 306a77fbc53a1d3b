#![allow(clippy::unwrap_used)]

use super::*;
use crate::log::CapturedLog;
use crate::metrics::TextFormat;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A callback that would be authentic, had it come an hour earlier.
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
    let watch = SourceWatch::default();
    for late in [0, 0, 0, 500, 0] {
        watch.signed("css", NOW.seconds() + 600 - late, NOW);
    }
    let metrics = Metrics::default();
    watch.measure(&"css".into(), &metrics, NOW);
    assert!(
        metrics
            .encode(TextFormat::Prometheus)
            .contains("livehook_clock_offset_seconds{source=\"css\"} 0")
    );
}

#[test]
fn the_window_runs_only_while_something_fails() {
    let watch = SourceWatch::default();
    let metrics = Metrics::default();
    let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
    let shown = |seconds: u64| {
        watch.measure(&"css".into(), &metrics, at(seconds));
        let text = metrics.encode(TextFormat::Prometheus);
        text.lines()
            .find(|line| line.starts_with("livehook_retry_window_remaining_seconds{"))
            .map(str::to_owned)
    };
    let answered = |kind, result, seconds| watch.answered("css", kind, result, || at(seconds));
    let late =
        |kind, seconds| assert!(!watch.refused("css", &expired(kind, at(seconds)), at(seconds)));
    assert_eq!(shown(0), None);
    answered(Kind::StreamBegin, CallbackResult::Failed, 0);
    answered(Kind::StreamBegin, CallbackResult::Failed, 60);
    assert_eq!(
        shown(70).as_deref(),
        Some("livehook_retry_window_remaining_seconds{source=\"css\"} 650.0")
    );
    // Screenshots are repeated for ten minutes only, and of all kinds the most urgent one counts.
    late(Kind::Snapshot, 20);
    late(Kind::Snapshot, 75);
    late(Kind::Unknown, 75);
    assert_eq!(
        shown(75).as_deref(),
        Some("livehook_retry_window_remaining_seconds{source=\"css\"} 545.0")
    );
    answered(Kind::StreamBegin, CallbackResult::Accepted, 80);
    let windows = watch.retry_windows(&"css".into(), at(80));
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
    // Nothing came again: nobody repeats it any more.
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
    let watch = SourceWatch::default();
    let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
    let css = "css".into();
    let windows = |seconds| watch.retry_windows(&css, at(seconds)).len();
    // Without a signature never, and with a forged one not while genuine callbacks arrive.
    for seconds in (0..3600).step_by(50) {
        assert!(watch.refused("css", &forged(false), at(seconds)));
        assert_eq!(windows(seconds), 0);
    }
    for seconds in (3600..7200).step_by(50) {
        if seconds % 500 == 100 {
            watch.hearing.heard(at(seconds));
        }
        assert!(watch.refused("css", &forged(true), at(seconds)));
        assert_eq!(windows(seconds), 0, "{seconds}");
    }
    // A signature that was found some day is presented again and again.
    let found = expired(Kind::StreamBegin, at(7200));
    assert!(!watch.refused("css", &found, at(7200)), "it may be genuine");
    for seconds in (7260..9000).step_by(50) {
        watch.hearing.heard(at(seconds));
        assert!(watch.refused("css", &found, at(seconds)));
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
    let watch = SourceWatch::default();
    let metrics = Metrics::default();
    let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
    let css = "css".into();
    let shown = |seconds| {
        watch.measure(&css, &metrics, at(seconds));
        let text = metrics.encode(TextFormat::Prometheus);
        let is_deaf = text.contains("livehook_source_deaf{source=\"css\"} 1");
        (is_deaf, watch.retry_windows(&css, at(seconds)).len())
    };
    assert_eq!(shown(0), (false, 0));
    watch.refused("css", &forged(true), at(0));
    assert_eq!(shown(0), (true, 1));
    // As long as it lasts, also what comes without a signature.
    let mut unsigned = forged(false);
    unsigned.kind = Kind::Relay;
    watch.refused("css", &unsigned, at(30));
    assert_eq!(shown(30), (true, 2));
    watch.refused("css", &forged(true), at(60));
    watch.hearing.heard(at(70));
    assert!(!shown(70).0);
    drop(guard);
    let log = written.text();
    let told = log.matches("nothing authentic comes to this source");
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
    let watch = SourceWatch::default();
    let answered = |kind, result, seconds| {
        let at = NOW.plus(Duration::from_secs(seconds));
        watch.answered("css", kind, result, || at);
    };
    for seconds in (0..200).step_by(10) {
        answered(Kind::Subtitle, CallbackResult::Failed, seconds);
        // One that has just begun is no reason to shout, however often.
        answered(Kind::Relay, CallbackResult::Overloaded, seconds);
        answered(Kind::Relay, CallbackResult::Accepted, seconds + 5);
    }
    watch.hearing.heard(NOW);
    for seconds in [0, 120] {
        let at = NOW.plus(Duration::from_secs(seconds));
        watch.refused("css", &expired(Kind::Snapshot, at), at);
    }
    drop(guard);
    let log = written.text();
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    let subtitle = "callback.source=\"css\" callback.kind=\"subtitle\" callback.result=\"failed\"";
    let snapshot = "callback.source=\"css\" callback.kind=\"snapshot\" callback.result=\"refused\"";
    let failing = format!("ERROR callbacks could not be taken since {NOW}: ");
    let refused = format!("WARN callbacks have been refused since {NOW}: ");
    assert_eq!(
        lines,
        [
            format!(
                "{failing}in 2 min the sender gives up the first of them, and then it is lost {subtitle}"
            ),
            format!(
                "{failing}in 1 min the sender gives up the first of them, and then it is lost {subtitle}"
            ),
            format!("{failing}the sender has given up the first of them: it is lost {subtitle}"),
            format!(
                "{refused}in 8 min the sender gives up the first of them, and then at best the rejected list has it {snapshot}"
            ),
        ]
    );
}
