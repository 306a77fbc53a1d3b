//! Genuine callbacks that the documentation shows or allows, and that many receivers do not accept.

use css_callbacks::Kind;
use reqwest::Url;
use serde_json::{Value, json};

use super::grader::{Grader, TrialRequest};
use crate::content::{Content, Escaped, Style};

/// Seconds since the signature of a very late retry expired. The twelfth retry comes up to 16
/// minutes after the first attempt. Its `t` is 10 minutes after the first attempt and may never be
/// renewed. A few seconds are left for differences between the clocks.
const LATE: i64 = 350;

/// The oddity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    LateRetry,
    UnknownEventType,
    MissingEventType,
    MixedUpUrl,
    QueryString,
    TAsString,
    SharedSignature,
    LongStreamParam,
    CjkAndEscapes,
    SpreadOverLines,
    UnknownMembers,
    NullLists,
    NumbersAsStrings,
}

impl Odd {
    pub(super) const ALL: [Self; 13] = [
        Self::LateRetry,
        Self::UnknownEventType,
        Self::MissingEventType,
        Self::MixedUpUrl,
        Self::QueryString,
        Self::TAsString,
        Self::SharedSignature,
        Self::LongStreamParam,
        Self::CjkAndEscapes,
        Self::SpreadOverLines,
        Self::UnknownMembers,
        Self::NullLists,
        Self::NumbersAsStrings,
    ];

    pub(super) fn slug(self) -> &'static str {
        match self {
            Self::LateRetry => "late-retry",
            Self::UnknownEventType => "unknown-event-type",
            Self::MissingEventType => "missing-event-type",
            Self::MixedUpUrl => "mixed-up-url",
            Self::QueryString => "query-string",
            Self::TAsString => "t-as-string",
            Self::SharedSignature => "shared-signature",
            Self::LongStreamParam => "long-stream-param",
            Self::CjkAndEscapes => "cjk-and-escapes",
            Self::SpreadOverLines => "spread-over-lines",
            Self::UnknownMembers => "unknown-members",
            Self::NullLists => "null-lists",
            Self::NumbersAsStrings => "numbers-as-strings",
        }
    }
}

impl Grader {
    /// The requests of a case. Each must be acknowledged.
    pub(super) fn odd(&self, odd: Odd) -> Vec<TrialRequest> {
        match odd {
            Odd::LateRetry => {
                let signature = self.signature(self.now().seconds() - LATE);
                let body = self.plain(Kind::StreamBegin).body(Some(&signature));
                vec![self.request(Kind::StreamBegin, body)]
            }
            Odd::UnknownEventType => vec![self.signed(&self.plain(Kind::Unknown))],
            Odd::MissingEventType => vec![self.push(|push| {
                push.members.remove("event_type");
            })],
            Odd::MixedUpUrl => {
                let mut request = self.signed(&self.plain(Kind::StreamEnd));
                request.url = self.settings.template.url(Kind::StreamBegin);
                vec![request]
            }
            Odd::QueryString => {
                let mut request = self.push(|_| {});
                add_query(&mut request.url, "action=streamBegin");
                vec![request]
            }
            Odd::TAsString => vec![self.push(|push| push.style.t_as_text = true)],
            Odd::SharedSignature => self.of_one_second(),
            Odd::LongStreamParam => vec![self.push(|push| {
                let param = format!("txTime=6B04D280&ext={}", "a1%20".repeat(900));
                push.members.insert("stream_param".to_owned(), param.into());
            })],
            Odd::CjkAndEscapes => self.cjk(),
            Odd::SpreadOverLines => vec![self.push(|push| push.style.spread = true)],
            Odd::UnknownMembers => vec![self.push(|push| {
                let new = json!({ "number": 1, "list": [null, {}] });
                push.members.insert("something_new".to_owned(), new);
                push.members.insert("nothing".to_owned(), Value::Null);
            })],
            Odd::NullLists => self.null_lists(),
            Odd::NumbersAsStrings => self.numbers_as_strings(),
        }
    }

    /// A begin of a push, with a change.
    fn push(&self, change: impl FnOnce(&mut Content)) -> TrialRequest {
        let mut content = self.plain(Kind::StreamBegin);
        change(&mut content);
        self.signed(&content)
    }

    fn cjk(&self) -> Vec<TrialRequest> {
        let styles = [
            (Escaped::Nothing, "as UTF-8"),
            (Escaped::NonAscii, "as \\u escapes"),
            (Escaped::Slashes, "with slashes escaped"),
        ];
        let requests = styles.map(|(escaped, note)| {
            let request = self.push(|push| {
                let plain = push.members["stream_id"].as_str().unwrap_or_default();
                let name = Value::from(format!("{plain}号直播间"));
                push.members.insert("channel_id".to_owned(), name.clone());
                push.members.insert("stream_id".to_owned(), name);
                let param = "title=周年庆直播 🎉 10/2";
                push.members.insert("stream_param".to_owned(), param.into());
                push.style = Style {
                    escaped,
                    ..Style::default()
                };
            });
            request.noted(Some(note.to_owned()))
        });
        requests.into()
    }

    fn null_lists(&self) -> Vec<TrialRequest> {
        let kinds = [
            (
                Kind::ImageAudit,
                &["labelResults", "objectResults", "ocrResults"][..],
            ),
            (
                Kind::AudioAudit,
                &[
                    "language_results",
                    "moan_results",
                    "recognition_results",
                    "speaker_results",
                    "text_results",
                ],
            ),
        ];
        let requests = kinds.map(|(kind, lists)| {
            let mut content = self.plain(kind);
            for list in lists {
                content.members.insert((*list).to_owned(), Value::Null);
            }
            self.signed(&content).noted(Some(kind.to_string()))
        });
        requests.into()
    }

    /// Events in which numbers are strings, as some table or sample has them.
    fn numbers_as_strings(&self) -> Vec<TrialRequest> {
        let members = [
            (Kind::Record, "file_size"),
            (Kind::AudioAudit, "task_id"),
            (Kind::StreamBegin, "event_time"),
            (Kind::StreamBegin, "event_type"),
        ];
        let requests = members.map(|(kind, name)| {
            let mut content = self.plain(kind);
            if let Some(Value::Number(number)) = content.members.get(name) {
                let text = number.to_string();
                content.members.insert(name.to_owned(), text.into());
            }
            self.signed(&content)
                .noted(Some(format!("`{name}` of {kind}")))
        });
        requests.into()
    }
}

/// Adds to the front of the query, because a token must be at the end.
fn add_query(url: &mut Url, more: &str) {
    let query = match url.query() {
        Some(query) => format!("{more}&{query}"),
        None => more.to_owned(),
    };
    url.set_query(Some(&query));
}
