//! A push is irregular (321): pages 53310 and 84046.

use crate::wire::open::open_code;
use crate::wire::wire;

wire! {
    /// What was irregular about a push within one interval.
    ///
    /// Documentation: page 53310 (mainland: 84046).
    pub struct PushException: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text: "path",
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The query string of the push URL.
        pub stream_param: Option<String> = text,
        /// The id of the push, the same as in `stream-begin` and `stream-end`.
        pub sequence: Option<String> = id,
        /// The IP address of the pusher.
        pub user_ip: Option<String> = text,
        /// When it happened, UNIX milliseconds.
        pub data_time: Option<i64> = number,
        /// The length of the interval, milliseconds.
        pub report_interval: Option<i64> = number,
        /// How long the platform waits for the answer, milliseconds.
        pub timeout: Option<i64> = number,
        /// The irregularities.
        pub abnormal_event: Option<Vec<AbnormalEvent>> = one_or_many(object),
    }
}

wire! {
    /// A kind of irregularity and its occurrences.
    pub struct AbnormalEvent {
        /// Which irregularity it is.
        pub r#type: Option<AbnormalType> = code: "type",
        /// How often it happened.
        pub count: Option<i64> = number,
        /// The occurrences.
        pub detail: Option<Vec<Occurrence>> = one_or_many(object),
        /// Always true; a string on the wire.
        pub customer_visible: Option<bool> = flag,
        /// Undocumented; empty in samples.
        pub event_key: Option<String> = text,
        /// The irregularity in the local language.
        pub type_desc_cn: Option<String> = text,
        /// The irregularity in English.
        pub type_desc_en: Option<String> = text,
    }
}

wire! {
    /// One occurrence.
    pub struct Occurrence {
        /// What happened.
        pub desc: Option<String> = text,
        /// When it happened, UNIX milliseconds.
        pub occur_time: Option<i64> = number,
    }
}

open_code! {
    /// The kinds of irregularity.
    pub enum AbnormalType {
        VideoBack = 1: "video timestamps go back",
        AudioBack = 2: "audio timestamps go back",
        VideoJump = 3: "video timestamps jump by more than 1000 ms",
        AudioJump = 4: "audio timestamps jump by more than 1000 ms",
        ChunkTooLarge = 5: "a chunk is larger than 8192",
        VideoGap = 6: "two video frames are more than 3000 ms apart",
        AudioGap = 7: "two audio frames are more than 1000 ms apart",
        VideoCodecChanged = 8: "the video codec changed",
        AudioCodecChanged = 9: "the audio codec changed",
        VideoBeforeHeader = 10: "a video frame came before the codec header",
        AudioBeforeHeader = 11: "an audio frame came before the codec header",
        AudioInterval = 12: "the interval of audio timestamps is too large",
        UncommonCodec = 13: "an uncommon codec",
        VideoHeaderUnparsable = 14: "the video header cannot be parsed",
        FrameRateTooLow = 15: "the frame rate is too low",
        GopTooLong = 16: "a group of pictures is longer than 10 s",
    }
}
