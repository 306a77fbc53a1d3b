//! Sources of every make: keys, token, allow-lists and grace.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::settings::{Env, Invalid};
use crate::source::{AllowUnsigned, Source, SourceConfig};
use css_callbacks::Kind;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::oracle;

/// What sources are given, in this order.
pub const KEYS: [&str; 2] = ["FuzzKeyOfTheTemplate0123456789ab", "n"];
/// What no source has.
pub const FOREIGN_KEY: &str = "FuzzKeyOfSomebodyElse";
/// The token of the sources that have one.
pub const TOKEN: &str = "fuzz token/é";

/// A source before it is validated.
#[derive(Debug, Clone)]
pub struct Site {
    pub keys: Vec<&'static str>,
    pub token: Option<&'static str>,
    pub unsigned: Unsigned,
    pub networks: Networks,
    pub grace: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Unsigned {
    All,
    Kinds(BTreeSet<Kind>),
}

/// The allow-list.
#[derive(Debug, Clone, Copy)]
pub enum Networks {
    Anywhere,
    Ten,
    DocumentationAndOneHost,
}

impl Networks {
    fn list(self) -> &'static [&'static str] {
        match self {
            Self::Anywhere => &[],
            Self::Ten => &["10.0.0.0/8"],
            Self::DocumentationAndOneHost => &["2001:db8::/32", "203.0.113.7/32"],
        }
    }
}

impl Site {
    pub fn source(&self) -> Result<Source, Invalid> {
        let config = SourceConfig {
            keys: self.keys.iter().map(|key| (*key).to_owned()).collect(),
            token: self.token.map(str::to_owned),
            expiry_grace: self.grace,
            allow_unsigned: match &self.unsigned {
                Unsigned::All => AllowUnsigned::All,
                Unsigned::Kinds(kinds) => AllowUnsigned::Kinds(kinds.clone()),
            },
            allow_from: (self.networks.list().iter())
                .map(|network| network.parse().unwrap())
                .collect(),
            ..SourceConfig::default()
        };
        let around = Env {
            base: Path::new("/"),
            variable: &|_| None,
        };
        config.validate("css", &around)
    }

    /// Whether anything at all keeps strangers out, or the operator said that nothing has to.
    pub fn is_sound(&self) -> bool {
        let all_may_be_unsigned = match &self.unsigned {
            Unsigned::All => true,
            Unsigned::Kinds(kinds) => kinds.iter().all(|kind| oracle::may_be_unsigned(*kind)),
        };
        let guarded = !self.keys.is_empty() || self.token.is_some();
        all_may_be_unsigned && (guarded || self.unsigned == Unsigned::All)
    }
}

/// Any source, sound or not.
pub fn any_site() -> impl Strategy<Value = Site> {
    let keys = prop_oneof![
        1 => Just(vec![]),
        3 => Just(vec![KEYS[0]]),
        1 => Just(vec![KEYS[0], KEYS[1]]),
        1 => Just(vec![KEYS[1], KEYS[0]]),
    ];
    let token = prop_oneof![2 => Just(None), 1 => Just(Some(TOKEN))];
    let some_kinds = subsequence(&Kind::ALL[..], 0..=Kind::ALL.len());
    let unsigned = prop_oneof![
        2 => Just(Unsigned::Kinds(BTreeSet::new())),
        2 => some_kinds.prop_map(|kinds| Unsigned::Kinds(kinds.into_iter().collect())),
        1 => Just(Unsigned::All),
    ];
    let networks = prop_oneof![
        5 => Just(Networks::Anywhere),
        1 => Just(Networks::Ten),
        1 => Just(Networks::DocumentationAndOneHost),
    ];
    let grace = prop_oneof![
        4 => Just(Duration::from_secs(600)),
        1 => select(vec![Duration::ZERO, Duration::from_millis(1), Duration::MAX]),
    ];
    (keys, token, unsigned, networks, grace).prop_map(|(keys, token, unsigned, networks, grace)| {
        Site {
            keys,
            token,
            unsigned,
            networks,
            grace,
        }
    })
}

/// A source that could run: one that is not is mended.
pub fn site() -> impl Strategy<Value = Site> {
    any_site().prop_map(|mut site| {
        if let Unsigned::Kinds(kinds) = &mut site.unsigned {
            kinds.retain(|kind| oracle::may_be_unsigned(*kind));
        }
        if !site.is_sound() {
            site.unsigned = Unsigned::All;
        }
        site
    })
}
