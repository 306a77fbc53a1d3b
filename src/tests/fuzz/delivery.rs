//! The bytes that went in come out, in every form that a handler can get.

use std::collections::BTreeSet;

use crate::auth::{Authentic, authenticate};
use crate::event::{CloudEvent, Event, EventData, PayloadForm};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use css_callbacks::{Callback, json};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::bodies;
use super::reading::{self, LEVELS, Member};
use super::requests;
use super::sites::{Networks, Unsigned};

/// Makes the event of an accepted callback and reads it back out of its JSON forms.
pub fn comes_out_as_it_went_in(authentic: &Authentic) -> Result<(), TestCaseError> {
    let event = Event::new(
        1,
        authentic.id(),
        authentic.source().clone(),
        authentic.kind(),
        authentic.received(),
        authentic.body().clone(),
    );
    prop_assert_eq!(event.body(), authentic.body());
    prop_assert_eq!(event.lane() % 2, 0);
    let original = event.cloud_event(PayloadForm::Original);
    holds_the_body(original.data(), event.body())?;
    is_one_object(&original)?;
    let typed = event.cloud_event(PayloadForm::Typed);
    match event.payload() {
        Ok(payload) => {
            let text = serde_json::to_vec(&payload).unwrap();
            prop_assert_eq!(typed.data(), &EventData::Json(text.into()));
            let named = typed.attributes().find(|(name, _)| *name == "untyped");
            let misfits: Vec<_> = payload.misfits().collect();
            prop_assert_eq!(event.misfits(), misfits.len());
            let misfits = misfits.join(",");
            let expected = (!misfits.is_empty()).then_some(("untyped", &*misfits));
            prop_assert_eq!(named, expected);
        }
        Err(_) => {
            holds_the_body(typed.data(), event.body())?;
            prop_assert!(typed.attributes().any(|of| of == ("untyped", "true")));
        }
    }
    is_one_object(&typed)?;
    let id = event.id().to_string();
    prop_assert!(original.attributes().any(|of| of == ("id", &id)));
    let bodiless = event.clone().without_body();
    let same: Vec<_> = original
        .attributes()
        .map(|(_, value)| value.to_owned())
        .collect();
    let without = bodiless.cloud_event(PayloadForm::Original);
    let without: Vec<_> = without.attributes().map(|(_, value)| value).collect();
    prop_assert_eq!(without, same, "the attributes outlive the body");
    Ok(())
}

/// The data is the received text itself.
fn holds_the_body(data: &EventData, body: &[u8]) -> Result<(), TestCaseError> {
    match data {
        EventData::Json(text) => {
            prop_assert_eq!(&**text, body);
            prop_assert!(std::str::from_utf8(body).is_ok());
        }
        EventData::Binary(bytes) => {
            prop_assert_eq!(*bytes, body);
            prop_assert!(std::str::from_utf8(body).is_err());
        }
    }
    Ok(())
}

/// The JSON form is one object of the attributes and the data, and still is when it is written in one line.
fn is_one_object(event: &CloudEvent) -> Result<(), TestCaseError> {
    let whole = event.to_json();
    let data = match event.data() {
        EventData::Json(text) => text.trim_ascii().to_vec(),
        EventData::Binary(bytes) => format!("\"{}\"", STANDARD.encode(bytes)).into_bytes(),
    };
    has_members(event, &whole, &data)?;
    let line = event.to_json_line();
    prop_assert_eq!(&line, &[&*reading::in_one_line(&whole), b"\n"].concat());
    let breaks = line.iter().filter(|byte| matches!(byte, b'\n' | b'\r'));
    prop_assert_eq!(breaks.count(), 1);
    has_members(event, &line, &reading::in_one_line(&data))
}

fn has_members(event: &CloudEvent, whole: &[u8], data: &[u8]) -> Result<(), TestCaseError> {
    // One level more than a body; the typed form opens strings and may have any number.
    let Some(mut members) = reading::by_bytes(whole, LEVELS * 4) else {
        return Err(TestCaseError::fail("the JSON form is no object"));
    };
    if reading::levels(whole) <= LEVELS {
        let found = json::members(whole).map(|found| found.len());
        prop_assert_eq!(found, Ok(members.len()), "livehook can read what it writes");
    }
    let names: BTreeSet<_> = members.iter().map(|member| &member.name).collect();
    prop_assert_eq!(names.len(), members.len(), "no name comes twice");
    let name = match event.data() {
        EventData::Json(_) => "data",
        EventData::Binary(_) => "data_base64",
    };
    let expected = Member {
        name: Some(name.into()),
        value: data.to_vec(),
    };
    prop_assert_eq!(members.pop(), Some(expected), "the data is last");
    for (member, (name, value)) in members.iter().zip(event.attributes()) {
        prop_assert_eq!(member.name.as_deref(), Some(name.as_bytes()));
        let text = match &*member.value {
            b"true" => "true".to_owned(),
            text => serde_json::from_slice(text).unwrap(),
        };
        prop_assert_eq!(text, value);
        prop_assert!(
            !value.is_empty() && value.len() <= 1024,
            "{name} is as long as promised"
        );
    }
    prop_assert_eq!(members.len(), event.attributes().count());
    Ok(())
}

proptest! {
    #![proptest_config(super::config(2000))]

    #[test]
    fn bytes_out_are_bytes_in(mut case in requests::case(bodies::any_body())) {
        // Nobody is kept out, so that every body that can be read goes all the way.
        (case.site.keys, case.site.token, case.site.unsigned) = (vec![], None, Unsigned::All);
        case.site.networks = Networks::Anywhere;
        if let Ok(callback) = Callback::parse(&case.body.0) {
            let source = case.site.source().unwrap();
            let verdict = authenticate(&source, &case.presented(), &callback, || [7; 16]);
            comes_out_as_it_went_in(&verdict.outcome.unwrap())?;
        }
    }
}
