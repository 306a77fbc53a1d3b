//! Kills the programs that are left when livehook itself is killed.
//!
//! The guard is a second livehook process that only reads from its standard input. livehook reports
//! to it each process group that begins and ends. When the input ends, livehook has ended, for
//! whatever reason. Then the guard kills the groups that are left, so that a restarted livehook
//! never runs a program beside an old one.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use super::launch::OWN_PROGRAM;

/// The hidden subcommand that runs the guard.
pub(super) const NAME: &str = "__guard";

/// The side of livehook. The guard process starts with the first program.
#[derive(Default)]
pub(super) struct Guard(Mutex<GuardState>);

#[derive(Default)]
struct GuardState {
    process: Option<(Child, UnixStream)>,
    groups: BTreeSet<i32>,
}

impl Guard {
    /// Lets the group end with livehook from now on. May start the guard process.
    pub(super) fn watch(&self, group: Pid) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = group.as_raw_nonzero().get();
        state.groups.insert(number);
        if state.send(number).is_err() {
            state.restart()?;
        }
        Ok(())
    }

    /// Forgets a group: from now on, another group may get its number.
    pub(super) fn forget(&self, group: Pid) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = group.as_raw_nonzero().get();
        state.groups.remove(&number);
        if state.send(-number).is_err() {
            // This guard would kill whoever has the number when livehook ends.
            state.stop();
        }
    }
}

impl GuardState {
    /// Reports a group that begins, or the negative number of one that ends. The guard reads it
    /// even if livehook is killed right after.
    fn send(&mut self, number: i32) -> io::Result<()> {
        let (_, socket) = self.process.as_mut().ok_or(io::ErrorKind::NotFound)?;
        socket.write_all(&number.to_ne_bytes())
    }

    /// Replaces a guard that has ended or does not read.
    fn restart(&mut self) -> io::Result<()> {
        self.stop();
        let (ours, theirs) = UnixStream::pair()?;
        // Non-blocking, so that a stopped guard does not block livehook.
        ours.set_nonblocking(true)?;
        let process = Command::new(OWN_PROGRAM)
            .arg0("livehook")
            .arg(NAME)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // In its own group, the guard does not get the Ctrl-C that ends livehook.
            .process_group(0)
            .spawn()?;
        self.process = Some((process, ours));
        let groups: Vec<i32> = self.groups.iter().copied().collect();
        groups.into_iter().try_for_each(|group| self.send(group))
    }

    fn stop(&mut self) {
        if let Some((mut process, _)) = self.process.take() {
            // tokio waits for it in the background.
            let _ = process.start_kill();
        }
    }
}

/// The work of the guard process.
pub(super) fn main() -> ExitCode {
    let mut groups = BTreeSet::new();
    let mut input = io::stdin().lock();
    let mut number = [0; 4];
    while input.read_exact(&mut number).is_ok() {
        match i32::from_ne_bytes(number) {
            // Killing group 1 would kill every process.
            group @ 2.. => drop(groups.insert(group)),
            ended => drop(groups.remove(&ended.saturating_neg())),
        }
    }
    for group in groups.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    ExitCode::SUCCESS
}
