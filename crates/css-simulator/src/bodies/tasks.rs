//! Callbacks of tasks: pages 42525 (relay) and 88050 (monitor); of StreamLive: page 73133; and a
//! kind that no page describes.

use serde_json::{Value, json};

use super::{APPID, Moment, remove};

pub(super) fn relay(moment: &mut Moment) -> Value {
    let stream = moment.stream;
    let url = "http://media.example.com/开场.mp4";
    let (event, msg) = match moment.number % 5 {
        0 => ("TaskStart", json!({ "task_start_time": 0 })),
        1 => (
            "VodSourceFileStart",
            json!({ "url": url, "index": 0, "duration": 14_920 }),
        ),
        2 => (
            "VodSourceFileFinish",
            json!({ "url": url, "index": "0", "duration": 14_920 }),
        ),
        3 => ("TaskAlarm", json!({ "type": "PullFileUnstable" })),
        _ => (
            "TaskExit",
            json!({ "message": "write packet error.", "code": -22, "task_exit_time": 0 }),
        ),
    };
    let mut body = json!({
        "event_type": 314,
        "interface": "general_callback",
        "product_name": "pullpush",
        "appid": APPID,
        "callback_event": event,
        "event_time": moment.now.seconds().to_string(),
        "msg": msg.to_string(),
        // The platform adds this line break.
        "source_urls": format!("[\"{url}\"]\n"),
        "stream_id": stream.name,
        "task_id": moment.number.to_string(),
        "to_url": format!("rtmp://{}/{}/{}", stream.domain, stream.appname, stream.name.trim()),
    });
    match (event, moment.chance(0.5)) {
        ("TaskExit", _) => remove(&mut body, &["stream_id", "to_url"]),
        // Before 2024 this was missing.
        (_, true) => remove(&mut body, &["event_time"]),
        (_, false) => {}
    }
    body
}

pub(super) fn monitor(moment: &mut Moment) -> Value {
    let name = moment.pick(&["FpsJitter", "StreamOpenFailed", "AudioDroppingFrames"]);
    json!({
        "event_type": 328,
        "interface": "general_callback",
        "appid": APPID,
        "bizid": 104_857,
        "event_name": name,
        "event_time": moment.now.millis(),
        "event_msg": format!("帧率波动 {}", moment.number),
        "stream_id": moment.stream.name,
    })
}

/// A push to an input of StreamLive. Each has a new input, because otherwise two of them would
/// differ only in `t`.
pub(super) fn streamlive(moment: &mut Moment, event_type: i64) -> Value {
    json!({
        "event_type": event_type,
        "interface": "general_callback",
        "appid": APPID,
        "channel_id": "63F5C728000061D706B6",
        "input_id": format!("{:020X}", moment.number),
        "pipeline": moment.pick(&[0, 1]),
        "stream_id": "",
    })
}

/// An event of a type that the platform may add one day.
pub(super) fn unknown(moment: &mut Moment) -> Value {
    json!({
        "event_type": 399,
        "appid": APPID,
        "stream_id": moment.stream.name,
        "event_time": moment.now.seconds(),
        "something_new": { "number": moment.number, "text": "新" },
    })
}
