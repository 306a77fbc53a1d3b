//! A relay (pull-stream) task changed (314): pages 42525 and 56208. Never signed.

use crate::wire::open::open_text;
use crate::wire::{Float, Opened, wire};

wire! {
    /// A change of a relay task.
    pub struct Relay: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The constant `pullpush`.
        pub product_name: Option<String> = text,
        /// The account.
        pub appid: Option<String> = id: "appId",
        /// What happened.
        pub callback_event: Option<CallbackEvent> = word,
        /// Where it pulls from. A string holding an array and a line break on the wire.
        pub source_urls: Option<Opened<Vec<String>>> = json_in_string(one_or_many(text)),
        /// Where it pushes to.
        pub to_url: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The relay task.
        pub task_id: Option<String> = id,
        /// Where this callback goes.
        pub callback_url: Option<String> = text,
        /// More about what happened. JSON in a string on the wire.
        pub msg: Option<Opened<RelayMessage>> = json_in_string(object),
        /// When it happened, UNIX seconds; a string on the wire, absent before 2024.
        pub event_time: Option<i64> = number,
    }
}

wire! {
    /// What `msg` holds; which members depends on `callback_event`.
    pub struct RelayMessage {
        /// `TaskStart`: when the task started, UNIX milliseconds; 0 in samples.
        pub task_start_time: Option<i64> = number,
        /// `TaskExit`: why.
        pub message: Option<String> = text,
        /// `TaskExit`: why, as a number.
        pub code: Option<i64> = number,
        /// `TaskExit`: when the task ended, UNIX milliseconds; 0 in samples.
        pub task_exit_time: Option<i64> = number,
        /// `VodSourceFileStart` and `VodSourceFileFinish`: the file.
        pub url: Option<String> = text,
        /// The same: its place in the list.
        pub index: Option<i64> = number,
        /// The same: its length, seconds.
        pub duration: Option<Float> = float,
        /// `TaskAlarm`: the kind of alarm.
        pub r#type: Option<AlarmType> = word: "type",
    }
}

open_text! {
    /// What happens to a relay task.
    pub enum CallbackEvent {
        /// The task started.
        TaskStart = "TaskStart",
        /// The task ended, perhaps only to be started again elsewhere.
        TaskExit = "TaskExit",
        /// A file of the list started.
        VodSourceFileStart = "VodSourceFileStart",
        /// A file of the list ended.
        VodSourceFileFinish = "VodSourceFileFinish",
        /// The settings of the task changed.
        ResetTaskConfig = "ResetTaskConfig",
        /// Something is wrong.
        TaskAlarm = "TaskAlarm",
    }
}

open_text! {
    /// What can be wrong with a relay task.
    pub enum AlarmType {
        /// The source stutters.
        PullFileUnstable = "PullFileUnstable",
        /// The target stutters.
        PushStreamUnstable = "PushStreamUnstable",
        /// The source cannot be read.
        PullFileFailed = "PullFileFailed",
        /// The target cannot be written.
        PushStreamFailed = "PushStreamFailed",
        /// A file was shorter than it should be.
        FileEndEarly = "FileEndEarly",
    }
}
