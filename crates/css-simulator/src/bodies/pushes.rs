//! Pushes and their exceptions: pages 38081 and 53310; the page of 2019 about mixes.

use serde_json::{Value, json};

use super::{APPID, Moment, remove};

pub(super) fn begin(moment: &mut Moment) -> Value {
    let mut body = push(moment);
    body["event_type"] = 1.into();
    body["errcode"] = 0.into();
    // Real callbacks have each of these texts with errcode 0.
    let texts = ["ok", "OK", "ok", "Maybe Error return Data no record!"];
    body["errmsg"] = moment.pick(&texts).into();
    let known = moment.chance(0.5);
    body["width"] = if known { 1280 } else { 0 }.into();
    body["height"] = if known { 720 } else { 0 }.into();
    body
}

pub(super) fn end(moment: &mut Moment) -> Value {
    let mut body = push(moment);
    let reasons = [
        (2, "The push client actively stopped the push"),
        (1, "recv rtmp deleteStream"),
        (3, "recv() return 0"),
        (4, "recv() return error"),
        (21, "replaced by a new push"),
        (12, "网络错误"),
    ];
    let (errcode, errmsg) = moment.pick(&reasons);
    let duration = moment.now.since(moment.session.began).as_millis();
    body["event_type"] = 0.into();
    body["errcode"] = errcode.into();
    body["errmsg"] = errmsg.into();
    body["push_duration"] = duration.to_string().into();
    body["width"] = 1280.into();
    body["height"] = 720.into();
    body
}

fn push(moment: &mut Moment) -> Value {
    let (stream, session) = (moment.stream, moment.session);
    let mut body = json!({
        "app": stream.domain,
        "appid": APPID,
        "appname": stream.appname,
        "channel_id": stream.name,
        "event_time": moment.now.seconds(),
        "idc_id": 35,
        "node": "203.0.113.21",
        "sequence": session.sequence.to_string(),
        "set_id": 2,
        "stream_id": stream.name,
        "stream_param": session.param,
        "user_ip": stream.user_ip,
    });
    if moment.chance(0.2) {
        // Added in 2021; no table has these.
        remove(&mut body, &["set_id", "idc_id"]);
    }
    body
}

pub(super) fn exception(moment: &mut Moment) -> Value {
    let millis = moment.now.millis();
    let (stream, session) = (moment.stream, moment.session);
    let kinds = [
        (
            3,
            "视频时间戳跳变超过1000ms",
            "The video timestamp jumped by more than 1000(ms)",
        ),
        (7, " ", "The interval between two audio frames is too large"),
        (15, "视频帧率过低", "The video frame rate is too low"),
    ];
    let (kind, cn, en) = moment.pick(&kinds);
    let occurred = moment.number_or_text(millis - 3767);
    let mut body = json!({
        "event_type": 321,
        "interface": "general_callback",
        "appid": APPID,
        "domain": stream.domain,
        "path": stream.appname,
        "sequence": session.sequence.to_string(),
        "stream_id": stream.name,
        "stream_param": session.param,
        "user_ip": stream.user_ip,
        "data_time": millis,
        "report_interval": 5000,
        "timeout": 5000,
        "abnormal_event": [{
            "type": kind,
            "count": 1,
            "customer_visible": "true",
            "detail": [{ "desc": format!("from 4480 to {}", moment.number), "occur_time": occurred }],
            "event_key": "",
            "type_desc_cn": cn,
            "type_desc_en": en,
        }],
    });
    if moment.chance(0.2) {
        // The form of 2023.
        remove(&mut body, &["user_ip"]);
        remove(&mut body["abnormal_event"][0], &["customer_visible"]);
    }
    body
}

pub(super) fn mix(moment: &mut Moment) -> Value {
    let stream = moment.stream;
    json!({
        "event_type": 8,
        "appid": APPID,
        "domain": stream.domain,
        "path": stream.appname,
        "mix_session_id": format!("mix-{}", moment.number),
        "status_code": 0,
        "status_msg": "ok",
        "timestamp": moment.now.seconds(),
        "stream_list": [stream.name, "guest"],
    })
}
