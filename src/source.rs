//! A source: one callback template with its keys, its URL secret and its rules.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::{Kind, Secret};
use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::settings::{self, Env, Invalid, SecretFields};

/// `[sources.NAME]` as written in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SourceConfig {
    /// The template's CallbackKey; more than one during a key rotation.
    pub keys: Vec<String>,
    /// A file with one key per line.
    pub key_file: Option<PathBuf>,
    /// The name of a variable with one key, or several separated by blanks or commas.
    pub keys_env: Option<String>,
    /// The secret that the URL must contain as `?token=`.
    pub token: Option<String>,
    /// A file with the token.
    pub token_file: Option<PathBuf>,
    /// The name of a variable with the token.
    pub token_env: Option<String>,
    /// How long after `t` a signature is valid: `t` lasts 10 minutes, retries last 16.
    #[serde(deserialize_with = "settings::duration")]
    pub expiry_grace: Duration,
    /// The kinds that may arrive without `sign` and `t`.
    pub allow_unsigned: AllowUnsigned,
    /// The networks that may send callbacks; empty: all.
    #[serde(deserialize_with = "settings::networks")]
    pub allow_from: Vec<IpNet>,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            key_file: None,
            keys_env: None,
            token: None,
            token_file: None,
            token_env: None,
            expiry_grace: Duration::from_secs(600),
            allow_unsigned: AllowUnsigned::Kinds(BTreeSet::new()),
            allow_from: Vec::new(),
        }
    }
}

/// `allow_unsigned`: `true`, or a list of kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AllowUnsigned {
    /// Every kind that may arrive unsigned. On a source without keys, every kind.
    All,
    /// Only these kinds.
    Kinds(BTreeSet<Kind>),
}

impl<'de> Deserialize<'de> for AllowUnsigned {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = AllowUnsigned;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("`true` or a list of kinds")
            }

            fn visit_bool<E>(self, all: bool) -> Result<Self::Value, E> {
                Ok(if all {
                    AllowUnsigned::All
                } else {
                    AllowUnsigned::Kinds(BTreeSet::new())
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(AllowUnsigned::Kinds)
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

/// A validated source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    name: Arc<str>,
    keys: Vec<Secret>,
    token: Option<Secret>,
    expiry_grace: Duration,
    allow_unsigned: AllowUnsigned,
    allow_from: Vec<IpNet>,
}

/// The source name for requests to an unknown URL, in the metrics and in the rejected list.
pub(crate) const UNKNOWN_SOURCE: &str = "unknown";

/// Names that no source can have: the health pages, and [`UNKNOWN_SOURCE`].
const RESERVED_NAMES: [&str; 3] = ["healthz", "readyz", UNKNOWN_SOURCE];

impl SourceConfig {
    /// Checks the section and reads the secrets it refers to.
    pub(crate) fn validate(&self, name: &str, env: &Env) -> Result<Source, Invalid> {
        let place = format!("sources.{name}");
        settings::check_name(&place, name)?;
        if RESERVED_NAMES.contains(&name) {
            return Err(Invalid::at(
                place,
                format!("livehook itself uses the name `{name}`; choose another"),
            ));
        }
        let keys = self.keys(&place, env)?;
        let token = SecretFields {
            name: "token",
            text: self.token.as_deref(),
            file: self.token_file.as_deref(),
            variable: self.token_env.as_deref(),
        }
        .resolve(&place, env)?;
        if keys.is_empty() && token.is_none() && self.allow_unsigned != AllowUnsigned::All {
            let problem = "has neither a key nor a token, so anybody could post to it; set `keys` (the template's \
                CallbackKey) or `token` (the `?token=` of the URL), or, if something else keeps strangers out, \
                `allow_unsigned = true`";
            return Err(Invalid::at(place, problem));
        }
        if let AllowUnsigned::Kinds(kinds) = &self.allow_unsigned
            && let Some(kind) = kinds.iter().find(|kind| !kind.may_be_unsigned())
        {
            let problem = format!(
                "the platform always signs `{kind}`, so an unsigned one is not genuine; remove it"
            );
            return Err(Invalid::at(format!("{place}.allow_unsigned"), problem));
        }
        Ok(Source {
            name: name.into(),
            keys,
            token,
            expiry_grace: self.expiry_grace,
            allow_unsigned: self.allow_unsigned.clone(),
            allow_from: self.allow_from.clone(),
        })
    }

    fn keys(&self, place: &str, env: &Env) -> Result<Vec<Secret>, Invalid> {
        let given = [
            !self.keys.is_empty(),
            self.key_file.is_some(),
            self.keys_env.is_some(),
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(Invalid::at(
                place,
                "give only one of `keys`, `key_file` and `keys_env`",
            ));
        }
        if let Some(file) = &self.key_file {
            let place = format!("{place}.key_file");
            let text = settings::read_file(&place, file, "the template's CallbackKey", env)?;
            return parse_keys(text.lines(), place);
        }
        if let Some(variable) = &self.keys_env {
            let place = format!("{place}.keys_env");
            return match settings::read_variable(&place, variable, env)? {
                Some(text) => {
                    let separator = |c: char| c.is_whitespace() || c == ',';
                    parse_keys(text.split(separator), place)
                }
                None => Ok(Vec::new()),
            };
        }
        let place = format!("{place}.keys");
        self.keys
            .iter()
            .map(|key| checked_key(key, place.clone()))
            .collect()
    }
}

/// The longest CallbackKey that the platform accepts.
pub(crate) const MAX_KEY_LENGTH: usize = 32;

/// Checks that the platform accepts such a key. With a wrong key, all callbacks are refused.
fn checked_key(text: &str, place: String) -> Result<Secret, Invalid> {
    let key = settings::checked(text, place.clone())?;
    let problem = match text.chars().count() {
        _ if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            "this one holds something else".to_owned()
        }
        count if count > MAX_KEY_LENGTH => format!("this one has {count}"),
        _ => return Ok(key),
    };
    let rule = "the platform takes only keys of 1 to 32 letters and digits";
    Err(Invalid::at(place, format!("{rule}, {problem}")))
}

fn parse_keys<'a>(
    keys: impl Iterator<Item = &'a str>,
    place: String,
) -> Result<Vec<Secret>, Invalid> {
    let keys: Vec<_> = keys
        .map(settings::trimmed)
        .filter(|key| !key.is_empty())
        .map(|key| checked_key(key, place.clone()))
        .collect::<Result<_, _>>()?;
    if keys.is_empty() {
        Err(Invalid::at(place, "holds no key"))
    } else {
        Ok(keys)
    }
}

/// The characters to escape in a query value: all but the unreserved ones of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The query of a source's URLs, with its token.
pub(crate) fn token_query(token: &Secret) -> String {
    format!("token={}", utf8_percent_encode(token.reveal(), ESCAPED))
}

impl Source {
    /// The name, which is the first path segment of the source's URLs.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The keys that sign its callbacks. If there are none, signatures are not checked.
    pub(crate) fn keys(&self) -> &[Secret] {
        &self.keys
    }

    /// The token that its URLs must contain, if any.
    pub(crate) fn token(&self) -> Option<&Secret> {
        self.token.as_ref()
    }

    /// How long after `t` a signature is still valid.
    pub(crate) fn expiry_grace(&self) -> Duration {
        self.expiry_grace
    }

    /// Whether `allow_unsigned` permits this kind on a source with keys.
    pub(crate) fn allows_unsigned(&self, kind: Kind) -> bool {
        match &self.allow_unsigned {
            AllowUnsigned::All => true,
            AllowUnsigned::Kinds(kinds) => kinds.contains(&kind),
        }
    }

    /// Whether the source accepts everything: it has no keys and no token, only `allow_unsigned`.
    pub(crate) fn is_open(&self) -> bool {
        self.keys.is_empty() && self.token.is_none()
    }

    /// Whether this address may send callbacks. An unknown address may only if the list is empty.
    pub(crate) fn allows_from(&self, client: Option<IpAddr>) -> bool {
        self.allow_from.is_empty()
            || client.is_some_and(|client| {
                self.allow_from
                    .iter()
                    .any(|net| net.contains(&client.to_canonical()))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn keys_of_files_and_variables_lose_what_stands_around_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "\u{FEFF}first\r\n\r\n  second\t\n").unwrap();
        let variable = |_: &str| Some(" first,\nsecond, ".to_owned());
        let keys = |config: &SourceConfig| {
            let env = Env {
                base: Path::new("/"),
                variable: &variable,
            };
            config.validate("css", &env).map(|source| source.keys)
        };
        let both = vec![Secret::new("first"), Secret::new("second")];
        let of_file = SourceConfig {
            key_file: Some(file.clone()),
            ..SourceConfig::default()
        };
        assert_eq!(keys(&of_file).as_ref(), Ok(&both));
        let of_variable = SourceConfig {
            keys_env: Some("KEYS".into()),
            ..SourceConfig::default()
        };
        assert_eq!(keys(&of_variable).as_ref(), Ok(&both));
        for bad in [
            "good\n\"first\"",
            "fi\u{FEFF}rst",
            "fi\u{200B}rst",
            "fi rst",
        ] {
            std::fs::write(&file, bad).unwrap();
            let error = keys(&of_file).unwrap_err();
            assert_eq!(error.place, "sources.css.key_file");
            assert!(!error.problem.contains("rst"), "{error}");
        }
    }
}
