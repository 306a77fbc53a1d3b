//! Texts and clips made by machines: pages 73170 (subtitles), 73169 (erasing), 74671 (summary),
//! 74672 (highlights).

use serde_json::{Value, json};

use super::{APPID, Moment};

pub(super) fn subtitle(moment: &mut Moment) -> Value {
    let stream = moment.stream;
    let seconds = moment.now.seconds();
    let spelling = moment.pick(&["stead_state", "steady_state"]);
    let mut item = json!({
        "src_txt": format!("大家好 {}", moment.number),
        "dst_txt": format!("Hello everyone {}", moment.number),
        "start_pts": 12_040,
        "end_pts": 13_360,
        "start_unix_time": seconds - 1,
        "end_unix_time": seconds,
    });
    item[spelling] = moment.chance(0.7).into();
    json!({
        "event_type": 338,
        "channel_id": stream.name,
        "data": { "subtitle_tmp_res": [item] },
        "stream_id": stream.name,
        "task_id": moment.session.sequence.to_string(),
    })
}

pub(super) fn erase(moment: &mut Moment) -> Value {
    let stream = moment.stream;
    let seconds = moment.now.seconds();
    json!({
        "event_type": 347,
        "channel_id": stream.name,
        "data": { "subtitle_tmp_res": [{
            "src_txt": format!("这个最便宜 {}", moment.number),
            "start_pts": 22_040,
            "end_pts": 23_360,
            "start_unix_time": seconds - 1,
            "end_unix_time": seconds,
            "keywords_info": [{ "word": "最", "begin_time": 22_410, "end_time": 22_590 }],
        }] },
        "stream_id": stream.name,
        "task_id": moment.session.sequence.to_string(),
    })
}

pub(super) fn summary(moment: &mut Moment) -> Value {
    let mut body = written(moment);
    body["event_type"] = 348.into();
    body["begin_time"] = moment.session.began.seconds().into();
    body["end_time"] = moment.now.seconds().into();
    body["title"] = format!("周年庆直播 {}", moment.number).into();
    body["summary"] = "主播介绍了三款新品。".into();
    body["key_words"] = json!(["新品", "折扣"]);
    body["key_points"] = moment.list_or_null();
    body
}

pub(super) fn highlight(moment: &mut Moment) -> Value {
    let mut body = written(moment);
    body["event_type"] = 349.into();
    body["items"] = json!([{
        "begin_time": moment.session.began.seconds(),
        "end_time": moment.now.seconds(),
        "title": "开箱",
        "summary": "第一款新品开箱。",
        "video_store_url": moment.file("clips", "mp4"),
        "cov_img_store_url": "",
        "key_words": ["开箱"],
    }]);
    body
}

fn written(moment: &Moment) -> Value {
    let stream = moment.stream;
    json!({ "appid": APPID, "domain": stream.domain, "path": stream.appname, "stream_id": stream.name })
}
