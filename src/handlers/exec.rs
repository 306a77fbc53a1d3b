//! `type = "exec"`: a program is started for every event and gets it as one JSON document on its standard input.
//!
//! There is no shell. The program sees an almost empty environment (livehook's own may hold secrets), runs in livehook's
//! working directory and in a process group of its own. Its output is not kept: it may repeat the body. If the attempt is given
//! up, the whole group is killed, so what the program started itself goes as well, unless it left the group; a program that
//! ends by itself may leave others behind.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::event::{CloudEvent, Event, PayloadForm};
use crate::handler::{Failure, Handler, Handling, Outcome};
use crate::settings::{Invalid, Surroundings, access};

/// What a program needs to find others, its files and the local time.
const INHERITED: [&str; 3] = ["PATH", "HOME", "TZ"];

/// `EX_DATAERR` of sysexits.h: the input is wrong.
const REJECTED: i32 = 65;

/// `to = { type = "exec", … }` as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The program and its arguments. A program without a slash is looked for in `PATH`; a relative one with a slash starts
    /// from the configuration file.
    pub command: Vec<String>,
}

impl Config {
    pub(super) fn validate(&self, place: &str, around: &Surroundings) -> Result<Target, Invalid> {
        let invalid = |problem| Err(Invalid::at(format!("{place}.command"), problem));
        let (program, arguments) = match self.command.split_first() {
            Some((program, arguments)) if !program.trim().is_empty() => (program, arguments),
            _ => return invalid("names no program, write one such as [\"/usr/bin/notify\"]"),
        };
        if self.command.iter().any(|part| part.contains('\0')) {
            return invalid("holds a NUL, which no program can be given");
        }
        Ok(Target {
            program: match program.contains('/') {
                true => around.path(Path::new(program)),
                false => PathBuf::from(program),
            },
            arguments: arguments.to_vec(),
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Target {
    /// Refuses a program that is not there: every event would wait for it.
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
            target: self.clone(),
            form,
            inherited: inherited.collect(),
        }
    }
}

pub(super) struct Program {
    target: Target,
    form: PayloadForm,
    inherited: BTreeMap<String, OsString>,
}

impl Program {
    async fn run(&self, event: &Event) -> Outcome {
        let (mut command, document) = {
            let event = event.cloud_event(self.form);
            (self.command(&event), event.to_json())
        };
        let program = self.target.program.display();
        let mut child = command
            .spawn()
            .map_err(|error| Failure::retry(format_args!("cannot start {program}: {error}")))?;
        let group = Group::of(&child);
        let stdin = child.stdin.take();
        // Beside the waiting, not before it: a program may end without having read everything, or anything.
        let feeding = async move {
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&document).await;
            }
            std::future::pending::<Infallible>().await
        };
        let status = tokio::select! {
            status = child.wait() => status,
            never = feeding => match never {},
        };
        let status =
            status.map_err(|error| Failure::retry(format_args!("lost {program}: {error}")))?;
        group.has_ended();
        judge(status)
    }

    fn command(&self, event: &CloudEvent) -> Command {
        let attributes = event.attributes().map(|(name, value)| {
            let value = value.replace('\0', "\u{FFFD}");
            (format!("LIVEHOOK_{}", name.to_ascii_uppercase()), value)
        });
        let mut command = Command::new(&self.target.program);
        command
            .args(&self.target.arguments)
            .env_clear()
            .envs(&self.inherited)
            .envs(attributes)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

impl Handler for Program {
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
        Box::pin(self.run(event))
    }
}

fn judge(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(REJECTED), _) => Err(Failure::reject(format_args!("exit code {REJECTED}"))),
        (Some(code), _) => Err(Failure::retry(format_args!("exit code {code}"))),
        (None, Some(signal)) => Err(Failure::retry(format_args!("killed by signal {signal}"))),
        (None, None) => Err(Failure::retry(status)),
    }
}

/// A running program with everything it started; killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// The program was waited for: from now on its number may be somebody else's.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests;
