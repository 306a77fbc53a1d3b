//! `livehook serve` as the first process of a container.
//!
//! Process 1 becomes the parent of every process whose parent has ended, and must wait for it;
//! otherwise that process stays as a zombie. Programs that livehook starts may leave such processes
//! behind. So process 1 starts livehook a second time. Process 1 itself only waits, passes signals
//! on, and ends with the same exit code. It has one thread and no async runtime.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// Does the work of process 1, if this is process 1. Returns none if it is not, or if the second
/// process cannot be started; then this process runs the server itself.
pub(super) fn run() -> Option<ExitCode> {
    if !getpid().is_init() {
        return None;
    }
    match start() {
        Ok((server, mut signals)) => Some(supervise(server, &mut signals)),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "livehook: cannot start a second process for the server, so zombies may stay: {error}"
            );
            None
        }
    }
}

fn start() -> io::Result<(Pid, Signals)> {
    // Before the child starts, so that no signal is missed.
    let signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])?;
    let child = Command::new("/proc/self/exe")
        .arg0("livehook")
        .args(std::env::args_os().skip(1))
        // A terminal signals a whole process group. In its own group, the child gets each signal
        // only once, from here.
        .process_group(0)
        .spawn()?;
    Ok((Pid::from_child(&child), signals))
}

fn supervise(server: Pid, signals: &mut Signals) -> ExitCode {
    for signal in signals.forever() {
        if let Some(signal) = Signal::from_named_raw(signal).filter(|it| *it != Signal::CHILD) {
            let _ = kill_process(server, signal);
            continue;
        }
        // One signal may stand for several processes that have ended.
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            if ended == server {
                return exit_code(status);
            }
        }
    }
    ExitCode::FAILURE
}

/// The exit code as in shells: 128 plus the number of the signal, if one ended the process.
fn exit_code(status: WaitStatus) -> ExitCode {
    let killed = status.terminating_signal().map(|signal| 128 + signal);
    let code = status.exit_status().or(killed);
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
