//! `livehook check`: errors of the configuration, the URLs to paste, what each handler receives,
//! hints, and what was not checked.

pub(super) mod store;

use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use css_callbacks::{Kind, UrlField};

use super::Failed;
use crate::config::Config;
use crate::dispatch::settings::{DeliveryOrder, HandlerSettings};
use crate::inbox::settings::StoreSettings;
use crate::settings::{Invalid, access};
use crate::source::{Source, token_query};

/// The keys in the files of `config/`. Everybody can read them.
const PUBLISHED: [&str; 2] = [
    "0123456789abcdef0123456789abcdef",
    "LivehookDemoKeyDoNotUseInTheWild",
];

/// Replaces the host in URLs if `server.public_url` is not set.
const PLACEHOLDER: &str = "http://YOUR-HOST";

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Check the store instead: read all of it, also while the server runs; without DIR, the store
    /// of the configuration
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    store: Option<Option<PathBuf>>,
}

impl CheckArgs {
    /// Which store to check, if one is to be checked; none of its own: that of the configuration.
    pub(super) fn store(&self) -> Option<Option<&Path>> {
        self.store.as_ref().map(Option::as_deref)
    }
}

/// The directory of the embedded store.
pub(super) fn store_of(config: &Config) -> Result<PathBuf, Failed> {
    match &config.inbox.store {
        StoreSettings::Sqlite(store) => Ok(store.path.clone()),
        StoreSettings::Postgres(_) => Err(Failed::Setup(anyhow!(
            "the store is in PostgreSQL, which checks its own files (pg_amcheck)"
        ))),
    }
}

/// Finds problems that loading the configuration does not find but that would stop a server at its
/// start. Changes nothing.
pub(super) fn validate(config: &Config) -> anyhow::Result<()> {
    check_targets(config)?;
    let placed = |invalid: Invalid| anyhow!("{}: {invalid}", config.place_of(&invalid.place));
    if let StoreSettings::Sqlite(store) = &config.inbox.store {
        store.check("inbox").map_err(placed)?;
    }
    for (name, handler) in &config.handlers {
        if let Some(target) = &handler.target {
            let place = format!("handlers.{name}.to");
            target.check(&place).map_err(placed)?;
        }
    }
    Ok(())
}

/// The report on a valid configuration.
pub(super) fn report(config: &Config) -> Result<String, fmt::Error> {
    let mut out = String::new();
    write_report(&mut out, config)?;
    Ok(out)
}

/// Checks that each handler has a `to` (only a library user may add handlers in code), and that
/// none writes to a file of livehook itself.
pub(super) fn check_targets(config: &Config) -> anyhow::Result<()> {
    let wrong = |place: String, problem: &str| {
        let invalid = Invalid::at(place, problem);
        Err(anyhow!("{}: {invalid}", config.place_of(&invalid.place)))
    };
    for (name, handler) in &config.handlers {
        let Some(target) = &handler.target else {
            let advice =
                "is missing; name the target of the events, such as to = { type = \"log\" }";
            return wrong(format!("handlers.{name}.to"), advice);
        };
        let Some(path) = target.file() else { continue };
        let shown = path.display();
        let place = format!("handlers.{name}.to.path");
        if access::is_same_file(path, &std::path::absolute(&config.file)?) {
            let problem = format!("{shown} is this configuration; name another file");
            return wrong(place, &problem);
        }
        if let StoreSettings::Sqlite(store) = &config.inbox.store
            && store.owns(path)
        {
            let problem = format!(
                "{shown} is a file of the store, which only livehook may write; name another file"
            );
            return wrong(place, &problem);
        }
    }
    Ok(())
}

fn write_report(out: &mut String, config: &Config) -> fmt::Result {
    writeln!(out, "{} is good", config.file.display())?;
    for source in config.sources.values() {
        write_source(out, config, source)?;
    }
    writeln!(out, "\nHandlers")?;
    if config.handlers.is_empty() {
        writeln!(out, "  none: events are stored, but not delivered")?;
    }
    for (name, handler) in &config.handlers {
        write_handler(out, name, handler)?;
    }
    for (title, lines) in [
        ("Hints", hints(config)),
        ("Not checked", not_checked(config)),
    ] {
        if !lines.is_empty() {
            writeln!(out, "\n{title}")?;
        }
        for line in lines {
            writeln!(out, "  - {line}")?;
        }
    }
    Ok(())
}

fn write_source(out: &mut String, config: &Config, source: &Source) -> fmt::Result {
    writeln!(out, "\nSource {}", source.name())?;
    type Belongs = fn(UrlField) -> bool;
    let groups: [(&str, Belongs); 4] = [
        ("Callback template (API or console)", |field| {
            matches!(field, UrlField::Template(_))
        }),
        ("Console only", |field| {
            matches!(field, UrlField::Console(_))
        }),
        ("Per task", |field| matches!(field, UrlField::PerTask(_))),
        (
            "StreamLive input (its setting has one URL for both: leave out the last part)",
            |field| matches!(field, UrlField::Input(_)),
        ),
    ];
    for (title, belongs) in groups {
        writeln!(out, "  {title}")?;
        let rows: Vec<_> = Kind::ALL
            .into_iter()
            .filter_map(|kind| Some((kind, kind.url_field().filter(|field| belongs(*field))?)))
            .map(|(kind, field)| (label(kind, field), url(config, source, kind)))
            .collect();
        let width = rows.iter().map(|(label, _)| label.len()).max();
        for (label, url) in &rows {
            writeln!(
                out,
                "    {label:width$}   {url}",
                width = width.unwrap_or(0)
            )?;
        }
    }
    Ok(())
}

fn label(kind: Kind, field: UrlField) -> String {
    let deprecated = match kind {
        Kind::StreamMix => " (deprecated)",
        _ => "",
    };
    format!("{}{deprecated}", field.name())
}

/// The URL for callbacks of a kind to a source.
fn url(config: &Config, source: &Source, kind: Kind) -> String {
    let base = config.server.public_url.as_deref().unwrap_or(PLACEHOLDER);
    let mut url = format!("{base}/{}/{kind}", source.name());
    if let Some(token) = source.token() {
        url.push_str(&format!("?{}", token_query(token)));
    }
    url
}

fn write_handler(out: &mut String, name: &str, handler: &HandlerSettings) -> fmt::Result {
    let to = handler.target_type.unwrap_or("code");
    write!(out, "  {name} ({to}): ")?;
    if Kind::every().all(|kind| handler.kinds().contains(&kind) != kind.is_derived()) {
        write!(out, "all kinds")?;
    } else {
        let kinds: Vec<_> = handler.kinds().iter().map(|kind| kind.slug()).collect();
        write!(out, "{}", kinds.join(", "))?;
    }
    if !handler.sources().is_empty() {
        let sources: Vec<_> = handler.sources().iter().map(String::as_str).collect();
        write!(out, "; from {}", sources.join(", "))?;
    }
    if !handler.streams().is_empty() {
        write!(out, "; streams {}", handler.streams().join(", "))?;
    }
    match handler.order {
        DeliveryOrder::Stream => writeln!(out, "; in order per stream"),
        DeliveryOrder::None => writeln!(out, "; in no order"),
    }
}

/// Lists what only a running server, or the platform, can find out.
fn not_checked(config: &Config) -> Vec<String> {
    let mut lines = vec![
        "the callback template: whether it has these URLs and the same key".to_owned(),
        "the path from the platform to this server: name, HTTPS, load balancer, firewall"
            .to_owned(),
        format!(
            "the ports: whether {} and {} are free",
            config.server.listen, config.admin.listen
        ),
        "the user: whether the user that runs the server may use the same files as you".to_owned(),
    ];
    lines.push(match &config.inbox.store {
        StoreSettings::Sqlite(store) => format!(
            "the store in {}: whether it is undamaged and not used by another server",
            store.path.display()
        ),
        StoreSettings::Postgres(_) => {
            "PostgreSQL: whether it answers, lets the role in, and syncs what it commits".to_owned()
        }
    });
    for (name, handler) in &config.handlers {
        lines.extend(match handler.target_type {
            Some("http") => Some(format!("handler {name}: whether its endpoint answers")),
            Some("exec") => Some(format!("handler {name}: whether its program works")),
            _ => None,
        });
    }
    lines
}

fn hints(config: &Config) -> Vec<String> {
    let mut hints = Vec::new();
    match config.server.public_url.as_deref() {
        None => hints.push(format!(
            "{PLACEHOLDER} is a placeholder: set server.public_url to the address that the platform uses"
        )),
        Some(url) if url.starts_with("http://") => hints.push(
            "server.public_url is plain http, so others can read signatures and tokens; put HTTPS in front".to_owned(),
        ),
        Some(_) => {}
    }
    if let Some(variable) = &config.admin.unset {
        hints.push(format!(
            "the admin listener listens on {} only, because {variable} is not set",
            config.admin.listen
        ));
    }
    for source in config.sources.values() {
        hint_source(&mut hints, source);
    }
    for (name, handler) in &config.handlers {
        hint_handler(&mut hints, name, handler);
    }
    hints
}

/// The kinds whose events may lack an appname.
const KINDS_WITHOUT_APPNAME: [Kind; 4] =
    [Kind::Relay, Kind::Monitor, Kind::Subtitle, Kind::SmartErase];

fn hint_handler(hints: &mut Vec<String>, name: &str, handler: &HandlerSettings) {
    let without_appname = KINDS_WITHOUT_APPNAME
        .iter()
        .filter(|kind| handler.kinds().contains(kind));
    let without_appname: Vec<_> = without_appname.map(|kind| kind.slug()).collect();
    if !handler.streams().is_empty() && !without_appname.is_empty() {
        hints.push(format!(
            "handler {name}: events without an appname match its streams by streamid alone, so events of another app's stream \
             with the same name may match; these kinds may lack an appname: {}",
            without_appname.join(", ")
        ));
    }
}

fn hint_source(hints: &mut Vec<String>, source: &Source) {
    let name = source.name();
    if source
        .keys()
        .iter()
        .any(|key| PUBLISHED.contains(&key.reveal()))
    {
        hints.push(format!(
            "source {name} has a key from the documentation, so anybody can sign; make your own key (`livehook key`)"
        ));
    }
    if source.is_open() {
        hints.push(format!(
            "source {name} has neither a key nor a token: every callback that reaches it is accepted"
        ));
    } else if source.keys().is_empty() {
        hints.push(format!(
            "source {name} has no key: only the token is checked; give the template a CallbackKey (`livehook key`)"
        ));
    } else if source.token().is_none() {
        let refused: Vec<_> = Kind::ALL
            .into_iter()
            .filter(|kind| kind.may_be_unsigned() && !source.allows_unsigned(*kind))
            .map(Kind::slug)
            .collect();
        if !refused.is_empty() {
            hints.push(format!(
                "source {name} has no token: unsigned callbacks of these kinds are refused: {}",
                refused.join(", ")
            ));
        }
    }
}

#[cfg(test)]
mod tests;
