//! How a body becomes a struct and a struct becomes the typed form.
//!
//! Every object on the wire is declared with `wire!`:
//!
//! - A member is known by its Rust name and by the wire names listed with it. It names the function of `wire/lenient.rs` that
//!   reads its value. If it is missing, the field is `None`.
//! - Members that are not declared go to [`Other`], byte for byte.
//! - A misfit is a member of a callback whose value the function cannot read. It goes to [`Other`], too, and the other members
//!   are read all the same. If something inside an object cannot be read, the whole object is the misfit.
//! - A number that should be whole and is not goes to [`Other`] as a number. It is no misfit.
//! - If a member is there twice, the last one counts, also if the two have different names of one field.
//! - Values are read from their text, so that a large number is never rounded to a float.

pub(crate) mod lenient;
pub(crate) mod open;
#[cfg(any(test, feature = "schema"))]
pub(crate) mod schema;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

pub use lenient::{Float, OneOrMany, Opened};

/// Declares an object on the wire: the struct, how it is read, and its typed form.
///
/// `= how` names the function that reads the value, `= how(of)` also the one for each element. `: "a" | "b"` are its names on
/// the wire besides the Rust name. `: callback` after the name of the struct adds the members of every callback.
macro_rules! wire {
    (@read $value:ident, $how:ident) => {
        $crate::wire::lenient::$how($value)
    };
    // The number that a value is, if it should be a whole number and is not.
    (@number $value:ident, number) => {
        $crate::wire::lenient::float($value).ok().flatten()
    };
    (@number $value:ident, unsigned) => {
        $crate::wire::lenient::float($value).ok().flatten()
    };
    (@number $value:ident, $how:ident $(($($of:tt)+))?) => {
        None
    };
    (@read $value:ident, $how:ident($($of:tt)+)) => {
        $crate::wire::lenient::$how($value, |value| $crate::wire::wire!(@read value, $($of)+))
    };
    ($(#[$doc:meta])* pub struct $name:ident: callback { $($members:tt)* }) => {
        $crate::wire::wire! {
            @define true $(#[$doc])* $name {
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
    ($(#[$doc:meta])* pub struct $name:ident { $($members:tt)* }) => {
        $crate::wire::wire! { @define false $(#[$doc])* $name { $($members)* } }
    };
    (
        @define $keeps:literal $(#[$doc:meta])* $name:ident {
            $(
                $(#[$member_doc:meta])*
                pub $member:ident: $type:ty = $how:ident $(($($of:tt)+))? $(: $($wire:literal)|+)?,
            )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        #[non_exhaustive]
        #[cfg_attr(
            any(test, feature = "schema"),
            derive(schemars::JsonSchema),
            schemars(
                transform = $crate::wire::schema::never_null,
                extend("x-order" = [$($crate::wire::member_name(stringify!($member))),*]),
            )
        )]
        pub struct $name {
            $(
                $(#[$member_doc])*
                $(#[cfg_attr(any(test, feature = "schema"), schemars(extend("x-wire" = [$($wire),+])))])?
                pub $member: $type,
            )*
            /// The members that this version does not know, and those whose values do not fit, as received.
            #[cfg_attr(any(test, feature = "schema"), schemars(skip))]
            pub other: $crate::wire::Other,
        }

        impl $crate::wire::Object for $name {
            const KEEPS_MISFITS: bool = $keeps;

            #[allow(unreachable_patterns, reason = "a wire name may be the Rust name")]
            fn read(
                &mut self,
                name: &str,
                value: &serde_json::value::RawValue,
            ) -> Option<$crate::wire::Reading> {
                match name {
                    $(stringify!($member) $($(| $wire)+)? => {
                        let read = $crate::wire::wire!(@read value, $how $(($($of)+))?);
                        let unfit = match read {
                            Ok(read) => { self.$member = read; None }
                            Err(error) => {
                                self.$member = None;
                                let number = $crate::wire::wire!(@number value, $how $(($($of)+))?);
                                Some($crate::wire::Unfit::new(number, error))
                            }
                        };
                        let field = $crate::wire::member_name(stringify!($member));
                        Some($crate::wire::Reading { field, unfit })
                    })*
                    _ => None,
                }
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

/// What `wire!` makes for [`read_object`].
pub(crate) trait Object: Default {
    /// Whether members that do not fit are kept as received. If not, one of them makes reading the object an error.
    const KEEPS_MISFITS: bool;

    /// Sets the field of the member with this name; to `None` if the value does not fit. `None` if no field has the name.
    fn read(&mut self, name: &str, value: &RawValue) -> Option<Reading>;

    /// The place for unknown members.
    fn other(&mut self) -> &mut Other;
}

/// The result of reading a member that is known.
pub(crate) struct Reading {
    /// Its name in the typed form.
    pub(crate) field: &'static str,
    /// Set if the value does not fit.
    pub(crate) unfit: Option<Unfit>,
}

/// A value that does not fit its member.
pub(crate) enum Unfit {
    /// It is a number, though not a whole one, or not one in the range.
    Number(Float),
    /// It cannot be read.
    Misfit(serde_json::Error),
}

impl Unfit {
    pub(crate) fn new(number: Option<Float>, error: serde_json::Error) -> Self {
        number.map_or(Self::Misfit(error), Self::Number)
    }
}

/// Reads an object. The text must be in memory, because values are kept as slices of it.
pub(crate) fn read_object<'de, T: Object, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

/// The name of a field without `r#`.
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
        // At most one for each field, because the last value counts.
        let mut unfit: Vec<(&'static str, Cow<'de, str>, &'de RawValue, Unfit)> = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            let Some(read) = object.read(&name, value) else {
                unknown.push((name.into_owned(), value.into()));
                continue;
            };
            unfit.retain(|(field, ..)| *field != read.field);
            if let Some(why) = read.unfit {
                unfit.push((read.field, name, value, why));
            }
        }
        let mut other = Other::last_of_each(unknown);
        let mut misfits = Vec::new();
        for (field, name, value, why) in unfit {
            match why {
                Unfit::Number(number) => other.members.push((field.to_owned(), number.into())),
                Unfit::Misfit(_) if T::KEEPS_MISFITS => {
                    misfits.push((name.into_owned(), value.into()));
                }
                Unfit::Misfit(error) => {
                    return Err(A::Error::custom(format_args!("{name}: {error}")));
                }
            }
        }
        other.misfits = misfits.len();
        other.members.append(&mut misfits);
        *object.other() = other;
        Ok(object)
    }
}

/// A member's name. It is borrowed unless it has escapes.
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

/// A JSON value of any type, kept as the text that was received.
///
/// It is used where a value is documented without a type, and for what is in [`Other`]. Two values are equal if their texts are.
#[derive(Debug, Clone)]
pub struct Raw(Box<RawValue>);

impl Raw {
    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The string with its escapes resolved, if the value is a string.
    pub fn as_string(&self) -> Option<String> {
        serde_json::from_str(self.get()).ok()
    }
}

impl From<&RawValue> for Raw {
    fn from(value: &RawValue) -> Self {
        Self(value.to_owned())
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// As the value itself.
impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The members of an object that have no field of their own: unknown ones, and those whose values do not fit their fields.
///
/// They are in this order:
///
/// 1. The members that this version does not know, in the order received.
/// 2. Numbers where a field needs a whole number in its range, under the name of the field.
/// 3. [Misfits](Self::misfits): members whose values cannot be read, under the names that they came with.
///
/// ```
/// use css_callbacks::{Kind, Payload};
///
/// let body = r#"{"event_type":0,"width":"wide","brand_new":[1,2]}"#;
/// let payload = Payload::parse(Kind::StreamEnd, body)?;
/// assert_eq!(payload.other().get("brand_new").map(|value| value.get()), Some("[1,2]"));
/// assert_eq!(payload.misfits().collect::<Vec<_>>(), ["width"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Other {
    members: Vec<(String, Raw)>,
    /// How many members at the end are misfits.
    misfits: usize,
}

impl Other {
    /// Keeps only the last of members with one name.
    fn last_of_each(mut members: Vec<(String, Raw)>) -> Self {
        if members.len() > 1 {
            let mut seen = HashSet::with_capacity(members.len());
            let mut last: Vec<bool> = (members.iter().rev())
                .map(|(name, _)| seen.insert(name.as_str()))
                .collect();
            members.retain(|_| last.pop().unwrap_or(true));
        }
        Self {
            members,
            misfits: 0,
        }
    }

    /// The value of the member with this name.
    pub fn get(&self, name: &str) -> Option<&Raw> {
        let (_, value) = self.members.iter().find(|(member, _)| member == name)?;
        Some(value)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Raw)> {
        let members = self.members.iter();
        members.map(|(name, value)| (name.as_str(), value))
    }

    /// The names of the members that have a field, but whose values cannot be read as its type.
    pub fn misfits(&self) -> impl Iterator<Item = &str> {
        let misfits = &self.members[self.members.len() - self.misfits..];
        misfits.iter().map(|(name, _)| name.as_str())
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
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

    wire! {
        /// A callback about pictures.
        pub struct Pictures: callback {
            /// Pixels.
            pub width: Option<i64> = number: "Width" | "w",
            /// How many.
            pub size: Option<u64> = unsigned,
            /// Its address.
            pub url: Option<String> = text: "Url",
            /// The pictures.
            pub parts: Option<Vec<Picture>> = list(object): "Parts",
        }
    }

    /// The typed form, and what does not fit.
    fn kept(body: &str) -> (String, String) {
        let read: Pictures = serde_json::from_str(body).unwrap();
        let typed = serde_json::to_string(&read).unwrap();
        let again: Pictures = serde_json::from_str(&typed).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), typed);
        let misfits: Vec<&str> = read.other.misfits().collect();
        assert_eq!(again.other.misfits().collect::<Vec<_>>(), misfits);
        (typed, misfits.join(","))
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
    fn what_does_not_fit_a_callback_stays_as_received_and_is_named() {
        for (body, typed, misfits) in [
            (
                r#"{"w":"wide","x":1,"url":"u","t":[ 1 ]}"#,
                r#"{"url":"u","x":1,"w":"wide","t":[ 1 ]}"#,
                "w,t",
            ),
            (
                r#"{"Parts":[{"width":1},{"width":"wide"}],"size":2}"#,
                r#"{"size":2,"Parts":[{"width":1},{"width":"wide"}]}"#,
                "Parts",
            ),
            (r#"{"Parts":""}"#, r#"{"Parts":""}"#, "Parts"),
            // The last one counts, under whatever name.
            (r#"{"w":"wide","Width":7}"#, r#"{"width":7}"#, ""),
            (r#"{"w":"wide","w":null}"#, "{}", ""),
            (r#"{"width":7,"w":"wide"}"#, r#"{"w":"wide"}"#, "w"),
            (
                r#"{"w":true,"url":{},"w":"wide"}"#,
                r#"{"url":{},"w":"wide"}"#,
                "url,w",
            ),
        ] {
            assert_eq!(kept(body), (typed.to_owned(), misfits.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_number_that_is_not_whole_stays_the_number_it_is() {
        for (body, typed) in [
            (r#"{"w":154.50,"url":"u"}"#, r#"{"url":"u","width":154.50}"#),
            (r#"{"w":" 1e-1 "}"#, r#"{"width":1e-1}"#),
            (r#"{"w":1.5,"Width":2}"#, r#"{"width":2}"#),
            (r#"{"w":2,"Width":1.5}"#, r#"{"width":1.5}"#),
            (r#"{"size":-1}"#, r#"{"size":-1}"#),
            (
                r#"{"x":0,"w":9223372036854775808}"#,
                r#"{"x":0,"width":9223372036854775808}"#,
            ),
            (
                r#"{"Parts":[{"width":1.5}]}"#,
                r#"{"parts":[{"width":1.5}]}"#,
            ),
        ] {
            assert_eq!(kept(body), (typed.to_owned(), String::new()), "{body}");
        }
        assert_eq!(kept(r#"{"w":1e999}"#).1, "w");
        let read: Pictures = serde_json::from_str(r#"{"w":1.5}"#).unwrap();
        assert_eq!(read.width, None);
        assert_eq!(read.other.get("width").unwrap().get(), "1.5");
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
