//! A recording met an exception (341): pages 68622 and 117052.

use super::record::FileFormat;
use crate::wire::open::{open_code, open_text};
use crate::wire::{OneOrMany, wire};

wire! {
    /// An exception. If it happens several times within a short time, the platform reports it once, up to two minutes late.
    ///
    /// Documentation: page 68622 (mainland: 117052).
    pub struct RecordException: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text: "path",
        /// The stream name; for a relay recording the id of the relay task.
        pub stream_id: Option<String> = text,
        /// The id of the recording session, digits.
        pub session_id: Option<String> = id,
        /// The container of the file.
        pub file_format: Option<FileFormat> = word,
        /// When it happened, UNIX seconds.
        pub timestamp: Option<i64> = number,
        /// How serious it is.
        pub exception_level: Option<ExceptionLevel> = word,
        /// The exception. One object is documented; an array of them stays an array.
        pub exception: Option<OneOrMany<Exception>> = shape_kept(object),
    }
}

wire! {
    /// What went wrong.
    pub struct Exception {
        /// Which exception it is.
        pub r#type: Option<ExceptionType> = code: "type",
        /// The same in words.
        pub desc: Option<String> = text,
        /// How often it happened.
        pub occurs: Option<i64> = number,
    }
}

open_text! {
    /// How serious an exception is.
    pub enum ExceptionLevel: any_case {
        /// The recording goes on.
        Info = "info",
        /// The recording may suffer.
        Warning = "warning",
        /// The name of `warning` in one of the API's tables.
        Alarm = "alarm",
        /// The recording suffers.
        Error = "error",
    }
}

open_code! {
    /// The kinds of exception.
    pub enum ExceptionType {
        AudioJump = -8: "audio timestamps jump",
        VideoJump = -9: "video timestamps jump",
        OutOfSync = -10: "audio and video are out of sync",
        IllegalVideoTimestamp = -11: "illegal video timestamp",
        PullFailed = -16: "the stream could not be pulled",
        NoAudio = -17: "an audio recording without audio",
        NoVideo = -18: "a video recording without video",
        AudioStuck = -22: "audio timestamps do not move",
        VideoStuck = -23: "video timestamps do not move",
        IllegalAudioTimestamp = -24: "illegal audio timestamp",
        ResolutionChanged = -100: "the resolution changed",
        WriteError = -104: "the file could not be written",
        CodecChanged = -120: "a change of codec forces a new file",
        VideoDropped = -130: "video frames were dropped",
        AudioDropped = -131: "audio frames were dropped",
        AbnormalGop = -132: "abnormal length of a group of pictures",
        AudioUneven = -200: "audio timestamps are uneven",
        VideoUneven = -201: "video timestamps are uneven",
    }
}
