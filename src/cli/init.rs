//! `livehook serve` as the first process of a container.
//!
//! Who is process 1 gets every process whose parent has ended, and has to wait for it, else it stays as a zombie. A program that
//! livehook starts may leave some behind. So process 1 starts livehook once more and does nothing but wait, pass signals
//! on, and end with the same exit code. It has one thread, and no runtime that waits for processes of its own.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// Does the work of process 1 if this is it; nothing if it is not, or cannot start itself: then the server has to do without.
pub(super) fn run() -> Option<ExitCode> {
    if !getpid().is_init() {
        return None;
    }
    match start() {
        Ok((server, mut signals)) => Some(supervise(server, &mut signals)),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "livehook: cannot start itself to look after processes that others leave behind: {error}"
            );
            None
        }
    }
}

fn start() -> io::Result<(Pid, Signals)> {
    // Before there is a child: none of its signals is missed.
    let signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])?;
    let child = Command::new("/proc/self/exe")
        .arg0("livehook")
        .args(std::env::args_os().skip(1))
        // A terminal sends its signals to a whole group: they come from here alone, and once.
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
        // One signal may stand for several that have ended.
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            if ended == server {
                return exit_code(status);
            }
        }
    }
    ExitCode::FAILURE
}

/// As shells have it: 128 and the number of the signal.
fn exit_code(status: WaitStatus) -> ExitCode {
    let killed = status.terminating_signal().map(|signal| 128 + signal);
    let code = status.exit_status().or(killed);
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
