//! The file that is written to: opened, mended, synced and renamed when its time is over.
//!
//! It is always found under the same name. Any failure lets go of it: the next batch opens it anew and ends the line that may
//! have been torn, so nothing depends on how far a failed write came.

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

/// More files of one period than this are a mistake somewhere.
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
    /// Neither a pipe nor a device, which have no last line, no disk and no other name.
    regular: bool,
    /// Whether the last line lacks its end.
    torn: bool,
    /// Whether the name of a new file is on the disk, too.
    name_synced: bool,
    /// The period the content belongs to, if files have one.
    period: Option<String>,
}

impl ActiveFile {
    /// Opens the file, and creates it and its directories if need be.
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
                "this is a pipe or a device: an event is done when it is written, wherever it goes from there"
            );
        }
        active.open = Some(open);
        Ok(active)
    }

    /// Writes lines; good only if they are all on the disk, unless syncing is off.
    pub(super) fn append(&mut self, mut lines: Vec<u8>) -> anyhow::Result<()> {
        self.rotate_if_due()?;
        // It comes back only if all went well.
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

    /// Lets go of a file that was moved away from outside, and moves one away whose period is over.
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
            // A clock that was set back is no reason to rename.
            Some(period) if period < now => self.rename_dated(&period),
            _ => Ok(()),
        }
    }

    fn reopen(&self) -> anyhow::Result<OpenFile> {
        let context = || format!("cannot open {}", self.path.display());
        let file = match self.open_or_create() {
            // Its directory was removed since.
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

/// Refuses what keeps nothing.
pub(super) fn check_durable(
    path: &Path,
    sync: bool,
    within: &StatFs,
    found: &Metadata,
) -> anyhow::Result<()> {
    let shown = path.display();
    if matches!(within.f_type, PROC_SUPER_MAGIC | SYSFS_MAGIC) {
        bail!("{shown} is a part of the kernel, which keeps no events");
    }
    if sync && !found.is_file() {
        bail!(
            "{shown} is a pipe or a device, so no event is on disk when it is written: name a file, or write sync = false"
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

/// `events.jsonl` of 2026-11-23 is `events-2026-11-23.jsonl`, the second one `events-2026-11-23-2.jsonl`.
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

/// Renames, but never over something that exists.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot do both in one step.
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

/// Creates what is missing, and makes sure that it stays after a crash.
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
