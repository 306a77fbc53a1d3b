//! A summary (348, pages 74671 and 125914) and highlights (349, pages 74672 and 125915) of a live stream.

use crate::wire::wire;

wire! {
    /// A summary of a stretch of the stream.
    pub struct Summary: callback {
        /// The account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, `path` on the wire.
        pub appname: Option<String> = text: "path",
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// From, UNIX seconds.
        pub begin_time: Option<i64> = number,
        /// To, UNIX seconds.
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
    pub struct Highlight: callback {
        /// The account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, `path` on the wire.
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
        /// From, UNIX seconds.
        pub begin_time: Option<i64> = number,
        /// To, UNIX seconds.
        pub end_time: Option<i64> = number,
        /// A title.
        pub title: Option<String> = text,
        /// A summary.
        pub summary: Option<String> = text,
        /// Where the clip is stored.
        pub video_store_url: Option<String> = text,
        /// Where its cover is stored; may be empty.
        pub cov_img_store_url: Option<String> = text,
        /// Key words.
        pub key_words: Option<Vec<String>> = list(text),
    }
}
