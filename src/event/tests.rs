#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn event(kind: Kind, body: &[u8]) -> Event {
    let received = Timestamp::from_millis(1_795_420_800_123);
    Event::new(
        7,
        EventId::from_bytes([0xAB; 16]),
        "css".into(),
        kind,
        received,
        Bytes::copy_from_slice(body),
    )
}

fn json(event: &Event, form: PayloadForm) -> serde_json::Value {
    serde_json::from_slice(&event.cloud_event(form).to_json()).unwrap()
}

#[test]
fn the_json_form_has_the_documented_members_in_order() {
    let body = r#"{"event_type":1,"appid":1250000000,"app":"push.example.com","appname":"live","stream_id":"room-7",
        "sequence":"6674468118806626493","event_time":1795420800,"x":1.50}"#;
    let event = event(Kind::StreamBegin, body.as_bytes());
    let expected = format!(
        concat!(
            r#"{{"specversion":"1.0","id":"{}","source":"/css","type":"css.stream-begin","#,
            r#""subject":"push.example.com/live/room-7","time":"2026-11-23T08:00:00Z","#,
            r#""datacontenttype":"application/json","appid":"1250000000","domain":"push.example.com","#,
            r#""appname":"live","streamid":"room-7","pushsequence":"6674468118806626493","#,
            r#""receivedtime":"2026-11-23T08:00:00.123Z","data":{}}}"#
        ),
        "ab".repeat(16),
        body
    );
    assert_eq!(
        String::from_utf8(event.cloud_event(PayloadForm::Original).to_json()).unwrap(),
        expected
    );
    let line = event.cloud_event(PayloadForm::Original).to_json_line();
    assert_eq!(
        String::from_utf8(line).unwrap(),
        expected.replace('\n', "") + "\n"
    );
}

#[test]
fn what_is_absent_or_empty_is_omitted() {
    let event = event(
        Kind::Snapshot,
        br#"{"appname":"","stream_id":"a","app":null,"create_time":"x"}"#,
    );
    let json = json(&event, PayloadForm::Original);
    for name in [
        "subject",
        "time",
        "appname",
        "domain",
        "appid",
        "pushsequence",
        "untyped",
    ] {
        assert_eq!(json.get(name), None, "{name}");
    }
    assert_eq!(json["streamid"], "a");
}

#[test]
fn no_attribute_is_longer_than_promised() {
    let names = |length: usize| {
        let name = "a".repeat(length);
        let body = format!(r#"{{"app":"{name}","appname":"{name}","stream_id":"{name}"}}"#);
        let json = json(
            &event(Kind::StreamEnd, body.as_bytes()),
            PayloadForm::Original,
        );
        ["subject", "domain", "appname", "streamid"].map(|name| json.get(name).is_some())
    };
    assert_eq!(names(340), [true; 4]);
    assert_eq!(names(341), [false, true, true, true]);
    assert_eq!(names(1024), [false, true, true, true]);
    assert_eq!(names(1025), [false; 4]);
}

#[test]
fn attributes_are_found_under_their_variants() {
    let audit = event(
        Kind::ImageAudit,
        br#"{"app":"d","streamId":"s","screenshotTime":1795420800}"#,
    );
    assert_eq!(audit.attributes().streamid.as_deref(), Some("s"));
    assert_eq!(
        audit.attributes().time,
        Some(Timestamp::from_seconds(1_795_420_800))
    );
    let monitor = event(
        Kind::Monitor,
        br#"{"domain":"d","path":"p","event_time":1795420800123}"#,
    );
    assert_eq!(monitor.attributes().appname.as_deref(), Some("p"));
    assert_eq!(
        monitor.attributes().time,
        Some(Timestamp::from_millis(1_795_420_800_123))
    );
    let relay = event(Kind::Relay, br#"{"event_time":"1795420800"}"#);
    assert_eq!(
        relay.attributes().time,
        Some(Timestamp::from_seconds(1_795_420_800))
    );
    let record = event(Kind::Record, br#"{"end_time":1795420800}"#);
    assert_eq!(
        record.attributes().time,
        Some(Timestamp::from_seconds(1_795_420_800))
    );
    let highlight = event(Kind::Highlight, br#"{"end_time":1795420800}"#);
    assert_eq!(highlight.attributes().time, None);
}

#[test]
fn the_latest_time_inside_is_that_of_kinds_without_another() {
    let time = |kind, body: &str| event(kind, body.as_bytes()).attributes().time;
    let at = |seconds| Some(Timestamp::from_seconds(seconds));
    let lines = r#"[{"end_unix_time":1795420813},{"end_unix_time":"1795420820"},{"end_unix_time":1795420814},{"end_unix_time":null},7]"#;
    let data = format!(r#"{{"data":{{"subtitle_tmp_res":{lines}}}}}"#);
    for kind in [Kind::Subtitle, Kind::SmartErase] {
        assert_eq!(time(kind, &data), at(1_795_420_820));
    }
    assert_eq!(time(Kind::Unknown, &data), None);
    let text = serde_json::Value::from(format!("{{\"subtitle_tmp_res\":{lines}}}\n")).to_string();
    let text = format!(r#"{{"data":{text}}}"#);
    assert_eq!(time(Kind::Subtitle, &text), at(1_795_420_820));
    let clips = r#"{"items":[{"end_time":1795420900},{"end_time":1795420899}]}"#;
    assert_eq!(time(Kind::Highlight, clips), at(1_795_420_900));
    let audit = |more: &str| {
        let data = r#""data":{"asr_tmp_full_results":[{"create_time":1795420875}]}"#;
        time(Kind::AudioAudit, &format!("{{{more}{data}}}"))
    };
    assert_eq!(audit(""), at(1_795_420_875));
    assert_eq!(audit(r#""create_time":1795420800,"#), at(1_795_420_800));
    for nothing in [
        "{}",
        r#"{"data":null,"items":""}"#,
        r#"{"data":[],"items":{}}"#,
        r#"{"data":{"subtitle_tmp_res":{}},"items":[]}"#,
        r#"{"data":{"subtitle_tmp_res":[{"end_unix_time":"soon"}]},"items":[{"end_time":true}]}"#,
    ] {
        for kind in Kind::all_and_unknown() {
            assert_eq!(time(kind, nothing), None, "{kind} {nothing}");
        }
    }
}

#[test]
fn a_relay_is_of_the_domain_and_the_app_that_it_pushes_to() {
    let of = |kind, url: &str| {
        let body = json!({ "stream_id": "room-7", "to_url": url }).to_string();
        let event = event(kind, body.as_bytes());
        let Attributes {
            domain, appname, ..
        } = event.attributes().clone();
        assert_eq!(
            event.subject().is_some(),
            domain.is_some() && appname.is_some()
        );
        [domain, appname]
    };
    let live = [Some("push.example.com".to_owned()), Some("live".to_owned())];
    for url in [
        "rtmp://push.example.com/live/room-7",
        "rtmp://push.example.com:1935/live/room-7?txSecret=a/b&txTime=c",
        "RTMPS://push.example.com/live/room-7?",
        " rtmp://push.example.com/live/room-7\n",
        "webrtc://push.example.com/live/another",
    ] {
        assert_eq!(of(Kind::Relay, url), live, "{url}");
        assert_eq!(of(Kind::Monitor, url), [None, None]);
    }
    let long = format!("rtmp://push.example.com/live/room-7?{}", "x".repeat(5000));
    assert_eq!(of(Kind::Relay, &long), live);
    for url in [
        "",
        "rtmp://",
        "push.example.com/live/room-7",
        "://push.example.com/live/room-7",
        "rtmp://push.example.com",
        "rtmp://push.example.com/live",
        "rtmp://push.example.com/live/",
        "rtmp://push.example.com//room-7",
        "rtmp:///live/room-7",
        "rtmp://push.example.com/a/b/room-7",
        "rtmp://push.example.com:/live/room-7",
        "rtmp://push.example.com:x/live/room-7",
        "rtmp://user@push.example.com/live/room-7",
        "rtmp://[2001:db8::1]/live/room-7",
        "srt://push.example.com:9000/live/room-7",
        "SRT://push.example.com:9000?streamid=#!::h=push.example.com,r=live/room-7",
        &format!("rtmp://push.example.com/{}/room-7", "a".repeat(1025)),
    ] {
        assert_eq!(of(Kind::Relay, url), [None, None], "{url}");
    }
    let own = br#"{"to_url":"rtmp://d/a/s","domain":"own","stream_id":"s"}"#;
    let own = event(Kind::Relay, own);
    assert_eq!(own.subject().as_deref(), Some("own/a/s"));
}

#[test]
fn a_body_that_is_no_utf8_comes_as_base64() {
    let body = b"{\"stream_id\":\"\xc4\xe3\"}";
    let json = json(&event(Kind::StreamEnd, body), PayloadForm::Typed);
    assert_eq!(json["data_base64"], STANDARD.encode(body));
    assert_eq!(json["untyped"], true);
    assert_eq!(json.get("data"), None);
}

#[test]
fn members_that_do_not_fit_stay_and_are_named() {
    let body =
        br#"{"errcode":{"a":1},"app":"d","push_duration":"7","streamId":"x","stream_id":[]}"#;
    let event = event(Kind::StreamEnd, body);
    assert_eq!(event.misfits(), 0, "nobody asked");
    let typed = json(&event, PayloadForm::Typed);
    assert_eq!(typed["untyped"], "errcode,stream_id");
    let data = json!({ "errcode": { "a": 1 }, "domain": "d", "push_duration": 7, "streamId": "x", "stream_id": [] });
    assert_eq!(typed["data"], data);
    assert_eq!(event.misfits(), 2);
    assert_eq!(json(&event, PayloadForm::Original).get("untyped"), None);
}

#[test]
fn a_body_without_a_typed_form_comes_untyped() {
    let json = json(&event(Kind::Unknown, br#"{"a":"1"}"#), PayloadForm::Typed);
    assert_eq!(
        (&json["untyped"], &json["data"]["a"]),
        (&true.into(), &"1".into())
    );
}

#[test]
fn lanes_are_those_of_streams() {
    let lane = |body: &str| event(Kind::StreamEnd, body.as_bytes()).lane();
    assert_eq!(
        lane(r#"{"stream_id":"a","x":1}"#),
        lane(r#"{"stream_id":"a","x":2}"#)
    );
    assert_ne!(
        lane(r#"{"stream_id":"a"}"#),
        lane(r#"{"stream_id":"a","app":"d"}"#)
    );
    assert_ne!(
        lane(r#"{"stream_id":"ab","appname":"c"}"#),
        lane(r#"{"stream_id":"b","appname":"ca"}"#)
    );
    assert_eq!(lane("{}") % 2, 0);
}

#[test]
fn clones_share_what_was_read() {
    let event = event(Kind::StreamBegin, br#"{"stream_id":"room-7"}"#);
    let clone = event.clone();
    assert!(std::ptr::eq(event.attributes(), clone.attributes()));
    let bare = clone.without_body();
    assert_eq!(bare.attributes(), event.attributes());
    assert_eq!(bare.lane(), event.lane());
    assert!(bare.body().is_empty() && !event.body().is_empty());
}
