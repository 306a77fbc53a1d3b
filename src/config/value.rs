//! The configuration as a tree, and its strict conversion by serde. Each error knows its key.
//!
//! The `config` crate parses the file. Its own conversion is not used: where a text or a number is
//! expected, it accepts a value of another type (`true` becomes 1, 1e5 becomes "100000", 0.6
//! becomes 1).

use std::collections::BTreeMap;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::key_error::KeyError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ConfigValue {
    Text(String),
    Number(i64),
    Float(f64),
    Switch(bool),
    List(Vec<ConfigValue>),
    Table(Table),
    /// A value from the environment, converted to the type that its option has.
    Variable(String),
}

/// Sorted, so that of several errors always the same one is reported.
pub(super) type Table = BTreeMap<String, ConfigValue>;

impl ConfigValue {
    /// Converts a value that the `config` crate parsed.
    pub(super) fn new(value: ::config::Value) -> Self {
        use ::config::ValueKind;
        match value.kind {
            ValueKind::Boolean(value) => Self::Switch(value),
            ValueKind::I64(number) => Self::Number(number),
            ValueKind::Float(number) => Self::Float(number),
            ValueKind::String(text) => Self::Text(text),
            ValueKind::Array(items) => Self::List(items.into_iter().map(Self::new).collect()),
            ValueKind::Table(table) => Self::table(table),
            // The parser never makes these from TOML.
            other @ (ValueKind::Nil
            | ValueKind::I128(_)
            | ValueKind::U64(_)
            | ValueKind::U128(_)) => Self::Text(other.to_string()),
        }
    }

    /// Converts a table that the `config` crate parsed.
    pub(super) fn table(table: impl IntoIterator<Item = (String, ::config::Value)>) -> Self {
        Self::Table(
            table
                .into_iter()
                .map(|(key, value)| (key, Self::new(value)))
                .collect(),
        )
    }

    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Text(text) | Self::Variable(text) => Unexpected::Str(text),
            Self::Number(number) => Unexpected::Signed(*number),
            Self::Float(number) => Unexpected::Float(*number),
            Self::Switch(switch) => Unexpected::Bool(*switch),
            Self::List(_) => Unexpected::Seq,
            Self::Table(_) => Unexpected::Map,
        }
    }

    /// The value at a place below this one.
    pub(super) fn at(&self, place: &[String]) -> Option<&ConfigValue> {
        place.iter().try_fold(self, |value, key| match value {
            ConfigValue::Table(table) => table.get(key),
            _ => None,
        })
    }

    /// A copy in which the table at this place keeps only `type` and, if given, one more key.
    pub(super) fn reduced(&self, place: &[String], only: Option<&String>) -> ConfigValue {
        let mut copy = self.clone();
        let end = place.iter().try_fold(&mut copy, |value, key| match value {
            ConfigValue::Table(table) => table.get_mut(key),
            _ => None,
        });
        if let Some(ConfigValue::Table(table)) = end {
            table.retain(|key, _| key == "type" || Some(key) == only);
        }
        copy
    }
}

macro_rules! numbers {
    ($($method:ident => $visit:ident: $number:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
            match self {
                ConfigValue::Variable(text) => match text.parse::<$number>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(KeyError::invalid_type(Unexpected::Str(text), &visitor)),
                },
                value => value.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de ConfigValue {
    type Error = KeyError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self {
            ConfigValue::Text(text) | ConfigValue::Variable(text) => {
                visitor.visit_borrowed_str(text)
            }
            ConfigValue::Number(number) => visitor.visit_i64(*number),
            ConfigValue::Float(number) => visitor.visit_f64(*number),
            ConfigValue::Switch(switch) => visitor.visit_bool(*switch),
            ConfigValue::List(items) => visitor.visit_seq(Items(items.iter())),
            ConfigValue::Table(table) => visitor.visit_map(Entries {
                rest: table.iter(),
                value: None,
            }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        match self {
            ConfigValue::Variable(text) => match text.as_str() {
                "true" => visitor.visit_bool(true),
                "false" => visitor.visit_bool(false),
                _ => Err(KeyError::invalid_type(Unexpected::Str(text), &visitor)),
            },
            value => value.deserialize_any(visitor),
        }
    }

    numbers! {
        deserialize_i8 => visit_i64: i64,
        deserialize_i16 => visit_i64: i64,
        deserialize_i32 => visit_i64: i64,
        deserialize_i64 => visit_i64: i64,
        deserialize_u8 => visit_u64: u64,
        deserialize_u16 => visit_u64: u64,
        deserialize_u32 => visit_u64: u64,
        deserialize_u64 => visit_u64: u64,
        deserialize_f32 => visit_f64: f64,
        deserialize_f64 => visit_f64: f64,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, KeyError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, KeyError> {
        match self {
            ConfigValue::Text(text) | ConfigValue::Variable(text) => {
                visitor.visit_enum(BorrowedStrDeserializer::new(text))
            }
            ConfigValue::Number(_)
            | ConfigValue::Float(_)
            | ConfigValue::Switch(_)
            | ConfigValue::List(_)
            | ConfigValue::Table(_) => Err(KeyError::invalid_type(
                self.unexpected(),
                &"a text in quotes",
            )),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, ConfigValue>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = KeyError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, KeyError> {
        self.0.next().map(|item| seed.deserialize(item)).transpose()
    }
}

struct Entries<'de> {
    rest: std::collections::btree_map::Iter<'de, String, ConfigValue>,
    value: Option<(&'de str, &'de ConfigValue)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = KeyError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, KeyError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        seed.deserialize(BorrowedStrDeserializer::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, KeyError> {
        let Some((key, value)) = self.value.take() else {
            return Err(KeyError::custom("a value without a key"));
        };
        seed.deserialize(value).map_err(|error| error.under(key))
    }
}
