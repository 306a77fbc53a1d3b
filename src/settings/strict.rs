//! Reads a tree of values into a config type, strictly. An error knows its key.
//!
//! The `config` crate's own conversion is not used: where a text or a number is expected, it
//! accepts a value of another type (`true` becomes 1, 1e5 becomes "100000", 0.6 becomes 1).

use std::collections::BTreeMap;
use std::iter;

use ::config::{Map, Value, ValueKind};
use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_path_to_error::Segment;

use super::key_error::KeyError;

/// The serde name of an enum that is a table with `type` in the file. In Rust it has no `tag`:
/// serde would read such a table in two steps, and in the second it no longer knows the key.
const TAGGED: &str = "tagged";

/// Reads a table.
pub(crate) fn read<T: DeserializeOwned>(table: Map<String, Value>) -> Result<T, KeyError> {
    serde_path_to_error::deserialize(Strict(table.into())).map_err(|error| {
        let path = error.path().clone();
        let keys = path.iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
        });
        error.into_inner().below(keys)
    })
}

/// Whether the value is of a variable. What is in the text of the file has no origin.
pub(crate) fn is_variable(value: &Value) -> bool {
    value.origin().is_some()
}

struct Strict(Value);

impl Strict {
    /// Gives the text of a variable the type of its option: a number, or true or false.
    fn typed(self) -> Self {
        let kind = match &self.0.kind {
            ValueKind::String(text) if is_variable(&self.0) => {
                let number = text.parse().map(ValueKind::I64);
                number.or_else(|_| text.parse().map(ValueKind::Boolean))
            }
            _ => return self,
        };
        kind.map_or(self, |kind| Self(Value::new(None, kind)))
    }
}

macro_rules! typed {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
            self.typed().deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Strict {
    type Error = KeyError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self.0.kind {
            ValueKind::Boolean(switch) => visitor.visit_bool(switch),
            ValueKind::I64(number) => visitor.visit_i64(number),
            ValueKind::Float(number) => visitor.visit_f64(number),
            ValueKind::String(text) => visitor.visit_string(text),
            ValueKind::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Strict)))
            }
            ValueKind::Table(table) => {
                // Sorted, so that of several errors always the same one is reported.
                let sorted: BTreeMap<_, _> = table.into_iter().collect();
                let entries = sorted.into_iter().map(|(key, value)| (key, Strict(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            // Neither TOML nor a variable has one of these.
            ValueKind::Nil | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
                visitor.visit_unit()
            }
        }
    }

    typed! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        visitor.visit_some(self)
    }

    /// Serde would also take the items of a list for the options, in their order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        match self.0.kind {
            ValueKind::Array(_) => Err(KeyError::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        let in_type = |error: KeyError| error.below(["type".to_owned()]);
        match self.0.kind {
            ValueKind::Table(mut table) if name == TAGGED => {
                let Some(word) = table.remove("type") else {
                    return Err(KeyError::missing_field("type"));
                };
                let word = String::deserialize(Strict(word)).map_err(in_type)?;
                if !words.contains(&word.as_str()) {
                    return Err(in_type(KeyError::unknown_variant(&word, words)));
                }
                let rest = iter::once((word, Strict(table.into())));
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(rest)))
            }
            ValueKind::String(word) if name != TAGGED => {
                visitor.visit_enum(word.into_deserializer())
            }
            kind => Strict(Value::new(None, kind)).deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple tuple_struct map identifier
        ignored_any
    }
}

impl IntoDeserializer<'_, KeyError> for Strict {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
