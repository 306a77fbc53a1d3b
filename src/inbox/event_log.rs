//! The event log: an append-only log in segments, the only place where the embedded store keeps an event.
//!
//! A segment is one file, `<first event>.log`. Only the newest one is written to ([`LogAppender`]). A segment that is full is cut to
//! its length and gets an index, `<first event>.idx`, which finds events by number and by id ([`index`]). Segments are removed
//! whole. Every record has checksums, which are checked whenever it is read ([`LogReader`]): a damaged one is told as damaged,
//! never given out as an event.
//!
//! After a start nothing is appended to a file of an earlier process. The newest one may end in a batch that was being written: that
//! was never acknowledged, and is cut off, and the rest is written anew, because an earlier sync may have failed. If a record behind
//! the end proves that it had been synced, the log is damaged, and opening it fails with the events that are lost ([`open`]).

mod appender;
mod check;
mod copy;
mod index;
mod keeper;
mod mending;
mod reader;
mod record;
mod recovery;
mod scan;
mod segment;
mod volume;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub(super) use self::appender::{FullSegment, LogAppender};
pub(super) use self::check::{LogReport, check};
pub(super) use self::keeper::LogKeeper;
pub(super) use self::reader::{LogEntry, LogReader, SegmentInfo};
pub(super) use self::record::LogRecord;
pub(super) use self::recovery::{EventLog, KnownState, has_segments, open};
pub(super) use self::segment::TimeSpan;
pub(super) use self::volume::Directory;
use crate::event::Seq;

/// A file that is long enough for a segment: its blocks exist, so writing them changes nothing in the file system.
const SPARE: &str = "spare";

/// Sizes of a log.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// A segment is full when it is so long.
    pub(super) segment: u64,
    /// A segment is full when it was begun so long ago.
    pub(super) span: Duration,
    /// Memory for the filters of all segments, in bytes. Ids of the oldest segments are looked up on the disk beyond that.
    pub(super) filters: usize,
    /// A spare file is made if the volume has so many bytes left.
    pub(super) room: u64,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            segment: 64 << 20,
            span: Duration::from_secs(3600),
            filters: 10 << 20,
            room: 32 * (64 << 20),
        }
    }
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Events that were acknowledged cannot be read.
    #[error(
        "{} is damaged: {} accepted, but cannot be read; restore the directory, or move this file away to go on without what is only in it",
        path.display(),
        events(*first, *last)
    )]
    Lost {
        path: PathBuf,
        first: Seq,
        last: Seq,
    },
    /// No file has these events.
    #[error(
        "{} lacks a file: {} accepted, but no file has them; put it back, or restore the directory",
        path.display(),
        events(*first, *last)
    )]
    Missing {
        path: PathBuf,
        first: Seq,
        last: Seq,
    },
}

fn events(first: Seq, last: Seq) -> String {
    if first == last {
        format!("event {first} was")
    } else {
        format!("events {first} to {last} were")
    }
}
