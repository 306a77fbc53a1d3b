//! Reads the journal of the first format: what was accepted, but may not be in `inbox.db` yet.
//!
//! It has two files, which were written in turn. A batch is a head, the callbacks one after the other, and zeros up to the next
//! block. A batch counts whole or not at all. A batch that was being written was never answered, and ends a file. A whole batch
//! behind a broken one means that something that was synced is damaged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use css_callbacks::{EventId, Timestamp};

use super::error::ConvertError;
use super::old_store::OldEvent;
use crate::event::Seq;
use crate::inbox::event_log::LogError;

/// The files, in the directory of the store.
pub(super) const NAMES: [&str; 2] = ["accepted.0-wal", "accepted.1-wal"];
/// A batch begins at a multiple of this.
const BLOCK: u64 = 4096;
/// Begins every head.
const MARK: [u8; 8] = *b"lhbatch1";
const HEAD: usize = 32;

/// The head of a batch. All numbers are little-endian.
#[derive(Debug, Clone, Copy)]
struct Head {
    first: Seq,
    count: u32,
    length: u32,
    crc: u32,
}

/// A whole batch in one of the files. What it holds is read again when its turn comes: a burst made the files long.
struct Found {
    path: PathBuf,
    at: u64,
    first: Seq,
}

/// Gives each callback after `last` to `insert`, in order.
pub(super) fn recover(
    dir: &Path,
    last: Seq,
    mut insert: impl FnMut(&OldEvent) -> rusqlite::Result<()>,
) -> Result<(), ConvertError> {
    let mut found = Vec::new();
    for name in NAMES {
        let path = dir.join(name);
        match File::open(&path) {
            Ok(file) => find(&path, &file, last, &mut found)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by_key(|batch| batch.first);
    let mut expected = last + 1;
    for Found { path, at, first } in found {
        let batch = batch_at(&File::open(&path)?, at)?.filter(|_| first <= expected);
        let Some(callbacks) = batch.and_then(|(head, content)| decode(&head, &content)) else {
            let (first, last) = (expected, expected);
            return Err(LogError::Lost { path, first, last }.into());
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

/// Adds the batches of a file that hold something after `last`: those that stand one after the other, and those that stand behind
/// what is broken, or behind older ones, but are newer.
fn find(path: &Path, file: &File, last: Seq, found: &mut Vec<Found>) -> io::Result<()> {
    let length = file.metadata()?.len();
    let (mut at, mut newest) = (0, last);
    let (mut follows, mut is_broken) = (None, false);
    while at < length {
        let whole = batch_at(file, at)?.map(|(head, _)| head);
        let is_next = |head: &Head| follows.is_none_or(|follows| head.first == follows);
        is_broken |= !whole.as_ref().is_some_and(is_next);
        let is_newer = |head: &Head| head.last() > newest && head.count > 0;
        let Some(head) = whole.filter(|head| !is_broken || is_newer(head)) else {
            at += BLOCK;
            continue;
        };
        if head.last() > last {
            let (path, first) = (path.to_owned(), head.first);
            found.push(Found { path, at, first });
        }
        newest = newest.max(head.last());
        follows = Some(head.last() + 1);
        at += (HEAD as u64 + u64::from(head.length)).next_multiple_of(BLOCK);
    }
    Ok(())
}

/// The head and the content of the batch that stands here, if it is whole.
fn batch_at(file: &File, at: u64) -> io::Result<Option<(Head, Vec<u8>)>> {
    let (begin, length) = (at + HEAD as u64, file.metadata()?.len());
    if begin > length {
        return Ok(None);
    }
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, at)?;
    // A broken head may tell of far more than there is.
    let fits = |head: &Head| begin + u64::from(head.length) <= length;
    let Some(head) = Head::read(&head).filter(fits) else {
        return Ok(None);
    };
    let mut content = vec![0; head.length as usize];
    file.read_exact_at(&mut content, begin)?;
    Ok((head.crc == head.sum(&content)).then_some((head, content)))
}

impl Head {
    fn read(bytes: &[u8; HEAD]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&MARK)?;
        Some(Self {
            first: i64::from_le_bytes(take(&mut rest)?),
            count: u32::from_le_bytes(take(&mut rest)?),
            length: u32::from_le_bytes(take(&mut rest)?),
            crc: u32::from_le_bytes(take(&mut rest)?),
        })
    }

    /// The number of the last callback. Of an empty batch, of the one before it.
    fn last(&self) -> Seq {
        self.first + Seq::from(self.count) - 1
    }

    fn sum(&self, content: &[u8]) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&self.first.to_le_bytes());
        sum.update(&self.count.to_le_bytes());
        sum.update(&self.length.to_le_bytes());
        sum.update(content);
        sum.finalize()
    }
}

/// The callbacks of a batch. `None` if they are not what the head tells.
fn decode(head: &Head, mut content: &[u8]) -> Option<Vec<OldEvent>> {
    let mut found = Vec::new();
    for n in 0..head.count {
        let received = i64::from_le_bytes(take(&mut content)?);
        let id = take(&mut content)?;
        let code = i64::from_le_bytes(take(&mut content)?);
        let source = u32::from_le_bytes(take(&mut content)?) as usize;
        let body = u32::from_le_bytes(take(&mut content)?) as usize;
        let (source, rest) = content.split_at_checked(source)?;
        let (body, rest) = rest.split_at_checked(body)?;
        content = rest;
        found.push(OldEvent {
            seq: head.first + Seq::from(n),
            received: Timestamp::from_millis(received),
            id: EventId::from_bytes(id),
            code,
            source: std::str::from_utf8(source).ok()?.to_owned(),
            body: body.to_vec(),
        });
    }
    content.is_empty().then_some(found)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
pub(super) mod tests;
