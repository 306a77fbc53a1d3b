#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use config::Source as _;
use css_callbacks::{EventId, Timestamp};

use super::*;
use crate::settings::strict;

fn settings(config: &HandlerConfig) -> HandlerSettings {
    let env = Env {
        base: Path::new("/base"),
        variable: &|_| None,
    };
    let sources = BTreeSet::from(["css", "other"]);
    config.validate("archive", &sources, &env).unwrap()
}

fn event(source: &str, kind: Kind, body: &'static str) -> Event {
    Event::new(
        1,
        EventId::from_bytes([0; 16]),
        source.into(),
        kind,
        Timestamp::from_millis(0),
        Bytes::from_static(body.as_bytes()),
    )
}

const ROOM_7: &str = r#"{"appname":"live","stream_id":"room-7"}"#;

#[test]
fn by_default_everything_is_wanted() {
    let all = settings(&HandlerConfig::default());
    for kind in Kind::all_and_unknown() {
        assert!(all.wants(&event("css", kind, "{}")));
    }
}

#[test]
fn kinds_and_sources_are_a_choice() {
    let some = settings(&HandlerConfig {
        kinds: BTreeSet::from([Kind::Record]),
        sources: BTreeSet::from(["css".to_owned()]),
        ..HandlerConfig::default()
    });
    assert!(some.wants(&event("css", Kind::Record, ROOM_7)));
    assert!(!some.wants(&event("css", Kind::Unknown, ROOM_7)));
    assert!(!some.wants(&event("other", Kind::Record, ROOM_7)));
}

#[test]
fn globs_stay_within_a_segment_and_want_a_stream() {
    let with = |glob: &str| {
        settings(&HandlerConfig {
            streams: vec!["never/never".to_owned(), glob.to_owned()],
            ..HandlerConfig::default()
        })
    };
    let wants = |glob: &str, body| with(glob).wants(&event("css", Kind::Record, body));
    for glob in [
        "live/room-*",
        "live/*",
        "*/room-7",
        "**",
        "live/room-?",
        "{live,vod}/room-[0-9]",
    ] {
        assert!(wants(glob, ROOM_7), "{glob}");
        assert!(!wants(glob, "{}"), "{glob}");
    }
    for glob in ["*", "live", "room-7", "live/room", "Live/*"] {
        assert!(!wants(glob, ROOM_7), "{glob}");
    }
    assert!(!wants("live/*", r#"{"appname":"live","stream_id":"a/b"}"#));
    assert!(wants("live/**", r#"{"appname":"live","stream_id":"a/b"}"#));
    assert!(wants("/room-*", r#"{"stream_id":"room-7"}"#));
}

#[test]
fn an_event_without_an_appname_is_matched_by_its_streamid() {
    let with = |glob: &str| {
        settings(&HandlerConfig {
            streams: vec!["never/never".to_owned(), glob.to_owned()],
            ..HandlerConfig::default()
        })
    };
    let wants = |glob: &str, body| with(glob).wants(&event("css", Kind::Subtitle, body));
    const NO_APPNAME: &str = r#"{"stream_id":"room-7"}"#;
    for glob in [
        "live/room-*",
        "live/*",
        "*/room-7",
        "/room-7",
        "**",
        "live/**",
        "**/room-7",
        "live/room-?",
        "{live,vod}/room-[0-9]",
        "[a-z/]*/room-7",
        "[]]/room-7",
        "\\{/room-7",
        "{live/room-7,vod/x}",
        "{vod,live/{x,room-7}}",
        "{live/room,vod/x}-[!8]",
        "l{i,{v,w}}ve/{room,x}-7",
    ] {
        assert!(wants(glob, NO_APPNAME), "{glob}");
    }
    for glob in [
        "live/room-8",
        "live/room",
        "room-7",
        "*",
        "live/a/room-7",
        "{live/room-8,vod/x}",
        "{live,room-7}",
    ] {
        assert!(!wants(glob, NO_APPNAME), "{glob}");
    }
    assert!(!wants("live/**", "{}"));
    assert!(!wants("live/*", r#"{"stream_id":"a/room-7"}"#));
    assert!(wants("live/**", r#"{"stream_id":"a/room-7"}"#));
    assert!(wants("live/a/*", r#"{"stream_id":"a/room-7"}"#));
    assert!(wants("**/room-7", r#"{"stream_id":"a/room-7"}"#));
    // If there is an appname, it must match.
    assert!(!wants("vod/room-7", ROOM_7));
}

#[test]
fn the_same_text_makes_equal_settings() {
    let config = HandlerConfig {
        streams: vec!["live/*".to_owned()],
        ..HandlerConfig::default()
    };
    assert_eq!(settings(&config), settings(&config));
    assert_ne!(settings(&config), settings(&HandlerConfig::default()));
}

#[test]
fn the_target_says_how_many_run_side_by_side_unless_the_section_does() {
    let to = |text: &str| {
        let text = config::File::from_str(text, config::FileFormat::Toml);
        settings(&strict::read(text.collect().unwrap()).unwrap()).concurrency
    };
    assert_eq!(to(""), 8);
    assert_eq!(to("to = { type = 'log' }"), 8);
    assert_eq!(to("to = { type = 'exec', command = ['true'] }"), 8);
    assert_eq!(to("to = { type = 'file', path = 'a' }"), 256);
    assert_eq!(to("concurrency = 1\nto = { type = 'file', path = 'a' }"), 1);
}
