//! What can happen to the bytes of a body on their way.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::bodies::{Body, FIXTURES};

/// Bytes that readers trip over: structure, controls, halves of characters in UTF-8 and GBK, a byte order mark.
const SNIPPETS: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"-",
    b"e",
    b".",
    b"\n",
    b" ",
    b"\0",
    b"\x1f",
    b"\x7f",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\xd3\x5c",
    b"\xc4\xe3",
    b"\xe4\xbd",
    b"\xef\xbb\xbf",
];

#[derive(Debug, Clone)]
pub enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, &'static [u8]),
    Delete(Index, usize),
    /// Repeats a stretch right behind itself.
    Stutter(Index, usize),
    Truncate(Index),
    /// Ends as another callback from some place on.
    Splice(Index, Index, Index),
}

pub fn any_damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    prop_oneof![
        (place(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (place(), select(&SNIPPETS[..])).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (place(), 1..6_usize).prop_map(|(at, length)| Damage::Delete(at, length)),
        (place(), 1..40_usize).prop_map(|(at, length)| Damage::Stutter(at, length)),
        place().prop_map(Damage::Truncate),
        (place(), place(), place()).prop_map(|(at, other, from)| Damage::Splice(at, other, from)),
    ]
}

impl Damage {
    pub fn done_to(self, Body(mut body): Body) -> Body {
        let end = body.len();
        // One behind the last byte is a place, too; what needs a byte there does nothing.
        let place = |at: Index| at.index(end + 1);
        match self {
            Self::Flip(at, bit) => {
                if let Some(byte) = body.get_mut(place(at)) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Set(at, new) => {
                if let Some(byte) = body.get_mut(place(at)) {
                    *byte = new;
                }
            }
            Self::Insert(at, bytes) => {
                drop(body.splice(place(at)..place(at), bytes.iter().copied()))
            }
            Self::Delete(at, length) => drop(body.drain(place(at)..end.min(place(at) + length))),
            Self::Stutter(at, length) => {
                let stop = end.min(place(at) + length);
                let stretch = body[place(at)..stop].to_vec();
                drop(body.splice(stop..stop, stretch));
            }
            Self::Truncate(at) => body.truncate(place(at)),
            Self::Splice(at, other, from) => {
                let other = &other.get(&FIXTURES).0;
                body.truncate(place(at));
                body.extend_from_slice(&other[from.index(other.len())..]);
            }
        }
        Body(body)
    }
}
