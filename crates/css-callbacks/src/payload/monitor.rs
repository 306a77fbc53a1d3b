//! A live monitor raised an alarm (328): page 88050.

use super::quality::QualityClass;
use crate::wire::{Raw, wire};

wire! {
    /// An alarm.
    ///
    /// Documentation: page 88050 (mainland only).
    pub struct Monitor: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The id of the business.
        pub bizid: Option<i64> = number,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// What happened. Format anomalies have the names of quality control; others are undocumented.
        pub event_name: Option<QualityClass> = word,
        /// When it happened, UNIX milliseconds.
        pub event_time: Option<i64> = number,
        /// More about it; its structure is undocumented.
        pub event_msg: Option<Raw> = anything,
    }
}
