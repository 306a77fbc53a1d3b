//! The journal: what is accepted is on disk here first, one write and one sync for a whole batch, and answered then.
//!
//! The store's own thread moves it into SQLite a moment later, in larger transactions, whose pages, checkpoints and syncs
//! hold no answer up. Two files are written in turn, each over its old content or the zeros it begins with: blocks that exist
//! need no change of the file system to be synced. A file is used again only when SQLite has what is in it, synced.
//!
//! After a crash everything that SQLite lacks is in whole batches with consecutive numbers. What was being written is torn,
//! was never answered, and ends the file; what is left of older content has lower numbers. A whole batch beyond a broken one
//! means that something that was synced is damaged: then the store does not open, because it would lose what it promised.

mod frame;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

pub(super) use self::frame::Record;
use self::frame::{HEAD, Head};
use crate::auth::Authentic;
use crate::event::Seq;

/// The two files, in the store's directory.
const NAMES: [&str; 2] = ["accepted.0-wal", "accepted.1-wal"];
/// From this length on the other file is taken, if it is free.
const LENGTH: u64 = if cfg!(test) { 64 << 10 } else { 8 << 20 };
/// A file is made this long at once on a volume that has many times as much room.
const ROOM: u64 = 32 * LENGTH;
/// What is written begins and ends at a multiple of this, in the file and in memory: past the page cache it has to.
const BLOCK: usize = 4096;
/// More is not kept for the next batch.
const BUFFER: usize = 1 << 20;

/// An open journal.
pub(super) struct Journal {
    halves: [Half; 2],
    active: usize,
    /// The last append failed: the next one goes over what may stand there, and nowhere else.
    failed: bool,
    buffer: Vec<u8>,
}

struct Half {
    file: File,
    end: u64,
    /// The newest number in it.
    last: Seq,
}

/// A callback with its number.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) seq: Seq,
    pub(super) callback: Authentic,
}

impl Numbered {
    pub(super) fn record(&self) -> Record<'_> {
        let Self { seq, callback } = self;
        Record {
            seq: *seq,
            received: callback.received(),
            id: callback.id(),
            code: callback.kind().stored(),
            source: callback.source(),
            body: callback.body(),
        }
    }
}

/// What the files hold cannot be the end of what was accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(
        "{} is damaged: event {expected} was accepted, but cannot be read; restore the directory, or move this file away to go on without what is only in it",
        path.display()
    )]
    Gap { path: PathBuf, expected: Seq },
}

impl Journal {
    /// Opens or creates the files. What they held must have been recovered. `kept`: up to this number it is kept all the same,
    /// and what comes stands behind it, until everything is in SQLite and synced.
    pub(super) fn open(dir: &Path, kept: Option<Seq>) -> io::Result<Self> {
        let half = |name: &str| {
            let file = open(&dir.join(name))?;
            // Without them syncs take longer, that is all.
            let _ = write_zeros(&file);
            let end = match kept {
                Some(_) => file.metadata()?.len().next_multiple_of(BLOCK as u64),
                None => 0,
            };
            io::Result::Ok(Half {
                file,
                end,
                last: kept.unwrap_or(0),
            })
        };
        Ok(Self {
            halves: [half(NAMES[0])?, half(NAMES[1])?],
            active: 0,
            failed: false,
            buffer: Vec::new(),
        })
    }

    /// Writes a batch, numbered consecutively from `first`, syncs it, and asks `check` whether the file is still in its place.
    /// The batch is on disk if this succeeds; if not, the same numbers may be given to other callbacks.
    pub(super) fn append(
        &mut self,
        first: Seq,
        batch: &[Numbered],
        check: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let callbacks = batch.iter().map(Numbered::record);
        let aligned = frame::encode(first, callbacks, BLOCK, &mut self.buffer)
            .ok_or_else(|| io::Error::other("a batch of more than 4 GiB"))?;
        self.failed = true;
        let half = &mut self.halves[self.active];
        let bytes = &self.buffer[aligned.clone()];
        match half.file.write_all_at(bytes, half.end) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                // A file system that wants larger blocks: through the page cache, then.
                rustix::fs::fcntl_setfl(&half.file, OFlags::empty())?;
                half.file.write_all_at(bytes, half.end)?;
            }
            written => written?,
        }
        half.file.sync_data()?;
        check()?;
        half.end += aligned.len() as u64;
        half.last = first + batch.len() as Seq - 1;
        self.failed = false;
        self.buffer.shrink_to(BUFFER);
        Ok(())
    }

    /// Whether it is time to turn to the other file, which needs everything up to this number to be in SQLite.
    pub(super) fn wants_synced(&self) -> Option<Seq> {
        (self.halves[self.active].end >= LENGTH && !self.failed)
            .then_some(self.halves[1 - self.active].last)
    }

    /// Begins the other file anew; the caller knows that SQLite has what is in it, synced.
    pub(super) fn turn(&mut self) {
        self.active = 1 - self.active;
        self.halves[self.active].end = 0;
    }

    /// Whether a burst has made the file long that is not written to now. To shorten it needs everything up to this number to be
    /// in SQLite.
    pub(super) fn wants_shortened(&self) -> Option<Seq> {
        let idle = &self.halves[1 - self.active];
        (idle.end > 2 * LENGTH).then_some(idle.last)
    }

    /// Gives the room of a burst back; the caller knows that SQLite has what is in the file, synced.
    pub(super) fn shorten(&mut self) {
        let idle = &mut self.halves[1 - self.active];
        idle.end = 0;
        // If it fails the file stays long, that is all.
        let _ = idle.file.set_len(LENGTH);
    }

    /// Bytes on disk.
    pub(super) fn size(dir: &Path) -> u64 {
        let length = |name| std::fs::metadata(dir.join(name)).map_or(0, |file| file.len());
        NAMES.into_iter().map(length).sum()
    }
}

/// Past the page cache where that is possible: nobody reads what is written here, and a sync has less to wait for.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).write(true).truncate(false);
    let direct = OFlags::DIRECT.bits();
    match options
        .clone()
        .custom_flags(direct.cast_signed())
        .open(path)
    {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => options.open(path),
        opened => opened,
    }
}

/// Brings a file to its length. Blocks that are only reserved would each have to be noted by the file system when they are
/// written first.
fn write_zeros(file: &File) -> io::Result<()> {
    const STEP: usize = 1 << 20;
    let volume = rustix::fs::fstatvfs(file)?;
    if volume.f_bavail * volume.f_frsize < ROOM {
        return Ok(());
    }
    let zeros = vec![0; STEP + BLOCK];
    let begin = zeros.as_ptr().align_offset(BLOCK);
    let mut at = file.metadata()?.len().next_multiple_of(BLOCK as u64);
    while at < LENGTH {
        let step = STEP.min((LENGTH - at) as usize);
        file.write_all_at(&zeros[begin..begin + step], at)?;
        at += step as u64;
    }
    file.sync_all()
}

/// Whether the files hold anything: they do not after [`clear`].
pub(super) fn is_empty(dir: &Path) -> bool {
    Journal::size(dir) == 0
}

/// Empties the files when SQLite has everything, so that the next start has nothing to read. What fails leaves old content.
pub(super) fn clear(dir: &Path) {
    for name in NAMES {
        let file = File::options().write(true).open(dir.join(name));
        let _ = file.and_then(|file| file.set_len(0));
    }
}

/// A whole batch in one of the files.
struct Found {
    path: PathBuf,
    file: File,
    at: u64,
    head: Head,
}

/// Gives every callback beyond `last` to `insert`, in order.
pub(super) fn recover(
    dir: &Path,
    last: Seq,
    mut insert: impl FnMut(&Record) -> rusqlite::Result<()>,
) -> Result<(), Damage> {
    let mut found = Vec::new();
    for name in NAMES {
        let path = dir.join(name);
        match File::open(&path) {
            Ok(file) => find(&path, &file, last, &mut found)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by_key(|batch| batch.head.first);
    let mut expected = last + 1;
    for batch in found {
        let content = content(&batch.file, batch.at, &batch.head)?;
        let callbacks = content
            .as_deref()
            .and_then(|content| frame::decode(&batch.head, content));
        let Some(callbacks) = callbacks.filter(|_| batch.head.first <= expected) else {
            return Err(Damage::Gap {
                path: batch.path,
                expected,
            });
        };
        for callback in callbacks {
            if callback.seq == expected {
                insert(&callback)?;
                expected += 1;
            }
        }
    }
    Ok(())
}

/// Adds the batches of a file that hold something beyond `last`: those that stand there one after the other, and those that
/// stand beyond what is broken but are newer.
fn find(path: &Path, file: &File, last: Seq, found: &mut Vec<Found>) -> io::Result<()> {
    let mut at = 0;
    let mut newest = last;
    let mut follows: Option<Seq> = None;
    let mut add = |at, head: Head| -> io::Result<()> {
        if head.last() > last {
            found.push(Found {
                path: path.to_owned(),
                file: file.try_clone()?,
                at,
                head,
            });
        }
        Ok(())
    };
    while let Some(head) = head_at(file, at)?
        && follows.is_none_or(|follows| head.first == follows)
        && content(file, at, &head)?.is_some()
    {
        add(at, head)?;
        newest = newest.max(head.last());
        follows = Some(head.last() + 1);
        at += head.total(BLOCK);
    }
    let length = file.metadata()?.len();
    while at < length {
        match head_at(file, at)? {
            Some(head)
                if head.first > newest && head.count > 0 && content(file, at, &head)?.is_some() =>
            {
                add(at, head)?;
                newest = head.last();
                at += head.total(BLOCK);
            }
            _ => at += BLOCK as u64,
        }
    }
    Ok(())
}

fn head_at(file: &File, at: u64) -> io::Result<Option<Head>> {
    let mut bytes = [0; HEAD];
    let read = read_up_to(file, &mut bytes, at)?;
    Ok(Head::read(&bytes).filter(|_| read == HEAD))
}

/// What follows a head, if the batch is whole.
fn content(file: &File, at: u64, head: &Head) -> io::Result<Option<Vec<u8>>> {
    let at = at + HEAD as u64;
    // A broken head may speak of far more than there is.
    if at + u64::from(head.length) > file.metadata()?.len() {
        return Ok(None);
    }
    let mut content = vec![0; head.length as usize];
    let read = read_up_to(file, &mut content, at)?;
    Ok((read == content.len() && head.fits(&content)).then_some(content))
}

/// Less only at the end of the file.
fn read_up_to(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests;
