//! Names and values as they may stand in a body.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::bodies::{Body, Draft};
use super::reading::LEVELS;

/// Names that mean something to livehook, and names that only look like them.
const NAMES: [&str; 22] = [
    "event_type",
    "average_score",
    "event_time",
    "end_time",
    "sendTime",
    "stream_id",
    "app",
    "domain",
    "appname",
    "path",
    "sequence",
    "msg",
    "source_urls",
    "duration",
    "other",
    "\\u0065vent_type",
    "event_type ",
    "Event_type",
    "",
    "\\ud800",
    "\u{fffd}",
    "名",
];

/// Values that have broken readers of JSON before.
const ODD: [&[u8]; 28] = [
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-0.0",
    b"1e9",
    b"1E+400",
    b"-1e-400",
    b"123456789012345678901234567890",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"1795420800",
    b"1795420800123",
    b"0.1000000000000000055511151231257827",
    b"\"\"",
    b"\"live\"",
    b"\"a\\n\\u0000\\u007f\\r\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\\ud83d\"",
    b"\"\\ude00\\ud83d\"",
    "\"名\u{2028}\u{fffd}\"".as_bytes(),
    b"\"\xc4\xe3\xba\xc3\"",
    b"\"\xd3\\\\\"",
    b"\"\xd3\\\"",
    b"\"{\\\"url\\\":[1,\\n{}]}\"",
    b"01",
    b"NaN",
];

pub fn name() -> impl Strategy<Value = Body> {
    prop_oneof![
        6 => select(&NAMES[..]).prop_map(|name| Body(name.as_bytes().to_vec())),
        1 => "[a-z_]{1,8}".prop_map(|name| Body(name.into_bytes())),
    ]
}

/// The text of any value, not always a good one.
pub fn value() -> impl Strategy<Value = Body> {
    let leaf = prop_oneof![
        8 => select(&ODD[..]).prop_map(|value| Body(value.to_vec())),
        1 => any::<i64>().prop_map(|number| Body(number.to_string().into_bytes())),
        1 => any::<String>().prop_map(|text| Body(serde_json::to_vec(&text).unwrap())),
        1 => deep(),
        1 => long(),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let list = vec(inner.clone(), 0..4).prop_map(|values| {
            let values: Vec<_> = values.into_iter().map(|value| value.0).collect();
            Body([b"[", &*values.join(&b", "[..]), b"]"].concat())
        });
        let object = vec((name(), inner), 0..4).prop_map(|members| {
            let blanks = vec!["", "", "\n"];
            Draft { members, blanks }.written()
        });
        prop_oneof![list, object]
    })
}

/// A text about as long as the longest attribute.
pub fn long() -> impl Strategy<Value = Body> {
    let length = prop_oneof![Just(1024), 1000..1050_usize];
    let character = select(&["a", "é", "\u{fffd}", "\\n"][..]);
    (character, length).prop_map(|(character, length)| {
        let text = character.repeat(length / character.len());
        Body(format!("\"{text}\"").into_bytes())
    })
}

/// Brackets within brackets, around the depth where livehook stops.
fn deep() -> impl Strategy<Value = Body> {
    let pairs = vec![
        ("[", "]", 1),
        ("{\"a\":", "}", 1),
        ("[1,{\"b\":[", "]}]", 3),
    ];
    let levels = LEVELS - 4..LEVELS + 3;
    (select(pairs), levels, any::<bool>()).prop_map(|((open, close, each), levels, empty)| {
        let inside = if empty { "{}" } else { "1" };
        let (open, close) = (open.repeat(levels / each), close.repeat(levels / each));
        Body(format!("{open}{inside}{close}").into_bytes())
    })
}
