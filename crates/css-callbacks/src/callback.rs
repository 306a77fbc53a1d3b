//! The first reading of a body: the members, and those few of them that decide whether it is believed.

use crate::json::{self, Member, NotOneObject};
use crate::kind::Kind;

/// The body of a request as the members of its JSON object. Nothing in it is proven until [`verify`](crate::verify).
///
/// It borrows the body. Values are the bytes of the body as they were received, because the [id](crate::EventId) is computed
/// from them. [`Payload`](crate::Payload) has them as Rust types.
#[derive(Debug, Clone)]
pub struct Callback<'a> {
    members: Vec<Member<'a>>,
}

/// What [`Callback::signed`] finds: the signature as presented. It says nothing about whether the signature is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed<'a> {
    /// Neither `sign` nor `t`.
    Neither,
    /// One of the two.
    Half,
    /// Both, but not in the documented form: `sign` a string; `t` a number or a string of 1 to 16 decimal digits without a
    /// leading zero.
    Malformed,
    /// Both, in the documented form.
    Both {
        /// The presented signature: what stands between the quotes.
        sign: &'a [u8],
        /// The text of `t`, UNIX seconds: the signature is computed from this text.
        t: &'a str,
    },
}

impl<'a> Callback<'a> {
    /// Finds the members of a body.
    ///
    /// It checks the grammar of JSON, but it also accepts what other parsers refuse, because a callback that is refused is
    /// lost in the end: invalid UTF-8 and lone surrogates in strings, numbers of any size, members that are there twice.
    ///
    /// # Errors
    ///
    /// [`NotOneObject`] if the body is anything but one JSON object, or is nested deeper than 128 levels. Answer it with 400.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotOneObject> {
        json::members(body).map(|members| Self { members })
    }

    /// The members in the order received. A name can be there twice.
    pub fn members(&self) -> &[Member<'a>] {
        &self.members
    }

    /// The value of a member: its JSON text as received. If the name is there twice, it is the last one.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.members
            .iter()
            .rfind(|member| *member.name == *name.as_bytes())
            .map(|member| member.value)
    }

    /// The kind of the callback.
    ///
    /// `of_url` is the kind for which the URL is meant; none if you gave the platform one URL for all kinds. A known
    /// `event_type` decides, whatever the URL says. With an `event_type` that this version does not know the kind is
    /// [`Kind::Unknown`]. Without `event_type` it is `of_url`, or [`Kind::Unknown`] if that is none.
    pub fn kind(&self, of_url: Option<Kind>) -> Kind {
        match self.value("event_type") {
            None | Some(b"null") => of_url.unwrap_or(Kind::Unknown),
            Some(value) => match json::integer(value).and_then(Kind::from_code) {
                // The sample of 345 in the vendor's documentation says 344; only 345 has this member.
                Some(Kind::AssessmentThreshold) if self.value("average_score").is_some() => {
                    Kind::AssessmentAverage
                }
                Some(kind) => kind,
                None => Kind::Unknown,
            },
        }
    }

    /// The signature that the body presents. [`verify`](crate::verify) checks it.
    pub fn signed(&self) -> Signed<'a> {
        let (sign, t) = match (self.value("sign"), self.value("t")) {
            (None, None) => return Signed::Neither,
            (Some(sign), Some(t)) => (sign, t),
            _ => return Signed::Half,
        };
        match (
            string_content(sign),
            decimal(string_content(t).unwrap_or(t)),
        ) {
            (Some(sign), Some(t)) => Signed::Both { sign, t },
            _ => Signed::Malformed,
        }
    }
}

/// What stands between the quotes of a string; none for other values.
fn string_content(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// The text if it is `[1-9][0-9]{0,15}`.
fn decimal(text: &[u8]) -> Option<&str> {
    let fits = matches!(text, [b'1'..=b'9', rest @ ..] if rest.len() < 16 && rest.iter().all(u8::is_ascii_digit));
    if fits {
        std::str::from_utf8(text).ok()
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kind(of_url: Option<Kind>, body: &str) -> Kind {
        Callback::parse(body.as_bytes()).unwrap().kind(of_url)
    }

    #[test]
    fn the_body_fixes_the_kind() {
        assert_eq!(
            kind(Some(Kind::StreamBegin), r#"{"event_type":0}"#),
            Kind::StreamEnd
        );
        assert_eq!(kind(None, r#"{"event_type":"100"}"#), Kind::Record);
        assert_eq!(
            kind(Some(Kind::Relay), r#"{"event_type":318}"#),
            Kind::Unknown
        );
        assert_eq!(
            kind(Some(Kind::Relay), r#"{"event_type":{}}"#),
            Kind::Unknown
        );
        assert_eq!(kind(Some(Kind::Relay), "{}"), Kind::Relay);
        assert_eq!(kind(None, "{}"), Kind::Unknown);
        assert_eq!(
            kind(None, r#"{"event_type":1,"event_type":0}"#),
            Kind::StreamEnd
        );
    }

    #[test]
    fn an_average_under_the_code_of_thresholds_is_an_average() {
        let body = r#"{"event_type":344,"average_score":60.5}"#;
        assert_eq!(
            kind(Some(Kind::AssessmentThreshold), body),
            Kind::AssessmentAverage
        );
        assert_eq!(
            kind(None, r#"{"event_type":344}"#),
            Kind::AssessmentThreshold
        );
    }

    #[test]
    fn the_signature_is_taken_as_received() {
        let signed = |body: &'static str| Callback::parse(body.as_bytes()).unwrap().signed();
        let both = |t| Signed::Both { sign: b"ab", t };
        assert_eq!(
            signed(r#"{"sign":"ab","t":1545030873}"#),
            both("1545030873")
        );
        assert_eq!(
            signed(r#"{"sign":"ab","t":"1545030873"}"#),
            both("1545030873")
        );
        assert_eq!(signed("{}"), Signed::Neither);
        assert_eq!(signed(r#"{"t":1}"#), Signed::Half);
        assert_eq!(signed(r#"{"sign":null}"#), Signed::Half);
        for t in [
            "0",
            "01",
            "-1",
            "1.0",
            "1e9",
            "\" 1\"",
            "\"\"",
            "null",
            "12345678901234567",
            "[1]",
        ] {
            let body = format!(r#"{{"sign":"ab","t":{t}}}"#);
            let signed = Callback::parse(body.as_bytes());
            assert!(
                signed.is_err() || signed.unwrap().signed() == Signed::Malformed,
                "{t}"
            );
        }
        assert_eq!(signed(r#"{"sign":5,"t":1}"#), Signed::Malformed);
    }
}
