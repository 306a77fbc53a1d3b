//! What a callback says, and how it is written and signed.

use serde_json::{Map, Value};

use crate::auth;
use crate::kind::Kind;

/// A callback before it is signed. Written twice with the same signature, it is the same text.
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
            sign: auth::sign(key.unwrap_or_default(), &t.to_string()),
        }
    }
}

impl Content {
    /// The body with this signature, or with none.
    pub fn body(&self, signature: Option<&Signature>) -> String {
        let mut members = self.members.clone();
        if let Some(Signature { t, sign }) = signature {
            let t = if self.style.t_as_text {
                t.to_string().into()
            } else {
                (*t).into()
            };
            members.insert("t".to_owned(), t);
            members.insert("sign".to_owned(), sign.as_str().into());
        }
        self.style.write(&Value::Object(members))
    }
}

impl Style {
    fn write(self, value: &Value) -> String {
        let text = if self.spread {
            format!("{value:#}\n")
        } else {
            value.to_string()
        };
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
