//! `type = "file"`: appends one line of JSON per event to a file.
//!
//! An event is done when its line is on the disk. To make that fast, each handler has one thread
//! that takes all waiting lines, writes them at once and syncs once. The calls only await its
//! reply, so a slow disk never blocks the runtime.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context;
use css_callbacks::Timestamp;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::clock::Clock;
use crate::event::{Event, PayloadForm};
use crate::handler::{Failure, Handler, Handling, Outcome};
use crate::settings::{Env, Invalid, access};

mod active;

use active::ActiveFile;

/// The most lines that may wait for the writer. This is more than the calls that run at once,
/// because an abandoned call leaves its line in the queue.
const MAX_QUEUED: usize = 1024;

/// A batch of this many bytes takes no more lines.
const FULL_BATCH: usize = 4 << 20;

/// How often the writer checks whether the file's hour or day is over, if no events come.
const ROTATE_CHECK: Duration = Duration::from_secs(1);

/// `to = { type = "file", … }` as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The file to append to. Missing directories are created.
    pub path: PathBuf,
    /// When the file is renamed and a new one is started.
    #[serde(default)]
    pub rotate: Rotate,
    /// Whether an event is done only when its line has reached the disk.
    #[serde(default = "sync_by_default")]
    pub sync: bool,
}

fn sync_by_default() -> bool {
    true
}

/// When a file is rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rotate {
    /// Never. Another program may still move the file away.
    #[default]
    Never,
    /// At the end of the UTC hour.
    Hourly,
    /// At the end of the UTC day.
    Daily,
}

impl Rotate {
    /// The name of the period that contains a time. Later periods have greater names.
    fn period(self, time: Timestamp) -> Option<String> {
        let (day, hour) = time.day_and_hour();
        match self {
            Self::Never => None,
            Self::Hourly => Some(hour),
            Self::Daily => Some(day),
        }
    }
}

impl Config {
    pub(super) fn validate(&self, place: &str, env: &Env) -> Result<FileTarget, Invalid> {
        let names_a_file = self.path.file_name().is_some()
            && !self.path.as_os_str().as_encoded_bytes().ends_with(b"/");
        if !names_a_file {
            let problem = "is not a file name; write one such as \"events.jsonl\"";
            return Err(Invalid::at(format!("{place}.path"), problem));
        }
        let path = env.path(&self.path);
        if is_kernel_path(&path) {
            let problem =
                "is in a file system of the kernel, which stores nothing; name a file on a disk";
            return Err(Invalid::at(format!("{place}.path"), problem));
        }
        Ok(FileTarget {
            path,
            rotate: self.rotate,
            sync: self.sync,
        })
    }
}

/// Whether a path is in `/proc` or `/sys`. A link that leads there is found when it is opened.
fn is_kernel_path(path: &Path) -> bool {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    path.is_absolute()
        && parts
            .first()
            .is_some_and(|first| *first == "proc" || *first == "sys")
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct FileTarget {
    path: PathBuf,
    rotate: Rotate,
    sync: bool,
}

impl FileTarget {
    /// Checks that the file can be opened, without opening it.
    pub(super) fn check(&self, place: &str) -> Result<(), Invalid> {
        access::check_directory(self.path.parent().unwrap_or(Path::new(".")))
            .and_then(|()| access::check_file(&self.path))
            .and_then(|()| self.check_durable())
            .map_err(|error| Invalid::at(format!("{place}.path"), format!("{error:#}")))
    }

    /// Checks that what exists can store events. A path that does not exist will be a regular file.
    fn check_durable(&self) -> anyhow::Result<()> {
        match (rustix::fs::statfs(&self.path), fs::metadata(&self.path)) {
            (Ok(within), Ok(found)) => {
                active::check_durable(&self.path, self.sync, &within, &found)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn build(
        &self,
        name: &str,
        form: PayloadForm,
        clock: &Clock,
    ) -> anyhow::Result<Appender> {
        let file = ActiveFile::open(self, clock)?;
        let (queue, waiting) = mpsc::channel();
        let tick = (self.rotate != Rotate::Never).then_some(ROTATE_CHECK);
        std::thread::Builder::new()
            .name(format!("file-{name}"))
            .spawn(move || write_batches(file, &waiting, tick))
            .context("cannot start the thread that writes the file")?;
        Ok(Appender {
            form,
            queue,
            slots: Arc::new(Semaphore::new(MAX_QUEUED)),
        })
    }
}

pub(super) struct Appender {
    form: PayloadForm,
    queue: mpsc::Sender<QueuedLine>,
    slots: Arc<Semaphore>,
}

struct QueuedLine {
    text: Vec<u8>,
    reply: oneshot::Sender<Outcome>,
    _slot: OwnedSemaphorePermit,
}

impl Appender {
    async fn append(&self, event: &Event) -> Outcome {
        let writer_ended = |_| Failure::retry("the thread that writes the file has ended");
        let text = event.cloud_event(self.form).to_json_line();
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let (reply, answer) = oneshot::channel();
        let line = QueuedLine {
            text,
            reply,
            _slot: slot.map_err(|_| writer_ended(()))?,
        };
        self.queue.send(line).map_err(|_| writer_ended(()))?;
        answer.await.map_err(|_| writer_ended(()))?
    }
}

impl Handler for Appender {
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
        Box::pin(self.append(event))
    }
}

/// The writer thread. It ends when the handler was dropped and all waiting lines are written.
fn write_batches(
    mut file: ActiveFile,
    waiting: &mpsc::Receiver<QueuedLine>,
    tick: Option<Duration>,
) {
    loop {
        let first = match tick {
            Some(tick) => waiting.recv_timeout(tick),
            None => waiting.recv().map_err(Into::into),
        };
        match first {
            Ok(first) => write_batch(&mut file, first, waiting),
            // If renaming fails, it is tried again soon, and the next event fails with the same
            // error.
            Err(mpsc::RecvTimeoutError::Timeout) => drop(file.rotate_if_due()),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn write_batch(file: &mut ActiveFile, first: QueuedLine, waiting: &mpsc::Receiver<QueuedLine>) {
    let mut text = Vec::new();
    let mut replies = Vec::new();
    for line in std::iter::once(first).chain(waiting.try_iter()) {
        if line.reply.is_closed() {
            continue; // the attempt was given up; the event will come again
        }
        text.extend_from_slice(&line.text);
        replies.push((line.reply, line._slot));
        if text.len() >= FULL_BATCH {
            break;
        }
    }
    if replies.is_empty() {
        return;
    }
    let outcome = file.append(text).map_err(Failure::from);
    for (reply, _) in replies {
        let _ = reply.send(outcome.clone());
    }
}

#[cfg(test)]
mod tests;
