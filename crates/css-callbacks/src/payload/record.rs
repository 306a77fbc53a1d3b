//! A recording file was generated (100): page 38082.

use crate::wire::open::open_text;
use crate::wire::{Float, Opened, wire};

wire! {
    /// A recording file. A stream makes one for each format and each slice.
    ///
    /// Documentation: page 38082 (mainland: 47026).
    pub struct Record: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text: "app",
        /// The push path, also called AppName.
        pub appname: Option<String> = text,
        /// The stream name; for a relay recording the id of the relay task.
        pub stream_id: Option<String> = text,
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text,
        /// The id of the file in VOD; for a file in COS `<appid>_<32 hex digits>`.
        pub file_id: Option<String> = id,
        /// The same as `file_id`; deprecated.
        pub record_file_id: Option<String> = id,
        /// The id of the file in VOD; sent from 2016 to 2019.
        pub video_id: Option<String> = id,
        /// The id of the recording template; absent or empty if a task recorded it.
        pub record_temp_id: Option<String> = id,
        /// The container of the file.
        pub file_format: Option<FileFormat> = word,
        /// The id of the recording task made by API, or of the recording session of a template.
        pub task_id: Option<String> = id,
        /// When writing began, UNIX seconds. The content began at `end_time` less `duration`.
        pub start_time: Option<i64> = number,
        /// When writing ended, UNIX seconds.
        pub end_time: Option<i64> = number,
        /// The part of `start_time` below a second, microseconds.
        pub start_time_usec: Option<i64> = number,
        /// The part of `end_time` below a second, microseconds.
        pub end_time_usec: Option<i64> = number,
        /// The length of the content, seconds.
        pub duration: Option<Float> = float,
        /// The size of the file, bytes.
        pub file_size: Option<u64> = unsigned,
        /// The query string of the push URL; absent for tasks made by API.
        pub stream_param: Option<String> = text,
        /// The URL of the file.
        pub video_url: Option<String> = text,
        /// The presentation timestamp of the first frame that was pulled, unit not documented.
        pub media_start_time: Option<i64> = number,
        /// The bit rate of the transcoded source, kbit/s; 0 for the original.
        pub record_bps: Option<i64> = number,
        /// Properties of the video. The documentation says not to depend on it. JSON in a string on the wire.
        pub callback_ext: Option<Opened<CallbackExt>> = json_in_string(object),
        /// 1 for the second generation of VOD; obsolete.
        pub vod2_flag: Option<i64> = number: "vod2Flag",
    }
}

wire! {
    /// What `callback_ext` holds.
    pub struct CallbackExt {
        /// The codec, such as `h264`.
        pub video_codec: Option<String> = text,
        /// Width and height, such as `640x480`.
        pub resolution: Option<String> = text,
        /// The id of the recording session, as in status and exceptions of a recording.
        pub session_id: Option<String> = id,
    }
}

open_text! {
    /// The container of a file. The wire has it in upper or lower case, the typed form in lower case.
    pub enum FileFormat: any_case {
        /// Flash video.
        Flv = "flv",
        /// A playlist and its segments.
        Hls = "hls",
        /// MPEG-4.
        Mp4 = "mp4",
        /// Audio only.
        Aac = "aac",
        /// MPEG transport stream.
        Ts = "ts",
        /// Audio only.
        Mp3 = "mp3",
    }
}
