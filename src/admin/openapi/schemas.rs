//! The schemas of requests and answers.

use serde_json::{Value, json};

use super::{one_of, schema_ref};
use crate::dispatch::{DeliveryProgress, HandlerState};
use crate::metrics::CallbackResult;
use crate::rejected::Reason;

pub(super) fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let maybe = || json!({ "type": ["string", "null"] });
    let time = || json!({ "type": "string", "format": "date-time" });
    let maybe_time = || json!({ "type": ["string", "null"], "format": "date-time" });
    let number = || json!({ "type": "integer" });
    let maybe_number = || json!({ "type": ["integer", "null"] });
    let flag = || json!({ "type": "boolean" });
    let attributes = || {
        json!({
            "specversion": text(), "id": text(), "source": text(), "type": text(), "subject": text(), "time": time(),
            "datacontenttype": text(), "appid": text(), "domain": text(), "appname": text(), "streamid": text(),
            "pushsequence": text(), "receivedtime": time(),
        })
    };
    // Attributes that some callbacks lack.
    let optional_attributes = [
        "subject",
        "time",
        "appid",
        "domain",
        "appname",
        "streamid",
        "pushsequence",
    ];
    let stream = || {
        json!({
            "source": text(), "domain": text(), "appname": text(), "streamid": text(), "pushsequence": text(), "live": flag(),
            "since": maybe_time(), "last": time(),
        })
    };
    // Every member is required except those in `optional`.
    let without = |properties: Value, optional: &[&str]| {
        let names = properties.as_object().into_iter().flatten();
        let names = names.map(|(name, _)| name.as_str());
        let required: Vec<_> = names.filter(|name| !optional.contains(name)).collect();
        json!({ "type": "object", "required": required, "properties": properties })
    };
    let with = |mut properties: Value, more: Value, optional: &[&str]| {
        if let (Some(all), Value::Object(more)) = (properties.as_object_mut(), more) {
            all.extend(more);
        }
        without(properties, optional)
    };
    let object = |properties: Value| without(properties, &[]);
    let maybe_object = |properties: Value| {
        let mut schema = object(properties);
        schema["type"] = json!(["object", "null"]);
        schema
    };
    let request = |properties: Value| json!({ "type": "object", "properties": properties });
    let list = |items: Value| json!({ "type": "array", "items": items });
    let results = [
        CallbackResult::Refused,
        CallbackResult::Overloaded,
        CallbackResult::Failed,
    ];
    let optional_event_fields = [
        &optional_attributes[..],
        &["data", "data_base64", "untyped"],
    ]
    .concat();
    json!({
        "Event": without(attributes(), &optional_attributes),
        "CloudEvent": with(attributes(), json!({
            "data": { "type": "object", "description": "the body, as received or typed" },
            "data_base64": { "type": "string", "description": "the body, if it is not UTF-8" },
            "untyped": { "type": ["boolean", "string"], "description": "the part of the typed form that did not fit its type and is as received" },
        }), &optional_event_fields),
        "Parked": with(attributes(), json!({
            "attempts": number(), "first_attempt": maybe_time(), "parked_at": time(), "error": text(), "replaying": flag(),
        }), &optional_attributes),
        "Delivery": object(json!({
            "handler": text(), "state": one_of(DeliveryProgress::ALL.map(DeliveryProgress::slug)), "attempts": maybe_number(), "first_attempt": maybe_time(),
            "due": maybe_time(), "parked_at": maybe_time(), "error": maybe(),
        })),
        "Handler": object(json!({
            "name": text(), "type": text(), "state": one_of(HandlerState::ALL.map(HandlerState::slug)), "lag_events": number(),
            "lag_seconds": { "type": "number" }, "retrying": number(), "waiting": number(), "parked": number(), "replaying": number(),
            "last_success": maybe_time(), "last_failure": maybe_object(json!({ "time": time(), "error": text() })),
        })),
        "Stream": without(stream(), &optional_attributes),
        "Story": with(stream(), json!({
            "sessions": list(object(json!({
                "pushsequence": maybe(), "start": time(), "begin_known": flag(), "end": maybe_time(),
                "duration_seconds": { "type": ["number", "null"] }, "superseded": flag(), "pusher": maybe(), "width": maybe_number(),
                "height": maybe_number(), "errcode": maybe_number(), "end_reason": maybe(), "errmsg": maybe(), "push_exceptions": number(),
            }))),
            "push_exceptions": number(),
            "last_snapshot": maybe_object(json!({
                "id": text(), "time": maybe_time(), "url": maybe(), "width": maybe_number(), "height": maybe_number(),
            })),
            "recordings": list(object(json!({
                "id": text(), "state": text(), "open": flag(), "start": maybe_time(), "end": maybe_time(), "url": maybe(),
            }))),
            "audits": list(object(json!({
                "id": text(), "type": text(), "time": maybe_time(), "suggestion": maybe(), "label": maybe(),
            }))),
            "timeline": list(schema_ref("Event")),
            "next": maybe(),
        }), &optional_attributes),
        "RetryWindow": object(json!({
            "source": text(), "kind": text(), "result": one_of(results.map(CallbackResult::slug)), "since": time(),
            "last": time(), "window_seconds": number(), "remaining_seconds": number(),
        })),
        "Rejected": without(json!({
            "id": text(), "reason": one_of(Reason::all().map(Reason::slug)), "receivedtime": time(), "source": text(), "kind": text(),
            "url_kind": maybe(), "client": maybe(), "token_sha256": maybe(), "size": number(), "body": maybe(), "body_base64": text(),
        }), &["body_base64"]),
        "Selection": request(json!({
            "event": { "type": "string", "description": "only the event with this id" },
            "parked": { "type": "boolean", "description": "`true`: all parked deliveries" },
            "from": { "type": "string", "format": "date-time", "description": "with `to`: events received at this time or later" },
            "to": { "type": "string", "format": "date-time", "description": "with `from`: events received before this time" },
            "dry_run": { "type": "boolean", "description": "only count, change nothing" },
        })),
        "Recheck": request(json!({ "source": text(), "dry_run": flag() })),
        "BackupRequest": object(json!({
            "dir": { "type": "string", "description": "an absolute path on the server's machine" },
        })),
        "Backup": object(json!({
            "dir": text(), "events": number(), "bytes": number(), "seconds": { "type": "number" },
        })),
        "BackupProgress": object(json!({
            "running": flag(), "bytes": number(), "total_bytes": number(),
        })),
        "Nothing": { "type": "object", "maxProperties": 0 },
        "State": object(json!({ "state": text() })),
        "Count": without(json!({
            "count": number(), "oldest": time(), "without_appname": number(), "maybe_another_app": number(),
        }), &["oldest", "without_appname", "maybe_another_app"]),
        "Document": { "type": "object" },
        "Error": object(json!({ "code": number(), "message": text() })),
    })
}
