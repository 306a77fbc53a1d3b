//! What ends programs that livehook can no longer end itself.
//!
//! The guard is livehook once more, as a small process that does nothing but read. It is told of each process group that begins
//! and ends. The end of its standard input means that livehook is gone, however that came: then it kills the groups that are
//! left, so that a livehook that is started anew never runs a program beside the one that was left over.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::launch::OWN_PROGRAM;

/// The hidden subcommand.
pub(super) const NAME: &str = "__guard";

/// livehook's side. The process is there from the first program on.
#[derive(Default)]
pub(super) struct Guard(Mutex<GuardState>);

#[derive(Default)]
struct GuardState {
    process: Option<(Child, UnixStream)>,
    groups: BTreeSet<i32>,
}

impl Guard {
    /// From now on the group ends with livehook. It may start a process.
    pub(super) fn watch(&self, group: Pid) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = group.as_raw_nonzero().get();
        state.groups.insert(number);
        if state.send(number).is_err() {
            state.restart()?;
        }
        Ok(())
    }

    /// The number of the group may be somebody else's from now on.
    pub(super) fn forget(&self, group: Pid) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = group.as_raw_nonzero().get();
        state.groups.remove(&number);
        if state.send(-number).is_err() {
            // It would kill the number when livehook ends.
            state.stop();
        }
    }
}

impl GuardState {
    /// What is told is read even if livehook is killed right after it.
    fn send(&mut self, number: i32) -> io::Result<()> {
        let (_, socket) = self.process.as_mut().ok_or(io::ErrorKind::NotFound)?;
        socket.write_all(&number.to_ne_bytes())
    }

    /// In place of a guard that was ended, or does not listen, another one.
    fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let (ours, theirs) = UnixStream::pair()?;
        // Nobody waits for a guard that was stopped.
        ours.set_nonblocking(true)?;
        let process = Command::new(OWN_PROGRAM)
            .arg0("livehook")
            .arg(NAME)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends livehook in its terminal is not for the guard.
            .process_group(0)
            .spawn()?;
        self.process = Some((process, ours));
        let groups: Vec<i32> = self.groups.iter().copied().collect();
        groups.into_iter().try_for_each(|group| self.send(group))
    }

    fn stop(&mut self) {
        if let Some((mut process, _)) = self.process.take() {
            // It is waited for in the background.
            let _ = process.start_kill();
        }
    }
}

/// The process's side.
pub(super) fn main() -> ExitCode {
    let mut groups = BTreeSet::new();
    let mut input = io::stdin().lock();
    let mut number = [0; 4];
    while input.read_exact(&mut number).is_ok() {
        match i32::from_ne_bytes(number) {
            // To kill "group 1" would be to kill everything.
            group @ 2.. => drop(groups.insert(group)),
            ended => drop(groups.remove(&ended.saturating_neg())),
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    ExitCode::SUCCESS
}
