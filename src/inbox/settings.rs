//! `[inbox]`: which store, where it is, and how long events are kept.

mod cluster;

use std::path::{Path, PathBuf};
use std::time::Duration;

use humantime::format_duration;
use serde::Deserialize;

pub(crate) use self::cluster::{Cluster, Encryption, Host};
use crate::settings::{self, Env, Invalid, SecretFields, access};

/// `[inbox]` as written in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct InboxConfig {
    pub engine: EngineName,
    /// The directory of the embedded store; the default is `data`. PostgreSQL ignores it, because the
    /// file of the image sets one.
    pub path: Option<PathBuf>,
    /// How long to wait while another process uses the directory.
    #[serde(deserialize_with = "settings::optional_duration")]
    pub lock_wait: Option<Duration>,
    /// If the volume has less room, callbacks are refused. The default is 512 MiB or a tenth of the
    /// volume, whichever is smaller.
    #[serde(deserialize_with = "settings::optional_size")]
    pub min_free: Option<u64>,
    /// How long a file of the log becomes. The default is 64 MiB, and less on a small volume.
    #[serde(deserialize_with = "settings::optional_size")]
    pub segment_size: Option<u64>,
    /// The PostgreSQL servers, the role and the database.
    pub url: Option<String>,
    /// A file that holds the URL.
    pub url_file: Option<PathBuf>,
    /// An environment variable that holds the URL.
    pub url_env: Option<String>,
    /// The most pooled connections to PostgreSQL; one more listens.
    pub connections: Option<usize>,
    /// How long a start waits for PostgreSQL.
    #[serde(deserialize_with = "settings::optional_duration")]
    pub connect_wait: Option<Duration>,
    /// Accept a PostgreSQL that answers before it has written.
    pub allow_async_commit: Option<bool>,
    /// How long an event is kept. It stays longer while a handler owes it an attempt.
    #[serde(deserialize_with = "settings::duration")]
    pub retention: Duration,
    /// How long a parked event is kept.
    #[serde(deserialize_with = "settings::duration")]
    pub parked_retention: Duration,
    /// How long after its arrival a repeat of an event is recognised. The default is as long as the
    /// platform may repeat it.
    #[serde(deserialize_with = "settings::optional_duration")]
    pub dedupe_window: Option<Duration>,
}

impl Default for InboxConfig {
    fn default() -> Self {
        Self {
            engine: EngineName::default(),
            path: None,
            lock_wait: None,
            min_free: None,
            segment_size: None,
            url: None,
            url_file: None,
            url_env: None,
            connections: None,
            connect_wait: None,
            allow_async_commit: None,
            retention: 7 * DAY,
            parked_retention: 30 * DAY,
            dedupe_window: None,
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What `segment_size` may be.
const SEGMENT_SIZES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 30;

const LOCK_WAIT: Duration = Duration::from_secs(10);
const CONNECTIONS: usize = 8;
const MAX_CONNECTIONS: usize = 1000;
const CONNECT_WAIT: Duration = Duration::from_secs(30);

/// The shortest default of `dedupe_window`.
const DEFAULT_MIN_WINDOW: Duration = Duration::from_secs(30 * 60);

/// The last repeat can come this long after the last moment at which a signature is accepted.
const LATEST_REPEAT: Duration = Duration::from_secs(20 * 60);

/// `engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EngineName {
    /// Embedded, one directory, one process.
    #[default]
    Sqlite,
    /// One PostgreSQL, many receivers.
    Postgres,
}

/// A validated `[inbox]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InboxSettings {
    pub store: StoreSettings,
    pub retention: Duration,
    pub parked_retention: Duration,
    pub dedupe_window: Duration,
}

/// The settings of the chosen engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StoreSettings {
    /// `engine = "sqlite"`.
    Sqlite(SqliteSettings),
    /// `engine = "postgres"`.
    Postgres(PostgresSettings),
}

/// The embedded store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SqliteSettings {
    /// The store's directory.
    pub path: PathBuf,
    pub lock_wait: Duration,
    /// None: the smaller of 512 MiB and a tenth of the volume.
    pub min_free: Option<u64>,
    /// The length of a file of the log, in bytes. None: 64 MiB, and less on a small volume.
    pub segment_size: Option<u64>,
}

/// The files of the store that exist once it was opened, beside those of the log.
const FILES: [&str; 3] = ["state.db", "rejected.db", "livehook.lock"];

/// The directory of the log.
const LOG: &str = "log";

/// How SQLite names the files that belong to a database.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

impl SqliteSettings {
    /// Whether this is a file of the store. Nothing else may write to such a file.
    pub(crate) fn owns(&self, file: &Path) -> bool {
        let log = self.path.join(LOG);
        if file
            .parent()
            .is_some_and(|parent| access::is_same_file(parent, &log))
        {
            return true;
        }
        // The first release had its events in inbox.db.
        let names = FILES.iter().chain(&["streams.db", "inbox.db"]);
        let mut all = names.flat_map(|name| SUFFIXES.map(|suffix| format!("{name}{suffix}")));
        all.any(|name| access::is_same_file(file, &self.path.join(name)))
    }

    /// Finds some problems without opening the store: a directory or file that cannot be written.
    pub(crate) fn check(&self, place: &str) -> Result<(), Invalid> {
        let mut files = FILES.iter().map(|name| self.path.join(name));
        access::check_directory(&self.path)
            .and_then(|()| files.try_for_each(|file| access::check_file(&file)))
            .and_then(|()| access::check_directory(&self.path.join(LOG)))
            .map_err(|error| Invalid::at(format!("{place}.path"), format!("{error:#}")))
    }
}

/// The shared store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PostgresSettings {
    pub cluster: Cluster,
    pub connections: usize,
    pub connect_wait: Duration,
    pub allow_async_commit: bool,
}

impl InboxConfig {
    /// Checks the section. `longest_grace` is the longest `expiry_grace` of all sources.
    pub(crate) fn validate(
        &self,
        place: &str,
        env: &Env,
        longest_grace: Duration,
    ) -> Result<InboxSettings, Invalid> {
        let at = |key: &str| format!("{place}.{key}");
        self.check_engine_keys(place)?;
        let store = match self.engine {
            EngineName::Sqlite => StoreSettings::Sqlite(self.sqlite(place, env)?),
            EngineName::Postgres => StoreSettings::Postgres(self.postgres(place, env)?),
        };
        settings::check_duration(at("retention"), self.retention)?;
        settings::check_duration(at("parked_retention"), self.parked_retention)?;
        Ok(InboxSettings {
            store,
            retention: self.retention,
            parked_retention: self.parked_retention,
            dedupe_window: self.dedupe_window(at("dedupe_window"), longest_grace)?,
        })
    }

    /// Refuses options of the other engine, because they would have no effect.
    fn check_engine_keys(&self, place: &str) -> Result<(), Invalid> {
        let of_sqlite = [
            ("lock_wait", self.lock_wait.is_some()),
            ("min_free", self.min_free.is_some()),
            ("segment_size", self.segment_size.is_some()),
        ];
        let of_postgres = [
            ("url", self.url.is_some()),
            ("url_file", self.url_file.is_some()),
            ("url_env", self.url_env.is_some()),
            ("connections", self.connections.is_some()),
            ("connect_wait", self.connect_wait.is_some()),
            ("allow_async_commit", self.allow_async_commit.is_some()),
        ];
        let (others, owner, chosen) = match self.engine {
            EngineName::Sqlite => (&of_postgres[..], "postgres", "sqlite"),
            EngineName::Postgres => (&of_sqlite[..], "sqlite", "postgres"),
        };
        let Some((key, _)) = others.iter().find(|(_, given)| *given) else {
            return Ok(());
        };
        let problem = format!("belongs to engine = \"{owner}\", but the engine is \"{chosen}\"");
        Err(Invalid::at(format!("{place}.{key}"), problem))
    }

    fn sqlite(&self, place: &str, env: &Env) -> Result<SqliteSettings, Invalid> {
        let path = self.path.as_deref().unwrap_or(Path::new("data"));
        if path.as_os_str().is_empty() {
            let problem = "is empty; name a directory";
            return Err(Invalid::at(format!("{place}.path"), problem));
        }
        if let Some(size) = self.segment_size
            && !SEGMENT_SIZES.contains(&size)
        {
            let problem = format!("`{size}` bytes must be 1MiB to 1GiB");
            return Err(Invalid::at(format!("{place}.segment_size"), problem));
        }
        Ok(SqliteSettings {
            path: env.path(path),
            lock_wait: wait(self.lock_wait, LOCK_WAIT, format!("{place}.lock_wait"))?,
            min_free: self.min_free,
            segment_size: self.segment_size,
        })
    }

    fn postgres(&self, place: &str, env: &Env) -> Result<PostgresSettings, Invalid> {
        let at = |key: &str| format!("{place}.{key}");
        let fields = SecretFields {
            name: "url",
            text: self.url.as_deref(),
            file: self.url_file.as_deref(),
            variable: self.url_env.as_deref(),
        };
        let Some(url) = fields.resolve(place, env)? else {
            let problem = format!(
                "is missing; engine = \"postgres\" needs it, or url_file or url_env, such as {}",
                cluster::EXAMPLE
            );
            return Err(Invalid::at(at("url"), problem));
        };
        let given_by = match (&self.url_file, &self.url_env) {
            (Some(_), _) => "url_file",
            (_, Some(_)) => "url_env",
            _ => "url",
        };
        let connections = self.connections.unwrap_or(CONNECTIONS);
        if !(2..=MAX_CONNECTIONS).contains(&connections) {
            let problem = format!("`{connections}` must be 2 to {MAX_CONNECTIONS}");
            return Err(Invalid::at(at("connections"), problem));
        }
        Ok(PostgresSettings {
            cluster: Cluster::parse(url.reveal(), env)
                .map_err(|problem| Invalid::at(at(given_by), problem))?,
            connections,
            connect_wait: wait(self.connect_wait, CONNECT_WAIT, at("connect_wait"))?,
            allow_async_commit: self.allow_async_commit.unwrap_or_default(),
        })
    }

    fn dedupe_window(&self, place: String, longest_grace: Duration) -> Result<Duration, Invalid> {
        let least = longest_grace.saturating_add(LATEST_REPEAT);
        let window = self.dedupe_window.unwrap_or(DEFAULT_MIN_WINDOW.max(least));
        if window < least {
            let problem = format!(
                "`{}` is less than the longest expiry_grace (`{}`) and 20m, so a late repeat could be stored twice; \
                 set at least `{}`, or leave it out",
                format_duration(window),
                format_duration(longest_grace),
                format_duration(least),
            );
            return Err(Invalid::at(place, problem));
        }
        settings::check_duration(place, window)?;
        Ok(window)
    }
}

/// Checks a time to wait. It may be zero.
fn wait(given: Option<Duration>, default: Duration, place: String) -> Result<Duration, Invalid> {
    let wait = given.unwrap_or(default);
    if wait > settings::MAX_DURATION {
        return Err(Invalid::at(place, "must be at most ten years"));
    }
    Ok(wait)
}
