//! The configuration: one TOML file, with options from the environment and secrets from files.
//!
//! Each section's type is in the module that it configures; this module puts them together. Reading
//! returns a valid configuration, or one message with the file, the place and the fix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::{Map, Value, ValueKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing_subscriber::util::TryInitError;

use crate::admin::settings::{AdminConfig, AdminSettings};
use crate::dispatch::settings::{HandlerConfig, HandlerSettings};
use crate::inbox::settings::{EngineName, InboxConfig, InboxSettings};
use crate::ingress::settings::ServerConfig;
use crate::log::{self, LogConfig};
use crate::settings::key_error::{KeyError, KeyProblem, meant};
use crate::settings::{self, Env, Invalid, strict};
use crate::source::{Source, SourceConfig};
use crate::streams::settings::{StreamsConfig, StreamsSettings};

mod place;
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
        let AdminSection { admin } = reader.read()?;
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

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sections {
    server: ServerConfig,
    admin: AdminConfig,
    log: LogConfig,
    inbox: InboxConfig,
    streams: StreamsConfig,
    sources: BTreeMap<String, SourceConfig>,
    handlers: BTreeMap<String, HandlerConfig>,
}

/// Only `[admin]`; all else is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AdminSection {
    admin: AdminConfig,
}

/// The values of a configuration that is not checked yet.
struct ConfigReader<'a> {
    file: &'a Path,
    text: &'a str,
    variables: &'a Environment,
    root: Map<String, Value>,
}

impl<'a> ConfigReader<'a> {
    fn of(text: &'a str, file: &'a Path, variables: &'a Environment) -> Result<Self, ConfigError> {
        if let Some((position, problem)) = place::malformed(text) {
            return Err(ConfigError(format!(
                "{}{position}: {problem}",
                file.display()
            )));
        }
        Ok(Self {
            file,
            text,
            variables,
            root: variables::layered(text, variables).map_err(ConfigError)?,
        })
    }

    fn config(&self, env: &Env) -> Result<Config, ConfigError> {
        let invalid = |invalid| self.invalid(invalid);
        let sections: Sections = self.read()?;
        let sources = sections.sources.into_iter().map(|(name, source)| {
            let source = source.validate(&name, env).map_err(invalid)?;
            Ok((name, source))
        });
        let sources: BTreeMap<_, _> = sources.collect::<Result<_, _>>()?;
        let Some(longest_grace) = sources.values().map(Source::expiry_grace).max() else {
            let problem = "there is none, so nothing could come in; begin with [sources.css] and the template's \
                CallbackKey as keys = [\"…\"]";
            return Err(self.invalid(Invalid::at("sources", problem)));
        };
        let server = sections.server.validate("server").map_err(invalid)?;
        let admin = sections.admin.validate("admin", env).map_err(invalid)?;
        if let Some(problem) = admin.collides_with(server.listen) {
            return Err(self.invalid(Invalid::at("admin.listen", problem)));
        }
        let known = sources.keys().map(String::as_str).collect();
        let handlers = sections.handlers.into_iter().map(|(name, handler)| {
            let handler = handler.validate(&name, &known, env).map_err(invalid)?;
            Ok((name, handler))
        });
        Ok(Config {
            server,
            admin,
            log: sections.log.validate("log").map_err(invalid)?,
            inbox: self.inbox(&sections.inbox, env, longest_grace)?,
            streams: sections.streams.validate("streams").map_err(invalid)?,
            handlers: handlers.collect::<Result<_, _>>()?,
            sources,
            file: self.file.to_owned(),
        })
    }

    fn inbox(
        &self,
        inbox: &InboxConfig,
        env: &Env,
        longest_grace: Duration,
    ) -> Result<InboxSettings, ConfigError> {
        let by_variable = |place| self.variable(place).is_some();
        // The container image and the systemd unit set a directory by variable, whatever the engine
        // is.
        let in_one_file = !by_variable("inbox.engine") && !by_variable("inbox.path");
        if inbox.engine == EngineName::Postgres && inbox.path.is_some() && in_one_file {
            let problem =
                "belongs to engine = \"sqlite\", but the engine is \"postgres\"; remove it";
            return Err(self.invalid(Invalid::at("inbox.path", problem)));
        }
        inbox
            .validate("inbox", env, longest_grace)
            .map_err(|invalid| self.invalid(invalid))
    }

    /// Reads the sections of `T`. If the file has no such section, every option has its default.
    fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        strict::read(self.root.clone())
            .map_err(|error| self.error(&dotted(&error.place), &self.message(&error)))
    }

    fn message(&self, error: &KeyError) -> String {
        let place = dotted(&error.place);
        match (error.place.as_slice(), &error.problem) {
            ([key], KeyProblem::UnknownKey(sections)) => {
                let meant = meant(key, sections);
                match self.root.get(key).map(|value| &value.kind) {
                    Some(ValueKind::Table(_)) => format!("unknown section `{place}`{meant}"),
                    _ => format!("`{place}` is in no section{meant}"),
                }
            }
            ([key], _) if ["sources", "handlers"].contains(&key.as_str()) => {
                format!("{key}: expected tables such as [{key}.css]")
            }
            _ => error.message(&self.with_variable(&place)),
        }
    }

    fn invalid(&self, invalid: Invalid) -> ConfigError {
        let place = self.with_variable(&invalid.place);
        self.error(&invalid.place, &format!("{place}: {}", invalid.problem))
    }

    /// The place, followed by the variable that set it, if any.
    fn with_variable(&self, place: &str) -> String {
        match self.variable(place) {
            Some(name) => format!("{place} (set by {name})"),
            None => place.to_owned(),
        }
    }

    /// The environment variable that set the option at this place.
    fn variable(&self, place: &str) -> Option<String> {
        let name = variables::name(place);
        self.variables.contains_key(&name).then_some(name)
    }

    /// An error at a place. It has no position in the file if a variable set the place.
    fn error(&self, place: &str, message: &str) -> ConfigError {
        let position = match self.variable(place) {
            Some(_) => String::new(),
            None => place::position(self.text, place),
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
