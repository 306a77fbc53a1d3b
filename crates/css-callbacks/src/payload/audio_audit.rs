//! Audio moderation found something (315): page 58643.

use super::audit::{Label, Suggestion};
use crate::wire::open::open_text;
use crate::wire::{Float, Raw, wire};

wire! {
    /// A piece of sound and what was found in it. By default the platform sends only suspicious ones.
    ///
    /// Documentation: page 58643.
    pub struct AudioAudit: callback {
        /// The constant `general_callback`.
        pub interface: Option<String> = text,
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The id of the business; obsolete.
        pub bizid: Option<i64> = number,
        /// The push domain.
        pub domain: Option<String> = text,
        /// The push path, also called AppName.
        pub appname: Option<String> = text: "path",
        /// The stream name.
        pub stream_id: Option<String> = text,
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text: "channelId",
        /// 1 if something was found, else 0.
        pub hit_flag: Option<i64> = number: "HitFlag",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// A tag of the finding.
        pub sub_tag: Option<String> = text: "SubTag",
        /// The id of the moderation task; a number on the wire.
        pub task_id: Option<String> = id,
        /// The status; 2 is normal.
        pub status: Option<i64> = number,
        /// The speech as text.
        pub asr_text: Option<String> = text,
        /// The URL of the sound.
        pub cdn_url: Option<String> = text,
        /// The length of the sound, seconds.
        pub duration: Option<Float> = float,
        /// The most serious finding.
        pub label: Option<Label> = word,
        /// The finer class of `label`.
        pub sub_label: Option<String> = text,
        /// What the platform suggests to do.
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
        /// The id of the request to the moderation service.
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
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// Where it starts within the sound, unit not documented.
        pub start_time: Option<Float> = float: "StartTime",
        /// Where it ends within the sound, unit not documented.
        pub end_time: Option<Float> = float: "EndTime",
    }
}

wire! {
    /// A speaker heard.
    pub struct SpeakerResult {
        /// The speaker.
        pub label: Option<String> = text: "Label",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// Where it starts within the sound, unit not documented.
        pub start_time: Option<Float> = float: "StartTime",
        /// Where it ends within the sound, unit not documented.
        pub end_time: Option<Float> = float: "EndTime",
    }
}

wire! {
    /// A moan heard.
    pub struct MoanResult {
        /// What was heard: `Moan`.
        pub label: Option<Label> = word: "Label",
        /// The finer class of `label`.
        pub sub_label: Option<String> = text: "SubLabel",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// What the platform suggests to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// Where it starts within the sound, unit not documented.
        pub start_time: Option<Float> = float: "StartTime",
        /// Where it ends within the sound, unit not documented.
        pub end_time: Option<Float> = float: "EndTime",
    }
}

wire! {
    /// Age or gender heard.
    pub struct RecognitionResult {
        /// What was heard: `Teenager` or `Gender`.
        pub label: Option<Label> = word: "Label",
        /// Where it was heard.
        pub tags: Option<Vec<Tag>> = list(object): "Tags",
    }
}

wire! {
    /// A place of a [`RecognitionResult`].
    pub struct Tag {
        /// What was heard.
        pub name: Option<String> = text: "Name",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// Where it starts within the sound, milliseconds.
        pub start_time: Option<Float> = float: "StartTime",
        /// Where it ends within the sound, milliseconds.
        pub end_time: Option<Float> = float: "EndTime",
    }
}

wire! {
    /// A finding in the text.
    pub struct TextResult {
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The finer class of `label`.
        pub sub_label: Option<String> = text: "SubLabel",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// What the platform suggests to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// The words that decided.
        pub keywords: Option<Vec<String>> = list(text): "Keywords",
        /// The id of the library they are from.
        pub lib_id: Option<String> = id: "LibId",
        /// The name of the library.
        pub lib_name: Option<String> = text: "LibName",
        /// The kind of the library; the numbers are not documented.
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
        /// The name of the library it is from.
        pub lib_name: Option<String> = text: "LibName",
        /// Where in the text.
        pub positions: Option<Vec<Position>> = list(object): "Positions",
    }
}

wire! {
    /// A place in a text.
    pub struct Position {
        /// The position of the first character.
        pub start: Option<i64> = number: "Start",
        /// The position of the last character.
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
        /// Where it appears in the sound, unit not documented.
        pub appearing_point: Option<Vec<Float>> = list(float),
        /// The confidence in the text.
        pub confidence: Option<Float> = float,
        /// The id of the piece.
        pub id: Option<String> = id,
        /// Start and end within the sound, such as `00:00:00-00:00:15`.
        pub periods: Option<String> = text,
        /// The URL of the sound.
        pub url: Option<String> = text,
        /// When it was made; undocumented, so it has no type.
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
