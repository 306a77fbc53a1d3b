//! The content of a callback, and how it is written and signed.

use std::ops::Range;

use css_callbacks::Kind;
use serde_json::{Map, Value};

/// A callback before it is signed. The same content with the same signature gives the same text.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its kind, which also decides the URL.
    pub kind: Kind,
    /// Its members without `t` and `sign`.
    pub members: Map<String, Value>,
    /// How its body is written.
    pub style: Style,
}

/// How a body is written. The documentation promises none of this, and a receiver must accept all
/// of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// `t` is a string, as in an old table.
    pub t_as_text: bool,
    /// The characters that are escaped without need.
    pub escaped: Escaped,
    /// The body has several lines.
    pub spread: bool,
}

/// The characters that a body escapes without need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escaped {
    /// No characters.
    #[default]
    Nothing,
    /// All that are not ASCII, such as `\u4e2d`.
    NonAscii,
    /// Every `/`, as some languages write it.
    Slashes,
}

/// The members `t` and `sign` of a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// When the signature expires, UNIX seconds.
    pub t: i64,
    /// The MD5 of key and `t`, in hex.
    pub sign: String,
}

impl Signature {
    /// Signs like the platform: without a key, with the empty one (sample of page 38084).
    pub fn new(key: Option<&str>, t: i64) -> Self {
        Self {
            t,
            sign: css_callbacks::sign(key.unwrap_or_default(), &t.to_string()),
        }
    }
}

/// A body that is complete except for the values of `t` and `sign`, so that an attempt need not
/// write it again.
#[derive(Debug, Clone)]
pub struct PreparedBody {
    text: String,
    /// Where the two values belong; none if the body has neither.
    places: Option<Places>,
}

#[derive(Debug, Clone)]
struct Places {
    t: Range<usize>,
    sign: Range<usize>,
    t_as_text: bool,
}

/// Placeholders for the values. No body contains these texts.
const T: &str = "\"@t@\"";
const SIGN: &str = "\"@sign@\"";

impl Content {
    /// The body with this signature, or unsigned.
    pub fn body(&self, signature: Option<&Signature>) -> String {
        self.written(signature.is_some()).body(signature)
    }

    /// Writes the body, with or without room for a signature.
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
    /// Whether there is room for a signature.
    pub fn is_signed(&self) -> bool {
        self.places.is_some()
    }

    /// The body with this signature in its room.
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
        // Slashes and characters that are not ASCII appear only inside strings.
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
