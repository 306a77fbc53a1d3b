//! A screenshot was taken (200): page 38083.

use crate::wire::wire;

wire! {
    /// A screenshot.
    ///
    /// Documentation: page 38083.
    pub struct Snapshot: callback {
        /// The id of the account; not documented for this kind.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text: "app",
        /// The push path, also called AppName.
        pub appname: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text,
        /// The query string of the push URL.
        pub stream_param: Option<String> = text,
        /// When the screenshot was taken, UNIX seconds.
        pub create_time: Option<i64> = number,
        /// The size of the picture, bytes.
        pub file_size: Option<u64> = unsigned,
        /// The width of the picture, pixels.
        pub width: Option<i64> = number,
        /// The height of the picture, pixels.
        pub height: Option<i64> = number,
        /// The path of the picture in its bucket.
        pub pic_url: Option<String> = text,
        /// The URL of the picture.
        pub pic_full_url: Option<String> = text,
        /// More about the picture; undocumented, always 0 where it was seen.
        pub pic_extra_info: Option<i64> = number,
        /// The id of the screenshot task; only for tasks made by API.
        pub task_id: Option<String> = id,
    }
}
