//! Starting a program.
//!
//! livehook starts itself first (`/proc/self/exe`, which is there also after an upgrade has replaced the file): as the leader of
//! a process group, which the [guard](super::guard) is told of before anything else happens in it. That process gives back
//! what livehook has raised for itself, the limit of open files, and then becomes the program. So only that process waits for
//! the program's file system, and the program is what it would be without all this: livehook's child, with its own group.
//!
//! Where livehook is a library and [`main`] was not asked, `/proc/self/exe` is some other program: then programs are started
//! directly, by a thread that may wait. They have the limit of open files that the process has, and outlive it if it is killed.

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

/// The program that runs, whatever has become of its file.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";

/// The hidden subcommand.
const NAME: &str = "__program";

/// How many programs of a handler may be about to start. One whose file system hangs keeps its place.
const MAX_STARTING: usize = 8;

/// Set if this process is the `livehook` program: the limit of open files that it was started with.
static FILE_LIMIT: OnceLock<Option<u64>> = OnceLock::new();

/// Does what a hidden subcommand says, and gives the exit code; nothing if the arguments (of [`std::env::args_os`]) name none.
///
/// To be asked first in `main`. Then programs are started through this process's own executable: what hangs is not this
/// process, they have the limit of open files that this process was started with, and they end when it does.
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

/// In the new process. Its standard output is a socket: livehook says there when it may begin, and hears why it could not.
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
        return ExitCode::FAILURE; // livehook is gone
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
    /// Through livehook itself, with this limit of open files.
    indirect: Option<(Guard, Option<u64>)>,
    places: Arc<Semaphore>,
    /// Whether it was told that a program does not start, and none has since.
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

    /// Starts the program with this environment. Whoever no longer waits for it will not have it running.
    pub(super) async fn launch(
        self: &Arc<Self>,
        environment: Vec<(String, OsString)>,
    ) -> io::Result<RunningProgram> {
        let launcher = self.clone();
        self.on_a_thread(move || launcher.spawn(environment)).await
    }

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
        // It holds the other end of the socket.
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

    /// Once, until a program has started again.
    fn warn_of_slow_start(&self) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                program = %self.target.program.display(),
                "the program has not started when its time was over: its file system hangs, or the machine is overloaded"
            );
        }
    }
}

/// An attempt that is given up while its program is about to start.
struct AbandonedStart<'a>(Option<&'a Launcher>);

impl Drop for AbandonedStart<'_> {
    fn drop(&mut self) {
        if let Some(launcher) = self.0 {
            launcher.warn_of_slow_start();
        }
    }
}

/// A running program with everything it started; killed when this is dropped.
pub(super) struct RunningProgram {
    pub(super) child: Child,
    /// None: it was waited for, and its number may be somebody else's.
    group: Option<Pid>,
    socket: Option<UnixStream>,
    launcher: Arc<Launcher>,
}

/// What is known of a start.
enum StartState {
    Done,
    Failed(io::Error),
    Pending,
}

impl RunningProgram {
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

    /// The program has ended. An error if it had not even started.
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
    async fn a_start_that_hangs_holds_up_nobody() {
        let target = ExecTarget {
            program: PathBuf::from("hangs"),
            arguments: Vec::new(),
        };
        let launcher = Launcher::new(&target);
        let (release, blocked) = mpsc::channel::<()>();
        // If it were called on the runtime, which has one thread here, nobody would ever let it go.
        let starting = launcher.on_a_thread(move || blocked.recv().map_err(io::Error::other));
        let (started, ()) = tokio::join!(starting, async { release.send(()).unwrap() });
        started.unwrap();
        // All places are taken, and given up: it is told, and no further thread is held.
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
                _ = starting => panic!("it was not let go"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert!(launcher.warned.load(Ordering::Relaxed));
        assert_eq!(launcher.places.available_permits(), 0);
        drop(release);
        let back = launcher.places.acquire_many(MAX_STARTING as u32);
        let back = tokio::time::timeout(std::time::Duration::from_secs(60), back);
        assert!(back.await.is_ok(), "the places do not come back");
    }
}
