//! A push to an input of StreamLive, another product, started (329) or was interrupted (330): page 73133 of that product.
//!
//! The page shows the body inside an object with `data`, `header` and `receive_time`. The length in `header` is that of the
//! inner object. So the platform sends the inner object, and the rest was added by whoever wrote the page.

use crate::wire::wire;

wire! {
    /// The begin or the end of a push to an input. It has neither a time nor an id of the push.
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
