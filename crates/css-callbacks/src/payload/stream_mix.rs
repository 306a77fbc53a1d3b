//! A stream mix changed (8): the event notification page of 2019. Its URL is no longer set anywhere.

use crate::wire::wire;

wire! {
    /// A stream mix.
    pub struct StreamMix: callback {
        /// The account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, `path` on the wire.
        pub appname: Option<String> = text: "path",
        /// The mix.
        pub mix_session_id: Option<String> = id,
        /// How it went.
        pub status_code: Option<i64> = number,
        /// The same in words.
        pub status_msg: Option<String> = text,
        /// When the mix started, UNIX time.
        pub timestamp: Option<i64> = number,
        /// The streams in the mix.
        pub stream_list: Option<Vec<String>> = list(text),
    }
}
