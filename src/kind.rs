//! The one table of callback kinds.
//!
//! Routes, documentation, `livehook check`, the typed payloads and the simulator all fold over [`Kind::ALL`]. A new kind is
//! one row here, one payload struct and one fixture.

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
        }
    };
}
pub(crate) use kinds;

/// Where the operator enters the URL of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlField {
    /// A parameter of `CreateLiveCallbackTemplate`, also a field of the console's template page.
    Template(&'static str),
    /// A parameter of each task, set where the task is created.
    PerTask(&'static str),
    /// A field of the console's template page that no API has.
    Console(&'static str),
}

impl UrlField {
    /// The field's own name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Template(name) | Self::PerTask(name) | Self::Console(name) => name,
        }
    }
}

/// Whether genuine callbacks of a kind always carry `sign` and `t` when the template has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signing {
    AlwaysSigned,
    MaybeUnsigned,
}

/// How often, and how far apart, the platform repeats a callback that was not answered 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySchedule {
    /// Attempts after the first one.
    pub retries: u32,
    /// From the end of one attempt to the next.
    pub interval: Duration,
}

impl RetrySchedule {
    /// 12 × 1 min: documented for push, interrupt, recording and moderation (page 38080), assumed where nothing is stated.
    pub const COMMON: Self = Self {
        retries: 12,
        interval: Duration::from_secs(60),
    };
    /// 5 × 2 min: screenshots (page 38080).
    pub const SNAPSHOT: Self = Self {
        retries: 5,
        interval: Duration::from_secs(120),
    };
    /// 3 attempts without a stated interval (pages 73169 and 73170); one minute is assumed.
    pub const AI: Self = Self {
        retries: 3,
        interval: Duration::from_secs(60),
    };

    /// From the first attempt to the last one.
    pub fn window(self) -> Duration {
        self.interval * self.retries
    }
}

macro_rules! define_kind {
    ($($variant:ident, $code:literal, $slug:literal, $field:ident($name:literal), $signing:ident, $retries:path, $meaning:literal;)*) => {
        /// The kind of a callback.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = concat!("`", $slug, "`, `event_type` ", $code, ": ", $meaning, ".")] $variant,)*
            /// Authentic, but with an `event_type` that is not in the table, or with none where the URL names none.
            Unknown,
        }

        impl Kind {
            /// The 19 known kinds in the order of the documentation.
            pub const ALL: [Kind; 19] = [$(Kind::$variant),*];

            /// All, the unknown one included: `kind as usize` is less.
            pub(crate) const COUNT: usize = Self::ALL.len() + 1;

            /// The `event_type` on the wire; none for [`Kind::Unknown`].
            pub fn code(self) -> Option<i64> {
                match self { $(Self::$variant => Some($code),)* Self::Unknown => None }
            }

            /// The kind of an `event_type`.
            pub fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The last segment of the kind's URL, also its name in configuration, metrics and API.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* Self::Unknown => "unknown" }
            }

            /// The CloudEvents `type`: `css.` and the slug.
            pub fn event_type(self) -> &'static str {
                match self { $(Self::$variant => concat!("css.", $slug),)* Self::Unknown => "css.unknown" }
            }

            /// Where the operator enters this kind's URL; none for [`Kind::Unknown`].
            pub fn url_field(self) -> Option<UrlField> {
                match self { $(Self::$variant => Some(UrlField::$field($name)),)* Self::Unknown => None }
            }

            /// Whether genuine callbacks of this kind have been seen without `sign` and `t`.
            pub fn may_be_unsigned(self) -> bool {
                match self { $(Self::$variant => Signing::$signing == Signing::MaybeUnsigned,)* Self::Unknown => false }
            }

            /// How the platform repeats a callback that was not answered 200.
            pub fn retry_schedule(self) -> RetrySchedule {
                match self { $(Self::$variant => $retries,)* Self::Unknown => RetrySchedule::COMMON }
            }

            /// What it tells, as the end of a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* Self::Unknown => "something this version does not know" }
            }
        }
    };
}
kinds!(define_kind);

impl Kind {
    /// The known kinds and [`Kind::Unknown`].
    pub fn all_and_unknown() -> impl Iterator<Item = Kind> {
        Self::ALL.into_iter().chain([Self::Unknown])
    }

    /// As stores have it: the `event_type`, -1 for [`Kind::Unknown`].
    pub(crate) fn stored(self) -> i64 {
        self.code().unwrap_or(-1)
    }

    /// From what [`stored`](Self::stored) gave.
    pub(crate) fn from_stored(code: i64) -> Self {
        Self::from_code(code).unwrap_or(Self::Unknown)
    }

    /// The kind with this slug, `unknown` included.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::all_and_unknown().find(|kind| kind.slug() == slug)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.slug())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slug = String::deserialize(deserializer)?;
        Self::from_slug(&slug).ok_or_else(|| {
            let known = Self::all_and_unknown().map(Self::slug);
            let nearest =
                known.max_by(|a, b| strsim::jaro(a, &slug).total_cmp(&strsim::jaro(b, &slug)));
            serde::de::Error::custom(format_args!(
                "unknown kind `{slug}`, did you mean `{}`?",
                nearest.unwrap_or_default()
            ))
        })
    }
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
    }

    #[test]
    fn a_typing_error_names_the_nearest_kind() {
        let error = serde_json::from_str::<Kind>(r#""stream-started""#)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("did you mean `stream-begin`")
                || error.contains("did you mean `stream-end`"),
            "{error}"
        );
    }
}
