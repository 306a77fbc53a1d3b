//! `type = "exec"`: starts a program for each event. The program reads the event as JSON from
//! standard input.
//!
//! No shell is involved. The program gets an almost empty environment, because livehook's own may
//! hold secrets. It runs in livehook's working directory and in a process group of its own. Of its
//! output, only the last line of standard error is kept, and only the operator sees it, because it
//! may repeat the body. If the attempt is given up, or livehook is killed, the whole group is
//! killed: the program and all that it started, except processes that left the group. A program
//! that ends by itself may leave processes behind. The module `launch` starts the programs.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::event::{CloudEvent, Event, PayloadForm};
use crate::handler::{Failure, Handler, Handling, Outcome};
use crate::settings::{Env, Invalid, access};

mod guard;
mod launch;
mod stderr;

use launch::Launcher;
pub use launch::main;
use stderr::StderrTail;

/// The inherited variables: a program needs them to find other programs, its files and the time
/// zone.
const INHERITED: [&str; 3] = ["PATH", "HOME", "TZ"];

/// `EX_DATAERR` of sysexits.h: the input is wrong, so the event is rejected.
const REJECTED: i32 = 65;

/// `to = { type = "exec", … }` as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The program and its arguments. A name without a slash is searched in `PATH`. A relative path
    /// with a slash is relative to the directory of the configuration file.
    pub command: Vec<String>,
}

impl Config {
    pub(super) fn validate(&self, place: &str, env: &Env) -> Result<ExecTarget, Invalid> {
        let invalid = |problem| Err(Invalid::at(format!("{place}.command"), problem));
        let (program, arguments) = match self.command.split_first() {
            Some((program, arguments)) if !program.trim().is_empty() => (program, arguments),
            _ => return invalid("names no program; write one such as [\"/usr/bin/notify\"]"),
        };
        if self.command.iter().any(|part| part.contains('\0')) {
            return invalid("holds a NUL character, which no argument can contain");
        }
        Ok(ExecTarget {
            program: match program.contains('/') {
                true => env.path(Path::new(program)),
                false => PathBuf::from(program),
            },
            arguments: arguments.to_vec(),
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExecTarget {
    program: PathBuf,
    arguments: Vec<String>,
}

impl ExecTarget {
    /// Fails if the program does not exist: every event would wait for it.
    pub(super) fn check(&self, place: &str) -> Result<(), Invalid> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
        access::check_program(&self.program, &path)
            .map_err(|error| Invalid::at(format!("{place}.command"), format!("{error:#}")))
    }

    pub(super) fn build(&self, form: PayloadForm) -> Program {
        let inherited = INHERITED
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var_os(name)?)));
        Program {
            launcher: Launcher::new(self),
            form,
            inherited: inherited.collect(),
        }
    }
}

pub(super) struct Program {
    launcher: Arc<Launcher>,
    form: PayloadForm,
    inherited: Vec<(String, OsString)>,
}

impl Program {
    async fn run(&self, event: &Event) -> Outcome {
        let (environment, document) = {
            let event = event.cloud_event(self.form);
            (self.environment(&event), event.to_json())
        };
        let program = self.launcher.program().display();
        let cannot_start = |error| Failure::retry(format_args!("cannot start {program}: {error}"));
        let running = self.launcher.launch(environment).await;
        let mut running = running.map_err(cannot_start)?;
        let stdin = running.child.stdin.take();
        let mut stderr = running.child.stderr.take();
        let mut tail = StderrTail::default();
        // Written while waiting for the end, not before: a program may end without reading its
        // input.
        let feeding = async move {
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&document).await;
            }
            std::future::pending::<Infallible>().await
        };
        let reading = async {
            match &mut stderr {
                Some(stderr) => tail.read(stderr).await,
                None => std::future::pending().await,
            }
        };
        let status = tokio::select! {
            status = running.child.wait() => status,
            never = feeding => match never {},
            never = reading => match never {},
        };
        let status =
            status.map_err(|error| Failure::retry(format_args!("lost {program}: {error}")))?;
        running.confirm_end().map_err(cannot_start)?;
        if let Some(stderr) = stderr {
            tail.finish(stderr);
        }
        outcome_of(status).map_err(|failure| failure.with_detail(tail.last_line()))
    }

    fn environment(&self, event: &CloudEvent) -> Vec<(String, OsString)> {
        let attributes = event.attributes().map(|(name, value)| {
            let value = value.replace('\0', "\u{FFFD}");
            (
                format!("LIVEHOOK_{}", name.to_ascii_uppercase()),
                value.into(),
            )
        });
        self.inherited.iter().cloned().chain(attributes).collect()
    }
}

impl Handler for Program {
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
        Box::pin(self.run(event))
    }
}

fn outcome_of(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(REJECTED), _) => Err(Failure::reject(format_args!("exit code {REJECTED}"))),
        (Some(code), _) => Err(Failure::retry(format_args!("exit code {code}"))),
        (None, Some(signal)) => Err(Failure::retry(format_args!("killed by signal {signal}"))),
        (None, None) => Err(Failure::retry(status)),
    }
}

#[cfg(test)]
mod tests;
