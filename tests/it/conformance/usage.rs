//! The output of the conformance check, and arguments that it refuses.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::receiver::{self, Flaw, TOKEN};
use super::{Grading, run};
use crate::support::server::livehook;
use crate::support::target::{Reply, Target, reserve};
use crate::support::{KEY, wait_for};

#[test]
fn the_text_report_has_a_line_for_each_case() {
    let receiver = receiver::start(Flaw::IgnoresExpiry);
    let output = run(&receiver.base(), &["--key", KEY, "--token", TOKEN]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 66 + 2);
    assert_eq!(lines[0], "pass  genuine-stream-begin");
    let failed = "fail  forged-expired-a-day-ago       answered 200: a forged body was accepted (its signature expired a day ago)";
    assert!(lines.contains(&failed), "{text}");
    assert!(lines[65].starts_with("skip  counted-each                   without --count-url: "));
    assert_eq!(lines[66..], ["", "61 passed, 1 failed, 4 skipped"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "livehook: 1 case failed\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_interrupted_grading_reports_what_is_known() {
    let waiting = Arc::new(AtomicUsize::new(0));
    let receiver = {
        let waiting = waiting.clone();
        Target::start(move |hit| {
            if hit.path.contains("stream-begin") {
                return Reply::Status(200);
            }
            waiting.fetch_add(1, Ordering::SeqCst);
            Reply::After(Duration::from_secs(60), Box::new(Reply::Status(200)))
        })
    };
    let child = livehook()
        .args([
            "simulate",
            "--conformance",
            "--report",
            "json",
            "--key",
            KEY,
            "--url",
            &receiver.base(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("four cases to hang", || {
        (waiting.load(Ordering::SeqCst) == 4).then_some(())
    });
    let kill = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let grades = Grading::of(&child.wait_with_output().unwrap());
    assert_eq!(grades.names("pass"), ["genuine-stream-begin"]);
    let skipped = grades.with("skip");
    assert_eq!(skipped.len(), 65);
    assert_eq!(
        skipped[0],
        ("genuine-stream-end", "interrupted before it was known")
    );
    assert_eq!(grades.report["skipped"], json!(65));
    assert_eq!(grades.code, Some(1));
    assert_eq!(
        grades.error,
        "livehook: interrupted before all cases were checked\n"
    );
}

#[test]
fn arguments_that_would_do_nothing_are_refused() {
    let url = "http://127.0.0.1:9";
    for more in [
        "--rate 5",
        "--connections 5",
        "--events 5",
        "--duration 5s",
        "--streams 5",
        "--kinds record",
        "--duplicates 0.5",
        "--bad 0.5",
        "--reorder",
        "--time-scale 60",
        "--slow-connections 5",
        "--verify http://127.0.0.1:9",
    ] {
        let more: Vec<&str> = more.split(' ').collect();
        let output = run(url, &[&["--key", KEY], &*more].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {error}");
        assert!(
            error.contains("cannot be used with") && error.contains(more[0]),
            "{error}"
        );
    }
    for (more, message) in [
        (&[][..], "name the key to sign with"),
        (
            &["--key", KEY, "--count-url", "127.0.0.1:9/?secret"],
            "--count-url: `127.0.0.1:9/`: is ",
        ),
    ] {
        let output = run(url, more);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(message), "{error}");
    }
    let output = livehook()
        .args(["simulate", "--url", url, "--key", KEY, "--count-url", url])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--conformance"));
}

#[test]
fn an_unreachable_receiver_or_counter_is_reported_before_grading() {
    let output = run(&format!("http://{}", reserve()), &["--key", KEY]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("nobody listens at 127."), "{error}");
    assert_eq!(output.status.code(), Some(1));

    let counts = Target::start(|hit| match &*hit.path {
        "/words" => Reply::Page("many".to_owned()),
        _ => Reply::Status(404),
    });
    let receiver = receiver::start(Flaw::None);
    for (url, message) in [
        (
            format!("{}/words", counts.base()),
            "there is no number in the answer of the count URL",
        ),
        (counts.url(), "the count URL answers 404"),
        (
            format!("http://{}", reserve()),
            "the count URL does not answer",
        ),
    ] {
        let output = run(&receiver.base(), &["--key", KEY, "--count-url", &url]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(error, format!("livehook: --count-url: {message}\n"));
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(receiver.count(), 0);
}
