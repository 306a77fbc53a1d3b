//! A file of the log: a head, then records with consecutive numbers. What of it is needed to find a record.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use css_callbacks::{EventId, Timestamp};

use super::index::SegmentIndex;
use super::record::{self, ALIGN, HEAD, RecordHead, RecordState};
use super::volume::LogFile;
use crate::event::Seq;

/// Read at once while a file is walked through.
const WINDOW: usize = 1 << 20;

/// Fingerprints of ids are hashes already.
#[derive(Default)]
pub(super) struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// From when to when the events of a segment arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct TimeSpan {
    pub(in super::super) oldest: Timestamp,
    pub(in super::super) newest: Timestamp,
}

impl TimeSpan {
    pub(super) const EMPTY: Self = Self {
        oldest: Timestamp::from_millis(i64::MAX),
        newest: Timestamp::from_millis(i64::MIN),
    };

    fn add(&mut self, received: Timestamp) {
        self.oldest = self.oldest.min(received);
        self.newest = self.newest.max(received);
    }

    /// Of all of these together.
    pub(super) fn of(spans: &[Self]) -> Self {
        let join = |all: Self, span: &Self| Self {
            oldest: all.oldest.min(span.oldest),
            newest: all.newest.max(span.newest),
        };
        spans.iter().fold(Self::EMPTY, join)
    }
}

/// So many consecutive records have a time span of their own, for searches by time.
pub(super) const SPAN_RECORDS: usize = 1024;

/// Where the records of a segment begin, and which of them has which id.
#[derive(Debug, Default)]
pub(super) struct RecordTable {
    /// In the order of their numbers.
    pub(super) offsets: Vec<u32>,
    /// The newest record with each fingerprint, counted from the first one of the segment.
    pub(super) ids: HashMap<u64, u32, BuildHasherDefault<Unhashed>>,
    /// Of each [`SPAN_RECORDS`] records.
    pub(super) spans: Vec<TimeSpan>,
}

impl RecordTable {
    pub(super) fn add(&mut self, offset: u32, id: &EventId, received: Timestamp) {
        if self.offsets.len().is_multiple_of(SPAN_RECORDS) {
            self.spans.push(TimeSpan::EMPTY);
        }
        if let Some(span) = self.spans.last_mut() {
            span.add(received);
        }
        self.ids.insert(id.fingerprint(), self.offsets.len() as u32);
        self.offsets.push(offset);
    }

    /// Forgets all records but the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.offsets.truncate(count);
        self.spans.truncate(count.div_ceil(SPAN_RECORDS));
        self.ids.retain(|_, ordinal| (*ordinal as usize) < count);
    }
}

/// A segment that can be read.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) first: Seq,
    pub(super) find: Find,
}

/// What finds the records of a segment.
pub(super) enum Find {
    /// In memory: the segment is written to, or its index is not on the disk yet.
    Memory(Mutex<RecordTable>),
    /// On the disk.
    Disk(SegmentIndex),
}

impl Segment {
    pub(super) fn new(number: u64, first: Seq, entries: RecordTable) -> Self {
        Self {
            number,
            first,
            find: Find::Memory(Mutex::new(entries)),
        }
    }

    pub(super) fn name(&self) -> String {
        name(self.first)
    }

    /// How many records it has.
    pub(super) fn count(&self) -> usize {
        match &self.find {
            Find::Memory(entries) => lock(entries).offsets.len(),
            Find::Disk(index) => index.count(),
        }
    }

    /// The last event in it. Of an empty segment, the one before its first.
    pub(super) fn last(&self) -> Seq {
        self.first + self.count() as Seq - 1
    }

    /// From when to when its events arrived.
    pub(super) fn span(&self) -> TimeSpan {
        match &self.find {
            Find::Memory(entries) => TimeSpan::of(&lock(entries).spans),
            Find::Disk(index) => index.span(),
        }
    }

    /// Of each [`SPAN_RECORDS`] records.
    pub(super) fn with_spans<T>(&self, look: impl FnOnce(&[TimeSpan]) -> T) -> T {
        match &self.find {
            Find::Memory(entries) => look(&lock(entries).spans),
            Find::Disk(index) => look(index.spans()),
        }
    }
}

/// The file of the segment that begins with this event.
pub(super) fn name(first: Seq) -> String {
    format!("{first:020}.log")
}

/// The first event of the segment with this file.
pub(super) fn first_of(name: &str) -> Option<Seq> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

pub(super) fn lock(entries: &Mutex<RecordTable>) -> MutexGuard<'_, RecordTable> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All segments that can be read, in the order of their events. A segment begins where the one before it ends, or earlier: the
/// later segment counts then.
#[derive(Default)]
pub(super) struct Catalog {
    segments: ArcSwap<Vec<Arc<Segment>>>,
    /// A spare file is there.
    has_spare: AtomicBool,
    /// How often the directory may have failed to sync beside the appender.
    doubts: AtomicU64,
}

impl Catalog {
    pub(super) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    /// A sync of the directory may have failed: names that were changed before may be lost, and a later sync that succeeds proves
    /// nothing.
    pub(super) fn doubt_names(&self) {
        self.doubts.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::SeqCst)
    }

    pub(super) fn has_spare(&self) -> bool {
        self.has_spare.load(Ordering::Relaxed)
    }

    pub(super) fn note_spare(&self, is_there: bool) {
        self.has_spare.store(is_there, Ordering::Relaxed);
    }

    /// Changes the list. Who reads the one before goes on with that.
    pub(super) fn change(&self, change: impl Fn(&mut Vec<Arc<Segment>>)) {
        self.segments.rcu(|segments| {
            let mut segments = Vec::clone(segments);
            change(&mut segments);
            segments
        });
    }
}

/// What a file holds.
pub(super) struct Scan {
    pub(super) number: u64,
    pub(super) first: Seq,
    pub(super) entries: RecordTable,
    /// Where the last whole record ends.
    pub(super) end: u64,
    /// The last event that was on the disk once, as far as the file proves it.
    pub(super) proven: Seq,
}

impl Scan {
    /// The event after the last one that can be read.
    pub(super) fn next(&self) -> Seq {
        self.first + self.entries.offsets.len() as Seq
    }
}

/// Walks through a segment. Records before the event `upto` count. `erasing`: their bodies were being erased, and may be anything.
/// `None` if there is not even a head.
pub(super) fn scan(
    file: &impl LogFile,
    upto: Seq,
    erasing: &BTreeSet<Seq>,
) -> io::Result<Option<Scan>> {
    let length = file.length()?;
    let mut window = Window::new(file, length);
    let Some((number, first)) = record::read_segment_head(window.at(0, HEAD)?) else {
        return Ok(None);
    };
    let mut scan = Scan {
        number,
        first,
        entries: RecordTable::default(),
        end: HEAD as u64,
        proven: first - 1,
    };
    while scan.next() < upto {
        let Some(head) = RecordHead::read(window.at(scan.end, HEAD)?) else {
            break;
        };
        let bytes = window.at(scan.end, head.length())?;
        let head = match record::read(bytes, number) {
            RecordState::Whole(head, _) | RecordState::Erased(head) => head,
            RecordState::DamagedBody(head) if erasing.contains(&head.seq) => head,
            RecordState::DamagedBody(_) | RecordState::Nothing => break,
        };
        let Some(offset) = u32::try_from(scan.end)
            .ok()
            .filter(|_| head.seq == scan.next())
        else {
            break;
        };
        scan.entries.add(offset, &head.id, head.received);
        scan.end += head.length() as u64;
    }
    scan.proven = proven_behind(&mut window, &scan)?.max(scan.proven);
    Ok(Some(scan))
}

/// A record behind the end proves that events before it were synced when it was written.
fn proven_behind(window: &mut Window<impl LogFile>, scan: &Scan) -> io::Result<Seq> {
    let mut proven = 0;
    window.each_head(scan.end, |_, head| {
        if head.segment == scan.number {
            proven = proven.max(head.synced);
        }
    })?;
    Ok(proven)
}

/// Whether nothing was ever synced in a file: its head is in one sector, so a power cut leaves all of it or nothing.
pub(super) fn is_unused(file: &impl LogFile) -> io::Result<bool> {
    let mut head = [0; HEAD];
    file.read_at(&mut head, 0)?;
    Ok(head == [0; HEAD])
}

/// The last event in a file whose head cannot be read. 0 if there is none.
pub(super) fn last_head(file: &impl LogFile) -> io::Result<Seq> {
    let mut window = Window::new(file, file.length()?);
    let mut last = 0;
    window.each_head(0, |_, head| last = last.max(head.seq))?;
    Ok(last)
}

/// A part of a file in memory, which moves forward.
pub(super) struct Window<'a, F> {
    file: &'a F,
    length: u64,
    begin: u64,
    bytes: Vec<u8>,
}

impl<'a, F: LogFile> Window<'a, F> {
    pub(super) fn new(file: &'a F, length: u64) -> Self {
        Self {
            file,
            length,
            begin: 0,
            bytes: Vec::new(),
        }
    }

    /// Gives every whole head of a record from `from` on to `found`, with its place. Between them there may be anything.
    pub(super) fn each_head(
        &mut self,
        from: u64,
        mut found: impl FnMut(u64, RecordHead),
    ) -> io::Result<()> {
        let mut at = from;
        while at + HEAD as u64 <= self.length {
            if let Some(head) = RecordHead::read(self.at(at, HEAD)?)
                && head.fits(self.at(at, HEAD + usize::from(head.source))?)
            {
                found(at, head);
            }
            at += ALIGN as u64;
        }
        Ok(())
    }

    /// The bytes from `at` on: at least `wanted`, unless the file ends before.
    pub(super) fn at(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
        let end = self.length.min(at + wanted as u64);
        if at < self.begin || end > self.begin + self.bytes.len() as u64 {
            let size = (self.length - at.min(self.length)).min(wanted.max(WINDOW) as u64);
            self.bytes.resize(size as usize, 0);
            let read = self.file.read_at(&mut self.bytes, at)?;
            self.bytes.truncate(read);
            self.begin = at;
        }
        let skipped = (at - self.begin) as usize;
        Ok(self.bytes.get(skipped..).unwrap_or_default())
    }
}
