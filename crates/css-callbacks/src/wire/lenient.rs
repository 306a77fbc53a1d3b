//! Functions that read one value each, in every form that the documentation or the platform has given it.
//!
//! They give `None` for null and an error for a value that cannot be read. No error has the value in its text. Where an object
//! or a list should be, a string that holds it is accepted, too.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::Error;
use serde_json::value::RawValue;

use super::Raw;

/// The value, or `None` if it is null.
type Read<T> = Result<Option<T>, Error>;

/// A string. A number is read as its text.
pub(crate) fn text(raw: &RawValue) -> Read<String> {
    Ok(match scalar(raw)? {
        Scalar::Null => None,
        Scalar::String(text) => Some(text.into_owned()),
        Scalar::Number(text) => Some(text.to_owned()),
        Scalar::Bool(_) => return Err(Error::custom("not a string")),
    })
}

/// An identifier: a string or a number. All digits of the number are kept.
pub(crate) fn id(raw: &RawValue) -> Read<String> {
    text(raw)
}

/// An integer, also as `5.0`, `1e3` or a numeric string with blanks around it. An empty string is read as null.
pub(crate) fn number(raw: &RawValue) -> Read<i64> {
    integer(raw)
}

/// As [`number`], for numbers that are not below zero, up to 64 bits.
pub(crate) fn unsigned(raw: &RawValue) -> Read<u64> {
    integer(raw)
}

/// A number that may have a fraction, or a string that holds one. An empty string is read as null.
pub(crate) fn float(raw: &RawValue) -> Read<Float> {
    let scalar = scalar(raw)?;
    let Some(text) = scalar.digits("not a number")? else {
        return Ok(None);
    };
    let not_a_number = |_| Error::custom("not a number");
    let value: f64 = serde_json::from_str(text).map_err(not_a_number)?;
    let text: &RawValue = serde_json::from_str(text).map_err(not_a_number)?;
    let text = text.into();
    Ok(Some(Float { text, value }))
}

/// A truth value: `true`, 1, `"true"` or `"1"` and their opposites. An empty string is read as null.
pub(crate) fn flag(raw: &RawValue) -> Read<bool> {
    let text = match scalar(raw)? {
        Scalar::Null => return Ok(None),
        Scalar::Bool(value) => return Ok(Some(value)),
        Scalar::Number(text) => Cow::Borrowed(text),
        Scalar::String(text) => text,
    };
    match text.trim().to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(Error::custom("neither true nor false")),
    }
}

/// A word of an open enumeration.
pub(crate) fn word<T: From<String>>(raw: &RawValue) -> Read<T> {
    Ok(text(raw)?.map(T::from))
}

/// An integer code of an open enumeration, in every form that [`number`] reads.
pub(crate) fn code<T: From<i64>>(raw: &RawValue) -> Read<T> {
    Ok(number(raw)?.map(T::from))
}

/// An object.
pub(crate) fn object<T: DeserializeOwned>(raw: &RawValue) -> Read<T> {
    match opened(raw).get() {
        "null" => Ok(None),
        // Asked here because serde would quote the value.
        json if !json.starts_with('{') => Err(Error::custom("not an object")),
        json => serde_json::from_str(json).map(Some),
    }
}

/// Any value, kept as received: for members that are documented without a type.
pub(crate) fn anything(raw: &RawValue) -> Read<Raw> {
    Ok((raw.get() != "null").then(|| raw.into()))
}

/// An array. Null is read as an empty array. Elements that are null are left out.
pub(crate) fn list<T>(raw: &RawValue, each: impl Fn(&RawValue) -> Read<T>) -> Read<Vec<T>> {
    match opened(raw).get() {
        "null" => Ok(Some(Vec::new())),
        json if !json.starts_with('[') => Err(Error::custom("not an array")),
        json => {
            let elements: Vec<&RawValue> = serde_json::from_str(json)?;
            let values = elements.into_iter().filter_map(|raw| each(raw).transpose());
            values.collect::<Result<_, _>>().map(Some)
        }
    }
}

/// As [`list`]. A single value is read as an array of one.
pub(crate) fn one_or_many<T>(raw: &RawValue, each: impl Fn(&RawValue) -> Read<T>) -> Read<Vec<T>> {
    let raw = &*opened(raw);
    if raw.get().starts_with('[') {
        return list(raw, each);
    }
    Ok(Some(each(raw)?.into_iter().collect()))
}

/// One value or an array. The typed form also has one value or an array.
pub(crate) fn shape_kept<T>(
    raw: &RawValue,
    each: impl Fn(&RawValue) -> Read<T>,
) -> Read<OneOrMany<T>> {
    let raw = &*opened(raw);
    Ok(if raw.get().starts_with('[') {
        list(raw, each)?.map(OneOrMany::Many)
    } else {
        each(raw)?.map(OneOrMany::One)
    })
}

/// A string that holds an object or a list, or that object or list itself. Any other string stays a string.
pub(crate) fn json_in_string<T>(
    raw: &RawValue,
    inner: impl Fn(&RawValue) -> Read<T>,
) -> Read<Opened<T>> {
    let opened = opened(raw);
    match scalar_or(&opened, Scalar::Null)? {
        Scalar::String(text) => Ok(Some(Opened::Text(text.into_owned()))),
        _ => Ok(inner(&opened)?.map(Opened::Typed)),
    }
}

/// The object or list that a string holds, else the value itself. Line breaks around it and surplus backslashes are accepted.
fn opened(raw: &RawValue) -> Cow<'_, RawValue> {
    let open = |json: &str| -> Option<Box<RawValue>> { serde_json::from_str(json).ok() };
    if let Ok(Scalar::String(text)) = scalar(raw) {
        let text = text.trim();
        if text.starts_with(['{', '['])
            && let Some(json) = open(text).or_else(|| open(&text.replace(r#"\""#, "\"")))
        {
            return Cow::Owned(json);
        }
    }
    Cow::Borrowed(raw)
}

/// What a string held that should hold JSON. On the wire it can also be the JSON itself.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    any(test, feature = "schema"),
    derive(schemars::JsonSchema),
    schemars(inline, untagged)
)]
pub enum Opened<T> {
    /// The object or list that it held.
    Typed(T),
    /// The string itself, because it held neither an object nor a list.
    Text(String),
}

impl<T> Opened<T> {
    /// The object or list, if the string held one.
    pub fn typed(&self) -> Option<&T> {
        match self {
            Self::Typed(value) => Some(value),
            Self::Text(_) => None,
        }
    }
}

/// As the object or list, or as the string.
impl<T: Serialize> Serialize for Opened<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Typed(value) => value.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
        }
    }
}

/// One value, or an array where one value is documented.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    any(test, feature = "schema"),
    derive(schemars::JsonSchema),
    schemars(inline, untagged)
)]
pub enum OneOrMany<T> {
    /// One value, as documented.
    One(T),
    /// An array.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values: one or several.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// As one value or as an array.
impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(value) => value.serialize(serializer),
            Self::Many(values) => values.serialize(serializer),
        }
    }
}

/// A number that may have a fraction. It keeps the text that was received, so that it is written without rounding.
#[derive(Debug, Clone, PartialEq)]
pub struct Float {
    text: Raw,
    value: f64,
}

impl Float {
    /// The nearest `f64`.
    pub fn get(&self) -> f64 {
        self.value
    }
}

impl From<Float> for Raw {
    fn from(number: Float) -> Self {
        number.text
    }
}

/// The number as it was received.
impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.get())
    }
}

/// The number as it was received.
impl Serialize for Float {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

/// A value that is neither array nor object.
enum Scalar<'a> {
    Null,
    Bool(bool),
    /// The text of the number.
    Number(&'a str),
    String(Cow<'a, str>),
}

impl Scalar<'_> {
    /// The text of a number or numeric string without the blanks; `None` for null and the empty string.
    fn digits(&self, otherwise: &str) -> Read<&str> {
        let text = match self {
            Self::Null => "",
            Self::Bool(_) => return Err(Error::custom(otherwise)),
            Self::Number(text) => text,
            Self::String(text) => text.trim(),
        };
        Ok((!text.is_empty()).then_some(text))
    }
}

fn scalar(raw: &RawValue) -> Result<Scalar<'_>, Error> {
    let json = raw.get();
    Ok(match json.as_bytes() {
        b"null" => Scalar::Null,
        b"true" => Scalar::Bool(true),
        b"false" => Scalar::Bool(false),
        // Without an escape the text between the quotes is the string.
        [b'"', inside @ .., b'"'] if !inside.contains(&b'\\') => {
            Scalar::String(Cow::Borrowed(&json[1..json.len() - 1]))
        }
        [b'"', ..] => Scalar::String(Cow::Owned(serde_json::from_str(json)?)),
        [b'[' | b'{', ..] => {
            return Err(Error::custom("an array or object where a value should be"));
        }
        _ => Scalar::Number(json),
    })
}

/// As [`scalar`], but an array or object is read as `otherwise`.
fn scalar_or<'a>(raw: &'a RawValue, otherwise: Scalar<'a>) -> Result<Scalar<'a>, Error> {
    if raw.get().starts_with(['[', '{']) {
        return Ok(otherwise);
    }
    scalar(raw)
}

fn integer<T: std::str::FromStr>(raw: &RawValue) -> Read<T> {
    let not_an_integer = || Error::custom("not an integer, or one out of range");
    let scalar = scalar(raw)?;
    let Some(text) = scalar.digits("not an integer")? else {
        return Ok(None);
    };
    let value = match text.parse() {
        Ok(value) => Some(value),
        Err(_) => plain_integer(text).and_then(|text| text.parse().ok()),
    };
    value.map(Some).ok_or_else(not_an_integer)
}

/// Writes an integral decimal such as `-5.0` or `1.2e3` without point and exponent, exactly; at most 20 digits.
fn plain_integer(text: &str) -> Option<String> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", text),
    };
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty()
        || !is_digits(&digits)
        || !is_digits(exponent.trim_start_matches(['+', '-']))
    {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let exponent: i64 = exponent.parse().ok()?;
    let dropped = digits.len() - significant.len();
    let zeros = exponent.checked_add(i64::try_from(dropped).ok()?)?;
    let zeros = zeros.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let zeros = usize::try_from(zeros).ok().filter(|zeros| *zeros <= 20)?;
    Some(format!("{sign}{significant}{}", "0".repeat(zeros)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
