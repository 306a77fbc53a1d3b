//! The typed payloads: one struct for each kind with every documented member, old ones included.
//!
//! Serialized, a payload is its typed form: one name for what has several on the wire, numbers as numbers, identifiers as
//! strings, JSON taken out of strings, null arrays empty. Nothing is required, and what is not known stays in `other`, so a
//! newer wire never breaks an older reader. So does a member whose value has no reading as its type, and the rest is typed.

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

pub use audio_audit::AudioAudit;
pub use image_audit::ImageAudit;
pub use monitor::Monitor;
pub use push::{StreamBegin, StreamEnd};
pub use push_exception::PushException;
pub use quality::{AssessmentAverage, AssessmentThreshold, QualityControl};
pub use record::Record;
pub use record_exception::RecordException;
pub use record_status::RecordStatus;
pub use relay::Relay;
pub use snapshot::Snapshot;
pub use stream_mix::StreamMix;
pub use streamlive::{StreamliveBegin, StreamliveEnd};
pub use subtitle::{SmartErase, Subtitle};
pub use summary::{Highlight, Summary};

macro_rules! define_payload {
    ($($variant:ident, $code:literal, $slug:literal, $field:ident($name:literal), $signing:ident, $retries:path, $meaning:literal;)*) => {
        /// The typed payload of a callback.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Payload {
            $(#[doc = concat!("`", $slug, "`: ", $meaning, ".")] $variant(Box<$variant>),)*
        }

        impl Payload {
            /// Reads a body as the payload of a kind, whatever its `event_type` says.
            ///
            /// Members that do not fit are [misfits](Self::misfits). The error never repeats a value.
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

            /// The kind it is the payload of.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)* }
            }

            /// The names of members that stayed as received, because they do not fit, or something inside them does not.
            pub fn misfits(&self) -> impl Iterator<Item = &str> {
                self.other().misfits()
            }

            /// The members this version does not know, or that do not fit, those inside nested objects not included.
            pub fn other(&self) -> &crate::wire::Other {
                match self { $(Self::$variant(payload) => &payload.other,)* }
            }

            /// The JSON Schema of a kind's typed form; none for kinds that have none.
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

        /// The typed form.
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
