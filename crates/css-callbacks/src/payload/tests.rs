use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

mod page;

fn fixture(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", name]
        .iter()
        .collect();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every fixture: its name without `.json` and its kind. `relay.task-exit` is one more of the kind `relay`.
fn fixtures() -> Vec<(String, Kind)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let names = fs::read_dir(directory).unwrap().filter_map(|entry| {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".json")?;
        (!name.ends_with(".typed")).then(|| name.to_owned())
    });
    let kind = |name: &str| Kind::from_slug(name.split('.').next()?);
    let mut fixtures: Vec<_> = names
        .map(|name| (name.clone(), kind(&name).unwrap()))
        .collect();
    fixtures.sort();
    fixtures
}

fn typed(kind: Kind, body: &str) -> String {
    serde_json::to_string(&Payload::parse(kind, body).unwrap()).unwrap()
}

/// Names of members, nested ones included.
fn names(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            into.push(name.clone());
            names(value, into);
        }),
        Value::Array(values) => values.iter().for_each(|value| names(value, into)),
        _ => {}
    }
}

#[test]
fn every_kind_has_a_fixture() {
    let fixtures = fixtures();
    for kind in Kind::ALL {
        assert!(fixtures.contains(&(kind.slug().to_owned(), kind)), "{kind}");
    }
}

#[test]
fn fixtures_have_their_typed_form() {
    for (name, kind) in fixtures() {
        let payload = Payload::parse(kind, &fixture(&format!("{name}.json")))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(payload.kind(), kind);
        assert_eq!(payload.misfits().next(), None, "{name}");
        let value = serde_json::to_value(&payload).unwrap();
        let expected = fixture(&format!("{name}.typed.json"));
        let expected: Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(
            value,
            expected,
            "{name}: {}",
            serde_json::to_string_pretty(&payload).unwrap()
        );

        // One that is unknown in the main form of each kind.
        let unknown = payload.other().iter().map(|(name, _)| name).next();
        let expected = usize::from(!name.contains('.'));
        assert!(payload.other().len() <= 1, "{name}: {:?}", payload.other());
        assert!(payload.other().len() >= expected, "{name}");
        let mut all = Vec::new();
        names(&value, &mut all);
        let wire_case =
            |name: &&String| name.contains(char::is_uppercase) && Some(name.as_str()) != unknown;
        assert_eq!(all.iter().find(wire_case), None, "{name}");
    }
}

#[test]
fn the_typed_form_is_its_own_typed_form() {
    for (name, kind) in fixtures() {
        let once = typed(kind, &fixture(&format!("{name}.json")));
        assert_eq!(typed(kind, &once), once, "{name}");
    }
}

#[test]
fn the_members_of_every_callback_are_typed() {
    for kind in Kind::ALL {
        let typed = typed(kind, r#"{"event_type":"7","sign":"00ff","t":"1545030873"}"#);
        assert_eq!(
            typed, r#"{"event_type":7,"t":1545030873,"sign":"00ff"}"#,
            "{kind}"
        );
        assert_eq!(self::typed(kind, "{}"), "{}");
    }
}

#[test]
fn identifiers_stay_exact() {
    let body = r#"{"sequence":9007199254740993,"appid":12345678901234567890,"channel_id":7}"#;
    assert_eq!(
        typed(Kind::StreamBegin, body),
        r#"{"appid":"12345678901234567890","channel_id":"7","sequence":"9007199254740993"}"#
    );
    let body = r#"{"session_id":123456789012345678901234567890,"seq":"00018446744073709551616"}"#;
    assert_eq!(
        typed(Kind::RecordStatus, body),
        r#"{"seq":"00018446744073709551616","session_id":"123456789012345678901234567890"}"#
    );
}

#[test]
fn unknown_members_stay_literal() {
    let unknown =
        r#""a":1234567890123456789012345678901234567890,"b":1.10,"c":1e999,"d":{"e": [1.0]}"#;
    for kind in Kind::ALL {
        let body = format!("{{{unknown}}}");
        assert_eq!(typed(kind, &body), body);
    }
    let body = r#"{"exception":{"x":1e999},"data":{}}"#;
    assert_eq!(typed(Kind::RecordException, body), body);
}

#[test]
fn the_last_duplicate_counts() {
    let body =
        r#"{"stream_id":"a","x":1,"event_time":"soon","stream_id":"b","x":2,"event_time":5}"#;
    assert_eq!(
        typed(Kind::StreamEnd, body),
        r#"{"stream_id":"b","event_time":5,"x":2}"#
    );
}

#[test]
fn null_arrays_are_empty_and_other_nulls_absent() {
    let body = r#"{"labelResults":null,"type":null,"score":null,"img":null,"level":null}"#;
    assert_eq!(
        typed(Kind::ImageAudit, body),
        r#"{"type":[],"score":[],"label_results":[]}"#
    );
    let body = r#"{"abnormal_event":null}"#;
    assert_eq!(typed(Kind::PushException, body), r#"{"abnormal_event":[]}"#);
}

#[test]
fn json_in_strings_is_opened_or_left() {
    let detail = |text: &str| {
        typed(
            Kind::RecordStatus,
            &format!(r#"{{"record_detail":{text}}}"#),
        )
    };
    let opened = r#"{"record_detail":{"file_format":2}}"#;
    assert_eq!(detail(r#""{\"file_format\":2}\n""#), opened);
    assert_eq!(detail(r#""{\\\"file_format\\\":2}""#), opened);
    assert_eq!(detail(r#"{"file_format":"2"}"#), opened);
    assert_eq!(detail(r#""""#), r#"{"record_detail":""}"#);
    assert_eq!(detail(r#""none""#), r#"{"record_detail":"none"}"#);

    let exception = |json: &str| {
        let body = format!(r#"{{"exception":{json}}}"#);
        typed(Kind::RecordException, &body)
    };
    assert_eq!(
        exception(r#""{\"type\":-8}""#),
        r#"{"exception":{"type":-8}}"#
    );
    assert_eq!(
        exception(r#"[{"type":"-8"}]"#),
        r#"{"exception":[{"type":-8}]}"#
    );
}

#[test]
fn what_does_not_fit_stays_as_received_and_the_rest_is_typed() {
    for (kind, member, misfit) in [
        (
            Kind::StreamEnd,
            r#""push_duration":"long""#,
            "push_duration",
        ),
        (Kind::StreamEnd, r#""stream_id":["a"]"#, "stream_id"),
        (Kind::StreamEnd, r#""errcode":1.5"#, "errcode"),
        (Kind::StreamEnd, r#""t":"soon""#, "t"),
        (Kind::ImageAudit, r#""labelResults":[1]"#, "labelResults"),
        (Kind::ImageAudit, r#""labelResults":"""#, "labelResults"),
        (Kind::ImageAudit, r#""type":[1.5]"#, "type"),
        (
            Kind::PushException,
            r#""abnormal_event":"""#,
            "abnormal_event",
        ),
        (
            Kind::Subtitle,
            r#""data":{"subtitle_tmp_res":[{"steady_state":"bool"}]}"#,
            "data",
        ),
        (Kind::Highlight, r#""items":{}"#, "items"),
        (Kind::Record, r#""callback_ext":5"#, "callback_ext"),
        (
            Kind::Record,
            r#""callback_ext":"{\"resolution\":{}}""#,
            "callback_ext",
        ),
    ] {
        let body = format!(r#"{{{member},"appid":7,"new":[ ]}}"#);
        let payload = Payload::parse(kind, &body).unwrap();
        assert_eq!(payload.misfits().collect::<Vec<_>>(), [misfit], "{body}");
        let typed = serde_json::to_string(&payload).unwrap();
        assert_eq!(typed, format!(r#"{{"appid":"7","new":[ ],{member}}}"#));
    }
}

#[test]
fn a_fraction_stays_the_number_it_is() {
    for (kind, member, typed) in [
        (Kind::Record, r#""duration":154.5"#, r#""duration":154.5"#),
        (Kind::Record, r#""file_size":-1"#, r#""file_size":-1"#),
        (Kind::StreamEnd, r#""width":1.5"#, r#""width":1.5"#),
        (
            Kind::StreamEnd,
            r#""push_duration":"1.50""#,
            r#""push_duration":1.50"#,
        ),
        (
            Kind::StreamEnd,
            r#""event_time":9223372036854775808"#,
            r#""event_time":9223372036854775808"#,
        ),
        (Kind::ImageAudit, r#""sendTime":1.5"#, r#""send_time":1.5"#),
        (
            Kind::RecordException,
            r#""exception":{"occurs":1.5}"#,
            r#""exception":{"occurs":1.5}"#,
        ),
    ] {
        let payload = Payload::parse(kind, &format!("{{{member}}}")).unwrap();
        assert_eq!(payload.misfits().next(), None, "{member}");
        let text = serde_json::to_string(&payload).unwrap();
        assert_eq!(text, format!("{{{typed}}}"));
    }
    let Payload::Record(record) = Payload::parse(Kind::Record, r#"{"duration":154.5}"#).unwrap()
    else {
        panic!("no recording");
    };
    assert_eq!(record.duration.unwrap().to_string(), "154.5");
}

#[test]
fn json_in_strings_is_opened_wherever_an_object_or_a_list_is_documented() {
    for (kind, json, typed) in [
        (
            Kind::Subtitle,
            r#"{"data":{"subtitle_tmp_res":[{"end_pts":"7"}]}}"#,
            r#"{"data":{"subtitle_tmp_res":[{"end_pts":7}]}}"#,
        ),
        (
            Kind::Highlight,
            r#"{"items":[{"key_words":null}]}"#,
            r#"{"items":[{"key_words":[]}]}"#,
        ),
        (
            Kind::Summary,
            r#"{"key_words":["a"]}"#,
            r#"{"key_words":["a"]}"#,
        ),
        (
            Kind::ImageAudit,
            r#"{"socre":[99],"labelResults":[{"Score":1}],"gameDetails":{}}"#,
            r#"{"score":[99],"label_results":[{"score":1}],"game_details":{}}"#,
        ),
        (
            Kind::PushException,
            r#"{"abnormal_event":[{"detail":[{"desc":"a"}]}]}"#,
            r#"{"abnormal_event":[{"detail":[{"desc":"a"}]}]}"#,
        ),
        (
            Kind::AssessmentAverage,
            r#"{"frames":[{"score":1.5}]}"#,
            r#"{"frames":[{"score":1.5}]}"#,
        ),
        (
            Kind::StreamMix,
            r#"{"stream_list":["a"]}"#,
            r#"{"stream_list":["a"]}"#,
        ),
    ] {
        assert_eq!(self::typed(kind, json), typed);
        let Value::Object(mut members) = serde_json::from_str(json).unwrap() else {
            panic!("{json}");
        };
        for value in members.values_mut() {
            *value = format!("{value}\n").into();
        }
        let closed = Value::from(members).to_string();
        let payload = Payload::parse(kind, &closed).unwrap();
        assert_eq!(payload.misfits().next(), None, "{closed}");
        let opened: Value = serde_json::to_value(&payload).unwrap();
        assert_eq!(
            opened,
            serde_json::from_str::<Value>(typed).unwrap(),
            "{closed}"
        );
    }
}

#[test]
fn what_is_no_object_is_an_error() {
    for (kind, body) in [
        (Kind::Record, "{} {}"),
        (Kind::Record, r#"{"secret":}"#),
        (Kind::Record, "[]"),
        (Kind::Record, r#""secret""#),
        (Kind::Record, ""),
        (Kind::Unknown, "{}"),
    ] {
        let error = Payload::parse(kind, body).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn deep_and_wide_bodies_are_read() {
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(120), "]".repeat(120));
    assert_eq!(typed(Kind::Relay, &deep), deep);
    let opened = format!(r#"{{"msg":"{}"}}"#, "[".repeat(100_000));
    assert_eq!(typed(Kind::Relay, &opened), opened);
    let wide: Vec<String> = (0..50_000).map(|n| format!(r#""x{n}":{n}"#)).collect();
    let wide = format!("{{{}}}", wide.join(","));
    assert_eq!(typed(Kind::Relay, &wide), wide);
}

/// Values a member might have one day.
const ODD: [&str; 16] = [
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e999",
    "123456789012345678901234567890",
    r#""""#,
    r#"" 7 ""#,
    r#""\ud800""#,
    r#""[1,{}]\n""#,
    r#""{\\\"a\\\":[]}""#,
    "[]",
    "{}",
    r#"[null,[{}],"a"]"#,
    r#"{"type":{"a":[]},"Label":[0]}"#,
];

/// All texts with one value of `value` replaced by an odd one.
fn with_odd_values(value: &Value, wrap: &mut dyn FnMut(&str)) {
    ODD.iter().for_each(|odd| wrap(odd));
    let mut inside =
        |index: usize, inner: &Value, members: &[(String, &Value)], brackets: [&str; 2]| {
            with_odd_values(inner, &mut |odd| {
                let texts: Vec<String> = (members.iter().enumerate())
                    .map(|(n, (name, value))| match n == index {
                        true => format!("{name}{odd}"),
                        false => format!("{name}{value}"),
                    })
                    .collect();
                wrap(&[brackets[0], &texts.join(","), brackets[1]].concat());
            });
        };
    match value {
        Value::Object(object) => {
            let name = |name: &String| format!("{}:", Value::from(name.as_str()));
            let members: Vec<_> = object.iter().map(|(n, value)| (name(n), value)).collect();
            for (index, (_, inner)) in members.iter().enumerate() {
                inside(index, inner, &members, ["{", "}"]);
            }
        }
        Value::Array(array) => {
            let members: Vec<_> = array.iter().map(|value| (String::new(), value)).collect();
            for (index, inner) in array.iter().enumerate() {
                inside(index, inner, &members, ["[", "]"]);
            }
        }
        _ => {}
    }
}

#[test]
fn odd_values_anywhere_are_typed_or_kept() {
    for (name, kind) in fixtures() {
        let body: Value = serde_json::from_str(&fixture(&format!("{name}.json"))).unwrap();
        with_odd_values(&body, &mut |body| {
            if let Ok(payload) = Payload::parse(kind, body) {
                let once = serde_json::to_string(&payload).unwrap();
                assert_eq!(typed(kind, &once), once, "{name}: {body}");
            }
        });
    }
}

proptest! {
    #[test]
    fn damaged_bodies_are_typed_or_no_objects(
        fixture_number in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<char>(), 0..4_u8), 1..6),
    ) {
        let fixtures = fixtures();
        let (name, kind) = fixture_number.get(&fixtures);
        let mut body: Vec<char> = fixture(&format!("{name}.json")).chars().collect();
        for (place, char, how) in damage {
            let place = place.index(body.len());
            match how {
                0 => body[place] = char,
                1 => body.insert(place, char),
                2 => drop(body.remove(place)),
                _ => body[place] = *['"', '\\', '{', ']', ',', '9', 'e'].get(char as usize % 7).unwrap(),
            }
        }
        let body: String = body.into_iter().collect();
        if let Ok(payload) = Payload::parse(*kind, &body) {
            let once = serde_json::to_string(&payload).unwrap();
            prop_assert_eq!(typed(*kind, &once), once);
        }
    }
}
