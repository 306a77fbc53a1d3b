//! The configuration: one TOML file, with options from the environment and secrets from files.
//!
//! Each section's type is in the module that it configures; this module puts them together. Reading
//! returns a valid configuration, or one message with the file, the place and the fix.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{FileFormat, Source as _};
use serde::Deserialize;
use tracing_subscriber::util::TryInitError;

use self::key_error::meant;
use self::value::{ConfigValue, Table};
use crate::admin::settings::{AdminConfig, AdminSettings};
use crate::dispatch::settings::{HandlerConfig, HandlerSettings};
use crate::inbox::settings::{EngineName, InboxConfig, InboxSettings};
use crate::ingress::settings::ServerConfig;
use crate::log::{self, LogConfig};
use crate::settings::{self, Env, Invalid};
use crate::source::{Source, SourceConfig};
use crate::streams::settings::{StreamsConfig, StreamsSettings};

mod key_error;
mod place;
mod value;
mod variables;

/// A configuration that was checked as a whole. Two configurations are equal if a reload from one
/// to the other changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) admin: AdminSettings,
    pub(crate) log: LogConfig,
    pub(crate) inbox: InboxSettings,
    pub(crate) streams: StreamsSettings,
    /// From `[sources.NAME]`; at least one.
    pub(crate) sources: BTreeMap<String, Source>,
    /// From `[handlers.NAME]`.
    pub(crate) handlers: BTreeMap<String, HandlerSettings>,
    /// The file that was read.
    pub(crate) file: PathBuf,
}

/// Why a configuration cannot be used: one message with the file, the place and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// The environment variables of this process. Variables that are not UTF-8 are left out.
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

const SECTIONS: [&str; 7] = [
    "server", "admin", "log", "inbox", "streams", "sources", "handlers",
];

impl Config {
    /// Sends log messages and panics to standard error, as `[log]` says. A process can do this
    /// once.
    ///
    /// Call [`flush_log`](crate::flush_log) before the process ends, or the last lines may be lost.
    ///
    /// # Errors
    ///
    /// Fails if the process already has a `tracing` subscriber.
    pub fn init_log(&self) -> Result<(), TryInitError> {
        log::init(&self.log)
    }

    /// The file to read: `flag`, else `$LIVEHOOK_CONFIG`, else `/etc/livehook/livehook.toml`.
    pub fn default_path(flag: Option<PathBuf>) -> PathBuf {
        let variable = || std::env::var_os("LIVEHOOK_CONFIG").filter(|path| !path.is_empty());
        flag.or_else(|| variable().map(PathBuf::from))
            .unwrap_or_else(|| "/etc/livehook/livehook.toml".into())
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or if the configuration in it is not valid.
    pub fn load(path: &Path, variables: &Environment) -> Result<Self, ConfigError> {
        let (text, base) = open(path, "name another file with --config")?;
        Self::read(&text, path, &base, variables)
    }

    /// Reads and checks a text as if it were the file `livehook.toml` in the directory `base`.
    ///
    /// # Errors
    ///
    /// Fails if the configuration is not valid.
    pub fn from_toml(
        text: &str,
        base: &Path,
        variables: &Environment,
    ) -> Result<Self, ConfigError> {
        Self::read(text, &base.join("livehook.toml"), base, variables)
    }

    /// Reads and checks only `[admin]`, for commands that use a running server.
    pub fn load_admin(path: &Path, variables: &Environment) -> Result<AdminSettings, ConfigError> {
        let advice = "name another file with --config, or the server with --admin";
        let (text, base) = open(path, advice)?;
        let variable = |name: &str| variables.get(name).cloned();
        let env = Env {
            base: &base,
            variable: &variable,
        };
        let reader = ConfigReader::of(&text, path, variables)?;
        let admin: AdminConfig = reader.section(&["admin"])?;
        let invalid = |invalid| reader.invalid(invalid);
        admin.validate("admin", &env).map_err(invalid)
    }

    fn read(
        text: &str,
        file: &Path,
        base: &Path,
        variables: &Environment,
    ) -> Result<Self, ConfigError> {
        let variable = |name: &str| variables.get(name).cloned();
        let env = Env {
            base,
            variable: &variable,
        };
        ConfigReader::of(text, file, variables)?.config(&env)
    }

    /// The position of a key, as `file:line:column`. It is incomplete if the file cannot be read
    /// any more.
    pub(crate) fn place_of(&self, key: &str) -> String {
        let text = settings::read_text(&self.file);
        let position = text.map(|text| place::position(&text, key));
        format!("{}{}", self.file.display(), position.unwrap_or_default())
    }
}

/// Returns the text of a file and the directory that contains it.
fn open(path: &Path, advice: &str) -> Result<(String, PathBuf), ConfigError> {
    let unreadable = |error| {
        let file = path.display();
        ConfigError(format!("cannot read {file}: {error}; {advice}"))
    };
    let text = settings::read_text(path).map_err(unreadable)?;
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    let base = absolute.parent().unwrap_or(&absolute).to_owned();
    Ok((text, base))
}

fn parse(text: &str, file: &Path) -> Result<Table, ConfigError> {
    let parsed = ::config::File::from_str(text, FileFormat::Toml)
        .collect()
        .map_err(|error| malformed(&error, text, file))?;
    match ConfigValue::table(parsed) {
        ConfigValue::Table(table) => Ok(table),
        _ => Ok(Table::new()),
    }
}

/// Turns the parser's message of several lines into one line. Leaves out the text of the file,
/// because it may contain a secret.
fn malformed(error: &::config::ConfigError, text: &str, file: &Path) -> ConfigError {
    let file = file.display();
    let message = error.to_string();
    let mut lines = message.lines();
    let position = lines
        .next()
        .and_then(|line| line.strip_prefix("TOML parse error at line "))
        .and_then(|position| position.split_once(", column "));
    let position =
        position.and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
    let Some(position) = position else {
        return ConfigError(format!("{file}: {}", message.trim()));
    };
    let problem: Vec<_> = lines
        .skip_while(|line| !line.trim_start().starts_with("| ") || !line.ends_with('^'))
        .skip(1)
        .collect();
    let problem = problem.join("; ");
    let likely = place::likely_problem(text, position, &problem);
    let ((line, column), problem) = likely.unwrap_or((position, problem));
    ConfigError(format!("{file}:{line}:{column}: {problem}"))
}

/// A parsed configuration that is not checked yet.
struct ConfigReader<'a> {
    file: &'a Path,
    text: &'a str,
    root: Table,
    /// The environment variable that set an option, by dotted key.
    from_env: BTreeMap<String, String>,
}

impl<'a> ConfigReader<'a> {
    fn of(text: &'a str, file: &'a Path, variables: &Environment) -> Result<Self, ConfigError> {
        let mut root = parse(text, file)?;
        let from_env = variables::apply(&mut root, variables).map_err(ConfigError)?;
        Ok(Self {
            file,
            text,
            root,
            from_env,
        })
    }

    fn config(&self, env: &Env) -> Result<Config, ConfigError> {
        self.check_sections()?;
        let invalid = |invalid| self.invalid(invalid);
        let server: ServerConfig = self.section(&["server"])?;
        let admin: AdminConfig = self.section(&["admin"])?;
        let log: LogConfig = self.section(&["log"])?;
        let inbox: InboxConfig = self.section(&["inbox"])?;
        let streams: StreamsConfig = self.section(&["streams"])?;

        let mut sources = BTreeMap::new();
        for name in self.names("sources")? {
            let source: SourceConfig = self.section(&["sources", name])?;
            let source = source.validate(name, env).map_err(invalid)?;
            sources.insert(name.to_owned(), source);
        }
        let Some(longest_grace) = sources.values().map(Source::expiry_grace).max() else {
            let problem = "there is none, so nothing could come in; begin with [sources.css] and the template's \
                CallbackKey as keys = [\"…\"]";
            return Err(self.invalid(Invalid::at("sources", problem)));
        };
        let server = server.validate("server").map_err(invalid)?;
        let admin = admin.validate("admin", env).map_err(invalid)?;
        if let Some(problem) = admin.collides_with(server.listen) {
            return Err(self.invalid(Invalid::at("admin.listen", problem)));
        }
        Ok(Config {
            server,
            admin,
            log: log.validate("log").map_err(invalid)?,
            inbox: self.inbox(&inbox, env, longest_grace)?,
            streams: streams.validate("streams").map_err(invalid)?,
            handlers: self.handlers(&sources, env)?,
            sources,
            file: self.file.to_owned(),
        })
    }

    /// Refuses what is at the top of the file and no section.
    fn check_sections(&self) -> Result<(), ConfigError> {
        let mut all = self.root.iter();
        let Some((key, value)) = all.find(|(key, _)| !SECTIONS.contains(&key.as_str())) else {
            return Ok(());
        };
        let place = dotted(&[key]);
        let meant = meant(key, &SECTIONS);
        let problem = match value {
            ConfigValue::Table(_) => format!("unknown section `{place}`{meant}"),
            _ => format!("`{place}` is in no section{meant}"),
        };
        Err(self.error(&place, &problem))
    }

    fn inbox(
        &self,
        inbox: &InboxConfig,
        env: &Env,
        longest_grace: Duration,
    ) -> Result<InboxSettings, ConfigError> {
        let by_variable = |key: &str| self.from_env.contains_key(&format!("inbox.{key}"));
        // The container image and the systemd unit set a directory by variable, whatever the engine
        // is.
        let in_one_file = !by_variable("engine") && !by_variable("path");
        if inbox.engine == EngineName::Postgres && inbox.path.is_some() && in_one_file {
            let problem =
                "belongs to engine = \"sqlite\", but the engine is \"postgres\"; remove it";
            return Err(self.invalid(Invalid::at("inbox.path", problem)));
        }
        inbox
            .validate("inbox", env, longest_grace)
            .map_err(|invalid| self.invalid(invalid))
    }

    fn handlers(
        &self,
        sources: &BTreeMap<String, Source>,
        env: &Env,
    ) -> Result<BTreeMap<String, HandlerSettings>, ConfigError> {
        let known: BTreeSet<_> = sources.keys().map(String::as_str).collect();
        let mut handlers = BTreeMap::new();
        for name in self.names("handlers")? {
            let handler: HandlerConfig = self.section(&["handlers", name])?;
            let handler = handler
                .validate(name, &known, env)
                .map_err(|invalid| self.invalid(invalid))?;
            handlers.insert(name.to_owned(), handler);
        }
        Ok(handlers)
    }

    /// The names of the tables in `[sources]` or `[handlers]`.
    fn names(&self, section: &str) -> Result<Vec<&str>, ConfigError> {
        match self.root.get(section) {
            None => Ok(Vec::new()),
            Some(ConfigValue::Table(table)) => Ok(table.keys().map(String::as_str).collect()),
            Some(_) => {
                let problem = format!("expected tables such as [{section}.css]");
                Err(self.invalid(Invalid::at(section, problem)))
            }
        }
    }

    /// Reads one section. If the file has no such section, every option has its default.
    fn section<T: for<'de> Deserialize<'de>>(&self, place: &[&str]) -> Result<T, ConfigError> {
        let nothing = ConfigValue::Table(Table::new());
        let mut value = place.first().and_then(|first| self.root.get(*first));
        for key in &place[1..] {
            value = match value {
                Some(ConfigValue::Table(table)) => table.get(*key),
                _ => None,
            };
        }
        let value = value.unwrap_or(&nothing);
        T::deserialize(value).map_err(|error| {
            let error = error.locate(value, |value| T::deserialize(value).err());
            let below = error.place.iter().map(String::as_str);
            let place: Vec<_> = place.iter().copied().chain(below).collect();
            let place = dotted(&place);
            self.error(&place, &error.message(&self.with_variable(&place)))
        })
    }

    fn invalid(&self, invalid: Invalid) -> ConfigError {
        let place = self.with_variable(&invalid.place);
        self.error(&invalid.place, &format!("{place}: {}", invalid.problem))
    }

    /// The place, followed by the variable that set it, if any.
    fn with_variable(&self, place: &str) -> String {
        match self.from_env.get(place) {
            Some(name) => format!("{place} (set by {name})"),
            None => place.to_owned(),
        }
    }

    /// An error at a place. It has no position in the file if a variable set the place.
    fn error(&self, place: &str, message: &str) -> ConfigError {
        let position = match self.from_env.contains_key(place) {
            true => String::new(),
            false => place::position(self.text, place),
        };
        ConfigError(format!("{}{position}: {message}", self.file.display()))
    }
}

/// The keys as one dotted TOML key.
fn dotted(keys: &[impl AsRef<str>]) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let written = keys.iter().map(AsRef::as_ref).map(|key| {
        if !key.is_empty() && key.bytes().all(bare) {
            key.to_owned()
        } else {
            format!("{key:?}")
        }
    });
    written.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests;
