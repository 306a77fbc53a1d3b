//! `[inbox]`: which store, where, and how long it keeps what.

use std::path::PathBuf;
use std::time::Duration;

use humantime::format_duration;
use serde::Deserialize;

use crate::settings::{self, Invalid, Surroundings};

/// `[inbox]` as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InboxConfig {
    /// What stores the events.
    pub engine: Engine,
    /// The directory of the embedded store.
    pub path: PathBuf,
    /// How long to wait for another process to leave the directory.
    #[serde(deserialize_with = "settings::duration")]
    pub lock_wait: Duration,
    /// With less room on the volume callbacks are refused; none: the smaller of 512 MiB and a tenth of the volume.
    #[serde(deserialize_with = "settings::optional_size")]
    pub min_free: Option<u64>,
    /// Where the PostgreSQL server is.
    pub url: Option<String>,
    /// A file that holds the URL.
    pub url_file: Option<PathBuf>,
    /// A variable that holds the URL.
    pub url_env: Option<String>,
    /// How long an event is kept, whatever became of it.
    #[serde(deserialize_with = "settings::duration")]
    pub retention: Duration,
    /// How long an event is kept that a handler parked.
    #[serde(deserialize_with = "settings::duration")]
    pub parked_retention: Duration,
    /// How long after its arrival a repeat of an event is recognised; none: as long as the platform may repeat it.
    #[serde(deserialize_with = "settings::optional_duration")]
    pub dedupe_window: Option<Duration>,
}

impl Default for InboxConfig {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            path: "data".into(),
            lock_wait: Duration::from_secs(10),
            min_free: None,
            url: None,
            url_file: None,
            url_env: None,
            retention: 7 * DAY,
            parked_retention: 30 * DAY,
            dedupe_window: None,
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The shortest window that is chosen unasked.
const USUAL_WINDOW: Duration = Duration::from_secs(30 * 60);

/// From the last moment a signature is taken to the last repeat that can still come.
const BEYOND_GRACE: Duration = Duration::from_secs(20 * 60);

/// `engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Embedded, one directory, one process.
    #[default]
    Sqlite,
    /// One PostgreSQL behind many receivers.
    Postgres,
}

/// A validated `[inbox]`.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxSettings {
    /// The store's directory.
    pub path: PathBuf,
    /// How long to wait for another process to leave the directory.
    pub lock_wait: Duration,
    /// With less room on the volume callbacks are refused; none: the smaller of 512 MiB and a tenth of the volume.
    pub min_free: Option<u64>,
    /// How long an event is kept, whatever became of it.
    pub retention: Duration,
    /// How long an event is kept that a handler parked.
    pub parked_retention: Duration,
    /// How long after its arrival a repeat of an event is recognised.
    pub dedupe_window: Duration,
}

impl InboxConfig {
    /// Checks the section. `longest_grace` is the longest `expiry_grace` of all sources.
    pub fn validate(
        &self,
        place: &str,
        around: &Surroundings,
        longest_grace: Duration,
    ) -> Result<InboxSettings, Invalid> {
        let at = |key: &str| format!("{place}.{key}");
        if self.engine == Engine::Postgres {
            let problem = "this build has no PostgreSQL engine yet; use \"sqlite\"";
            return Err(Invalid::at(at("engine"), problem));
        }
        let of_postgres = [
            ("url", self.url.is_some()),
            ("url_file", self.url_file.is_some()),
            ("url_env", self.url_env.is_some()),
        ];
        if let Some((key, _)) = of_postgres.iter().find(|(_, given)| *given) {
            let problem = "belongs to engine = \"postgres\", but the engine is \"sqlite\"";
            return Err(Invalid::at(at(key), problem));
        }
        if self.path.as_os_str().is_empty() {
            return Err(Invalid::at(at("path"), "is empty; name a directory"));
        }
        if self.lock_wait > settings::LONGEST {
            return Err(Invalid::at(at("lock_wait"), "must be at most ten years"));
        }
        settings::check_duration(at("retention"), self.retention)?;
        settings::check_duration(at("parked_retention"), self.parked_retention)?;
        Ok(InboxSettings {
            path: around.path(&self.path),
            lock_wait: self.lock_wait,
            min_free: self.min_free,
            retention: self.retention,
            parked_retention: self.parked_retention,
            dedupe_window: self.dedupe_window(at("dedupe_window"), longest_grace)?,
        })
    }

    fn dedupe_window(&self, place: String, longest_grace: Duration) -> Result<Duration, Invalid> {
        let least = longest_grace.saturating_add(BEYOND_GRACE);
        let window = self.dedupe_window.unwrap_or(USUAL_WINDOW.max(least));
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
