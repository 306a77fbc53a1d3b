#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use config::Source as _;
use css_callbacks::{EventId, Kind, Timestamp};

use super::*;
use crate::event::Event;
use crate::settings::strict;

/// 2026-11-23T08:00:00Z.
pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_795_420_800);

pub(super) fn event(body: impl AsRef<[u8]>) -> Event {
    Event::new(
        7,
        EventId::from_bytes([0xAB; 16]),
        "css".into(),
        Kind::StreamBegin,
        NOW,
        Bytes::copy_from_slice(body.as_ref()),
    )
}

pub(super) fn env_of(base: &Path) -> Env<'_> {
    Env {
        base,
        variable: &|name| (name == "SET").then(|| "whsec_aHVzaA==\n".to_owned()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    to: TargetConfig,
}

/// Reads a section in the same way as the configuration.
fn read(text: &str) -> Result<TargetConfig, String> {
    let text = config::File::from_str(text, config::FileFormat::Toml);
    strict::read(text.collect().unwrap())
        .map(|Section { to }| to)
        .map_err(|error| error.to_string())
}

#[test]
fn every_type_is_read_from_a_file() {
    assert_eq!(
        read(r#"to = { type = "log" }"#),
        Ok(TargetConfig::Log(log::Config {}))
    );
    let expected = file::Config {
        path: "events.jsonl".into(),
        rotate: file::Rotate::Never,
        sync: true,
    };
    assert_eq!(
        read(r#"to = { type = "file", path = "events.jsonl" }"#),
        Ok(TargetConfig::File(expected))
    );
    let expected = file::Config {
        path: "a".into(),
        rotate: file::Rotate::Hourly,
        sync: false,
    };
    assert_eq!(
        read(r#"to = { type = "file", path = "a", rotate = "hourly", sync = false }"#),
        Ok(TargetConfig::File(expected))
    );
    let Ok(TargetConfig::Http(http)) = read(
        r#"to = { type = "http", url = "https://example.com/", mode = "binary", secret_env = "SET",
            headers = { X-Team = "live", "X-Dotted.Name" = "007" } }"#,
    ) else {
        panic!("not read");
    };
    assert_eq!(http.mode, http::Mode::Binary);
    assert_eq!(http.headers["X-Team"], "live");
    assert_eq!(http.headers["X-Dotted.Name"], "007");
    let exec = read("[to]\ntype = 'exec'\ncommand = ['notify', '-v']").unwrap();
    assert_eq!(exec.type_name(), "exec");
    exec.validate("handlers.a.to", &env_of(Path::new("/etc")))
        .unwrap();
}

#[test]
fn unknown_fields_are_refused_by_name() {
    for (text, expected) in [
        (r#"to = { type = "log", path = "a" }"#, "path"),
        (
            r#"to = { type = "file", path = "a", rotation = 1 }"#,
            "rotation",
        ),
        (
            r#"to = { type = "http", url = "http://a", sign = "b" }"#,
            "sign",
        ),
        (
            r#"to = { type = "exec", command = ["a"], shell = true }"#,
            "shell",
        ),
        (r#"to = { type = "kafka" }"#, "kafka"),
        (r#"to = { type = "file" }"#, "path"),
        (
            r#"to = { type = "file", path = "a", rotate = "weekly" }"#,
            "weekly",
        ),
        (r#"to = { path = "a" }"#, "type"),
    ] {
        let message = read(text).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn a_target_becomes_a_handler() {
    let folder = tempfile::tempdir().unwrap();
    let to = read(r#"to = { type = "file", path = "events.jsonl" }"#).unwrap();
    let target = to
        .validate("handlers.a.to", &env_of(folder.path()))
        .unwrap();
    let clock = Clock::manual(NOW);
    let handler = target.build("a", PayloadForm::Original, &clock).unwrap();
    handler.handle(&event("{}")).await.unwrap();
    let lines = std::fs::read(folder.path().join("events.jsonl")).unwrap();
    assert_eq!(
        lines,
        event("{}")
            .cloud_event(PayloadForm::Original)
            .to_json_line()
    );
}

#[tokio::test]
async fn a_program_that_is_not_there_is_found_before_the_first_event() {
    let folder = tempfile::tempdir().unwrap();
    let target = |command: &str| {
        let to = read(&format!(
            r#"to = {{ type = "exec", command = ["{command}"] }}"#
        ))
        .unwrap();
        let env = env_of(folder.path());
        to.validate("handlers.a.to", &env).unwrap()
    };
    let build =
        |target: HandlerTarget| target.build("a", PayloadForm::Original, &Clock::manual(NOW));
    assert_eq!(target("sh").check("handlers.a.to"), Ok(()));
    assert!(build(target("sh")).is_ok());
    let missing = target("./missing");
    let found = missing.check("handlers.a.to").unwrap_err();
    assert_eq!(found.place, "handlers.a.to.command");
    assert!(found.problem.contains("missing"), "{found}");
    // A reload builds without checking first.
    assert!(build(missing).is_err());
}
