//! A stream mix changed (8): the event notification page of 2019. Its URL is no longer set anywhere.

use crate::wire::wire;

wire! {
    /// A stream mix.
    ///
    /// Documentation: the page on event notifications of 2019.
    pub struct StreamMix: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text: "path",
        /// The id of the mix.
        pub mix_session_id: Option<String> = id,
        /// The result, as a number.
        pub status_code: Option<i64> = number,
        /// The result in words.
        pub status_msg: Option<String> = text,
        /// When the mix started, unit not documented.
        pub timestamp: Option<i64> = number,
        /// The names of the streams in the mix.
        pub stream_list: Option<Vec<String>> = list(text),
    }
}
