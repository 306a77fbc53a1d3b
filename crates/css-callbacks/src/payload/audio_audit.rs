//! Audio moderation found something (315): page 58643.

use super::audit::{Label, Suggestion};
use crate::wire::open::open_text;
use crate::wire::{Float, Raw, wire};

wire! {
    /// A piece of sound and what was found in it; only suspicious ones by default.
    pub struct AudioAudit: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The account.
        pub appid: Option<String> = id,
        /// The number of the business; obsolete.
        pub bizid: Option<i64> = number,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, `path` on the wire.
        pub appname: Option<String> = text: "path",
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text: "channelId",
        /// 1 if something was found.
        pub hit_flag: Option<i64> = number: "HitFlag",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// A tag of the finding.
        pub sub_tag: Option<String> = text: "SubTag",
        /// The moderation task; a number on the wire.
        pub task_id: Option<String> = id,
        /// 2 is normal.
        pub status: Option<i64> = number,
        /// The speech as text.
        pub asr_text: Option<String> = text,
        /// The URL of the sound.
        pub cdn_url: Option<String> = text,
        /// The length of the sound, seconds.
        pub duration: Option<Float> = float,
        /// The most serious finding.
        pub label: Option<Label> = word,
        /// Its finer class.
        pub sub_label: Option<String> = text,
        /// What to do.
        pub suggestion: Option<Suggestion> = word,
        /// Languages heard.
        pub language_results: Option<Vec<LanguageResult>> = list(object),
        /// Moans heard.
        pub moan_results: Option<Vec<MoanResult>> = list(object),
        /// Age and gender heard.
        pub recognition_results: Option<Vec<RecognitionResult>> = list(object),
        /// Speakers heard.
        pub speaker_results: Option<Vec<SpeakerResult>> = list(object),
        /// Findings in the text.
        pub text_results: Option<Vec<TextResult>> = list(object),
        /// The request to the moderation service.
        pub request_id: Option<String> = id,
        /// The number of the piece of sound.
        pub seq: Option<String> = id,
        /// The pieces of speech.
        pub data: Option<AudioData> = object,
    }
}

wire! {
    /// A language heard.
    pub struct LanguageResult {
        /// The language.
        pub label: Option<String> = text: "Label",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// From, within the sound.
        pub start_time: Option<Float> = float: "StartTime",
        /// To, within the sound.
        pub end_time: Option<Float> = float: "EndTime",
    }
}

wire! {
    /// A speaker heard.
    pub struct SpeakerResult {
        /// The speaker.
        pub label: Option<String> = text: "Label",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// From, within the sound.
        pub start_time: Option<Float> = float: "StartTime",
        /// To, within the sound.
        pub end_time: Option<Float> = float: "EndTime",
    }
}

wire! {
    /// A moan heard.
    pub struct MoanResult {
        /// `Moan`.
        pub label: Option<Label> = word: "Label",
        /// Its finer class.
        pub sub_label: Option<String> = text: "SubLabel",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// What to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// From, within the sound.
        pub start_time: Option<Float> = float: "StartTime",
        /// To, within the sound.
        pub end_time: Option<Float> = float: "EndTime",
    }
}

wire! {
    /// Age or gender heard.
    pub struct RecognitionResult {
        /// `Teenager` or `Gender`.
        pub label: Option<Label> = word: "Label",
        /// Where.
        pub tags: Option<Vec<Tag>> = list(object): "Tags",
    }
}

wire! {
    /// A place of a [`RecognitionResult`].
    pub struct Tag {
        /// What was heard.
        pub name: Option<String> = text: "Name",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// From, milliseconds within the sound.
        pub start_time: Option<Float> = float: "StartTime",
        /// To, milliseconds within the sound.
        pub end_time: Option<Float> = float: "EndTime",
    }
}

wire! {
    /// A finding in the text.
    pub struct TextResult {
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// Its finer class.
        pub sub_label: Option<String> = text: "SubLabel",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// What to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// The words that decided.
        pub keywords: Option<Vec<String>> = list(text): "Keywords",
        /// The library they are from.
        pub lib_id: Option<String> = id: "LibId",
        /// Its name.
        pub lib_name: Option<String> = text: "LibName",
        /// Its kind; the numbers are not documented.
        pub lib_type: Option<i64> = number: "LibType",
        /// Where in the text.
        pub hit_infos: Option<Vec<HitInfo>> = list(object): "HitInfos",
    }
}

wire! {
    /// A hit within a [`TextResult`].
    pub struct HitInfo {
        /// What decided.
        pub r#type: Option<HitType> = word: "type" | "Type",
        /// The word.
        pub keyword: Option<String> = text: "Keyword",
        /// The name of its library.
        pub lib_name: Option<String> = text: "LibName",
        /// Where in the text.
        pub positions: Option<Vec<Position>> = list(object): "Positions",
    }
}

wire! {
    /// A place in a text.
    pub struct Position {
        /// The first character.
        pub start: Option<i64> = number: "Start",
        /// The last character.
        pub end: Option<i64> = number: "End",
    }
}

wire! {
    /// What `data` holds.
    pub struct AudioData {
        /// The pieces of speech.
        pub asr_tmp_full_results: Option<Vec<AsrResult>> = list(object),
    }
}

wire! {
    /// A piece of speech.
    pub struct AsrResult {
        /// Where it appears.
        pub appearing_point: Option<Vec<Float>> = list(float),
        /// Confidence.
        pub confidence: Option<Float> = float,
        /// Its id.
        pub id: Option<String> = id,
        /// From and to, such as `00:00:00-00:00:15`.
        pub periods: Option<String> = text,
        /// The URL of the sound.
        pub url: Option<String> = text,
        /// When it was made; documented nowhere, hence without a type.
        pub create_time: Option<Raw> = anything,
    }
}

open_text! {
    /// What decided a hit.
    pub enum HitType {
        /// A model.
        Model = "Model",
        /// A key word.
        Keyword = "Keyword",
    }
}
