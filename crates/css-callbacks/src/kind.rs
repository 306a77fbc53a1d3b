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
            StreamliveBegin, 329, "streamlive-begin", Input("Callback Configuration"), AlwaysSigned, RetrySchedule::COMMON, "a push to an input of StreamLive started";
            StreamliveEnd, 330, "streamlive-end", Input("Callback Configuration"), AlwaysSigned, RetrySchedule::COMMON, "a push to an input of StreamLive was interrupted";
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
    /// A setting of each input of StreamLive, the neighbouring product: one URL for all its events.
    Input(&'static str),
}

impl UrlField {
    /// The field's own name.
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
            /// `stream-live`, derived from others: a stream went live, and stayed so for a moment.
            StreamLive,
            /// `stream-offline`, derived from others: a stream went offline, and stayed so for a moment.
            StreamOffline,
        }

        impl Kind {
            /// The known kinds in the order of the documentation.
            pub const ALL: [Kind; 21] = [$(Kind::$variant),*];

            /// The `event_type` on the wire; none for [`Kind::Unknown`] and those that are derived.
            pub fn code(self) -> Option<i64> {
                match self { $(Self::$variant => Some($code),)* Self::Unknown | Self::StreamLive | Self::StreamOffline => None }
            }

            /// The kind of an `event_type`.
            pub fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }

            /// The last segment of the kind's URL, also its name in configuration, metrics and API.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* Self::Unknown => "unknown", Self::StreamLive => "stream-live", Self::StreamOffline => "stream-offline" }
            }

            /// The CloudEvents `type`: `css.` and the slug.
            pub fn event_type(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("css.", $slug),)*
                    Self::Unknown => "css.unknown",
                    Self::StreamLive => "css.stream-live",
                    Self::StreamOffline => "css.stream-offline",
                }
            }

            /// Where the operator enters this kind's URL; none for [`Kind::Unknown`] and those that are derived.
            pub fn url_field(self) -> Option<UrlField> {
                match self { $(Self::$variant => Some(UrlField::$field($name)),)* Self::Unknown | Self::StreamLive | Self::StreamOffline => None }
            }

            /// Whether genuine callbacks of this kind have been seen without `sign` and `t`.
            pub fn may_be_unsigned(self) -> bool {
                match self { $(Self::$variant => Signing::$signing == Signing::MaybeUnsigned,)* Self::Unknown | Self::StreamLive | Self::StreamOffline => false }
            }

            /// How the platform repeats a callback that was not answered 200.
            pub fn retry_schedule(self) -> RetrySchedule {
                match self { $(Self::$variant => $retries,)* Self::Unknown | Self::StreamLive | Self::StreamOffline => RetrySchedule::COMMON }
            }

            /// What it tells, as the end of a sentence.
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
    /// The known kinds and [`Kind::Unknown`].
    pub fn all_and_unknown() -> impl Iterator<Item = Kind> {
        Self::ALL.into_iter().chain([Self::Unknown])
    }

    /// What livehook derives itself, and only hands to handlers that name it.
    pub const DERIVED: [Kind; 2] = [Self::StreamLive, Self::StreamOffline];

    /// Every kind that an event can have.
    pub fn every() -> impl Iterator<Item = Kind> {
        Self::all_and_unknown().chain(Self::DERIVED)
    }

    /// Whether it is one of [`Kind::DERIVED`].
    pub fn is_derived(self) -> bool {
        Self::DERIVED.contains(&self)
    }

    /// As stores have it: the `event_type`, or a number below zero that none has.
    pub fn stored(self) -> i64 {
        match self {
            Self::StreamLive => -2,
            Self::StreamOffline => -3,
            received => received.code().unwrap_or(-1),
        }
    }

    /// From what [`stored`](Self::stored) gave.
    pub fn from_stored(code: i64) -> Self {
        match code {
            -2 => Self::StreamLive,
            -3 => Self::StreamOffline,
            code => Self::from_code(code).unwrap_or(Self::Unknown),
        }
    }

    /// The kind with this slug, of [every](Self::every) one.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::every().find(|kind| kind.slug() == slug)
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
            let known = Self::every().map(Self::slug);
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
        for kind in Kind::every() {
            assert_eq!(Kind::from_stored(kind.stored()), kind);
            assert_eq!(kind.is_derived(), kind.stored() < -1);
        }
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
