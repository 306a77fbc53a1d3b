//! Which callbacks are the same one.
//!
//! The platform gives its callbacks no id, so the content is the identity: a hash over a derivation version, the source, the
//! kind, and the top-level members sorted by name with their values as received. Left out is what a retry may renew: `t` and
//! `sign`, and `sendTime` of an image audit. The derivation is frozen: every node and every release must agree on it, or
//! retries would be delivered twice. Of StreamLive nothing but `t` tells two pushes of an input apart, so there it counts: a
//! retry that is signed anew comes twice, which is better than a push that is lost.

use std::fmt;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::json::{self, Member};
use crate::kind::Kind;

/// The first bytes that are hashed. Another derivation would need another one.
const VERSION: &[u8] = b"livehook/1";
/// Bytes that are hashed in one go. The usual body fits, and allocators still take it for small.
const GATHERED: usize = 1024;

/// The identity of a callback: 128 bits, written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; 16]);

impl EventId {
    /// Derives the id. `chance` is used for a callback that is like no other even if it looks the same: a `relay` body
    /// without `event_time`, where the same file played again would be lost otherwise.
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
        // Small parts are gathered: one by one they cost more than their bytes.
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

    /// From its 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From its 32 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).ok()?;
        Some(Self(id))
    }

    /// Its 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// 64 of its bits, for tables that check the rest elsewhere.
    pub fn fingerprint(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

fn counts(kind: Kind, name: &[u8]) -> bool {
    match name {
        b"t" => needs_t(kind),
        b"sign" => false,
        b"sendTime" => kind != Kind::ImageAudit,
        _ => true,
    }
}

/// Whether only `t` tells two callbacks of this kind apart.
pub fn needs_t(kind: Kind) -> bool {
    matches!(kind, Kind::StreamliveBegin | Kind::StreamliveEnd)
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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

    /// Computed once by an independent program; a change here makes every retry that crosses an upgrade a second delivery.
    #[test]
    fn the_derivation_is_frozen() {
        let begin = r#"{"event_type":1,"sequence":"6674468118806626493","stream_id":"room-7","t":1545030873,"sign":"x"}"#;
        assert_eq!(
            id(Kind::StreamBegin, begin),
            "ef0e10a0f159debd60bff858b6b8291c"
        );
        assert_eq!(
            id(Kind::Relay, r#"{"event_type":314,"task_id":"9"}"#),
            "8691f4ba123cb8debd27914b83f05f82"
        );
        assert_eq!(id(Kind::Unknown, "{}"), "d3bf7162d028789db1ab6e20124d4884");
        let input = r#"{"event_type":329,"input_id":"6583B18B000017CCCBDA","pipeline":0,"sign":"x","t":1757066192}"#;
        assert_eq!(
            id(Kind::StreamliveBegin, input),
            "c4ea1e9c1ef5c7051e88497c7f155349"
        );
    }

    /// As above: parts that are gathered, that fill the buffer, and that are longer than it.
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
