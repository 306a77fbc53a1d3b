//! `[log]`: livehook's own log, on standard error.
//!
//! Logging never waits for the reader of standard error. Lines go through a bounded queue to a
//! thread that writes them. When the queue is full, lines are dropped and counted. The lines of
//! `log` handlers are never dropped.

pub(crate) mod lines;

use std::io::Write;
use std::sync::mpsc::channel;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::settings::Invalid;

/// The section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogConfig {
    /// A level, or levels by module such as `info,livehook::dispatch=debug`.
    pub level: String,
    pub format: Format,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: Format::default(),
        }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One flat JSON object per line.
    Json,
}

/// Libraries that log too much. They log from `warn` on, unless `level` names them.
const NOISY: [&str; 9] = [
    "axum",
    "globset",
    "h2",
    "hyper",
    "hyper_util",
    "mio",
    "reqwest",
    "rustls",
    "tower",
];

impl LogConfig {
    pub(crate) fn validate(&self, place: &str) -> Result<Self, Invalid> {
        match self.targets() {
            Ok(_) => Ok(self.clone()),
            Err(_) => {
                let problem = format!(
                    "`{}` is no level, write off, error, warn, info, debug or trace, or levels by module such as \
                     \"info,livehook=debug\"",
                    self.level
                );
                Err(Invalid::at(format!("{place}.level"), problem))
            }
        }
    }

    fn targets(&self) -> Result<Targets, ()> {
        let asked: Targets = self.level.parse().map_err(|_| ())?;
        // The parser reads an empty part as `error`, and a misspelt level as the name of a module.
        if self.level.split(',').any(|part| {
            let part = part.trim();
            part.is_empty() || !part.contains('=') && part.parse::<LevelFilter>().is_err()
        }) {
            return Err(());
        }
        let quiet = asked
            .default_level()
            .map_or(LevelFilter::WARN, |level| level.min(LevelFilter::WARN));
        let named = |library: &str| {
            asked
                .iter()
                .any(|(target, _)| target.split("::").next() == Some(library))
        };
        let unnamed: Vec<_> = NOISY.into_iter().filter(|name| !named(name)).collect();
        Ok(asked.with_targets(unnamed.into_iter().map(|name| (name, quiet))))
    }
}

/// The most lines that wait to be written.
const QUEUE: usize = 4096;
/// The longest wait for the reader of the last message.
const LAST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The format of this process's log, once `init` was called.
static FORMAT: OnceLock<Format> = OnceLock::new();
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
/// Dropping this guard ends the thread that writes.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// See [`Config::init_log`](crate::Config::init_log).
pub(crate) fn init(config: &LogConfig) -> Result<(), TryInitError> {
    let targets = config.targets().unwrap_or_default();
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE)
        .thread_name("log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(false);
    let lines = match config.format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .try_init()?;
    let _ = FORMAT.set(config.format);
    let _ = DROPPED.set(dropped);
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    // The standard panic hook would wait for the reader of standard error.
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "a thread panicked"),
    ));
    Ok(())
}

/// Writes the log lines that wait in the queue. Gives up after a second if nobody reads them.
/// Nothing is logged afterwards.
pub fn flush() {
    drop(WRITER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// The number of lines dropped because nobody read them fast enough.
pub(crate) fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map(ErrorCounter::dropped_lines);
    dropped.map_or(0, |lines| lines as u64)
}

/// Writes a message to standard error before the process ends. Gives up after a second if nobody
/// reads it.
pub(crate) fn write_last_message(message: String) {
    let (done, written) = channel();
    std::thread::spawn(move || {
        let _ = writeln!(std::io::stderr(), "{message}");
        let _ = done.send(());
    });
    let _ = written.recv_timeout(LAST_MESSAGE_TIMEOUT);
}

/// Captures the log, for tests.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct CapturedLog(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl CapturedLog {
    /// Everything logged so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl std::io::Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn config(level: &str) -> LogConfig {
        LogConfig {
            level: level.to_owned(),
            ..LogConfig::default()
        }
    }

    #[test]
    fn libraries_are_quiet_unless_named() {
        let targets = config("debug").targets().unwrap();
        assert!(targets.would_enable("livehook::inbox", &Level::DEBUG));
        assert!(!targets.would_enable("hyper::proto", &Level::INFO));
        assert!(targets.would_enable("hyper::proto", &Level::WARN));
        let targets = config("error,hyper=trace").targets().unwrap();
        assert!(targets.would_enable("hyper::proto", &Level::TRACE));
        assert!(!targets.would_enable("rustls", &Level::WARN));
    }

    #[test]
    fn levels_by_module_are_taken_and_slips_are_not() {
        for good in ["off", "INFO", "info,livehook=debug", "livehook=trace"] {
            assert!(config(good).validate("log").is_ok(), "{good}");
        }
        for bad in ["", "inof", "info,", "livehook=loud"] {
            let message = config(bad).validate("log").unwrap_err().to_string();
            assert!(message.starts_with("log.level: `"), "{message}");
        }
    }
}
