//! A small receiver that is correct, or has one flaw.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use css_callbacks::{Kind, sign};
use serde_json::{Map, Value, json};

use crate::support::target::{Hit, Reply, Target};
use crate::support::{KEY, now};

/// The secret of its URLs.
pub const TOKEN: &str = "conformance-token";

/// The types that may come without a signature.
const UNSIGNED_TYPES: [i64; 11] = [8, 314, 315, 321, 328, 332, 343, 344, 345, 348, 349];

/// The flaw of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    AnswersCreated,
    AnswersNoContent,
    Redirects,
    SlowWithPushExceptions,
    TakesAnySignature,
    ComparesLoosely,
    ChecksOnlyWhatIsSigned,
    IgnoresExpiry,
    ExpiresAtOnce,
    RefusesUnsigned,
    IgnoresToken,
    ErrorInBody,
    BreaksOnForgeries,
    TakesTrailingBytes,
    BreaksConnections,
    BreaksOnUnknownTypes,
    ZeroIsMissing,
    NeedsEventType,
    NeedsStreamId,
    BelievesTheUrl,
    ReadsFormFields,
    NoOtherQuery,
    TIsANumber,
    SizesAreNumbers,
    ListsAreLists,
    ShortColumns,
    NoEmoji,
    OneLine,
    KnownMembersOnly,
    SignIsAnId,
    SignIsANonce,
    RefusesRepeats,
    CountsRepeats,
    LooksThenWrites,
}

#[derive(Default)]
struct ReceiverState {
    bodies: HashSet<String>,
    signs: HashSet<String>,
    acts: u64,
}

/// Starts a receiver. Its count is at `/count`.
pub fn start(flaw: Flaw) -> Target {
    let state = Mutex::<ReceiverState>::default();
    Target::start(move |hit| match &*hit.method {
        "GET" => Reply::Page(json!({ "acts": state.lock().unwrap().acts }).to_string()),
        _ => match receive(hit, flaw, &state) {
            Ok(()) => acknowledge(hit, flaw),
            Err(400) if flaw == Flaw::BreaksConnections => Reply::Torn,
            Err(401) if flaw == Flaw::ErrorInBody => Reply::Page("{\"code\":401}".to_owned()),
            Err(401) if flaw == Flaw::BreaksOnForgeries => Reply::Status(500),
            Err(status) => Reply::Status(status),
        },
    })
}

fn acknowledge(hit: &Hit, flaw: Flaw) -> Reply {
    match flaw {
        Flaw::AnswersCreated => Reply::Status(201),
        Flaw::AnswersNoContent => Reply::Status(204),
        Flaw::Redirects => Reply::With(302, "location", "/elsewhere".to_owned()),
        Flaw::SlowWithPushExceptions if hit.path.contains("push-exception") => {
            Reply::After(Duration::from_secs(6), Box::new(Reply::Status(200)))
        }
        _ => Reply::Status(200),
    }
}

/// Processes a request. The error is the status to answer instead of 200.
fn receive(hit: &Hit, flaw: Flaw, state: &Mutex<ReceiverState>) -> Result<(), u16> {
    let query = hit.path.split_once('?').map_or("", |(_, query)| query);
    let token = format!("token={TOKEN}");
    if !query.split('&').any(|part| part == token) && flaw != Flaw::IgnoresToken {
        return Err(401);
    }
    if flaw == Flaw::NoOtherQuery && query != token {
        return Err(404);
    }
    let text = std::str::from_utf8(&hit.body).map_err(|_| 400_u16)?;
    if flaw == Flaw::ReadsFormFields {
        return if text.starts_with("event_type=") {
            Ok(())
        } else {
            Err(400)
        };
    }
    let mut body = match flaw {
        Flaw::TakesTrailingBytes => serde_json::Deserializer::from_str(text)
            .into_iter()
            .next()
            .unwrap_or_else(|| serde_json::from_str("")),
        _ => serde_json::from_str::<Map<_, _>>(text),
    }
    .map_err(|_| 400_u16)?;
    check_signature(&body, flaw)?;
    read(hit, text, &body, flaw)?;
    body.remove("t");
    let sign = body.remove("sign");
    act(
        Value::Object(body).to_string(),
        sign.as_ref().and_then(Value::as_str),
        flaw,
        state,
    )
}

fn check_signature(body: &Map<String, Value>, flaw: Flaw) -> Result<(), u16> {
    let t = match body.get("t") {
        Some(Value::String(_)) if flaw == Flaw::TIsANumber => return Err(400),
        Some(t) => integer(t).ok_or(401_u16)?,
        None if flaw == Flaw::ChecksOnlyWhatIsSigned => return Ok(()),
        None => {
            let bare = body.get("sign").is_none()
                && event_type(body).is_some_and(|code| UNSIGNED_TYPES.contains(&code));
            return if bare && flaw != Flaw::RefusesUnsigned {
                Ok(())
            } else {
                Err(401)
            };
        }
    };
    let genuine = match body.get("sign") {
        Some(Value::String(presented)) => {
            *presented == sign(KEY, &t.to_string()) || flaw == Flaw::TakesAnySignature
        }
        Some(Value::Bool(true)) => flaw == Flaw::ComparesLoosely,
        _ => false,
    };
    let grace = match flaw {
        Flaw::ExpiresAtOnce => 0,
        Flaw::IgnoresExpiry => i64::from(u32::MAX),
        _ => 600,
    };
    if genuine && now() <= t + grace {
        Ok(())
    } else {
        Err(401)
    }
}

/// Typical mistakes with genuine callbacks.
fn read(hit: &Hit, text: &str, body: &Map<String, Value>, flaw: Flaw) -> Result<(), u16> {
    let code = event_type(body);
    let known = code.is_none_or(|code| Kind::from_code(code).is_some());
    let by_url = || {
        let path = hit.path.split('?').next().unwrap_or_default();
        Kind::from_slug(path.rsplit('/').next().unwrap_or_default()).and_then(Kind::code)
    };
    let column = |name: &str| body.get(name).and_then(Value::as_str).map_or(0, str::len);
    let null_list = |(name, value): (&String, &Value)| {
        value.is_null() && name.to_ascii_lowercase().ends_with("results")
    };
    match flaw {
        Flaw::BreaksOnUnknownTypes if !known => Err(500),
        Flaw::ZeroIsMissing if code == Some(0) => Err(400),
        Flaw::NeedsEventType if code.is_none() => Err(400),
        Flaw::NeedsStreamId if !body.contains_key("stream_id") => Err(400),
        Flaw::BelievesTheUrl if code.is_some() && code != by_url() => Err(400),
        Flaw::SizesAreNumbers if body.get("file_size").is_some_and(Value::is_string) => Err(400),
        Flaw::ListsAreLists if body.iter().any(null_list) => Err(500),
        Flaw::ShortColumns if column("stream_param") > 255 => Err(500),
        Flaw::NoEmoji if body.values().any(|value| value.to_string().contains('🎉')) => Err(500),
        Flaw::OneLine if text.contains('\n') => Err(400),
        Flaw::KnownMembersOnly if body.contains_key("something_new") && known => Err(400),
        _ => Ok(()),
    }
}

/// Counts each body once, whatever its signature.
fn act(
    body: String,
    sign: Option<&str>,
    flaw: Flaw,
    state: &Mutex<ReceiverState>,
) -> Result<(), u16> {
    let mut open = state.lock().unwrap();
    let known_sign = sign.is_some_and(|sign| !open.signs.insert(sign.to_owned()));
    let known = match flaw {
        Flaw::SignIsAnId | Flaw::SignIsANonce if sign.is_some() => known_sign,
        Flaw::CountsRepeats => false,
        Flaw::LooksThenWrites => {
            let known = open.bodies.contains(&body);
            drop(open);
            std::thread::sleep(Duration::from_millis(150));
            open = state.lock().unwrap();
            open.bodies.insert(body);
            known
        }
        _ => !open.bodies.insert(body),
    };
    open.acts += u64::from(!known);
    match flaw {
        Flaw::SignIsANonce | Flaw::RefusesRepeats if known => Err(409),
        _ => Ok(()),
    }
}

fn event_type(body: &Map<String, Value>) -> Option<i64> {
    body.get("event_type").and_then(integer)
}

/// A number, or a string of digits.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}
