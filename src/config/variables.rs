//! `LIVEHOOK__SECTION__KEY`: environment variables that set single options.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::key_error::nearest;
use super::value::{ConfigValue, Table};
use crate::admin::settings::AdminConfig;
use crate::inbox::settings::InboxConfig;
use crate::ingress::settings::ServerConfig;
use crate::log::LogConfig;

/// The start of the name of each such variable.
const PREFIX: &str = "LIVEHOOK__";

/// Options that are lists. A variable holds one value, so it cannot set them.
const LISTS: [(&str, &str); 1] = [("server", "trusted_proxies")];

/// Puts the variables into the tree. Returns the variable's name by dotted key.
pub(super) fn apply(
    root: &mut Table,
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let options = options();
    check_underscores(root, variables, &options)?;
    let mut set = BTreeMap::new();
    let ours = variables.range(PREFIX.to_owned()..);
    for (name, value) in ours.take_while(|(name, _)| name.starts_with(PREFIX)) {
        let Some((section, key)) = options.get(name) else {
            return Err(unknown(name, &options));
        };
        let table = root
            .entry((*section).to_owned())
            .or_insert_with(|| ConfigValue::Table(Table::new()));
        if let ConfigValue::Table(table) = table {
            let value = ConfigValue::Variable(value.trim().to_owned());
            // The variable also replaces a secret that the file gives in another way.
            table.retain(|other, value| {
                stem(other) != stem(key) || matches!(value, ConfigValue::Variable(_))
            });
            table.insert((*key).to_owned(), value);
            set.insert(format!("{section}.{key}"), name.clone());
        }
    }
    Ok(set)
}

/// The part of the name that the three ways to give one secret share.
fn stem(key: &str) -> &str {
    key.strip_suffix("_file")
        .or_else(|| key.strip_suffix("_env"))
        .unwrap_or(key)
}

/// Refuses a name such as `LIVEHOOK_SERVER_LISTEN`, which has a single underscore and sets nothing,
/// unless the file names this variable for a secret.
fn check_underscores(
    root: &Table,
    variables: &BTreeMap<String, String>,
    options: &BTreeMap<String, (&str, &str)>,
) -> Result<(), String> {
    let single = |name: &str| name.replace("__", "_");
    let ours = variables
        .keys()
        .filter(|name| name.starts_with("LIVEHOOK_"));
    for name in ours.filter(|name| !options.contains_key(*name) && !mentions(root, name)) {
        if let Some(meant) = options.keys().find(|option| single(option) == single(name)) {
            return Err(format!(
                "environment: `{name}` sets nothing, did you mean `{meant}`?"
            ));
        }
    }
    Ok(())
}

/// Whether an `…_env` option in the file names this variable.
fn mentions(table: &Table, variable: &str) -> bool {
    table.iter().any(|(key, value)| match value {
        ConfigValue::Table(below) => mentions(below, variable),
        ConfigValue::Text(text) => key.ends_with("_env") && text.trim_end_matches('?') == variable,
        _ => false,
    })
}

fn unknown(name: &str, options: &BTreeMap<String, (&str, &str)>) -> String {
    if let Some((section, key)) = LISTS
        .iter()
        .find(|(section, key)| variable(section, key) == name)
    {
        return format!("environment: `{name}`: `{section}.{key}` is a list, set it in the file");
    }
    let ours = name.strip_prefix(PREFIX).unwrap_or(name);
    let known: Vec<_> = options
        .keys()
        .filter_map(|name| name.strip_prefix(PREFIX))
        .collect();
    let meant = match nearest(ours, &known) {
        Some(nearest) => format!(", did you mean `{PREFIX}{nearest}`?"),
        None => format!(
            "; an option of [server], [admin], [log] or [inbox] is set by {PREFIX}SECTION__OPTION"
        ),
    };
    format!("environment: unknown variable `{name}`{meant}")
}

/// The options that a variable can set, by the variable's name.
fn options() -> BTreeMap<String, (&'static str, &'static str)> {
    let sections = [
        ("server", keys::<ServerConfig>()),
        ("admin", keys::<AdminConfig>()),
        ("log", keys::<LogConfig>()),
        ("inbox", keys::<InboxConfig>()),
    ];
    sections
        .into_iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| (section, *key)))
        .filter(|option| !LISTS.contains(option))
        .map(|(section, key)| (variable(section, key), (section, key)))
        .collect()
}

fn variable(section: &str, key: &str) -> String {
    format!("{PREFIX}{section}__{key}").to_ascii_uppercase()
}

/// The keys of a section, from its type.
pub(super) fn keys<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    match T::deserialize(KeyCollector) {
        Err(Keys(keys)) => keys,
        Ok(_) => &[],
    }
}

/// A deserializer without values that reports which keys a struct asks for.
struct KeyCollector;

/// The keys. They are an error because this deserializer has no value to return.
#[derive(Debug)]
struct Keys(&'static [&'static str]);

impl<'de> Deserializer<'de> for KeyCollector {
    type Error = Keys;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Keys> {
        Err(Keys(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        keys: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Keys> {
        Err(Keys(keys))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Keys {}

impl serde::de::Error for Keys {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self(&[])
    }
}
