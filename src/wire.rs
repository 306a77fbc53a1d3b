//! How a body becomes a struct and a struct becomes the typed form.
//!
//! Every wire object is declared with `wire!`: a member is known under its Rust name and under the wire names listed with it,
//! is read by the leniency it names (`wire/lenient.rs`) and is absent rather than wrong when it is missing. Nothing is lost: what
//! is not known goes to [`Other`] letter by letter. Of duplicate members the last one counts, also between two names of one field.
//! Values are read from their text, so no number passes through a float on its way.

pub(crate) mod lenient;
pub(crate) mod open;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

pub use lenient::{Float, OneOrMany, Opened};

/// Declares a wire object: the struct, how it is read and its typed form.
///
/// `= how` names the leniency, `= how(of)` the one for the elements too, `: "a" | "b"` the wire names besides the Rust name.
/// `: callback` after the name of the struct adds the members of every callback.
macro_rules! wire {
    (@read $value:ident, $how:ident) => {
        $crate::wire::lenient::$how($value)
    };
    (@read $value:ident, $how:ident($($of:tt)+)) => {
        $crate::wire::lenient::$how($value, |value| $crate::wire::wire!(@read value, $($of)+))
    };
    ($(#[$doc:meta])* pub struct $name:ident: callback { $($members:tt)* }) => {
        $crate::wire::wire! {
            $(#[$doc])*
            pub struct $name {
                /// The code of the kind.
                pub event_type: Option<i64> = number,
                $($members)*
                /// When the signature expires, UNIX seconds.
                pub t: Option<i64> = number,
                /// The signature: MD5 over the key and `t`, lower-case hex.
                pub sign: Option<String> = text,
            }
        }
    };
    (
        $(#[$doc:meta])*
        pub struct $name:ident {
            $(
                $(#[$member_doc:meta])*
                pub $member:ident: $type:ty = $how:ident $(($($of:tt)+))? $(: $($wire:literal)|+)?,
            )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            $($(#[$member_doc])* pub $member: $type,)*
            /// Members this version does not know, as received.
            pub other: $crate::wire::Other,
        }

        impl $crate::wire::Object for $name {
            #[allow(unreachable_patterns, reason = "a wire name may be the Rust name")]
            fn read(
                &mut self,
                name: &str,
                value: &serde_json::value::RawValue,
            ) -> Result<bool, serde_json::Error> {
                match name {
                    $(stringify!($member) $($(| $wire)+)? => {
                        self.$member = $crate::wire::wire!(@read value, $how $(($($of)+))?)?;
                    })*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            fn other(&mut self) -> &mut $crate::wire::Other {
                &mut self.other
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::wire::read_object(deserializer)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $(if let Some(value) = &self.$member {
                    map.serialize_entry($crate::wire::member_name(stringify!($member)), value)?;
                })*
                for (name, value) in self.other.iter() {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    };
}
pub(crate) use wire;

/// What `wire!` generates for [`read_object`].
pub(crate) trait Object: Default {
    /// Sets the member of this name; false if there is none.
    fn read(&mut self, name: &str, value: &RawValue) -> Result<bool, serde_json::Error>;

    /// Where the unknown members go.
    fn other(&mut self) -> &mut Other;
}

/// Reads an object from text held in memory; other sources have no text to keep.
pub(crate) fn read_object<'de, T: Object, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

/// The name of a member without the mark of a Rust keyword.
pub(crate) fn member_name(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Object> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        let mut unknown = Vec::new();
        // A member that does not fit is forgiven if the same member follows and fits. One entry a known name.
        let mut misfits: Vec<(Cow<'de, str>, serde_json::Error)> = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            let read = object.read(&name, value);
            if !misfits.is_empty() {
                misfits.retain(|(misfit, _)| *misfit != name);
            }
            match read {
                Ok(true) => {}
                Ok(false) => unknown.push((name.into_owned(), Raw(value.to_owned()))),
                Err(error) => misfits.push((name, error)),
            }
        }
        if let Some((name, error)) = misfits.first() {
            return Err(A::Error::custom(format_args!("{name}: {error}")));
        }
        *object.other() = Other::last_of_each(unknown);
        Ok(object)
    }
}

/// A member name, borrowed unless it has escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// A JSON value kept as the text that was received.
#[derive(Debug, Clone)]
pub struct Raw(Box<RawValue>);

impl Raw {
    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The string, if it is one.
    pub fn as_string(&self) -> Option<String> {
        serde_json::from_str(self.get()).ok()
    }
}

impl From<&RawValue> for Raw {
    fn from(value: &RawValue) -> Self {
        Self(value.to_owned())
    }
}

/// Two values are equal if their texts are.
impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The members of an object that its type does not know, in the order received.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Other(Vec<(String, Raw)>);

impl Other {
    /// Keeps the last of members with one name.
    fn last_of_each(mut members: Vec<(String, Raw)>) -> Self {
        if members.len() > 1 {
            let mut seen = HashSet::with_capacity(members.len());
            let mut last: Vec<bool> = (members.iter().rev())
                .map(|(name, _)| seen.insert(name.as_str()))
                .collect();
            members.retain(|_| last.pop().unwrap_or(true));
        }
        Self(members)
    }

    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&Raw> {
        let (_, value) = self.0.iter().find(|(member, _)| member == name)?;
        Some(value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Raw)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, unreachable_pub)]
mod tests {
    wire! {
        /// A picture.
        pub struct Picture {
            /// Pixels.
            pub width: Option<i64> = number,
            /// Its kind.
            pub r#type: Option<String> = text: "type",
            /// Its address.
            pub url: Option<String> = text: "Url" | "pic_url",
            /// Pictures in it.
            pub parts: Option<Vec<Picture>> = list(object),
        }
    }

    fn typed(body: &str) -> Result<String, serde_json::Error> {
        serde_json::to_string(&serde_json::from_str::<Picture>(body)?)
    }

    #[test]
    fn members_are_known_under_each_of_their_names() {
        for name in ["url", "Url", "pic_url", r"\u0075rl"] {
            assert_eq!(
                typed(&format!(r#"{{"{name}":"u"}}"#)).unwrap(),
                r#"{"url":"u"}"#
            );
        }
        assert_eq!(typed(r#"{"type":"a"}"#).unwrap(), r#"{"type":"a"}"#);
        assert_eq!(typed("{}").unwrap(), "{}");
    }

    #[test]
    fn unknown_members_stay_letter_by_letter_and_in_order() {
        let body = r#"{"z":1.10,"parts":[{"b":1e999}],"a":1234567890123456789012345678901234567890,"y":[ null, "\ud800" ]}"#;
        let expected = r#"{"parts":[{"b":1e999}],"z":1.10,"a":1234567890123456789012345678901234567890,"y":[ null, "\ud800" ]}"#;
        assert_eq!(typed(body).unwrap(), expected);
    }

    #[test]
    fn the_last_of_duplicates_counts_even_after_one_that_does_not_fit() {
        let body = r#"{"x":1,"width":"wide","Url":"a","x":2,"width":[],"width":7,"y":3,"pic_url":"b","x":4}"#;
        assert_eq!(typed(body).unwrap(), r#"{"width":7,"url":"b","y":3,"x":4}"#);
        assert!(typed(r#"{"width":7,"width":"wide"}"#).is_err());
    }

    #[test]
    fn an_error_names_the_members_and_not_the_value() {
        let error = typed(r#"{"parts":[{"width":"secret"}]}"#)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("parts: width: not an integer"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
