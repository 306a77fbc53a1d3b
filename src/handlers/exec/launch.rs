//! Starts programs.
//!
//! livehook first starts itself (`/proc/self/exe`, which exists even after an upgrade has replaced
//! the file) as the leader of a new process group. Before anything else, it reports this group to
//! the [guard]. The new process restores the limit of open files, which livehook had
//! raised for itself, and then becomes the program (exec). So only that process waits for the
//! program's file system, and the program is an ordinary child of livehook with its own group.
//!
//! If livehook is used as a library and [`main`] was not called, `/proc/self/exe` is some other
//! program. Then programs are started directly, by a thread that may block. They inherit the limit
//! of open files, and outlive a killed process.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::ExecTarget;
use super::guard::{self, Guard};

/// The running program, even if its file was replaced or removed.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";

/// The hidden subcommand that becomes a program.
const NAME: &str = "__program";

/// The most programs of a handler that may be starting at once. A start on a file system that hangs
/// keeps its slot.
const MAX_STARTING: usize = 8;

/// The limit of open files at the start of this process. Set only if this process is the `livehook`
/// program.
static FILE_LIMIT: OnceLock<Option<u64>> = OnceLock::new();

/// Runs the hidden subcommand that the arguments (of [`std::env::args_os`]) name, and returns its
/// exit code. Returns none if they name no hidden subcommand.
///
/// Call it first in `main`. Then livehook starts programs through this process's own executable.
/// This has three effects: a file system that hangs does not block this process, programs get the
/// limit of open files with which this process was started, and they end when this process ends.
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let name = arguments.nth(1);
    match name.as_deref().and_then(OsStr::to_str) {
        Some(NAME) => Some(become_program(arguments)),
        Some(guard::NAME) => Some(guard::main()),
        _ => {
            if Path::new(OWN_PROGRAM).exists() {
                FILE_LIMIT.get_or_init(|| getrlimit(Resource::Nofile).current);
            }
            None
        }
    }
}

/// Runs in the new process. Its standard output is a socket to livehook. livehook sends one byte
/// when the program may begin; if the start fails, the process sends the error number.
fn become_program(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let limit = arguments.next();
    let (Some(program), Ok(socket)) = (
        arguments.next(),
        rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3),
    ) else {
        return ExitCode::FAILURE;
    };
    let mut socket = UnixStream::from(socket);
    if socket.read_exact(&mut [0]).is_err() {
        return ExitCode::FAILURE; // livehook has ended
    }
    let limit = limit.as_deref().and_then(OsStr::to_str);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.and_then(|limit| limit.parse().ok()),
            maximum: getrlimit(Resource::Nofile).maximum,
        },
    );
    let error = std::process::Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .exec();
    let _ = socket.write_all(&error.raw_os_error().unwrap_or(0).to_ne_bytes());
    ExitCode::FAILURE
}

/// Starts the programs of a handler.
pub(super) struct Launcher {
    target: ExecTarget,
    /// If programs are started through livehook itself: the guard, and the limit of open files to
    /// restore.
    indirect: Option<(Guard, Option<u64>)>,
    places: Arc<Semaphore>,
    /// Whether a slow start was logged since the last program ended.
    warned: AtomicBool,
}

impl Launcher {
    pub(super) fn new(target: &ExecTarget) -> Arc<Self> {
        let indirect = FILE_LIMIT.get().map(|limit| (Guard::default(), *limit));
        Arc::new(Self {
            target: target.clone(),
            indirect,
            places: Arc::new(Semaphore::new(MAX_STARTING)),
            warned: AtomicBool::new(false),
        })
    }

    pub(super) fn program(&self) -> &Path {
        &self.target.program
    }

    /// Starts the program with this environment. If the future is dropped, the program is killed.
    pub(super) async fn launch(
        self: &Arc<Self>,
        environment: Vec<(String, OsString)>,
    ) -> io::Result<RunningProgram> {
        let launcher = self.clone();
        self.on_a_thread(move || launcher.spawn(environment)).await
    }

    /// Runs `spawn` on a thread that may block. If the future is dropped before the end, that is
    /// logged.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        spawn: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut slow = AbandonedStart(Some(self));
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(io::Error::other)?;
        let spawned = spawn_blocking(move || {
            let _place = place;
            spawn()
        });
        let spawned = spawned.await?;
        slow.0 = None;
        spawned
    }

    fn spawn(self: Arc<Self>, environment: Vec<(String, OsString)>) -> io::Result<RunningProgram> {
        let ExecTarget { program, arguments } = &self.target;
        let (mut command, socket) = match &self.indirect {
            Some((_, limit)) => {
                let (ours, theirs) = UnixStream::pair()?;
                let limit = limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
                let mut command = Command::new(OWN_PROGRAM);
                command.arg0("livehook").args([NAME, &limit]).arg(program);
                command.stdout(OwnedFd::from(theirs));
                (command, Some(ours))
            }
            None => {
                let mut command = Command::new(program);
                command.stdout(Stdio::null());
                (command, None)
            }
        };
        let child = command
            .args(arguments)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        // The command holds the child's end of the socket.
        drop(command);
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let mut running = RunningProgram {
            child,
            group: id.and_then(Pid::from_raw),
            socket,
            launcher: self,
        };
        running.release()?;
        Ok(running)
    }

    /// Logs a slow start, once until a program has ended.
    fn warn_of_slow_start(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                program = %self.target.program.display(),
                "the program did not start in time: its file system hangs, or the machine is overloaded"
            );
        }
    }
}

/// Logs a slow start when it is dropped, unless it is disarmed: then the attempt was given up
/// during the start.
struct AbandonedStart<'a>(Option<&'a Launcher>);

impl Drop for AbandonedStart<'_> {
    fn drop(&mut self) {
        if let Some(launcher) = self.0 {
            launcher.warn_of_slow_start();
        }
    }
}

/// A running program and its process group. Dropping it kills the group.
pub(super) struct RunningProgram {
    pub(super) child: Child,
    /// The process group. None after the program was waited for: then another group may get its
    /// number.
    group: Option<Pid>,
    socket: Option<UnixStream>,
    launcher: Arc<Launcher>,
}

/// The state of a start.
enum StartState {
    Done,
    Failed(io::Error),
    Pending,
}

impl RunningProgram {
    /// Reports the group to the guard, then lets the new process become the program.
    fn release(&mut self) -> io::Result<()> {
        if let (Some((guard, _)), Some(group)) = (&self.launcher.indirect, self.group) {
            guard.watch(group)?;
        }
        if let Some(socket) = &mut self.socket {
            socket.set_nonblocking(true)?;
            socket.write_all(&[1])?;
        }
        Ok(())
    }

    /// Records that the program has ended. Fails if it never started.
    pub(super) fn confirm_end(&mut self) -> io::Result<()> {
        if let Some(group) = self.group.take() {
            self.forget(group);
        }
        self.launcher.warned.store(false, Ordering::Relaxed);
        match self.start_state() {
            StartState::Failed(error) => Err(error),
            StartState::Done | StartState::Pending => Ok(()),
        }
    }

    fn start_state(&mut self) -> StartState {
        let mut code = [0; 4];
        let Some(socket) = &mut self.socket else {
            return StartState::Done;
        };
        match socket.read(&mut code) {
            Ok(4) => StartState::Failed(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => StartState::Pending,
            Ok(_) | Err(_) => StartState::Done,
        }
    }

    fn forget(&self, group: Pid) {
        if let Some((guard, _)) = &self.launcher.indirect {
            guard.forget(group);
        }
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        let Some(group) = self.group.take() else {
            return;
        };
        if matches!(self.start_state(), StartState::Pending) {
            self.launcher.warn_of_slow_start();
        }
        let _ = kill_process_group(group, Signal::KILL);
        self.forget(group);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_start_that_hangs_blocks_nobody() {
        let target = ExecTarget {
            program: PathBuf::from("hangs"),
            arguments: Vec::new(),
        };
        let launcher = Launcher::new(&target);
        let (release, blocked) = mpsc::channel::<()>();
        // On the runtime, which has one thread here, the closure would block forever.
        let starting = launcher.on_a_thread(move || blocked.recv().map_err(io::Error::other));
        let (started, ()) = tokio::join!(starting, async { release.send(()).unwrap() });
        started.unwrap();
        // All slots are taken by abandoned starts: this is logged, and no further thread blocks.
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(std::sync::Mutex::new(blocked));
        for _ in 0..MAX_STARTING + 2 {
            let blocked = blocked.clone();
            let starting = launcher.on_a_thread(move || {
                let blocked = blocked.lock().unwrap();
                blocked.recv().map_err(io::Error::other)
            });
            tokio::select! {
                biased;
                _ = starting => panic!("it was not released"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert!(launcher.warned.load(Ordering::Relaxed));
        assert_eq!(launcher.places.available_permits(), 0);
        drop(release);
        let back = launcher.places.acquire_many(MAX_STARTING as u32);
        let back = tokio::time::timeout(std::time::Duration::from_secs(60), back);
        assert!(back.await.is_ok(), "the slots do not come back");
    }
}
