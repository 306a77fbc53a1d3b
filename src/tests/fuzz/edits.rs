//! What can happen to the members of a callback.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::bodies::{Body, Draft};
use super::members::{long, name, value};

/// What a sender could put where livehook wants the code of a kind.
const CODES: [&str; 22] = [
    "1",
    "0",
    "314",
    "\"314\"",
    "314.0",
    "3.14e2",
    "\" 328 \"",
    "\"\\u0033\\u0032\\u0038\"",
    "344",
    "345",
    "\"332\"",
    "999",
    "-1",
    "-0",
    "1e-400",
    "1e400",
    "null",
    "\"\"",
    "[314]",
    "{\"event_type\":314}",
    "true",
    "314.5",
];

/// One thing that can happen to the members of a callback. Places are taken modulo the number of members.
#[derive(Debug, Clone)]
pub enum Edit {
    Drop(Index),
    Duplicate(Index, Index),
    Swap(Index, Index),
    Rename(Index, Body),
    Replace(Index, Body),
    Insert(Index, Body, Body),
    /// Sets every `event_type`.
    Code(&'static str),
    /// Sets what names the stream, where it is named.
    Stream(Body),
}

pub fn any_edit() -> impl Strategy<Value = Edit> {
    let place = any::<Index>;
    prop_oneof![
        1 => place().prop_map(Edit::Drop),
        1 => (place(), place()).prop_map(|(one, to)| Edit::Duplicate(one, to)),
        1 => (place(), place()).prop_map(|(one, other)| Edit::Swap(one, other)),
        1 => (place(), name()).prop_map(|(one, name)| Edit::Rename(one, name)),
        2 => (place(), value()).prop_map(|(one, value)| Edit::Replace(one, value)),
        2 => (place(), name(), value()).prop_map(|(at, name, value)| Edit::Insert(at, name, value)),
        2 => select(&CODES[..]).prop_map(Edit::Code),
        1 => prop_oneof![long(), value()].prop_map(Edit::Stream),
    ]
}

impl Edit {
    pub fn done_to(self, mut draft: Draft) -> Draft {
        let members = &mut draft.members;
        let count = members.len();
        match self {
            Self::Insert(at, name, value) => members.insert(at.index(count + 1), (name, value)),
            Self::Code(code) => {
                for (name, value) in members {
                    if name.0 == b"event_type" {
                        value.0 = code.into();
                    }
                }
            }
            Self::Stream(new) => {
                const NAMES: [&str; 6] =
                    ["app", "domain", "appname", "path", "stream_id", "streamId"];
                for (name, value) in members {
                    if NAMES.iter().any(|of| name.0 == of.as_bytes()) {
                        *value = new.clone();
                    }
                }
            }
            _ if count == 0 => {}
            Self::Drop(one) => drop(members.remove(one.index(count))),
            Self::Duplicate(one, to) => {
                let copy = members[one.index(count)].clone();
                members.insert(to.index(count + 1), copy);
            }
            Self::Swap(one, other) => members.swap(one.index(count), other.index(count)),
            Self::Rename(one, name) => members[one.index(count)].0 = name,
            Self::Replace(one, value) => members[one.index(count)].1 = value,
        }
        draft
    }
}
