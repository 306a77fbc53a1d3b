//! Image moderation found something (317): page 38084, three generations since 2020.

use super::audit::{Label, Suggestion};
use crate::wire::{Float, Raw, wire};

wire! {
    /// A picture and what was found in it; only suspicious ones by default.
    pub struct ImageAudit: callback {
        /// The account.
        pub appid: Option<String> = id,
        /// The push domain, `app` on the wire.
        pub domain: Option<String> = text: "app",
        /// The push path.
        pub appname: Option<String> = text,
        /// The stream name.
        pub stream_id: Option<String> = text: "streamId",
        /// The same as the stream name, for historical reasons.
        pub channel_id: Option<String> = text: "channelId",
        /// The query string of the push URL.
        pub stream_param: Option<String> = text,
        /// The URL of the picture.
        pub img: Option<String> = text,
        /// Classes of what was found: 0 normal, 1 pornography, 6 abuse, 8 advertising (since 2021-08), others as `label` says.
        pub r#type: Option<Vec<i64>> = one_or_many(code): "type",
        /// The scores of the classes, 0 to 100; `socre` in every sample.
        pub score: Option<Vec<Float>> = one_or_many(float): "socre",
        /// The text in the picture.
        pub ocr_msg: Option<String> = text: "ocrMsg",
        /// What to do.
        pub suggestion: Option<Suggestion> = word,
        /// The most serious finding.
        pub label: Option<Label> = word,
        /// Its finer class, such as `PornHigh`.
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
        /// How serious it is; undocumented since 2021.
        pub level: Option<i64> = number,
        /// Findings about abduction; legacy.
        pub abduction_risk: Option<Vec<AbductionRisk>> = list(object): "abductionRisk",
        /// Faces; legacy.
        pub face_details: Option<Vec<FaceDetail>> = list(object): "faceDetails",
        /// Findings about games; legacy.
        pub game_details: Option<GameDetails> = object: "gameDetails",
        /// The algorithm; legacy.
        pub tid: Option<i64> = number,
        /// Confidence in `type`, 0 to 100; legacy, as all scores below.
        pub confidence: Option<Float> = float,
        /// Score of a normal picture.
        pub normal_score: Option<Float> = float: "normalScore",
        /// Score of a suggestive picture.
        pub hot_score: Option<Float> = float: "hotScore",
        /// Score of pornography.
        pub porn_score: Option<Float> = float: "pornScore",
        /// Score of terrorism.
        pub terror_score: Option<Float> = float: "terrorScore",
        /// Score of politics.
        pub polity_score: Option<Float> = float: "polityScore",
        /// Score of illegal content.
        pub illegal_score: Option<Float> = float: "illegalScore",
        /// Score of similarity to the library.
        pub similar_score: Option<Float> = float: "similarScore",
        /// Score of abuse.
        pub abuse_score: Option<Float> = float: "abuseScore",
        /// Score of minors.
        pub teenager_score: Option<Float> = float: "teenagerScore",
        /// Score of advertising.
        pub ad_score: Option<Float> = float: "adScore",
        /// Score of the account's own classes.
        pub custom_score: Option<Float> = float: "customScore",
    }
}

wire! {
    /// A finding about the scene.
    pub struct LabelResult {
        /// What was looked for, such as `Porn`.
        pub scene: Option<String> = text: "Scene",
        /// What to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// Its finer class.
        pub sub_label: Option<String> = text: "SubLabel" | "subLabel",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// 1 if it counts; undocumented.
        pub hit_flag: Option<i64> = number: "HitFlag",
        /// The classes it consists of.
        pub details: Option<Vec<LabelDetail>> = list(object): "Details",
    }
}

wire! {
    /// A class within a [`LabelResult`].
    pub struct LabelDetail {
        /// Its number.
        pub id: Option<i64> = number: "Id",
        /// Its name.
        pub name: Option<String> = text: "Name",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
    }
}

wire! {
    /// A finding about objects.
    pub struct ObjectResult {
        /// What was looked for, such as `QrCode`, `MapRecognition`, `PolityFace`.
        pub scene: Option<String> = text: "Scene",
        /// What to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// Its finer class.
        pub sub_label: Option<String> = text: "SubLabel" | "subLabel",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// 1 if it counts; undocumented.
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
        /// Its number.
        pub id: Option<i64> = number: "Id",
        /// Its name.
        pub name: Option<String> = text: "Name",
        /// What it holds, such as the text of a code.
        pub value: Option<String> = text: "Value",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// Where it is.
        pub location: Option<Location> = object: "Location",
    }
}

wire! {
    /// A place in a picture.
    pub struct Location {
        /// From the left, pixels.
        pub x: Option<Float> = float: "X",
        /// From the top, pixels.
        pub y: Option<Float> = float: "Y",
        /// Pixels.
        pub width: Option<Float> = float: "Width",
        /// Pixels.
        pub height: Option<Float> = float: "Height",
        /// Degrees.
        pub rotate: Option<Float> = float: "Rotate",
    }
}

wire! {
    /// A finding about text.
    pub struct OcrResult {
        /// `OCR`.
        pub scene: Option<String> = text: "Scene",
        /// What to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// Its finer class.
        pub sub_label: Option<String> = text: "SubLabel" | "subLabel",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// 1 if it counts; undocumented.
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
        /// The text, at most 5000 bytes.
        pub text: Option<String> = text: "Text",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The words that decided.
        pub keywords: Option<Vec<String>> = list(text): "Keywords",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// Where it is.
        pub location: Option<Location> = object: "Location",
    }
}

wire! {
    /// A finding of the account's own library.
    pub struct LibResult {
        /// `Similar`.
        pub scene: Option<String> = text: "Scene",
        /// What to do.
        pub suggestion: Option<Suggestion> = word: "Suggestion",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// Its finer class.
        pub sub_label: Option<String> = text: "SubLabel" | "subLabel",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
        /// 1 if it counts; undocumented.
        pub hit_flag: Option<i64> = number: "HitFlag",
        /// The entries.
        pub details: Option<Vec<LibDetail>> = list(object): "Details",
    }
}

wire! {
    /// An entry within a [`LibResult`].
    pub struct LibDetail {
        /// Its number.
        pub id: Option<i64> = number: "Id",
        /// The picture in the library.
        pub image_id: Option<String> = id: "ImageId",
        /// What was found.
        pub label: Option<Label> = word: "Label",
        /// The tag of the entry.
        pub tag: Option<String> = text: "Tag",
        /// 0 to 100.
        pub score: Option<Float> = float: "Score",
    }
}

wire! {
    /// A finding about abduction; of 2020.
    pub struct AbductionRisk {
        /// 0 to 4.
        pub level: Option<i64> = number,
        /// 20002.
        pub r#type: Option<i64> = number: "type",
    }
}

wire! {
    /// A face; of 2020.
    pub struct FaceDetail {
        /// The gender.
        pub gender: Option<Float> = float,
        /// Years.
        pub age: Option<Float> = float,
        /// The expression.
        pub expression: Option<Float> = float,
        /// The beauty.
        pub beauty: Option<Float> = float,
        /// From the left, pixels.
        pub x: Option<Float> = float,
        /// From the top, pixels.
        pub y: Option<Float> = float,
        /// Pixels.
        pub width: Option<Float> = float,
        /// Pixels.
        pub height: Option<Float> = float,
    }
}

wire! {
    /// Findings about games; of 2020, documented without types.
    pub struct GameDetails {
        /// Battle royale games.
        pub battlegrounds: Option<Raw> = anything,
        /// Games.
        pub game_list: Option<Raw> = anything: "gameList",
    }
}
