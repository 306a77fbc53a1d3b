//! A push to an input of StreamLive, the neighbouring product, started (329) or was interrupted (330): its page 73133.
//!
//! The page prints the body inside an envelope of `data`, `header` and `receive_time`. By the length that `header` tells, the
//! envelope is the author's, and what is sent is flat as everything else.

use crate::wire::wire;

wire! {
    /// Both ends of a push to an input. Neither time nor sequence tells one push from the next.
    ///
    /// Documentation: page 73133 of StreamLive (product 1048).
    pub struct Streamlive: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The id of the channel in StreamLive.
        pub channel_id: Option<String> = id,
        /// The id of the input in StreamLive.
        pub input_id: Option<String> = id,
        /// Which of the channel's pipelines: 0 or 1.
        pub pipeline: Option<i64> = number,
        /// Empty in the sample.
        pub stream_id: Option<String> = text,
    }
}

/// A push to an input started.
pub type StreamliveBegin = Streamlive;

/// A push to an input was interrupted.
pub type StreamliveEnd = Streamlive;
