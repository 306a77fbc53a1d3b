//! What a callback says, and how it is written and signed.

use std::ops::Range;

use css_callbacks::Kind;
use serde_json::{Map, Value};

/// A callback before it is signed. PreparedBody twice with the same signature, it is the same text.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its kind, which is also the URL that it goes to.
    pub kind: Kind,
    /// Its members without `t` and `sign`.
    pub members: Map<String, Value>,
    /// How it is written.
    pub style: Style,
}

/// How a body is written: the documentation promises none of it, and readers must not care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// `t` as a string, as an old table has it.
    pub t_as_text: bool,
    /// Which characters are escaped.
    pub escaped: Escaped,
    /// Over several lines.
    pub spread: bool,
}

/// Which characters a body writes as escapes without need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escaped {
    /// None.
    #[default]
    Nothing,
    /// All that are not ASCII, as `\u4e2d`.
    NonAscii,
    /// Every `/`, as some languages do.
    Slashes,
}

/// `t` and `sign` of a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// When it expires, UNIX seconds.
    pub t: i64,
    /// The MD5 of key and `t` in hex.
    pub sign: String,
}

impl Signature {
    /// As the platform signs: without a key with the empty one (sample of page 38084).
    pub fn new(key: Option<&str>, t: i64) -> Self {
        Self {
            t,
            sign: css_callbacks::sign(key.unwrap_or_default(), &t.to_string()),
        }
    }
}

/// A body that is written but for the values of `t` and `sign`, so that each attempt need not write it anew.
#[derive(Debug, Clone)]
pub struct PreparedBody {
    text: String,
    /// Where the two stand; none if the body has neither.
    places: Option<Places>,
}

#[derive(Debug, Clone)]
struct Places {
    t: Range<usize>,
    sign: Range<usize>,
    t_as_text: bool,
}

/// Stand in for the values; no body says this.
const T: &str = "\"@t@\"";
const SIGN: &str = "\"@sign@\"";

impl Content {
    /// The body with this signature, or with none.
    pub fn body(&self, signature: Option<&Signature>) -> String {
        self.written(signature.is_some()).body(signature)
    }

    /// The body with places for a signature, or without.
    pub fn written(&self, signed: bool) -> PreparedBody {
        if !signed {
            let text = self.style.write(&self.members);
            return PreparedBody { text, places: None };
        }
        let mut members = self.members.clone();
        for (name, stand_in) in [("t", T), ("sign", SIGN)] {
            members.insert(name.to_owned(), stand_in.trim_matches('"').into());
        }
        let text = self.style.write(&members);
        let place = |stand_in: &str| text.find(stand_in).map(|at| at..at + stand_in.len());
        let places = place(T).zip(place(SIGN)).map(|(t, sign)| Places {
            t,
            sign,
            t_as_text: self.style.t_as_text,
        });
        PreparedBody { text, places }
    }
}

impl PreparedBody {
    /// Whether there are places for a signature.
    pub fn is_signed(&self) -> bool {
        self.places.is_some()
    }

    /// The body with this signature in its places.
    pub fn body(&self, signature: Option<&Signature>) -> String {
        let (Some(places), Some(signature)) = (&self.places, signature) else {
            return self.text.clone();
        };
        let quote = if places.t_as_text { "\"" } else { "" };
        let t = (&places.t, format!("{quote}{}{quote}", signature.t));
        let sign = (&places.sign, format!("\"{}\"", signature.sign));
        let (first, second) = if t.0.start < sign.0.start {
            (t, sign)
        } else {
            (sign, t)
        };
        let between = &self.text[first.0.end..second.0.start];
        [
            &self.text[..first.0.start],
            &first.1,
            between,
            &second.1,
            &self.text[second.0.end..],
        ]
        .concat()
    }
}

impl Style {
    fn write(self, members: &Map<String, Value>) -> String {
        let text = if self.spread {
            serde_json::to_string_pretty(members).map(|text| text + "\n")
        } else {
            serde_json::to_string(members)
        };
        let text = text.expect("names are strings");
        // Neither slashes nor characters beyond ASCII stand anywhere but in strings.
        match self.escaped {
            Escaped::Nothing => text,
            Escaped::Slashes => text.replace('/', "\\/"),
            Escaped::NonAscii => {
                let mut out = String::with_capacity(text.len());
                for character in text.chars() {
                    if character.is_ascii() {
                        out.push(character);
                    } else {
                        let units = character.encode_utf16(&mut [0; 2]).to_vec();
                        out.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
                    }
                }
                out
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_style_says_the_same() {
        let members = json!({ "event_type": 1, "title": "周年庆 🎉", "url": "http://a/b" });
        let signature = Signature::new(Some("test"), 1_545_030_873);
        assert_eq!(signature.sign, "ca3e25e5dc17a6f9909a9ae7281e300d");
        let mut expected = members.clone();
        expected["t"] = 1_545_030_873.into();
        expected["sign"] = signature.sign.clone().into();
        for escaped in [Escaped::Nothing, Escaped::NonAscii, Escaped::Slashes] {
            for spread in [false, true] {
                let style = Style {
                    t_as_text: false,
                    escaped,
                    spread,
                };
                let content = Content {
                    kind: Kind::StreamBegin,
                    members: members.as_object().unwrap().clone(),
                    style,
                };
                let body = content.body(Some(&signature));
                assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
                assert_eq!(body.is_ascii(), escaped == Escaped::NonAscii);
                assert_eq!(body.contains("\\/"), escaped == Escaped::Slashes);
            }
        }
    }
}
