//! The current file: opens, repairs, writes, syncs and rotates it.
//!
//! The current file always has the same name. After any failure it is closed. The next batch opens
//! it again and, if the last line is incomplete, ends that line first. So it does not matter how
//! much a failed write has written.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, bail};
use css_callbacks::Timestamp;
use rustix::fs::{CWD, FsWord, PROC_SUPER_MAGIC, RenameFlags, StatFs};
use rustix::io::Errno;

use super::{FileTarget, Rotate};
use crate::clock::Clock;

/// The most files of one period. More would be the sign of a bug.
const MAX_COUNTER: u32 = 10_000;

/// `SYSFS_MAGIC` of linux/magic.h.
const SYSFS_MAGIC: FsWord = 0x6265_6572;

pub(super) struct ActiveFile {
    path: PathBuf,
    rotate: Rotate,
    sync: bool,
    clock: Clock,
    open: Option<OpenFile>,
}

struct OpenFile {
    file: File,
    identity: (u64, u64),
    /// Whether this is a regular file. A pipe or a device has no last line, is not on a disk, and
    /// is not renamed.
    regular: bool,
    /// Whether the last line is incomplete.
    torn: bool,
    /// Whether the directory was synced, so that a new file's name is on the disk.
    name_synced: bool,
    /// The period of the content, if the file is rotated.
    period: Option<String>,
}

impl ActiveFile {
    /// Opens the file. Creates it and its directories if they do not exist.
    pub(super) fn open(target: &FileTarget, clock: &Clock) -> anyhow::Result<Self> {
        create_directories(directory(&target.path))?;
        let mut active = Self {
            path: target.path.clone(),
            rotate: target.rotate,
            sync: target.sync,
            clock: clock.clone(),
            open: None,
        };
        let open = active.reopen()?;
        if !open.regular {
            tracing::warn!(
                path = %active.path.display(),
                "this is a pipe or a device: an event counts as done when it is written, but it is not on a disk"
            );
        }
        active.open = Some(open);
        Ok(active)
    }

    /// Writes lines. Returns success only when all of them are on the disk, unless syncing is off.
    pub(super) fn append(&mut self, mut lines: Vec<u8>) -> anyhow::Result<()> {
        self.rotate_if_due()?;
        // Put back only on success, so that a failure closes the file.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        if open.torn {
            lines.insert(0, b'\n');
        }
        let shown = self.path.display();
        open.file
            .write_all(&lines)
            .with_context(|| format!("cannot write {shown}"))?;
        open.torn = false;
        if self.sync && open.regular {
            open.file
                .sync_data()
                .with_context(|| format!("cannot sync {shown}"))?;
            if !open.name_synced {
                sync_directory(directory(&self.path))?;
                open.name_synced = true;
            }
        }
        self.open = Some(open);
        Ok(())
    }

    /// Closes the file if another program moved it away, and renames it if its period is over.
    pub(super) fn rotate_if_due(&mut self) -> anyhow::Result<()> {
        let found = match fs::metadata(&self.path) {
            Ok(found) => found,
            Err(error) => {
                self.open = None;
                return match error.kind() {
                    io::ErrorKind::NotFound => Ok(()),
                    _ => Err(error).with_context(|| format!("cannot see {}", self.path.display())),
                };
            }
        };
        self.open.take_if(|open| open.identity != identity(&found));
        let Some(now) = self.rotate.period(self.clock.now()) else {
            return Ok(());
        };
        if !found.is_file() {
            return Ok(());
        }
        if found.len() == 0 {
            if let Some(open) = &mut self.open {
                open.period = Some(now);
            }
            return Ok(());
        }
        let period = match &self.open {
            Some(open) => open.period.clone(),
            None => self.period_of(&found)?,
        };
        match period {
            // A period in the future means that the clock was set back: do not rename.
            Some(period) if period < now => self.rename_dated(&period),
            _ => Ok(()),
        }
    }

    fn reopen(&self) -> anyhow::Result<OpenFile> {
        let context = || format!("cannot open {}", self.path.display());
        let file = match self.open_or_create() {
            // The directory was removed since the last time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_directories(directory(&self.path))?;
                self.open_or_create()
            }
            opened => opened,
        };
        let file = file.with_context(context)?;
        let found = file.metadata().with_context(context)?;
        let within = rustix::fs::fstatfs(&file)
            .with_context(|| format!("cannot see {}", self.path.display()))?;
        check_durable(&self.path, self.sync, &within, &found)?;
        let mut last = [b'\n'];
        if found.is_file() && found.len() > 0 {
            file.read_exact_at(&mut last, found.len() - 1)
                .with_context(|| format!("cannot read the end of {}", self.path.display()))?;
        }
        Ok(OpenFile {
            identity: identity(&found),
            regular: found.is_file(),
            torn: last != [b'\n'],
            name_synced: false,
            period: self.period_of(&found)?,
            file,
        })
    }

    fn open_or_create(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&self.path)
    }

    fn period_of(&self, found: &Metadata) -> anyhow::Result<Option<String>> {
        if !found.is_file() || found.len() == 0 {
            return Ok(self.rotate.period(self.clock.now()));
        }
        let changed = found
            .modified()
            .with_context(|| format!("cannot date {}", self.path.display()))?;
        let changed = match changed.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp::default().plus(after),
            Err(before) => Timestamp::default().minus(before.duration()),
        };
        Ok(self.rotate.period(changed))
    }

    fn rename_dated(&mut self, period: &str) -> anyhow::Result<()> {
        self.open = None;
        for counter in 1..=MAX_COUNTER {
            let to = dated(&self.path, period, counter);
            match rename_to_new(&self.path, &to) {
                Ok(()) => return sync_directory(directory(&self.path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let shown = self.path.display();
                    return Err(error)
                        .with_context(|| format!("cannot rename {shown} to {}", to.display()));
                }
            }
        }
        bail!(
            "cannot rename {}: {MAX_COUNTER} files of {period} exist",
            self.path.display()
        )
    }
}

/// Fails if the file cannot store events: in a kernel file system, or, with sync, not a regular
/// file.
pub(super) fn check_durable(
    path: &Path,
    sync: bool,
    within: &StatFs,
    found: &Metadata,
) -> anyhow::Result<()> {
    let shown = path.display();
    if matches!(within.f_type, PROC_SUPER_MAGIC | SYSFS_MAGIC) {
        bail!("{shown} is in a file system of the kernel, which stores nothing");
    }
    if sync && !found.is_file() {
        bail!(
            "{shown} is a pipe or a device, so written events are not on a disk: name a file, or set sync = false"
        );
    }
    Ok(())
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The name of a rotated file: `events.jsonl` becomes `events-2026-11-23.jsonl`, a second one of
/// that day `events-2026-11-23-2.jsonl`.
fn dated(path: &Path, period: &str, counter: u32) -> PathBuf {
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!("-{period}"));
    if counter > 1 {
        name.push(format!("-{counter}"));
    }
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Renames a file, but never replaces another one.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot do this in one step.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        other => Ok(other?),
    }
}

fn sync_directory(directory: &Path) -> anyhow::Result<()> {
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .with_context(|| format!("cannot sync the directory {}", directory.display()))
}

/// Creates the missing directories, and syncs their parents so that they survive a crash.
fn create_directories(wanted: &Path) -> anyhow::Result<()> {
    let missing: Vec<&Path> = wanted
        .ancestors()
        .take_while(|path| *path != Path::new("") && !path.exists())
        .collect();
    fs::create_dir_all(wanted)
        .with_context(|| format!("cannot create the directory {}", wanted.display()))?;
    missing
        .into_iter()
        .try_for_each(|created| sync_directory(directory(created)))
}
