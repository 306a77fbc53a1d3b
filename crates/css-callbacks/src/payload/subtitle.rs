//! Live subtitles (338, pages 73170 and 121711) and words erased from picture and sound (347, pages 73169 and 121710).

use crate::wire::wire;

wire! {
    /// Subtitles; sent only while somebody pulls them.
    ///
    /// Documentation: page 73170 (mainland: 121711).
    pub struct Subtitle: callback {
        /// The id of the account; absent from samples.
        pub appid: Option<String> = id,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text,
        /// The id of the subtitle task.
        pub task_id: Option<String> = id,
        /// The subtitles.
        pub data: Option<SubtitleData> = object,
    }
}

wire! {
    /// What `data` of subtitles holds.
    pub struct SubtitleData {
        /// The pieces of speech.
        pub subtitle_tmp_res: Option<Vec<SubtitleLine>> = list(object),
    }
}

wire! {
    /// A piece of speech.
    pub struct SubtitleLine {
        /// What was said.
        pub src_txt: Option<String> = text,
        /// Its translation, if there is one.
        pub dst_txt: Option<String> = text,
        /// When it starts, as presentation time, milliseconds.
        pub start_pts: Option<i64> = number,
        /// When it ends, as presentation time, milliseconds.
        pub end_pts: Option<i64> = number,
        /// When it starts, UNIX seconds. The unit is from samples.
        pub start_unix_time: Option<i64> = number,
        /// When it ends, UNIX seconds. The unit is from samples.
        pub end_unix_time: Option<i64> = number,
        /// Whether the text is final. Samples have it as `stead_state`.
        pub steady_state: Option<bool> = flag: "stead_state",
    }
}

wire! {
    /// Words that were erased.
    ///
    /// Documentation: page 73169 (mainland: 121710).
    pub struct SmartErase: callback {
        /// The id of the account; absent from samples.
        pub appid: Option<String> = id,
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text,
        /// The id of the erasing task.
        pub task_id: Option<String> = id,
        /// The words.
        pub data: Option<EraseData> = object,
    }
}

wire! {
    /// What `data` of erasing holds.
    pub struct EraseData {
        /// The pieces of speech.
        pub subtitle_tmp_res: Option<Vec<EraseLine>> = list(object),
    }
}

wire! {
    /// A piece of speech with words to erase.
    pub struct EraseLine {
        /// What was said.
        pub src_txt: Option<String> = text,
        /// When it starts, as presentation time, milliseconds.
        pub start_pts: Option<i64> = number,
        /// When it ends, as presentation time, milliseconds.
        pub end_pts: Option<i64> = number,
        /// When it starts, UNIX seconds. The unit is from samples.
        pub start_unix_time: Option<i64> = number,
        /// When it ends, UNIX seconds. The unit is from samples.
        pub end_unix_time: Option<i64> = number,
        /// The words.
        pub keywords_info: Option<Vec<KeywordInfo>> = list(object),
    }
}

wire! {
    /// A word that was erased.
    pub struct KeywordInfo {
        /// The word.
        pub word: Option<String> = text,
        /// When it starts, milliseconds.
        pub begin_time: Option<i64> = number,
        /// When it ends, milliseconds.
        pub end_time: Option<i64> = number,
    }
}
