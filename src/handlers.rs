//! The built-in handlers: `to = { type = "…", … }` in a handler's section.
//!
//! Each of them returns success only when the event has left livehook for good. A failure is a
//! [retry](crate::handler::Failure::Retry), unless the target clearly says that the event itself is
//! wrong.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::clock::Clock;
use crate::event::PayloadForm;
use crate::handler::Handler;
use crate::settings::{Env, Invalid};

pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod log;

/// The default number of attempts at a time. The target must be able to handle this many.
pub(crate) const CONCURRENCY: usize = 8;

/// The target of a handler's events. In the configuration file it is a table whose `type` names the
/// variant: [`settings::strict`](crate::settings::strict) reads it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    rename = "tagged",
    rename_all = "lowercase",
    expecting = "a table with `type`"
)]
pub(crate) enum TargetConfig {
    /// One log line per event.
    Log(log::Config),
    /// One line of a file per event.
    File(file::Config),
    /// One HTTP request per event.
    Http(http::Config),
    /// One run of a program per event.
    Exec(exec::Config),
}

impl TargetConfig {
    /// The value of `type`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
        }
    }

    /// The number of attempts at a time if the section does not set `concurrency`.
    pub(crate) fn concurrency(&self) -> usize {
        match self {
            // Lines that wait together share one write and one sync.
            Self::File(_) => 256,
            Self::Log(_) | Self::Http(_) | Self::Exec(_) => CONCURRENCY,
        }
    }

    /// Checks the section and reads the secrets that it names. `place` is its dotted key, such as
    /// `handlers.archive.to`.
    pub(crate) fn validate(&self, place: &str, env: &Env) -> Result<HandlerTarget, Invalid> {
        let checked = match self {
            Self::Log(log::Config {}) => Checked::Log,
            Self::File(config) => Checked::File(config.validate(place, env)?),
            Self::Http(config) => Checked::Http(config.validate(place, env)?),
            Self::Exec(config) => Checked::Exec(config.validate(place, env)?),
        };
        Ok(HandlerTarget(checked))
    }
}

/// A validated [`TargetConfig`]. Equal targets build handlers that do the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HandlerTarget(Checked);

#[derive(Debug, Clone, PartialEq)]
enum Checked {
    Log,
    File(file::FileTarget),
    Http(http::HttpTarget),
    Exec(exec::ExecTarget),
}

impl HandlerTarget {
    /// Checks that the target can work, without changing anything. `place` is its dotted key, such
    /// as `handlers.archive.to`.
    pub(crate) fn check(&self, place: &str) -> Result<(), Invalid> {
        match &self.0 {
            Checked::Log => Ok(()),
            Checked::File(target) => target.check(place),
            Checked::Http(target) => {
                let tried = target.build(PayloadForm::Original, &Clock::system());
                tried
                    .map(drop)
                    .map_err(|error| Invalid::at(place, format!("{error:#}")))
            }
            Checked::Exec(target) => target.check(place),
        }
    }

    /// The file that it writes, if it writes one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Checked::File(target) => Some(target.path()),
            Checked::Log | Checked::Http(_) | Checked::Exec(_) => None,
        }
    }

    /// Builds the handler `name`. Files are opened here, so that an error shows at the start.
    pub(crate) fn build(
        &self,
        name: &str,
        form: PayloadForm,
        clock: &Clock,
    ) -> anyhow::Result<Arc<dyn Handler>> {
        Ok(match &self.0 {
            Checked::Log => Arc::new(log::Log::new(name)),
            Checked::File(target) => Arc::new(target.build(name, form, clock)?),
            Checked::Http(target) => Arc::new(target.build(form, clock)?),
            Checked::Exec(target) => {
                target.check("to")?;
                Arc::new(target.build(form))
            }
        })
    }
}

#[cfg(test)]
mod tests;
