//! Audits by machines: pages 38084 (image), 58643 (audio), 73166 (quality), 73167 and 73168
//! (assessments).

use serde_json::{Value, json};

use super::{APPID, Moment};

pub(super) fn image(moment: &mut Moment) -> Value {
    let stream = moment.stream;
    let seconds = moment.now.seconds();
    let score = moment.score();
    let mut body = json!({
        "event_type": 317,
        "abductionRisk": [],
        "app": stream.domain,
        "appid": APPID,
        "appname": stream.appname,
        "channelId": stream.name,
        "confidence": score,
        "faceDetails": [],
        "img": moment.file("audit", "jpg"),
        "label": "Ad",
        "labelResults": [{ "HitFlag": 1, "Scene": "Porn", "Suggestion": "Pass", "Label": "Normal", "SubLabel": "", "Score": 3, "Details": null }],
        "level": 0,
        "normalScore": 100 - score,
        "objectResults": moment.list_or_null(),
        "ocrMsg": "加我微信",
        "ocrResults": [{
            "HitFlag": 1, "Scene": "OCR", "Suggestion": "Review", "Label": "Ad", "SubLabel": "Contact", "Score": score, "Text": "加我微信",
            "Details": [{ "Text": "加我微信", "Label": "Ad", "Keywords": ["微信"], "Score": score, "Location": { "X": 1, "Y": 2.5, "Width": 30, "Height": 10, "Rotate": 0 } }],
        }],
        "screenshotTime": seconds - 2,
        "sendTime": seconds,
        "streamId": stream.name,
        "stream_param": "",
        "subLabel": "Contact",
        "suggestion": moment.pick(&["Block", "Review"]),
        "tid": 20001,
        "type": [8],
    });
    // Every sample misspells this name. Until 2023 the value was a number.
    match moment.number % 4 {
        0 => body["score"] = json!([score]),
        1 => body["socre"] = json!(score),
        _ => body["socre"] = json!([score]),
    }
    body
}

pub(super) fn audio(moment: &mut Moment) -> Value {
    let stream = moment.stream;
    let score = moment.score();
    let mut body = json!({
        "event_type": 315,
        "interface": "general_callback",
        "HitFlag": 1,
        "Score": score,
        "SubTag": "",
        "appid": APPID,
        "asr_text": "加我微信领红包",
        "bizid": 104_857,
        "cdn_url": "",
        "channel_id": stream.name,
        "domain": stream.domain,
        "duration": 15,
        "label": "Ad",
        "language_results": moment.list_or_null(),
        "moan_results": moment.list_or_null(),
        "path": stream.appname,
        "recognition_results": [{ "Label": "Teenager", "Tags": null }],
        "request_id": format!("1f9c6d6e-7a53-4d6f-9b1e-{:012x}", moment.number),
        "seq": 3_232_590_095_u32,
        "speaker_results": moment.list_or_null(),
        "status": 2,
        "stream_id": stream.name,
        "sub_label": "Contact",
        "suggestion": "Review",
        "task_id": moment.long_id(),
    });
    body["text_results"] = json!([{
        "Label": "Ad", "Keywords": ["微信", "红包"], "LibId": "", "LibName": "", "LibType": 0, "Score": score, "Suggestion": "Review", "SubLabel": "Contact",
        "HitInfos": [{ "Type": "Keyword", "Keyword": "微信", "LibName": "", "Positions": [{ "Start": 2, "End": 3 }] }],
    }]);
    body["data"] = json!({ "asr_tmp_full_results": [{
        "appearing_point": [0, 15], "confidence": 0.94, "id": "asr-1", "periods": "00:00:00-00:00:15", "url": moment.file("audit", "wav"), "create_time": moment.now.seconds(),
    }] });
    if moment.chance(0.3) {
        body["task_id"] = moment.long_id().to_string().into();
    }
    body
}

/// The members that all quality callbacks share.
fn quality_members(moment: &mut Moment, function: &str, class: &str) -> Value {
    let stream = moment.stream;
    json!({
        "event_type": 343,
        "appid": APPID,
        "appname": stream.appname,
        "class": class,
        "domain": stream.domain,
        "event_time": moment.now.seconds(),
        "function": function,
        "stream_id": stream.name,
        "transcode_template_id": moment.number,
        "watermark_template_id": 0,
    })
}

pub(super) fn quality(moment: &mut Moment) -> Value {
    let class = moment.pick(&["Mosaic", "LowLight", "Silence", "VideoFirstFrameNotIdr"]);
    let mut body = quality_members(moment, "QualityControl", class);
    body["score"] = json!(61.5);
    body
}

pub(super) fn threshold(moment: &mut Moment) -> Value {
    let mut body = quality_members(moment, "Assessment", "PSNR");
    let millis = moment.now.millis();
    body["event_type"] = 344.into();
    body["frames"] =
        json!([{ "score": 31.25, "time": millis - 80 }, { "score": 29, "time": millis - 40 }]);
    body
}

pub(super) fn average(moment: &mut Moment) -> Value {
    let mut body = quality_members(moment, "Assessment", "VQA");
    // The sample in the documentation has the code of threshold alarms.
    body["event_type"] = if moment.chance(0.5) { 344 } else { 345 }.into();
    body["average_score"] = json!(78.4);
    body["max_score"] = json!(91);
    body["min_score"] = json!(55.75);
    body["frames"] = json!([{ "score": 91, "time": moment.now.millis() - 40 }]);
    body
}
