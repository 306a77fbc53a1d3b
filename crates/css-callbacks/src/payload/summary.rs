//! A summary (348, pages 74671 and 125914) and highlights (349, pages 74672 and 125915) of a live stream.

use crate::wire::wire;

wire! {
    /// A summary of a stretch of the stream.
    ///
    /// Documentation: page 74671 (mainland: 125914).
    pub struct Summary: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text: "path",
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// When it starts, UNIX seconds.
        pub begin_time: Option<i64> = number,
        /// When it ends, UNIX seconds.
        pub end_time: Option<i64> = number,
        /// A title.
        pub title: Option<String> = text,
        /// The summary.
        pub summary: Option<String> = text,
        /// Key words.
        pub key_words: Option<Vec<String>> = list(text),
        /// Key points.
        pub key_points: Option<Vec<String>> = list(text),
    }
}

wire! {
    /// Highlights that were cut.
    ///
    /// Documentation: page 74672 (mainland: 125915).
    pub struct Highlight: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text: "path",
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The highlights.
        pub items: Option<Vec<HighlightItem>> = list(object),
    }
}

wire! {
    /// A highlight.
    pub struct HighlightItem {
        /// When it starts, UNIX seconds.
        pub begin_time: Option<i64> = number,
        /// When it ends, UNIX seconds.
        pub end_time: Option<i64> = number,
        /// A title.
        pub title: Option<String> = text,
        /// A summary.
        pub summary: Option<String> = text,
        /// The URL of the clip.
        pub video_store_url: Option<String> = text,
        /// The URL of its cover picture; may be empty.
        pub cov_img_store_url: Option<String> = text,
        /// Key words.
        pub key_words: Option<Vec<String>> = list(text),
    }
}
