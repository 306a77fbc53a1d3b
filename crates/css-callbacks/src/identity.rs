//! Which callbacks are the same one.
//!
//! The platform gives its callbacks no id, so the id is a hash of the content: a version, the source, the kind, and the
//! members of the object, sorted by name, with their values as received. What the platform may renew in a repeat is left out:
//! `t` and `sign`, and `sendTime` of an image audit. For StreamLive `t` counts, because nothing else tells two pushes to one
//! input apart. There a repeat with a new `t` counts as a second callback, which is better than a push that is lost.
//!
//! This computation must never change: all receivers and all releases have to agree on it, or a repeat would be delivered
//! twice. `vectors/events.json` holds it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::json::{self, Member};
use crate::kind::Kind;

/// The first bytes that are hashed. Another computation would need another version.
const VERSION: &[u8] = b"livehook/1";
/// How many bytes are hashed at once. The usual body fits, and allocators still treat this size as a small one.
const GATHERED: usize = 1024;

/// The id of a callback: 128 bits, written as 32 lower-case hex digits.
///
/// The platform sends a callback again if it got no 200 in time. The id is the same each time, on each receiver, and in each
/// release of this crate. So make it a unique key of what you store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Computes the id from the source, the kind and the [members](crate::Callback::members) of a callback.
    ///
    /// - `source` is your name for the callback template. Callbacks of two templates are never the same. All receivers of one
    ///   template must use the same name.
    /// - `chance` gives 16 random bytes, such as `rand::random`. It is called only for a [`Kind::Relay`] without `event_time`.
    ///   Nothing in such a body tells whether it is a repeat or the same file was played again, so each gets an id of its own.
    ///
    /// `t`, `sign`, the order of members and the blanks between tokens make no difference; [`covers_t`](Self::covers_t) tells
    /// the exception. Everything else does. `vectors/README.md` in the repository says exactly what is hashed.
    ///
    /// ```
    /// use css_callbacks::{Callback, EventId};
    ///
    /// let id = |body: &str| -> Result<EventId, css_callbacks::NotOneObject> {
    ///     let callback = Callback::parse(body.as_bytes())?;
    ///     let kind = callback.kind(None);
    ///     Ok(EventId::derive("my-template", kind, callback.members(), || [0; 16]))
    /// };
    /// let first = id(r#"{"event_type":1,"stream_id":"room-7","t":1600,"sign":"a"}"#)?;
    /// let repeat = id(r#"{"event_type":1,"stream_id":"room-7","t":1660,"sign":"b"}"#)?;
    /// assert_eq!(first, repeat);
    /// # Ok::<(), css_callbacks::NotOneObject>(())
    /// ```
    pub fn derive(
        source: &str,
        kind: Kind,
        members: &[Member],
        chance: impl FnOnce() -> [u8; 16],
    ) -> Self {
        let mut sorted: Vec<&Member> = Vec::with_capacity(members.len());
        sorted.extend(members.iter().filter(|member| counts(kind, &member.name)));
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let mut hash = Sha256::new();
        // Small parts are gathered, because one call to the hash for each would cost more than hashing its bytes.
        let mut gathered = Vec::with_capacity(GATHERED);
        let mut part = |bytes: &[u8]| {
            if gathered.len() + 8 + bytes.len() > GATHERED {
                hash.update(&gathered);
                gathered.clear();
            }
            // The length in front keeps ("ab", "c") and ("a", "bc") apart.
            gathered.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            if 8 + bytes.len() > GATHERED {
                hash.update(&gathered);
                gathered.clear();
                hash.update(bytes);
            } else {
                gathered.extend_from_slice(bytes);
            }
        };
        part(VERSION);
        part(source.as_bytes());
        part(kind.slug().as_bytes());
        for member in &sorted {
            part(&member.name);
            part(member.value);
        }
        let dated =
            |member: &&Member| *member.name == *b"event_time" && !json::is_empty(member.value);
        if kind == Kind::Relay && !sorted.iter().any(dated) {
            part(&chance());
        }
        hash.update(&gathered);
        let digest = hash.finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// Whether `t` is a part of the id of this kind: yes for the two kinds of StreamLive, where nothing else tells two pushes
    /// apart. If the platform renews `t` of such a callback when it repeats it, the repeat has another id.
    pub fn covers_t(kind: Kind) -> bool {
        matches!(kind, Kind::StreamliveBegin | Kind::StreamliveEnd)
    }

    /// From its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From its 32 hex digits; none if the text is anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first 64 bits. livehook's table of ids keeps only these and checks the rest elsewhere.
    #[doc(hidden)]
    pub fn fingerprint(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Whether a member is a part of the id.
fn counts(kind: Kind, name: &[u8]) -> bool {
    match name {
        b"t" => EventId::covers_t(kind),
        b"sign" => false,
        b"sendTime" => kind != Kind::ImageAudit,
        _ => true,
    }
}

/// Its 32 hex digits.
impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// As [`Display`](fmt::Display).
impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As its 32 hex digits.
impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From its 32 hex digits.
impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("no id of 32 hex digits");
        Self::from_hex(&text).ok_or_else(wrong)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(kind: Kind, body: &str) -> String {
        EventId::derive(
            "css",
            kind,
            &json::members(body.as_bytes()).unwrap(),
            || [7; 16],
        )
        .to_string()
    }

    /// Parts that are gathered, that fill the buffer, and that are longer than it. Short ones are in `vectors/events.json`.
    #[test]
    fn long_values_count_as_short_ones_do() {
        for length in [GATHERED - 200, GATHERED - 8, GATHERED, 5 * GATHERED] {
            let value = format!("\"{}\"", "x".repeat(length));
            let body = format!(r#"{{"b":2,"a":{value},"c":3}}"#);
            let mut plain = Sha256::new();
            for part in [
                "livehook/1",
                "css",
                "stream-end",
                "a",
                &value,
                "b",
                "2",
                "c",
                "3",
            ] {
                plain.update((part.len() as u64).to_be_bytes());
                plain.update(part);
            }
            let expected = hex::encode(&plain.finalize()[..16]);
            assert_eq!(id(Kind::StreamEnd, &body), expected);
        }
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = EventId::from_bytes([0xAB; 16]);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<EventId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<EventId>(r#""ab""#).is_err());
    }

    #[test]
    fn what_a_retry_may_change_does_not_matter() {
        let one = id(
            Kind::StreamEnd,
            r#"{"event_type":0,"stream_id":"a","t":1,"sign":"x"}"#,
        );
        assert_eq!(
            one,
            id(
                Kind::StreamEnd,
                r#"{"sign":"y", "t":"2" ,"stream_id" : "a","event_type":0}"#
            )
        );
        let audit = id(Kind::ImageAudit, r#"{"img":"a","sendTime":1}"#);
        assert_eq!(audit, id(Kind::ImageAudit, r#"{"img":"a","sendTime":2}"#));
    }

    #[test]
    fn only_t_tells_two_pushes_to_streamlive_apart() {
        let body = |t, sign| {
            format!(
                r#"{{"event_type":329,"channel_id":"c","input_id":"i","pipeline":0,"t":{t},"sign":"{sign}"}}"#
            )
        };
        for kind in [Kind::StreamliveBegin, Kind::StreamliveEnd] {
            assert_eq!(id(kind, &body(1, "x")), id(kind, &body(1, "y")));
            assert_ne!(id(kind, &body(1, "x")), id(kind, &body(2, "x")));
        }
    }

    #[test]
    fn everything_else_does() {
        let bodies = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":"1"}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":1,"sendTime":2}"#,
        ];
        let mut seen: Vec<_> = bodies
            .iter()
            .map(|body| id(Kind::StreamEnd, body))
            .collect();
        seen.push(id(Kind::StreamBegin, bodies[0]));
        let all = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }

    #[test]
    fn a_relay_without_time_is_like_no_other() {
        let derive = |body: &str, chance: u8| {
            EventId::derive(
                "css",
                Kind::Relay,
                &json::members(body.as_bytes()).unwrap(),
                || [chance; 16],
            )
        };
        assert_ne!(derive("{}", 1), derive("{}", 2));
        assert_ne!(
            derive(r#"{"event_time":""}"#, 1),
            derive(r#"{"event_time":""}"#, 2)
        );
        assert_eq!(
            derive(r#"{"event_time":"1"}"#, 1),
            derive(r#"{"event_time":"1"}"#, 2)
        );
    }
}
