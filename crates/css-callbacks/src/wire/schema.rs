//! JSON Schemas of what the macros declare, with the feature `schema`.
//!
//! An object has `x-order`: its members in the order of the declaration. A member has `x-wire` if the wire has other names for
//! it than the typed form.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{Float, Raw};

/// Takes null out of the schema of each member: the typed form leaves out a member that has no value.
pub(crate) fn never_null(schema: &mut Schema) {
    let members = schema.get_mut("properties").and_then(Value::as_object_mut);
    for member in members.into_iter().flat_map(|all| all.values_mut()) {
        let Some(member) = member.as_object_mut() else {
            continue;
        };
        if let Some(Value::Array(types)) = member.get_mut("type") {
            types.retain(|name| name != "null");
            if let [name] = &mut types[..] {
                let name = name.take();
                member.insert("type".into(), name);
            }
        }
        let null = serde_json::json!({ "type": "null" });
        if let Some(Value::Array(forms)) = member.get_mut("anyOf") {
            forms.retain(|form| *form != null);
            if let [Value::Object(form)] = &mut forms[..] {
                let form = std::mem::take(form);
                member.remove("anyOf");
                // The description of the member is kept, not that of its type.
                for (name, value) in form {
                    member.entry(name).or_insert(value);
                }
            }
        }
    }
}

/// The schema of a number of which some values have a documented meaning.
pub(crate) fn codes(description: &str, known: &[(i64, &str)]) -> Schema {
    let known = known
        .iter()
        .map(|(code, meaning)| serde_json::json!({ "const": code, "description": meaning }));
    let any = serde_json::json!({ "type": "integer" });
    json_schema!({
        "description": description.trim(),
        "anyOf": known.chain([any]).collect::<Vec<_>>(),
    })
}

impl JsonSchema for Float {
    fn schema_name() -> Cow<'static, str> {
        "Float".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
    }
}

impl JsonSchema for Raw {
    fn schema_name() -> Cow<'static, str> {
        "Raw".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}
