//! A live monitor raised an alarm (328): page 88050.

use super::quality::QualityClass;
use crate::wire::{Raw, wire};

wire! {
    /// An alarm.
    pub struct Monitor: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The account.
        pub appid: Option<String> = id,
        /// The number of the business.
        pub bizid: Option<i64> = number,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// What happened; format anomalies have the names of quality control, others are not documented.
        pub event_name: Option<QualityClass> = word,
        /// When it happened, UNIX milliseconds.
        pub event_time: Option<i64> = number,
        /// More about it: a string of undocumented structure.
        pub event_msg: Option<Raw> = anything,
    }
}
