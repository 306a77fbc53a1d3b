//! Recordings and screenshots: pages 38082, 58590, 68622, 38083.

use serde_json::{Value, json};

use super::{APPID, Moment, remove};
use crate::scenario::PlannedPush;

pub(super) fn file(moment: &mut Moment) -> Value {
    let (stream, session) = (moment.stream, moment.session);
    let end = moment.now.seconds();
    let start = session.began.seconds();
    let file_id = moment.long_id().to_string();
    let format = moment.pick(&["hls", "HLS", "mp4", "flv"]);
    let ending = if moment.chance(0.1) { " " } else { "" };
    let ext = json!({ "video_codec": "h264", "session_id": recording(session), "resolution": "1280x720" });
    let mut body = json!({
        "event_type": 100,
        "appid": APPID,
        "app": stream.domain,
        "appname": stream.appname,
        "callback_ext": ext.to_string(),
        "channel_id": stream.name,
        "duration": end - start,
        "end_time": end,
        "end_time_usec": 917_311,
        "file_format": format,
        "file_id": file_id,
        "file_size": 9_941_521,
        "media_start_time": 67,
        "record_bps": 0,
        "record_file_id": file_id,
        "record_temp_id": "1569294",
        "start_time": start,
        "start_time_usec": 28_014,
        "stream_id": stream.name,
        "stream_param": session.param,
        "task_id": "UmVjb3JkVGFzay03",
        "video_url": format!("http://{APPID}.vod2.example.com/9a1c/{file_id}/playlist.m3u8{ending}"),
    });
    match moment.number % 4 {
        // A recording made by an API task.
        0 => {
            remove(&mut body, &["stream_param"]);
            body["record_temp_id"] = "".into();
        }
        1 => remove(&mut body, &["task_id", "callback_ext", "record_temp_id"]),
        2 => body["task_id"] = "479501701".into(),
        _ => body["callback_ext"] = "".into(),
    }
    body
}

/// The recording session of a push.
fn recording(session: &PlannedPush) -> String {
    (session.sequence / 3).to_string()
}

pub(super) fn status(moment: &mut Moment) -> Value {
    let (stream, session) = (moment.stream, moment.session);
    let event = match (session.ended, session.recorded) {
        (true, _) => "record_ended",
        (false, false) => "record_start_succeeded",
        (false, true) => moment.pick(&["record_paused", "record_resumed", "record_error"]),
    };
    let detail = json!({ "file_format": 2, "record_bps": 0, "start_model": 1, "record_content": 1, "source_type": 1, "codec_temp_id": 0 });
    let mut body = json!({
        "event_type": 332,
        "appid": APPID,
        "appname": stream.appname,
        "domain": stream.domain,
        "event_time": moment.now.seconds(),
        "record_detail": detail.to_string(),
        "record_event": event,
        "seq": moment.long_id().to_string(),
        "session_id": recording(session),
        "stream_id": stream.name,
    });
    if moment.chance(0.2) {
        body["record_detail"] = detail;
    }
    body
}

pub(super) fn exception(moment: &mut Moment) -> Value {
    let (stream, session) = (moment.stream, moment.session);
    let kinds = [
        (-9, "video timestamp jumped"),
        (-104, "write error"),
        (-130, "视频丢帧"),
    ];
    let (kind, text) = moment.pick(&kinds);
    json!({
        "event_type": 341,
        "interface": "general_callback",
        "appid": APPID,
        "domain": stream.domain,
        "path": stream.appname,
        "stream_id": stream.name,
        "session_id": recording(session),
        "file_format": moment.pick(&["ts", "MP4"]),
        "timestamp": moment.now.seconds(),
        "exception_level": moment.pick(&["info", "warning", "error", "alarm"]),
        "exception": { "type": kind, "desc": format!("{text} {}", moment.number), "occurs": 3 },
    })
}

pub(super) fn snapshot(moment: &mut Moment) -> Value {
    let (stream, session) = (moment.stream, moment.session);
    let path = format!(
        "/2026-11-23/{}-screenshot-{}-1280x720.jpg",
        stream.name.trim(),
        moment.number
    );
    let mut body = json!({
        "event_type": 200,
        "app": stream.domain,
        "appname": stream.appname,
        "channel_id": stream.name,
        "create_time": moment.now.seconds(),
        "file_size": moment.number_or_text(48_213),
        "height": 720,
        "pic_full_url": format!("http://shots-{APPID}.cos.ap-guangzhou.example.com{path}"),
        "pic_url": path,
        "stream_id": stream.name,
        "stream_param": session.param,
        "width": 1280,
    });
    if moment.chance(0.1) {
        body["channel_id"] = format!(" {}", stream.name).into();
    }
    if moment.number.is_multiple_of(3) {
        // No table has this.
        body["pic_extra_info"] = 0.into();
    }
    body
}
