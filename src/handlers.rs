//! The handlers that livehook brings along: `to = { type = "…", … }` of a handler's section.
//!
//! Every one of them is done only when the event has left livehook for good, and says [retry](crate::handler::Failure::Retry)
//! unless the other side has clearly said that the event itself is wrong.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::clock::Clock;
use crate::event::PayloadForm;
use crate::handler::Handler;
use crate::settings::{Invalid, Surroundings};

pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod log;

/// Attempts side by side where nothing else is said: another server or program has to bear them.
pub(crate) const CONCURRENCY: usize = 8;

/// Where a handler's events go, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum TargetConfig {
    /// One log line per event.
    Log(log::Config),
    /// Lines of a file.
    File(file::Config),
    /// An HTTP endpoint.
    Http(http::Config),
    /// A program, started once per event.
    Exec(exec::Config),
}

impl TargetConfig {
    /// The `type` in the file.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Log(_) => "log",
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
        }
    }

    /// Attempts side by side where the section does not say how many.
    pub(crate) fn concurrency(&self) -> usize {
        match self {
            // They share a write and a sync.
            Self::File(_) => 256,
            Self::Log(_) | Self::Http(_) | Self::Exec(_) => CONCURRENCY,
        }
    }

    /// Checks the section and reads the secrets it refers to. `place` is its dotted key, such as `handlers.archive.to`.
    pub(crate) fn validate(&self, place: &str, around: &Surroundings) -> Result<Target, Invalid> {
        let checked = match self {
            Self::Log(log::Config {}) => Checked::Log,
            Self::File(config) => Checked::File(config.validate(place, around)?),
            Self::Http(config) => Checked::Http(config.validate(place, around)?),
            Self::Exec(config) => Checked::Exec(config.validate(place, around)?),
        };
        Ok(Target(checked))
    }
}

/// A validated [`TargetConfig`]. Equal targets make handlers that do the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target(Checked);

#[derive(Debug, Clone, PartialEq)]
enum Checked {
    Log,
    File(file::FileTarget),
    Http(http::HttpTarget),
    Exec(exec::ExecTarget),
}

impl Target {
    /// Finds without touching anything what cannot work. `place` is its dotted key, such as `handlers.archive.to`.
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

    /// The file that it writes.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Checked::File(target) => Some(target.path()),
            Checked::Log | Checked::Http(_) | Checked::Exec(_) => None,
        }
    }

    /// Makes the handler called `name`. Files are opened here, so that what cannot work shows at the start.
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
