//! `LIVEHOOK__SECTION__KEY`: environment variables that set single options.

use std::collections::BTreeSet;

use ::config::{File, FileFormat, Map, Source as _, Value, ValueKind};

use super::Environment;
use crate::admin::settings::AdminConfig;
use crate::inbox::settings::InboxConfig;
use crate::ingress::settings::ServerConfig;
use crate::log::LogConfig;
use crate::settings::key_error::{keys, nearest};
use crate::settings::strict::is_variable;

/// The start of the name of each such variable.
const PREFIX: &str = "LIVEHOOK__";

/// Options that are lists. A variable holds one value, so it cannot set them.
const LISTS: [&str; 1] = ["server.trusted_proxies"];

/// The values of the file, with those of the variables over them.
pub(super) fn layered(text: &str, variables: &Environment) -> Result<Map<String, Value>, String> {
    let unreadable = |error: ::config::ConfigError| error.to_string();
    let file = File::from_str(text, FileFormat::Toml);
    let mut sections = file.collect().map_err(unreadable)?;
    check_names(variables, &sections)?;
    let ours = variables
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX));
    let trimmed = ours.map(|(name, value)| (name.clone(), value.trim().to_owned()));
    let variables = ::config::Environment::with_prefix("LIVEHOOK")
        .separator("__")
        .source(Some(trimmed.collect()));
    // Not by the builder: for that `"server.listen"` in the file is `listen` in `[server]`, and a
    // variable replaces what should be a section and is none.
    for (option, value) in variables.collect().map_err(unreadable)? {
        let (section, key) = option.split_once('.').unwrap_or_default();
        let table = || Value::new(None, ValueKind::Table(Map::new()));
        let section = sections.entry(section.to_owned()).or_insert_with(table);
        if let ValueKind::Table(table) = &mut section.kind {
            table.insert(key.to_owned(), value);
        }
    }
    sections.values_mut().for_each(drop_replaced);
    Ok(sections)
}

/// Drops what the file says of a secret that a variable gives, in whichever of the three ways.
fn drop_replaced(section: &mut Value) {
    let ValueKind::Table(table) = &mut section.kind else {
        return;
    };
    let stem = |key: &str| {
        let stem = key.strip_suffix("_file").or(key.strip_suffix("_env"));
        stem.unwrap_or(key).to_owned()
    };
    let of_variables = table.iter().filter(|(_, value)| is_variable(value));
    let given: Vec<_> = of_variables.map(|(key, _)| stem(key)).collect();
    table.retain(|key, value| is_variable(value) || !given.contains(&stem(key)));
}

/// The name of the variable for an option, from its dotted key.
pub(super) fn name(option: &str) -> String {
    format!("{PREFIX}{}", option.replace('.', "__")).to_ascii_uppercase()
}

/// The names of the variables that can be set.
fn names() -> BTreeSet<String> {
    let sections = [
        ("server", keys::<ServerConfig>()),
        ("admin", keys::<AdminConfig>()),
        ("log", keys::<LogConfig>()),
        ("inbox", keys::<InboxConfig>()),
    ];
    sections
        .into_iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")))
        .filter(|option| !LISTS.contains(&option.as_str()))
        .map(|option| name(&option))
        .collect()
}

/// Refuses a name that sets nothing: an unknown one, and one such as `LIVEHOOK_SERVER_LISTEN`,
/// which has a single underscore, unless the file names this variable for a secret.
fn check_names(variables: &Environment, file: &Map<String, Value>) -> Result<(), String> {
    let names = names();
    let single = |name: &str| name.replace("__", "_");
    let ours = variables
        .keys()
        .filter(|name| name.starts_with("LIVEHOOK_"));
    for name in ours.filter(|name| !names.contains(*name)) {
        let meant = names.iter().find(|known| single(known) == single(name));
        if let Some(meant) = meant.filter(|_| !mentions(file, name)) {
            return Err(format!(
                "environment: `{name}` sets nothing, did you mean `{meant}`?"
            ));
        }
        if let Some(option) = name.strip_prefix(PREFIX) {
            let problem = unknown(option, &names);
            return Err(format!("environment: {problem}"));
        }
    }
    Ok(())
}

/// Whether an `…_env` option in the file names this variable.
fn mentions(table: &Map<String, Value>, variable: &str) -> bool {
    table.iter().any(|(key, value)| match &value.kind {
        ValueKind::Table(below) => mentions(below, variable),
        ValueKind::String(text) => key.ends_with("_env") && text.trim_end_matches('?') == variable,
        _ => false,
    })
}

/// What is wrong with a name that has this text after the [`PREFIX`].
fn unknown(option: &str, names: &BTreeSet<String>) -> String {
    let given = format!("{PREFIX}{option}");
    if let Some(list) = LISTS.iter().find(|list| name(list) == given) {
        return format!("`{given}`: `{list}` is a list, set it in the file");
    }
    let known: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_prefix(PREFIX))
        .collect();
    match nearest(option, &known) {
        Some(nearest) => format!("unknown variable `{given}`, did you mean `{PREFIX}{nearest}`?"),
        None => format!(
            "unknown variable `{given}`; an option of [server], [admin], [log] or [inbox] is set by \
             {PREFIX}SECTION__OPTION"
        ),
    }
}
