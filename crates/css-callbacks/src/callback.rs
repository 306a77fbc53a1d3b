//! The first pass over a body: the few members that decide about a callback before it is believed.

use crate::json::{self, Member, NotOneObject};
use crate::kind::Kind;

/// A body as its members. Nothing in it is authentic yet.
#[derive(Debug)]
pub struct Callback<'a> {
    members: Vec<Member<'a>>,
}

/// What a body says of its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed<'a> {
    /// Neither `sign` nor `t`.
    Neither,
    /// One of the two.
    Half,
    /// Both, but not of the documented form: `sign` a string, `t` 1 to 16 decimal digits without a leading zero.
    Malformed,
    /// Both, as received.
    Both {
        /// The presented signature; whatever it is, it is compared as bytes.
        sign: &'a [u8],
        /// The decimal text of `t`, over which the signature is computed.
        t: &'a str,
    },
}

impl<'a> Callback<'a> {
    /// Finds the members of a body.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotOneObject> {
        json::members(body).map(|members| Self { members })
    }

    /// The members in received order, duplicates included.
    pub fn members(&self) -> &[Member<'a>] {
        &self.members
    }

    /// The value of a member as received. Of duplicates the last one counts.
    pub fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.members
            .iter()
            .rfind(|member| *member.name == *name.as_bytes())
            .map(|member| member.value)
    }

    /// The kind: a known `event_type` fixes it whatever the URL says, an unknown one makes it unknown, and without one it is
    /// the URL's.
    pub fn kind(&self, of_url: Option<Kind>) -> Kind {
        match self.value("event_type") {
            None | Some(b"null") => of_url.unwrap_or(Kind::Unknown),
            Some(value) => match json::integer(value).and_then(Kind::from_code) {
                // The documentation's own sample of 345 says 344; only averages have an average.
                Some(Kind::AssessmentThreshold) if self.value("average_score").is_some() => {
                    Kind::AssessmentAverage
                }
                Some(kind) => kind,
                None => Kind::Unknown,
            },
        }
    }

    /// What the body says of its signature.
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

/// What stands between the quotes; none for other values.
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
