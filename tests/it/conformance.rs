//! `livehook simulate --conformance`: a correct receiver passes, and each flaw fails exactly the
//! cases for it.

mod flawed;
mod receiver;
mod usage;

use std::collections::HashSet;
use std::process::Output;
use std::sync::Mutex;

use serde_json::Value;

use self::receiver::{Flaw, TOKEN};
use crate::support::server::livehook;
use crate::support::target::{Reply, Target};
use crate::support::{KEY, Settings, TestServer};

/// The result of a conformance check.
struct Grading {
    code: Option<i32>,
    error: String,
    report: Value,
}

/// Grades the receiver at a URL, with these arguments.
fn grade(url: &str, more: &[&str]) -> Grading {
    let output = run(url, &[&["--report", "json"], more].concat());
    Grading::of(&output)
}

fn run(url: &str, more: &[&str]) -> Output {
    let mut command = livehook();
    command.args(["simulate", "--conformance", "--url", url]);
    command.args(more).output().unwrap()
}

impl Grading {
    fn of(output: &Output) -> Self {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        Self {
            code: output.status.code(),
            report: serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|_| panic!("no report: {error}")),
            error,
        }
    }

    /// Names and reasons of the cases with this result, in order.
    fn with(&self, result: &str) -> Vec<(&str, &str)> {
        let cases = self.report["cases"].as_array().unwrap();
        let some = cases.iter().filter(|case| case["result"] == result);
        some.map(|case| (text(&case["case"]), text(&case["reason"])))
            .collect()
    }

    fn names(&self, result: &str) -> Vec<&str> {
        self.with(result)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn livehook_passes_everything() {
    let acts = Mutex::new(HashSet::new());
    let backend = Target::start(move |hit| {
        let mut acts = acts.lock().unwrap();
        if hit.method == "GET" {
            return Reply::Page(acts.len().to_string());
        }
        acts.insert(hit.json()["id"].to_string());
        Reply::Status(200)
    });
    let server = TestServer::start(&Settings {
        sources: format!("[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"{TOKEN}\"\n"),
        handlers: format!(
            "[handlers.backend]\nto = {{ type = \"http\", url = \"{}\" }}\n",
            backend.url()
        ),
        ..Settings::default()
    });
    let url = format!("http://{}/css", server.addr);
    let grades = grade(
        &url,
        &[
            "--key",
            KEY,
            "--token",
            TOKEN,
            "--count-url",
            &backend.url(),
        ],
    );
    assert_eq!(grades.with("fail"), []);
    assert_eq!(grades.with("skip"), []);
    assert_eq!(grades.names("pass").len(), 66);
    assert_eq!(grades.code, Some(0), "{}", grades.error);
    let ended = |result| {
        server.metric(&format!(
            "livehook_callbacks_total{{source=\"css\",kind=\"unknown\",result=\"{result}\"}}"
        ))
    };
    assert_eq!((ended("refused"), ended("invalid")), (9.0, 5.0));
}

#[test]
fn cases_that_need_other_secrets_are_skipped() {
    let server = TestServer::start(&Settings::default());
    let url = format!("http://{}/css", server.addr);
    let grades = grade(&url, &["--key", KEY]);
    assert_eq!(grades.with("fail"), []);
    for (name, reason) in grades.with("skip") {
        let expected = match name {
            "forged-missing-token" | "forged-wrong-token" => "without --token",
            _ if name.starts_with("unsigned-") => "without --token or --unsigned",
            _ if name.starts_with("counted-") => "without --count-url",
            _ => panic!("{name} was skipped: {reason}"),
        };
        assert!(reason.starts_with(expected), "{name}: {reason}");
    }
    assert_eq!(grades.names("skip").len(), 2 + 11 + 4);
    assert_eq!(grades.code, Some(0));

    // With --unsigned the simulator sends them anyway. This source does not accept them.
    let grades = grade(&url, &["--key", KEY, "--unsigned"]);
    assert_eq!(grades.names("fail").len(), 11);
    assert!(
        grades
            .names("fail")
            .iter()
            .all(|name| name.starts_with("unsigned-"))
    );
    assert_eq!(grades.code, Some(1));
}

#[test]
fn a_sender_whose_clock_is_wrong_is_refused() {
    let receiver = receiver::start(Flaw::None);
    let grades = grade(
        &receiver.base(),
        &["--key", KEY, "--token", TOKEN, "--clock-offset", "-30m"],
    );
    let failed = grades.names("fail");
    assert!(failed.contains(&"genuine-stream-begin") && failed.contains(&"late-retry"));
    assert!(
        !failed
            .iter()
            .any(|name| name.starts_with("unsigned-") || name.starts_with("forged-"))
    );
}

#[test]
fn without_a_key_only_the_token_is_looked_at() {
    let server = TestServer::start(&Settings {
        sources: format!("[sources.css]\ntoken = \"{TOKEN}\"\n"),
        ..Settings::default()
    });
    let url = format!("http://{}/css", server.addr);
    let grades = grade(&url, &["--token", TOKEN]);
    assert_eq!(grades.with("fail"), []);
    let skipped = grades.names("skip");
    assert!(skipped.contains(&"forged-wrong-key") && !skipped.contains(&"forged-wrong-token"));
    // All kinds: without a key, the platform may send any kind unsigned.
    assert!(grades.names("pass").contains(&"unsigned-stream-begin"));
}

#[test]
fn one_url_may_be_all_there_is() {
    let receiver = receiver::start(Flaw::None);
    let grades = grade(
        &receiver.base(),
        &[
            "--key",
            KEY,
            "--token",
            TOKEN,
            "--single-url",
            "--seed",
            "5",
        ],
    );
    assert_eq!(grades.with("fail"), []);
    let skipped = grades.names("skip");
    assert_eq!(skipped[0], "mixed-up-url");
    assert_eq!(skipped.len(), 1 + 4);
    let paths: HashSet<String> = receiver.hits().into_iter().map(|hit| hit.path).collect();
    let expected = [
        "/?token=conformance-token",
        "/?action=streamBegin&token=conformance-token",
    ];
    assert!(
        expected.iter().all(|path| paths.contains(*path)),
        "{paths:?}"
    );
    assert!(
        !paths.iter().any(|path| path.contains("stream-begin")),
        "{paths:?}"
    );
}
