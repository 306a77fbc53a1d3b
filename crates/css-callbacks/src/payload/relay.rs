//! A relay (pull-stream) task changed (314): pages 42525 and 56208. Never signed.

use crate::wire::open::open_text;
use crate::wire::{Float, Opened, wire};

wire! {
    /// A change of a relay task.
    ///
    /// Documentation: page 42525 (mainland: 56208).
    pub struct Relay: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The constant `pullpush`.
        pub product_name: Option<String> = text,
        /// The id of the account.
        pub appid: Option<String> = id: "appId",
        /// What happened.
        pub callback_event: Option<CallbackEvent> = word,
        /// The URLs that the task pulls from. JSON in a string on the wire.
        pub source_urls: Option<Opened<Vec<String>>> = json_in_string(one_or_many(text)),
        /// The URL that the task pushes to.
        pub to_url: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The id of the relay task.
        pub task_id: Option<String> = id,
        /// The URL that this callback goes to.
        pub callback_url: Option<String> = text,
        /// More about what happened. JSON in a string on the wire.
        pub msg: Option<Opened<RelayMessage>> = json_in_string(object),
        /// When it happened, UNIX seconds; absent before 2024. A string on the wire.
        pub event_time: Option<i64> = number,
    }
}

wire! {
    /// What `msg` holds; `callback_event` decides which members there are.
    pub struct RelayMessage {
        /// `TaskStart`: when the task started, UNIX milliseconds; 0 in samples.
        pub task_start_time: Option<i64> = number,
        /// `TaskExit`: why the task ended.
        pub message: Option<String> = text,
        /// `TaskExit`: why the task ended, as a number.
        pub code: Option<i64> = number,
        /// `TaskExit`: when the task ended, UNIX milliseconds; 0 in samples.
        pub task_exit_time: Option<i64> = number,
        /// `VodSourceFileStart` and `VodSourceFileFinish`: the URL of the file.
        pub url: Option<String> = text,
        /// `VodSourceFileStart` and `VodSourceFileFinish`: the place of the file in the list.
        pub index: Option<i64> = number,
        /// `VodSourceFileStart` and `VodSourceFileFinish`: the length of the file, seconds.
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
        /// The task ended. The platform may start it again elsewhere.
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
