//! The one table of callback kinds.
//!
//! [`Kind`] and the typed payloads are made from it. Routes, documentation and the simulator go through [`Kind::ALL`]. A new
//! kind is one row here, one payload struct and one fixture.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Expands `$with!` with one row per kind: variant, `event_type`, URL slug, where its URL is set, signing, retries, meaning.
macro_rules! kinds {
    ($with:ident) => {
        $with! {
            StreamBegin, 1, "stream-begin", Template("StreamBeginNotifyUrl"), AlwaysSigned, RetrySchedule::COMMON, "a stream push started";
            StreamEnd, 0, "stream-end", Template("StreamEndNotifyUrl"), AlwaysSigned, RetrySchedule::COMMON, "a stream push was interrupted";
            Record, 100, "record", Template("RecordNotifyUrl"), AlwaysSigned, RetrySchedule::COMMON, "a recording file was generated";
            RecordStatus, 332, "record-status", Template("RecordStatusNotifyUrl"), MaybeUnsigned, RetrySchedule::COMMON, "a recording started, paused, resumed, failed or ended";
            RecordException, 341, "record-exception", Template("RecordExceptionNotifyUrl"), AlwaysSigned, RetrySchedule::COMMON, "a recording met an exception";
            Snapshot, 200, "snapshot", Template("SnapshotNotifyUrl"), AlwaysSigned, RetrySchedule::SNAPSHOT, "a screenshot was taken";
            ImageAudit, 317, "image-audit", Template("PornCensorshipNotifyUrl"), AlwaysSigned, RetrySchedule::COMMON, "image moderation found something";
            AudioAudit, 315, "audio-audit", Template("AudioAuditNotifyUrl"), MaybeUnsigned, RetrySchedule::COMMON, "audio moderation found something";
            PushException, 321, "push-exception", Template("PushExceptionNotifyUrl"), MaybeUnsigned, RetrySchedule::COMMON, "a push is irregular";
            Relay, 314, "relay", PerTask("CallbackUrl of the pull-stream task"), MaybeUnsigned, RetrySchedule::COMMON, "a relay (pull-stream) task changed";
            Monitor, 328, "monitor", PerTask("NotifyPolicy.CallbackUrl of the monitor"), MaybeUnsigned, RetrySchedule::COMMON, "a live monitor raised an alarm";
            Subtitle, 338, "subtitle", Console("Live subtitles Callback"), AlwaysSigned, RetrySchedule::AI, "live subtitles were produced";
            QualityControl, 343, "quality-control", Console("Quality Control Callback"), MaybeUnsigned, RetrySchedule::COMMON, "quality control found something";
            AssessmentThreshold, 344, "assessment-threshold", Console("Evaluation Threshold Callback"), MaybeUnsigned, RetrySchedule::COMMON, "quality fell below the threshold";
            AssessmentAverage, 345, "assessment-average", Console("Average Score Evaluation Callback"), MaybeUnsigned, RetrySchedule::COMMON, "the average quality score was computed";
            SmartErase, 347, "smart-erase", Console("Smart Wipe Callback"), AlwaysSigned, RetrySchedule::AI, "words were erased from picture and sound";
            Summary, 348, "summary", Console("Live Streaming Summary Callback"), MaybeUnsigned, RetrySchedule::COMMON, "a summary of the live stream was written";
            Highlight, 349, "highlight", Console("Smart Highlight Callback"), MaybeUnsigned, RetrySchedule::COMMON, "highlights were cut";
            StreamMix, 8, "stream-mix", Template("StreamMixNotifyUrl"), MaybeUnsigned, RetrySchedule::COMMON, "a stream mix changed (deprecated)";
            StreamliveBegin, 329, "streamlive-begin", Input("Callback Configuration"), AlwaysSigned, RetrySchedule::COMMON, "a push to an input of StreamLive started";
            StreamliveEnd, 330, "streamlive-end", Input("Callback Configuration"), AlwaysSigned, RetrySchedule::COMMON, "a push to an input of StreamLive was interrupted";
        }
    };
}
pub(crate) use kinds;

/// Where you enter the URL that the platform posts a kind to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UrlField {
    /// A parameter of `CreateLiveCallbackTemplate`. The console's page of the callback template has a field for it, too.
    Template(&'static str),
    /// A parameter of each task. It is set where the task is created.
    PerTask(&'static str),
    /// A field of the console's page of the callback template. No API has it.
    Console(&'static str),
    /// A setting of each input of StreamLive, another product. One URL gets all its events.
    Input(&'static str),
}

impl UrlField {
    /// The name of the field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Template(name)
            | Self::PerTask(name)
            | Self::Console(name)
            | Self::Input(name) => name,
        }
    }
}

/// Whether genuine callbacks of a kind always carry `sign` and `t` when the template has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signing {
    AlwaysSigned,
    MaybeUnsigned,
}

/// How the platform repeats a callback that was not answered with 200. After the last attempt the callback is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RetrySchedule {
    /// How many attempts follow the first one.
    pub retries: u32,
    /// The time from the end of one attempt to the next.
    pub interval: Duration,
}

impl RetrySchedule {
    /// 12 × 1 min. Page 38080 says so for push, interrupt, recording and moderation. It is assumed where no page says anything.
    pub const COMMON: Self = Self {
        retries: 12,
        interval: Duration::from_secs(60),
    };
    /// 5 × 2 min, for screenshots (page 38080).
    pub const SNAPSHOT: Self = Self {
        retries: 5,
        interval: Duration::from_secs(120),
    };
    /// 3 × 1 min, for subtitles and smart erasing. Pages 73169 and 73170 name no interval; one minute is assumed.
    pub const AI: Self = Self {
        retries: 3,
        interval: Duration::from_secs(60),
    };

    /// The time from the first attempt to the last one.
    pub fn window(self) -> Duration {
        self.interval * self.retries
    }
}

macro_rules! define_kind {
    ($($variant:ident, $code:literal, $slug:literal, $field:ident($name:literal), $signing:ident, $retries:path, $meaning:literal;)*) => {
        /// The kind of a callback.
        ///
        /// [`Kind::ALL`] has those that the platform sends. `Display` and serde use the [slug](Kind::slug).
        ///
        /// ```
        /// use css_callbacks::Kind;
        ///
        /// assert_eq!(Kind::from_code(100), Some(Kind::Record));
        /// assert_eq!(Kind::Record.slug(), "record");
        /// for kind in Kind::ALL {
        ///     println!("{kind}: {}", kind.meaning());
        /// }
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = concat!("`", $slug, "`, `event_type` ", $code, ": ", $meaning, ".")] $variant,)*
            /// `unknown`: the `event_type` is not one of the others, or there is none and the URL names no kind either.
            ///
            /// Store such a callback like any other: it may be of a kind that is newer than this version.
            Unknown,
            /// `stream-live`: a stream is live. The platform never sends it; livehook makes it from the callbacks of pushes.
            StreamLive,
            /// `stream-offline`: a stream is not live any more. The platform never sends it; livehook makes it from the
            /// callbacks of pushes.
            StreamOffline,
        }

        impl Kind {
            /// The kinds that the platform sends.
            pub const ALL: [Kind; 21] = [$(Kind::$variant),*];

            /// The `event_type` on the wire; none for [`Kind::Unknown`] and the [derived](Kind::DERIVED) kinds.
            pub fn code(self) -> Option<i64> {
                match self { $(Self::$variant => Some($code),)* Self::Unknown | Self::StreamLive | Self::StreamOffline => None }
            }

            /// The kind with this `event_type`; none if this version does not know it.
            pub fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The name of the kind in lower case with hyphens, such as `stream-begin`. It is good for URLs and configuration.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* Self::Unknown => "unknown", Self::StreamLive => "stream-live", Self::StreamOffline => "stream-offline" }
            }

            /// The `type` of a CloudEvent of this kind: `css.` and the slug.
            pub fn event_type(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("css.", $slug),)*
                    Self::Unknown => "css.unknown",
                    Self::StreamLive => "css.stream-live",
                    Self::StreamOffline => "css.stream-offline",
                }
            }

            /// Where you enter the URL of this kind; none for [`Kind::Unknown`] and the [derived](Kind::DERIVED) kinds.
            pub fn url_field(self) -> Option<UrlField> {
                match self { $(Self::$variant => Some(UrlField::$field($name)),)* Self::Unknown | Self::StreamLive | Self::StreamOffline => None }
            }

            /// Whether genuine callbacks of this kind were seen without `sign` and `t`, although the template had a key.
            ///
            /// [`verify`](crate::verify) gives [`VerifyError::Unsigned`](crate::VerifyError::Unsigned) for those. Accept them
            /// only if something else proves where they are from, such as a secret in the URL. Never accept another kind
            /// unsigned: else anybody could leave the signature out.
            pub fn may_be_unsigned(self) -> bool {
                match self { $(Self::$variant => Signing::$signing == Signing::MaybeUnsigned,)* Self::Unknown | Self::StreamLive | Self::StreamOffline => false }
            }

            /// How the platform repeats a callback of this kind that was not answered with 200.
            pub fn retry_schedule(self) -> RetrySchedule {
                match self { $(Self::$variant => $retries,)* Self::Unknown | Self::StreamLive | Self::StreamOffline => RetrySchedule::COMMON }
            }

            /// What the kind tells, as half a sentence: `a recording file was generated`.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                    Self::Unknown => "something this version does not know",
                    Self::StreamLive => "a stream is live",
                    Self::StreamOffline => "a stream is live no more",
                }
            }
        }
    };
}
kinds!(define_kind);

impl Kind {
    /// The kinds that a callback can have: [`Kind::ALL`] and [`Kind::Unknown`].
    pub fn all_and_unknown() -> impl Iterator<Item = Kind> {
        Self::ALL.into_iter().chain([Self::Unknown])
    }

    /// The kinds that no platform sends: livehook makes them from other callbacks.
    pub const DERIVED: [Kind; 2] = [Self::StreamLive, Self::StreamOffline];

    /// Every kind: [`Kind::ALL`], [`Kind::Unknown`] and [`Kind::DERIVED`].
    pub fn every() -> impl Iterator<Item = Kind> {
        Self::all_and_unknown().chain(Self::DERIVED)
    }

    /// Whether it is one of [`Kind::DERIVED`].
    pub fn is_derived(self) -> bool {
        Self::DERIVED.contains(&self)
    }

    /// The number that stands for the kind in livehook's stores: the `event_type`, or one below zero that no `event_type` has.
    /// It is here because it must stay unlike every `event_type`. It is a stored format: never change one.
    #[doc(hidden)]
    pub fn stored(self) -> i64 {
        match self {
            Self::StreamLive => -2,
            Self::StreamOffline => -3,
            received => received.code().unwrap_or(-1),
        }
    }

    /// The kind for which [`stored`](Self::stored) gives this number.
    #[doc(hidden)]
    pub fn from_stored(code: i64) -> Self {
        match code {
            -2 => Self::StreamLive,
            -3 => Self::StreamOffline,
            code => Self::from_code(code).unwrap_or(Self::Unknown),
        }
    }

    /// The kind with this [slug](Self::slug), of [every](Self::every) kind.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::every().find(|kind| kind.slug() == slug)
    }
}

/// The [slug](Kind::slug).
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// As the [slug](Kind::slug).
impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.slug())
    }
}

/// From the [slug](Kind::slug). The error suggests the slug that is most like the text, or lists
/// all.
impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slug = String::deserialize(deserializer)?;
        Self::from_slug(&slug).ok_or_else(|| {
            serde::de::Error::custom(match nearest_slug(&slug) {
                Some(nearest) => format!("unknown kind `{slug}`, did you mean `{nearest}`?"),
                None => {
                    let known: Vec<_> = Self::every().map(Self::slug).collect();
                    format!("unknown kind `{slug}`; known: {}", known.join(", "))
                }
            })
        })
    }
}

/// The slug that is most like the text, if at most two of five letters differ.
fn nearest_slug(text: &str) -> Option<&'static str> {
    Kind::every()
        .map(Kind::slug)
        .map(|slug| (strsim::normalized_damerau_levenshtein(text, slug), slug))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, slug)| slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_slugs_lead_back_to_their_kind() {
        for kind in Kind::ALL {
            assert_eq!(kind.code().and_then(Kind::from_code), Some(kind));
            assert_eq!(Kind::from_slug(kind.slug()), Some(kind));
            assert_eq!(kind.event_type(), format!("css.{}", kind.slug()));
        }
        assert_eq!(Kind::from_code(318), None);
        assert_eq!(Kind::from_slug("unknown"), Some(Kind::Unknown));
        for kind in Kind::every() {
            assert_eq!(Kind::from_stored(kind.stored()), kind);
            assert_eq!(kind.is_derived(), kind.stored() < -1);
        }
    }

    #[test]
    fn a_typing_error_names_the_nearest_kind() {
        let error = |text: &str| {
            let read = serde_json::from_value::<Kind>(text.into());
            read.unwrap_err().to_string()
        };
        for (text, slug) in [
            ("stream_begin", "stream-begin"),
            ("recrd", "record"),
            ("relais", "relay"),
        ] {
            let expected = format!("unknown kind `{text}`, did you mean `{slug}`?");
            assert_eq!(error(text), expected);
        }
        let expected = "unknown kind `stream-start`; known: stream-begin, stream-end, record, ";
        assert!(error("stream-start").starts_with(expected));
    }
}
