//! The typed payloads: one struct for each kind, with every field that was ever documented.
//!
//! - **Names.** Where the platform has several names for one thing, the struct has one.
//! - **Types.** Numbers are numbers, also if they came as strings. Identifiers are strings, because some are larger than a
//!   double can hold. Where the platform puts JSON into a string, the field has the object or the list itself ([`Opened`]).
//! - **Nothing is required.** Each field is an `Option`. `None` means that the member was missing or `null`, or that its value
//!   does not fit the type. A list that was `null` is empty.
//! - **Nothing is lost.** Members that this version does not know, and values that do not fit, are in the field `other`
//!   ([`Other`]). So a newer platform never breaks an older program.
//! - **Enumerations are open.** A word or code that is not documented is `Other` with the value as it came.
//!
//! Serialized, a payload is an object with these names and types, and with what is in `other`: the *typed form*. Parsed again,
//! the typed form gives itself. All structs are `#[non_exhaustive]`: make one for a test with `Default` and set its fields.

pub mod audio_audit;
pub mod audit;
pub mod image_audit;
pub mod monitor;
pub mod push;
pub mod push_exception;
pub mod quality;
pub mod record;
pub mod record_exception;
pub mod record_status;
pub mod relay;
pub mod snapshot;
pub mod stream_mix;
pub mod streamlive;
pub mod subtitle;
pub mod summary;

use serde::de::Error as _;
use serde::ser::{Serialize, Serializer};

use crate::kind::{Kind, kinds};

#[doc(inline)]
pub use self::{
    audio_audit::AudioAudit,
    image_audit::ImageAudit,
    monitor::Monitor,
    push::{StreamBegin, StreamEnd},
    push_exception::PushException,
    quality::{AssessmentAverage, AssessmentThreshold, QualityControl},
    record::Record,
    record_exception::RecordException,
    record_status::RecordStatus,
    relay::Relay,
    snapshot::Snapshot,
    stream_mix::StreamMix,
    streamlive::{StreamliveBegin, StreamliveEnd},
    subtitle::{SmartErase, Subtitle},
    summary::{Highlight, Summary},
};
pub use crate::wire::{Float, OneOrMany, Opened, Other, Raw};

macro_rules! define_payload {
    ($($variant:ident, $code:literal, $slug:literal, $field:ident($name:literal), $signing:ident, $retries:path, $meaning:literal;)*) => {
        /// The typed payload of a callback: one struct for each kind.
        ///
        /// [`payload`](crate::payload) has the structs and says how values are read. Serialized, it is the typed form.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Payload {
            $(#[doc = concat!("`", $slug, "`: ", $meaning, ".")] $variant(Box<$variant>),)*
        }

        impl Payload {
            /// Reads a body as the payload of a kind, whatever its `event_type` says.
            ///
            /// A member whose value does not fit its type is no error: it is kept in [`other`](Self::other), and
            /// [`misfits`](Self::misfits) names it.
            ///
            /// # Errors
            ///
            /// If the body is not one JSON object by the rules of `serde_json`, or if the kind has no typed form:
            /// [`Kind::Unknown`] and [`Kind::DERIVED`]. The text of the error has no value of the body in it, so it can be
            /// logged. The callback may be genuine all the same, so store it.
            pub fn parse(kind: Kind, body: &str) -> Result<Self, serde_json::Error> {
                // Asked here because serde would quote what is not an object.
                if !body.trim_ascii_start().starts_with('{') {
                    return Err(serde_json::Error::custom("not an object"));
                }
                match kind {
                    $(Kind::$variant => serde_json::from_str(body).map(Self::$variant),)*
                    Kind::Unknown => Err(serde_json::Error::custom("an unknown kind has no typed form")),
                    Kind::StreamLive | Kind::StreamOffline => Err(serde_json::Error::custom("it is typed as it is")),
                }
            }

            /// The kind that this is the payload of.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)* }
            }

            /// The names of the members whose values, or something inside them, do not fit their types. They are in
            /// [`other`](Self::other), as received.
            pub fn misfits(&self) -> impl Iterator<Item = &str> {
                self.other().misfits()
            }

            /// The members that this version does not know, and those that do not fit. Unknown members of an object inside are
            /// in the `other` of that object.
            pub fn other(&self) -> &crate::wire::Other {
                match self { $(Self::$variant(payload) => &payload.other,)* }
            }

            /// The JSON Schema of the typed form of a kind; none if the kind has no typed form.
            ///
            /// An object has `x-order`, its members in the order of the struct. A member has `x-wire` if the platform has other
            /// names for it than the typed form.
            #[cfg(any(test, feature = "schema"))]
            pub fn schema(
                kind: Kind,
                generator: &mut schemars::SchemaGenerator,
            ) -> Option<schemars::Schema> {
                match kind {
                    $(Kind::$variant => Some(generator.subschema_for::<$variant>()),)*
                    Kind::Unknown | Kind::StreamLive | Kind::StreamOffline => None,
                }
            }
        }

        /// As the typed form.
        impl Serialize for Payload {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(payload) => payload.serialize(serializer),)* }
            }
        }
    };
}
kinds!(define_payload);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
