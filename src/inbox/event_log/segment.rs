//! A file of the log: a head, then records with consecutive numbers. What of it is needed to find a record.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::iter::{repeat, successors};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use css_callbacks::{EventId, Timestamp};

use super::index::SegmentIndex;
use super::volume::Volume;
use crate::event::Seq;

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

/// Where the records of a segment begin, and which of them has which id. Records are counted from the first one of the segment.
#[derive(Debug, Default)]
pub(super) struct RecordTable {
    /// In the order of their numbers.
    pub(super) offsets: Vec<u32>,
    /// The newest record with each fingerprint.
    ids: HashMap<u64, u32, BuildHasherDefault<Unhashed>>,
    /// Of a record: the one before it with the same fingerprint.
    earlier: HashMap<u32, u32>,
    /// Of each [`SPAN_RECORDS`] records.
    pub(super) spans: Vec<TimeSpan>,
}

impl RecordTable {
    pub(super) fn add(&mut self, offset: u32, id: &EventId, received: Timestamp) {
        self.push(offset, id.fingerprint());
        if let Some(span) = self.spans.last_mut() {
            span.add(received);
        }
    }

    /// Adds records of which nothing can be read until there are `count`.
    pub(super) fn fill(&mut self, count: usize, offset: u32) {
        while self.offsets.len() < count {
            self.push(offset, u64::MAX);
        }
    }

    fn push(&mut self, offset: u32, fingerprint: u64) {
        let record = self.offsets.len() as u32;
        if self.offsets.len().is_multiple_of(SPAN_RECORDS) {
            self.spans.push(TimeSpan::EMPTY);
        }
        if let Some(earlier) = self.ids.insert(fingerprint, record) {
            self.earlier.insert(record, earlier);
        }
        self.offsets.push(offset);
    }

    /// The records with this fingerprint, the newest first.
    fn with_fingerprint(&self, fingerprint: u64) -> impl Iterator<Item = u32> {
        let newest = self.ids.get(&fingerprint);
        successors(newest, |newer| self.earlier.get(newer)).copied()
    }

    /// The fingerprints of all records with their records, in order.
    pub(super) fn sorted_ids(&self) -> Vec<(u64, u32)> {
        let records = |id: &u64| self.with_fingerprint(*id).zip(repeat(*id));
        let all = self.ids.keys().flat_map(records);
        let mut ids: Vec<(u64, u32)> = all.map(|(record, id)| (id, record)).collect();
        ids.sort_unstable();
        ids
    }

    /// Forgets all records but the first `count`.
    pub(super) fn truncate(&mut self, count: usize) {
        self.offsets.truncate(count);
        self.spans.truncate(count.div_ceil(SPAN_RECORDS));
        let is_left = |record: &u32| (*record as usize) < count;
        self.ids.retain(|_, newest| {
            let mut records = successors(Some(*newest), |newer| self.earlier.get(newer).copied());
            records.find(is_left).map(|left| *newest = left).is_some()
        });
        self.earlier.retain(|newer, _| is_left(newer));
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

impl Find {
    /// Where so many records from the one at `from` on begin, and where the last of them ends, if there is one more.
    pub(super) fn offsets(
        &self,
        volume: &impl Volume,
        from: usize,
        wanted: usize,
    ) -> io::Result<Vec<u32>> {
        match self {
            Self::Memory(table) => {
                let table = lock(table);
                let until = table.offsets.len().min(from + wanted + 1);
                Ok(table.offsets.get(from..until).unwrap_or_default().to_vec())
            }
            Self::Disk(index) => index.offsets(volume, from, wanted),
        }
    }

    /// The records with this fingerprint, the newest first.
    pub(super) fn with_fingerprint(
        &self,
        volume: &impl Volume,
        fingerprint: u64,
    ) -> io::Result<Vec<u32>> {
        match self {
            Self::Memory(table) => Ok(lock(table).with_fingerprint(fingerprint).collect()),
            Self::Disk(index) => index.with_fingerprint(volume, fingerprint),
        }
    }
}

impl From<SegmentIndex> for Segment {
    fn from(index: SegmentIndex) -> Self {
        Self {
            number: index.segment,
            first: index.first,
            find: Find::Disk(index),
        }
    }
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
            Find::Disk(index) => index.span,
        }
    }

    /// Of each [`SPAN_RECORDS`] records.
    pub(super) fn spans(&self) -> Vec<TimeSpan> {
        match &self.find {
            Find::Memory(entries) => lock(entries).spans.clone(),
            Find::Disk(index) => index.spans.clone(),
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
    /// Held by whoever writes or removes an index.
    indexing: Mutex<()>,
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

    /// Nobody else writes or removes an index meanwhile.
    pub(super) fn lock_indexes(&self) -> MutexGuard<'_, ()> {
        self.indexing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a segment in the place of the one with the same number.
    pub(super) fn replace(&self, segment: &Arc<Segment>) {
        self.change(|segments| {
            for other in segments {
                if other.number == segment.number {
                    other.clone_from(segment);
                }
            }
        });
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
