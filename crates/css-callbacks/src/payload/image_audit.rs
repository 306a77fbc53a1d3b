//! Image moderation found something (317): page 38084, three generations since 2020.

use super::audit::{Label, Suggestion};
use crate::wire::{Float, Raw, wire};

wire! {
    /// A picture and what was found in it. By default the platform sends only suspicious ones.
    ///
    /// Documentation: page 38084.
    pub struct ImageAudit: callback {
        /// The id of the account.
        pub appid: Option<String> = id,
        /// The push domain.
        pub domain: Option<String> = text: "app",
        /// The push path, also called AppName.
        pub appname: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text: "streamId",
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text: "channelId",
        /// The query string of the push URL.
        pub stream_param: Option<String> = text,
        /// The URL of the picture.
        pub img: Option<String> = text,
        /// Classes of what was found: 0 normal, 1 pornography, 6 abuse, 8 advertising; see `label` for others.
        pub r#type: Option<Vec<i64>> = one_or_many(code): "type",
        /// The scores of the classes, 0 to 100. Every sample has it as `socre`.
        pub score: Option<Vec<Float>> = one_or_many(float): "socre",
        /// The text in the picture; empty if there is none.
        pub ocr_msg: Option<String> = text: "ocrMsg",
        /// What the platform suggests to do.
        pub suggestion: Option<Suggestion> = word,
        /// The most serious finding.
        pub label: Option<Label> = word,
        /// The finer class of `label`, such as `PornHigh`.
        pub sub_label: Option<String> = text: "subLabel",
        /// Findings about the scene.
        pub label_results: Option<Vec<LabelResult>> = list(object): "labelResults",
        /// Findings about objects.
        pub object_results: Option<Vec<ObjectResult>> = list(object): "objectResults",
        /// Findings about text.
        pub ocr_results: Option<Vec<OcrResult>> = list(object): "ocrResults",
        /// Findings of the account's own library.
        pub lib_results: Option<Vec<LibResult>> = list(object): "libResults",
        /// When the picture was taken, UNIX seconds.
        pub screenshot_time: Option<i64> = number: "screenshotTime",
        /// When the callback was sent, UNIX seconds.
        pub send_time: Option<i64> = number: "sendTime",
        /// How serious the finding is; undocumented since 2021.
        pub level: Option<i64> = number,
        /// Findings about abduction; obsolete.
        pub abduction_risk: Option<Vec<AbductionRisk>> = list(object): "abductionRisk",
        /// Faces in the picture; obsolete.
        pub face_details: Option<Vec<FaceDetail>> = list(object): "faceDetails",
        /// Findings about games; obsolete.
        pub game_details: Option<GameDetails> = object: "gameDetails",
        /// The number of the algorithm; obsolete.
        pub tid: Option<i64> = number,
        /// Confidence in `type`, 0 to 100; obsolete.
        pub confidence: Option<Float> = float,
        /// The score of a normal picture, 0 to 100; obsolete.
        pub normal_score: Option<Float> = float: "normalScore",
        /// The score of a suggestive picture, 0 to 100; obsolete.
        pub hot_score: Option<Float> = float: "hotScore",
        /// The score of pornography, 0 to 100; obsolete.
        pub porn_score: Option<Float> = float: "pornScore",
        /// The score of terrorism, 0 to 100; obsolete.
        pub terror_score: Option<Float> = float: "terrorScore",
        /// The score of politics, 0 to 100; obsolete.
        pub polity_score: Option<Float> = float: "polityScore",
        /// The score of illegal content, 0 to 100; obsolete.
        pub illegal_score: Option<Float> = float: "illegalScore",
        /// The score of similarity to the library, 0 to 100; obsolete.
        pub similar_score: Option<Float> = float: "similarScore",
        /// The score of abuse, 0 to 100; obsolete.
        pub abuse_score: Option<Float> = float: "abuseScore",
        /// The score of minors, 0 to 100; obsolete.
        pub teenager_score: Option<Float> = float: "teenagerScore",
        /// The score of advertising, 0 to 100; obsolete.
        pub ad_score: Option<Float> = float: "adScore",
        /// The score of the account's own classes, 0 to 100; obsolete.
        pub custom_score: Option<Float> = float: "customScore",
    }
}

wire! {
    /// A finding about the scene.
    pub struct LabelResult {
        /// What was looked for, such as `Porn`.
        pub scene: Option<String> = text: "Scene",
        /// What the platform suggests to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The finer class of `label`.
        pub sub_label: Option<String> = text: "SubLabel" | "subLabel",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// 1 if the finding counts; undocumented.
        pub hit_flag: Option<i64> = number: "HitFlag",
        /// The classes it consists of.
        pub details: Option<Vec<LabelDetail>> = list(object): "Details",
    }
}

wire! {
    /// A class within a [`LabelResult`].
    pub struct LabelDetail {
        /// The number of the entry.
        pub id: Option<i64> = number: "Id",
        /// The name of the entry.
        pub name: Option<String> = text: "Name",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
    }
}

wire! {
    /// A finding about objects.
    pub struct ObjectResult {
        /// What was looked for, such as `QrCode`, `MapRecognition`, `PolityFace`.
        pub scene: Option<String> = text: "Scene",
        /// What the platform suggests to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The finer class of `label`.
        pub sub_label: Option<String> = text: "SubLabel" | "subLabel",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// 1 if the finding counts; undocumented.
        pub hit_flag: Option<i64> = number: "HitFlag",
        /// Names of the objects.
        pub names: Option<Vec<String>> = list(text): "Names",
        /// The objects.
        pub details: Option<Vec<ObjectDetail>> = list(object): "Details",
    }
}

wire! {
    /// An object within an [`ObjectResult`].
    pub struct ObjectDetail {
        /// The number of the entry.
        pub id: Option<i64> = number: "Id",
        /// The name of the entry.
        pub name: Option<String> = text: "Name",
        /// What it holds, such as the text of a code.
        pub value: Option<String> = text: "Value",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// Where it is.
        pub location: Option<Location> = object: "Location",
    }
}

wire! {
    /// A place in a picture.
    pub struct Location {
        /// Distance from the left, pixels.
        pub x: Option<Float> = float: "X",
        /// Distance from the top, pixels.
        pub y: Option<Float> = float: "Y",
        /// The width, pixels.
        pub width: Option<Float> = float: "Width",
        /// The height, pixels.
        pub height: Option<Float> = float: "Height",
        /// The rotation, degrees.
        pub rotate: Option<Float> = float: "Rotate",
    }
}

wire! {
    /// A finding about text.
    pub struct OcrResult {
        /// What was looked for: `OCR`.
        pub scene: Option<String> = text: "Scene",
        /// What the platform suggests to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The finer class of `label`.
        pub sub_label: Option<String> = text: "SubLabel" | "subLabel",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// 1 if the finding counts; undocumented.
        pub hit_flag: Option<i64> = number: "HitFlag",
        /// The whole text.
        pub text: Option<String> = text: "Text",
        /// The pieces of text.
        pub details: Option<Vec<OcrTextDetail>> = list(object): "Details",
    }
}

wire! {
    /// A piece of text within an [`OcrResult`].
    pub struct OcrTextDetail {
        /// The text; at most 5000 bytes long.
        pub text: Option<String> = text: "Text",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The words that decided.
        pub keywords: Option<Vec<String>> = list(text): "Keywords",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// Where it is.
        pub location: Option<Location> = object: "Location",
    }
}

wire! {
    /// A finding of the account's own library.
    pub struct LibResult {
        /// What was looked for: `Similar`.
        pub scene: Option<String> = text: "Scene",
        /// What the platform suggests to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The finer class of `label`.
        pub sub_label: Option<String> = text: "SubLabel" | "subLabel",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// 1 if the finding counts; undocumented.
        pub hit_flag: Option<i64> = number: "HitFlag",
        /// The entries.
        pub details: Option<Vec<LibDetail>> = list(object): "Details",
    }
}

wire! {
    /// An entry within a [`LibResult`].
    pub struct LibDetail {
        /// The number of the entry.
        pub id: Option<i64> = number: "Id",
        /// The id of the picture in the library.
        pub image_id: Option<String> = id: "ImageId",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The tag of the entry.
        pub tag: Option<String> = text: "Tag",
        /// The score, 0 to 100.
        pub score: Option<Float> = float: "Score",
    }
}

wire! {
    /// A finding about abduction; sent in 2020.
    pub struct AbductionRisk {
        /// The level, 0 to 4.
        pub level: Option<i64> = number,
        /// The constant 20002.
        pub r#type: Option<i64> = number: "type",
    }
}

wire! {
    /// A face; sent in 2020.
    pub struct FaceDetail {
        /// The gender, as a number.
        pub gender: Option<Float> = float,
        /// The age, years.
        pub age: Option<Float> = float,
        /// The expression, as a number.
        pub expression: Option<Float> = float,
        /// The beauty, as a number.
        pub beauty: Option<Float> = float,
        /// Distance from the left, pixels.
        pub x: Option<Float> = float,
        /// Distance from the top, pixels.
        pub y: Option<Float> = float,
        /// The width, pixels.
        pub width: Option<Float> = float,
        /// The height, pixels.
        pub height: Option<Float> = float,
    }
}

wire! {
    /// Findings about games; sent in 2020, documented without types.
    pub struct GameDetails {
        /// Battle royale games.
        pub battlegrounds: Option<Raw> = anything,
        /// Games.
        pub game_list: Option<Raw> = anything: "gameList",
    }
}
