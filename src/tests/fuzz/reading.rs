//! The test's own reading of a body, so that livehook's scanner does not judge itself.
//!
//! What `serde_json` can read is read by it. Everything else that the contract keeps (no UTF-8, lone surrogates, numbers out
//! of range, the last level of nesting) is read by a small parser of bytes.

mod grammar;

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

pub use grammar::by_bytes;

/// The contract's limit; the braces of the body are the first level.
pub const LEVELS: usize = 128;

/// A member of the object that a body is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Decoded; none where the encoding is not known and the name has a backslash that may be half a character.
    pub name: Option<Vec<u8>>,
    /// As received, without the blanks around it.
    pub value: Vec<u8>,
}

/// The members if the body is one object by the contract.
pub fn members(body: &[u8]) -> Option<Vec<Member>> {
    by_serde(body).or_else(|| by_bytes(body, LEVELS))
}

/// The value that counts: the last one of that name.
pub fn value<'a>(members: &'a [Member], name: &str) -> Option<&'a [u8]> {
    let of_that_name = |member: &&Member| member.name.as_deref() == Some(name.as_bytes());
    Some(&members.iter().rev().find(of_that_name)?.value)
}

/// As `serde_json` reads it, where it reads everything to the end.
pub fn by_serde(body: &[u8]) -> Option<Vec<Member>> {
    struct Members(Vec<Member>);
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Members;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
            let mut all = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                all.push(Member {
                    name: Some(name.into_bytes()),
                    value: value.get().as_bytes().to_vec(),
                });
            }
            Ok(Members(all))
        }
    }
    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(InOrder)
        }
    }
    // Raw values alone would let pass what is not looked at inside.
    serde_json::from_slice::<Value>(body)
        .ok()
        .filter(Value::is_object)?;
    Some(serde_json::from_slice::<Members>(body).unwrap().0)
}

/// The text without the line breaks between its tokens.
pub fn in_one_line(json: &[u8]) -> Vec<u8> {
    let breaks = |(byte, inside): &(u8, bool)| !inside && matches!(byte, b'\n' | b'\r');
    marked(json)
        .filter(|byte| !breaks(byte))
        .map(|(byte, _)| byte)
        .collect()
}

/// How deep the text is nested.
pub fn levels(json: &[u8]) -> usize {
    let mut open = 0;
    let depths = marked(json).filter(|(_, inside)| !inside).map(|(byte, _)| {
        match byte {
            b'{' | b'[' => open += 1,
            b'}' | b']' => open -= 1,
            _ => {}
        }
        open
    });
    depths.max().unwrap_or(0)
}

/// Each byte with whether it stands inside a string.
fn marked(json: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let (mut inside, mut escaped) = (false, false);
    json.iter().map(move |byte| {
        let was_inside = inside;
        if !escaped && *byte == b'"' {
            inside = !inside;
        }
        escaped = inside && !escaped && *byte == b'\\';
        (*byte, was_inside)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::fuzz::bodies;

    #[test]
    fn the_last_level_counts() {
        let nested = |levels: usize| ["{\"a\":".repeat(levels), "}".repeat(levels)].join("1");
        assert_eq!(levels(nested(LEVELS).as_bytes()), LEVELS);
        assert!(members(nested(LEVELS).as_bytes()).is_some());
        assert!(members(nested(LEVELS + 1).as_bytes()).is_none());
    }

    proptest! {
        #![proptest_config(crate::tests::fuzz::config(1000))]

        #[test]
        fn both_readings_agree(body in bodies::any_body()) {
            if let Some(read) = by_serde(&body.0) {
                prop_assert_eq!(by_bytes(&body.0, LEVELS), Some(read));
            }
        }
    }
}
