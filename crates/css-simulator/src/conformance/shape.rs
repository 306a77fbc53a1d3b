//! The shape of a body: its members and their types.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::content::Content;

/// The names and types of all members, also of nested ones.
pub(super) type Shape = BTreeSet<(String, Type)>;

/// The type of a value. If a member may have two types, the plainer one is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    /// The number in `event_type`, because some kinds have more than one.
    Code(i64),
    Number,
    Text,
    Bool,
    List,
    Object,
    EmptyText,
    EmptyList,
    Null,
}

/// Describes what is new in a shape, and which members are missing for the first time.
pub(super) fn differences(shape: &Shape, seen: &Shape, gone: &BTreeSet<String>) -> String {
    let new: BTreeMap<&str, Type> = shape
        .difference(seen)
        .map(|(name, is)| (&**name, *is))
        .collect();
    // Members inside of a new or missing object are not listed.
    let inside = |name: &str, said: &dyn Fn(&str) -> bool| {
        name.rsplit_once('.').is_some_and(|(outer, _)| said(outer))
    };
    let new_ones = new
        .iter()
        .filter(|(name, _)| !inside(name, &|outer| new.contains_key(outer)))
        .map(|(name, is)| is.note(name));
    let gone_ones = gone
        .iter()
        .filter(|name| !inside(name, &|outer| gone.contains(outer)))
        .map(|name| format!("without `{name}`"));
    new_ones.chain(gone_ones).collect::<Vec<_>>().join(", ")
}

pub(super) fn names(shape: &Shape) -> BTreeSet<String> {
    shape.iter().map(|(name, _)| name.clone()).collect()
}

pub(super) fn shape(content: &Content) -> Shape {
    let mut shape = Shape::new();
    for (name, value) in &content.members {
        describe(name, value, &mut shape);
    }
    shape
}

/// Adds a member and everything inside of it.
fn describe(path: &str, value: &Value, shape: &mut Shape) {
    let is = match value {
        Value::Number(number) if path == "event_type" => {
            Type::Code(number.as_i64().unwrap_or_default())
        }
        Value::Number(_) => Type::Number,
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::String(text) if text.is_empty() => Type::EmptyText,
        Value::String(_) => Type::Text,
        Value::Array(items) if items.is_empty() => Type::EmptyList,
        Value::Array(items) => {
            for item in items.iter().filter(|item| item.is_object()) {
                describe(path, item, shape);
            }
            Type::List
        }
        Value::Object(members) => {
            for (name, value) in members {
                describe(&format!("{path}.{name}"), value, shape);
            }
            Type::Object
        }
    };
    shape.insert((path.to_owned(), is));
}

impl Type {
    /// Says that a member has this type.
    fn note(self, name: &str) -> String {
        let what = match self {
            Self::Code(code) => return format!("with `{name}` {code}"),
            Self::Object => "an object",
            Self::List => "a list",
            Self::Text => "a string",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::EmptyText => "an empty string",
            Self::EmptyList => "an empty list",
            Self::Null => "null",
        };
        format!("with `{name}` as {what}")
    }
}
