//! A recording started, paused, resumed, failed or ended (332): pages 58590 and 102192.

use crate::wire::open::{open_code, open_text};
use crate::wire::{Opened, wire};

wire! {
    /// A step of a recording.
    ///
    /// Documentation: page 58590 (mainland: 102192).
    pub struct RecordStatus: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text,
        /// The stream name; for a relay recording the id of the relay task.
        pub stream_id: Option<String> = text,
        /// When it happened, UNIX seconds.
        pub event_time: Option<i64> = number,
        /// What happened.
        pub record_event: Option<RecordEvent> = word,
        /// How the stream is recorded. JSON in a string on the wire.
        pub record_detail: Option<Opened<RecordDetail>> = json_in_string(object),
        /// The id of the recording task; only for tasks made by API.
        pub task_id: Option<String> = id,
        /// The number of the message, digits.
        pub seq: Option<String> = id,
        /// The id of the recording session, digits.
        pub session_id: Option<String> = id,
    }
}

wire! {
    /// What `record_detail` holds.
    pub struct RecordDetail {
        /// The container of the file.
        pub file_format: Option<RecordFormat> = code,
        /// The bit rate of the transcoded source, kbit/s; 0 for the original.
        pub record_bps: Option<i64> = number,
        /// What started the recording.
        pub start_model: Option<StartModel> = code,
        /// Which picture is recorded.
        pub record_content: Option<RecordContent> = code,
        /// Where the stream comes from.
        pub source_type: Option<SourceType> = code,
        /// The id of the transcoding template.
        pub codec_temp_id: Option<i64> = number,
    }
}

open_text! {
    /// The steps of a recording.
    pub enum RecordEvent {
        /// It started.
        StartSucceeded = "record_start_succeeded",
        /// It could not start.
        StartFailed = "record_start_failed",
        /// It paused.
        Paused = "record_paused",
        /// It went on.
        Resumed = "record_resumed",
        /// It met an error.
        Error = "record_error",
        /// It ended.
        Ended = "record_ended",
    }
}

open_code! {
    /// The container of a file, as a number.
    pub enum RecordFormat {
        Flv = 1: "FLV",
        Hls = 2: "HLS",
        Mp4 = 3: "MP4",
        Aac = 4: "AAC",
        Mp3 = 5: "MP3",
    }
}

open_code! {
    /// What starts a recording.
    pub enum StartModel {
        Template = 1: "a template rule",
        Api = 5: "the API",
    }
}

open_code! {
    /// Which picture is recorded.
    pub enum RecordContent {
        Original = 1: "the original stream",
        Watermarked = 2: "the watermarked stream",
        Transcoded = 3: "the transcoded stream",
    }
}

open_code! {
    /// Where a recorded stream comes from.
    pub enum SourceType {
        Live = 1: "a live stream",
        Relay = 2: "a relay",
    }
}
