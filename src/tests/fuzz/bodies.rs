//! Bodies of every sort, from noise to genuine callbacks with a scratch.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::damage::{self, Damage};
use super::edits::{self, Edit};
use super::members;
use super::reading;
use super::signatures;

/// A body that a failure shows legibly.
#[derive(Clone, PartialEq, Eq)]
pub struct Body(pub Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// An object before it is written down: names without their quotes and values, as they will stand in the body.
#[derive(Debug, Clone)]
pub struct Draft {
    pub members: Vec<(Body, Body)>,
    /// What stands between the tokens, over and over.
    pub blanks: Vec<&'static str>,
}

impl Draft {
    pub fn written(&self) -> Body {
        let mut blanks = self.blanks.iter().cycle();
        let mut out = Vec::new();
        let mut token = |bytes: &[u8]| {
            out.extend_from_slice(blanks.next().map_or("", |blank| blank).as_bytes());
            out.extend_from_slice(bytes);
        };
        token(b"{");
        for (at, (name, value)) in self.members.iter().enumerate() {
            if at > 0 {
                token(b",");
            }
            token(&[b"\"", &*name.0, b"\""].concat());
            token(b":");
            token(&value.0);
        }
        token(b"}");
        token(b"");
        Body(out)
    }
}

/// The genuine callbacks of `crates/css-callbacks/tests/fixtures`, at least one of each kind.
pub static FIXTURES: LazyLock<Vec<Body>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/css-callbacks/tests/fixtures");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_str().unwrap().ends_with(".typed.json"))
        .collect();
    // The census counts on the same cases in every run.
    paths.sort();
    assert!(paths.len() >= 21);
    paths
        .iter()
        .map(|path| Body(fs::read(path).unwrap()))
        .collect()
});

static DRAFTS: LazyLock<Vec<Draft>> = LazyLock::new(|| {
    let draft = |body: &Body| Draft {
        members: reading::members(&body.0)
            .unwrap()
            .into_iter()
            .map(|member| (Body(member.name.unwrap()), Body(member.value)))
            .collect(),
        blanks: Vec::new(),
    };
    FIXTURES.iter().map(draft).collect()
});

/// Anything at all.
pub fn any_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        1 => vec(any::<u8>(), 0..200).prop_map(Body),
        2 => soup(),
        6 => callback(),
    ]
}

/// What JSON is made of, whole and in pieces.
const TOKENS: [&str; 27] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud83d",
    "\n",
    " ",
    "\"a\":",
    "\"t\":",
    "\"sign\":",
    "\"event_type\":",
    "314",
    "null",
    "true",
    "-0",
    "1e9",
    "\"b\"",
    "{}",
    "[]",
    "\u{feff}",
    "é",
    "\0",
];

/// Tokens of JSON in no order, half of them between braces.
fn soup() -> impl Strategy<Value = Body> {
    let token = prop_oneof![
        12 => select(&TOKENS[..]).prop_map(|token| token.as_bytes().to_vec()),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    (vec(token, 0..40), any::<bool>()).prop_map(|(tokens, closed)| {
        let inside = tokens.concat();
        Body(match closed {
            true => [b"{", &*inside, b"}"].concat(),
            false => inside,
        })
    })
}

/// A fixture or an invention, edited, signed in one of many ways, and perhaps damaged.
pub fn callback() -> impl Strategy<Value = Body> {
    let damage = prop_oneof![
        3 => Just(Vec::new()),
        1 => vec(damage::any_damage(), 1..4),
    ];
    (draft(), signatures::members(), damage).prop_map(|(draft, signature, damage)| {
        let body = signed(draft, &signature).written();
        damage
            .into_iter()
            .fold(body, |body, damage: Damage| damage.done_to(body))
    })
}

/// A callback without `sign` and `t`.
pub fn draft() -> impl Strategy<Value = Draft> {
    let fixture = any::<Index>().prop_map(|which| which.get(&DRAFTS).clone());
    let invention = vec((members::name(), members::value()), 0..6).prop_map(|members| Draft {
        members,
        blanks: Vec::new(),
    });
    let drafts = prop_oneof![4 => fixture, 1 => invention];
    let edits = prop_oneof![
        1 => Just(Vec::new()),
        2 => vec(edits::any_edit(), 1..4),
    ];
    (drafts, edits, blanks()).prop_map(|(draft, edits, blanks)| {
        let edited = edits
            .into_iter()
            .fold(draft, |draft, edit: Edit| edit.done_to(draft));
        Draft { blanks, ..edited }
    })
}

/// What may stand between tokens, and seldom what may not.
pub fn blanks() -> impl Strategy<Value = Vec<&'static str>> {
    let blank = prop_oneof![
        30 => select(&["", " ", "\n", "\r\n", "\t", "  \n\n  "][..]),
        1 => select(&["\u{b}", "\u{a0}", "\0"][..]),
    ];
    prop_oneof![
        2 => Just(Vec::new()),
        1 => vec(blank, 1..5),
    ]
}

/// The draft with these members more, each at its place.
pub fn signed(mut draft: Draft, signature: &[(Index, Body, Body)]) -> Draft {
    for (place, name, value) in signature {
        let place = place.index(draft.members.len() + 1);
        draft.members.insert(place, (name.clone(), value.clone()));
    }
    draft
}
