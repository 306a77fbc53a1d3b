#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::clock::Timestamp;
use crate::event::Event;
use crate::identity::EventId;
use crate::kind::Kind;

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

pub(super) fn surroundings(base: &Path) -> Surroundings<'_> {
    Surroundings {
        base,
        variable: &|name| (name == "SET").then(|| "whsec_aHVzaA==\n".to_owned()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    to: To,
}

/// The way the configuration goes, too.
fn read(text: &str) -> Result<To, String> {
    config::Config::builder()
        .add_source(config::File::from_str(text, config::FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize::<Section>)
        .map(|section| section.to)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_target_becomes_a_handler() {
    let folder = tempfile::tempdir().unwrap();
    let to = read(r#"to = { type = "file", path = "events.jsonl" }"#).unwrap();
    let target = to
        .validate("handlers.a.to", &surroundings(folder.path()))
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
