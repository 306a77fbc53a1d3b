//! Appends events: one write and one sync for a batch.
//!
//! A write consists of whole blocks. The block that the batch before did not fill is written again, with the same bytes in front.
//! A sector of 512 bytes is assumed to be either as before or as written, so what is in front stays whatever happens.
//!
//! After a write or a sync that failed, nothing more is written to that file. The records of the block that was written again
//! go to a new segment first, synced, and then the next batch does.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::record::{self, HEAD, LogRecord, RecordHead};
use super::segment::{Catalog, Find, RecordTable, Segment, lock, name};
use super::volume::{BLOCK, LogFile, Volume};
use super::{Layout, SPARE};
use crate::event::Seq;

/// Under this name a segment begins.
pub(super) const NEW: &str = "segment.new";
/// When this part of a segment is written, there is so much to write that a spare file is worth its zeros.
const BUSY_PART: u64 = 64;
/// A longer buffer is not kept for the next batch.
const BUFFER: usize = 1 << 20;

/// Writes the log. There is one for a log.
pub(in super::super) struct LogAppender<V: Volume> {
    volume: Arc<V>,
    layout: Layout,
    catalog: Arc<Catalog>,
    /// The last event that is on the disk.
    last: Seq,
    open: Option<OpenSegment<V::File>>,
    /// Segments that became full.
    full: Vec<FullSegment>,
    buffer: Vec<u8>,
    asked_for_spare: bool,
}

/// The segment that is written to.
struct OpenSegment<F> {
    segment: Arc<Segment>,
    file: F,
    /// Where the next record begins.
    end: u64,
    /// What the file holds from the begin of the block where `end` is.
    block: Vec<u8>,
    /// The records that have a part in this block, whole.
    records: Vec<u8>,
    /// The first of those.
    records_from: Seq,
    /// It was a spare file: its blocks exist.
    is_prepared: bool,
    /// When it was begun, by the clock that only goes forward.
    since: Duration,
    /// Its name survives a power cut.
    named: bool,
    /// Until it does: all records that it began with, and how often names were in doubt before it got its name.
    rescued: Vec<u8>,
    doubts: u64,
    failed: bool,
}

/// A segment that nothing more is written to, and where its last record ends.
pub(in super::super) struct FullSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) end: u64,
}

impl<V: Volume> LogAppender<V> {
    pub(super) fn new(volume: Arc<V>, layout: Layout, catalog: Arc<Catalog>, last: Seq) -> Self {
        Self {
            volume,
            layout,
            catalog,
            last,
            open: None,
            full: Vec::new(),
            buffer: Vec::new(),
            asked_for_spare: false,
        }
    }

    /// The last event that is on the disk.
    pub(in super::super) fn last(&self) -> Seq {
        self.last
    }

    /// Writes a batch and syncs it. Its events have consecutive numbers from the one after [`last`](Self::last) on. If it succeeds,
    /// they are on the disk and can be read. If not, the same numbers may be given to other events. `now` is of a clock that only
    /// goes forward. `number` makes a number that no segment has yet.
    pub(in super::super) fn append(
        &mut self,
        batch: &[LogRecord],
        now: Duration,
        number: impl FnOnce() -> u64,
    ) -> io::Result<()> {
        debug_assert!(
            (self.last + 1..)
                .zip(batch)
                .all(|(seq, record)| record.seq == seq)
        );
        if self
            .open
            .as_ref()
            .is_none_or(|open| self.wants_new(open, now))
        {
            self.begin(number(), now)?;
        }
        let written = self.write(batch);
        if let (Err(_), Some(open)) = (&written, &mut self.open) {
            open.failed = true;
        }
        written
    }

    /// Finds out whether the log can be written, without an event: a new segment is begun if the last write failed.
    pub(in super::super) fn probe(
        &mut self,
        now: Duration,
        number: impl FnOnce() -> u64,
    ) -> io::Result<()> {
        self.append(&[], now, number)
    }

    /// The segments that became full since the last call. [`LogKeeper::seal`](super::LogKeeper::seal) has to be told of them. None
    /// while a power cut could take the segment after them, which may repeat their last records.
    pub(in super::super) fn take_full(&mut self) -> Vec<FullSegment> {
        match &self.open {
            Some(open) if !open.named => Vec::new(),
            _ => std::mem::take(&mut self.full),
        }
    }

    /// Ends the segment that is written to: nothing more comes for now.
    pub(in super::super) fn end(&mut self) {
        match self.open.take() {
            Some(open) if open.segment.count() == 0 => {}
            Some(open) if open.named => self.full.push(open.full(self.last + 1)),
            // The next start finds what is there: nothing may be cut while the name of the last segment is not durable.
            Some(_) => self.full.clear(),
            None => {}
        }
    }

    /// Ends the segment that is written to if it was begun `age` ago or earlier.
    pub(in super::super) fn end_if_older(&mut self, age: Duration, now: Duration) {
        let is_older = |open: &OpenSegment<V::File>| now.saturating_sub(open.since) >= age;
        if self.open.as_ref().is_some_and(is_older) {
            self.end();
        }
    }

    /// Leaves numbers out: the next event has the number after `last`. Others must know that the events between are removed.
    pub(in super::super) fn skip_to(&mut self, last: Seq) {
        self.end();
        self.last = self.last.max(last);
    }

    /// Writes over the bodies of those of these events that are in the segment that is written to, synced. Returns the others,
    /// which [`LogKeeper::erase`](super::LogKeeper::erase) has to be told of.
    pub(in super::super) fn erase(&mut self, seqs: &[Seq]) -> io::Result<Vec<Seq>> {
        let Some(open) = &mut self.open else {
            return Ok(seqs.to_vec());
        };
        // After a failure these are written once more.
        seqs.iter().for_each(|seq| open.erase_record(*seq));
        if open.failed {
            return Ok(seqs.to_vec());
        }
        let first = open.segment.first;
        let (mine, others): (Vec<Seq>, Vec<Seq>) = seqs.iter().partition(|seq| **seq >= first);
        let erased = mine.iter().try_for_each(|seq| open.erase(*seq));
        if !mine.is_empty() {
            let synced = erased.and_then(|()| open.file.sync());
            open.failed |= synced.is_err();
            synced?;
        }
        Ok(others)
    }

    /// Checks that the file that is written to still has its name. Whatever is written to a file that was removed is lost.
    pub(in super::super) fn check_file(&self) -> io::Result<()> {
        match &self.open {
            Some(open) => self.volume.check(&open.file, &open.segment.name()),
            None => Ok(()),
        }
    }

    /// Whether a spare file should be made ([`LogKeeper::begin_spare`](super::LogKeeper::begin_spare)): so much is written that the
    /// next segment will come soon. Tells it once for each segment.
    pub(in super::super) fn take_wants_spare(&mut self) -> bool {
        let is_used = |open: &OpenSegment<V::File>| open.end >= self.layout.segment / BUSY_PART;
        let wants = !self.catalog.has_spare() && self.open.as_ref().is_some_and(is_used);
        wants && !std::mem::replace(&mut self.asked_for_spare, true)
    }

    fn wants_new(&self, open: &OpenSegment<V::File>, now: Duration) -> bool {
        let is_old = now.saturating_sub(open.since) >= self.layout.span;
        // In a file that grows, each sync takes longer.
        let grows = !open.is_prepared && open.end >= self.layout.segment / BUSY_PART;
        let is_full = open.end >= self.layout.segment || (grows && self.catalog.has_spare());
        open.failed || is_full || is_old
    }

    /// Begins a segment. After a failure it begins with the records of the unfinished block.
    fn begin(&mut self, number: u64, now: Duration) -> io::Result<()> {
        let failed = self.open.as_ref().filter(|open| open.failed);
        let (first, records) = match failed {
            // Its name may be lost, and then its first records are in the segment before only, which is cut.
            Some(open) if !open.named => (open.segment.first, &open.rescued[..]),
            Some(open) => (open.records_from, &open.records[..]),
            None => (self.last + 1, &[][..]),
        };
        let mut start = record::segment_head(number, first).to_vec();
        start.extend_from_slice(records);
        record::move_to(&mut start[HEAD..], number);
        let doubts = self.catalog.doubts();
        let (file, is_prepared) = self.new_file(first, &start)?;
        self.asked_for_spare = false;
        let segment = Arc::new(Segment::new(number, first, entries_of(&start)));
        let before = self.open.take().map(|open| open.full(first));
        self.full
            .extend(before.filter(|full| full.segment.count() > 0));
        self.catalog.change(|segments| {
            segments.retain(|other| other.first != first);
            segments.push(segment.clone());
        });
        let mut open = OpenSegment {
            segment,
            file,
            end: start.len() as u64,
            block: Vec::new(),
            records: Vec::new(),
            records_from: first,
            is_prepared,
            since: now,
            named: false,
            rescued: start[HEAD..].to_vec(),
            doubts,
            failed: false,
        };
        open.note(&start, 0, first);
        self.open = Some(open);
        Ok(())
    }

    /// A file under the name of a segment, and whether it was a spare file. If events are in `start`, they are synced before the file takes that name.
    fn new_file(&self, first: Seq, start: &[u8]) -> io::Result<(V::File, bool)> {
        let spare = match self.catalog.has_spare() {
            true => self.volume.open_to_write(SPARE).ok(),
            false => None,
        };
        let is_prepared = spare.is_some();
        let (file, from) = match spare {
            Some(file) => (file, SPARE),
            None => (self.volume.create(NEW)?, NEW),
        };
        if start.len() > HEAD {
            let mut buffer = Vec::new();
            let begin = aligned(&mut buffer, start.len());
            buffer.extend_from_slice(start);
            buffer.resize(begin + start.len().next_multiple_of(BLOCK), 0);
            file.write_blocks(&buffer[begin..], 0)?;
            file.sync()?;
        }
        self.volume.rename(from, &name(first))?;
        self.catalog.note_spare(false);
        Ok((file, is_prepared))
    }

    fn write(&mut self, batch: &[LogRecord]) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Err(io::Error::other("no segment is open"));
        };
        if !open.named {
            self.volume.sync()?;
            if self.catalog.doubts() != open.doubts {
                return Err(io::Error::other("the directory of the log failed to sync"));
            }
            open.named = true;
            open.rescued = Vec::new();
        }
        let length: usize = batch.iter().map(LogRecord::stored_length).sum();
        let begin = aligned(&mut self.buffer, open.block.len() + length);
        self.buffer.extend_from_slice(&open.block);
        let records = self.buffer.len();
        for event in batch {
            record::write(&mut self.buffer, event, open.segment.number, self.last)
                .ok_or_else(|| io::Error::other("an event is longer than a record can be"))?;
        }
        let end = self.buffer.len();
        let padded = begin + (end - begin).next_multiple_of(BLOCK);
        self.buffer.resize(padded, 0);
        let at = open.end - open.block.len() as u64;
        open.file.write_blocks(&self.buffer[begin..], at)?;
        open.file.sync()?;
        open.add(batch, &self.buffer[records..end], self.last + 1);
        self.last += batch.len() as Seq;
        self.buffer.shrink_to(BUFFER);
        Ok(())
    }
}

impl<F: LogFile> OpenSegment<F> {
    /// Writes over the body of an event, on the disk and in what is kept of the unfinished block.
    fn erase(&mut self, seq: Seq) -> io::Result<()> {
        let ordinal = (seq - self.segment.first) as usize;
        let at = match &self.segment.find {
            Find::Memory(entries) => lock(entries).offsets.get(ordinal).copied(),
            Find::Disk(_) => None,
        };
        let Some(at) = at.map(u64::from) else {
            return Ok(());
        };
        let mut head = [0; HEAD];
        self.file.read_at(&mut head, at)?;
        let Some(head) = RecordHead::read(&head).filter(|head| head.seq == seq) else {
            return Err(io::Error::other("a record is not where it was written"));
        };
        let body = head.body();
        let erased = record::erased(body.len());
        self.file.write_at(&erased, at + body.start as u64)?;
        let block_at = self.end - self.block.len() as u64;
        overlay(&mut self.block, block_at, &erased, at + body.start as u64);
        Ok(())
    }

    /// Writes over the body of an event among the records that a failure would have written once more.
    fn erase_record(&mut self, seq: Seq) {
        for records in [&mut self.records, &mut self.rescued] {
            let mut offset = 0;
            while let Some(head) = records.get(offset..).and_then(RecordHead::read) {
                if head.seq == seq {
                    let erased = record::erased(head.body as usize);
                    records[offset..][head.body()].copy_from_slice(&erased);
                }
                offset += head.length();
            }
        }
    }

    /// Takes in a batch that is on the disk.
    fn add(&mut self, batch: &[LogRecord], bytes: &[u8], first: Seq) {
        if let Find::Memory(entries) = &self.segment.find {
            let mut entries = lock(entries);
            let mut at = self.end;
            for event in batch {
                entries.add(at as u32, &event.id, event.received);
                at += event.stored_length() as u64;
            }
        }
        let at = self.end;
        self.end += bytes.len() as u64;
        self.note(bytes, at, first);
    }

    /// Remembers what the unfinished block holds. `bytes` were written at `at`, and begin with the record of `first`, or with the
    /// head of the segment.
    fn note(&mut self, bytes: &[u8], at: u64, first: Seq) {
        let begin = self.end - self.end % BLOCK as u64;
        if begin <= at {
            self.block.extend_from_slice(bytes);
        } else {
            self.block.clear();
            self.block
                .extend_from_slice(&bytes[(begin - at) as usize..]);
            self.records.clear();
            self.records_from = first;
        }
        let (mut offset, mut seq) = (if at == 0 { HEAD } else { 0 }, first);
        while let Some(head) = bytes.get(offset..).and_then(RecordHead::read) {
            let end = offset + head.length();
            if at + end as u64 > begin {
                self.records.extend_from_slice(&bytes[offset..end]);
            } else {
                self.records_from = seq + 1;
            }
            (offset, seq) = (end, seq + 1);
        }
    }

    /// Leaves the events from `next` on to the segment that comes now.
    fn full(self, next: Seq) -> FullSegment {
        let mut end = self.end;
        if let Find::Memory(entries) = &self.segment.find {
            let mut entries = lock(entries);
            let count = (next - self.segment.first).max(0) as usize;
            if let Some(at) = entries.offsets.get(count) {
                end = u64::from(*at);
                entries.truncate(count);
            }
        }
        FullSegment {
            segment: self.segment,
            end,
        }
    }
}

/// Copies the bytes from the place `from` of a file over that part of `block`, which begins at the place `at`, that they meet.
fn overlay(block: &mut [u8], at: u64, bytes: &[u8], from: u64) {
    let begin = from.max(at);
    let end = (from + bytes.len() as u64).min(at + block.len() as u64);
    if begin < end {
        let source = &bytes[(begin - from) as usize..(end - from) as usize];
        block[(begin - at) as usize..(end - at) as usize].copy_from_slice(source);
    }
}

/// What the begin of a segment holds.
fn entries_of(start: &[u8]) -> RecordTable {
    let mut entries = RecordTable::default();
    let mut at = HEAD;
    while let Some(head) = start.get(at..).and_then(RecordHead::read) {
        entries.add(at as u32, &head.id, head.received);
        at += head.length();
    }
    entries
}

/// Empties a buffer and makes room in it: what is appended next begins at a multiple of a block in memory.
fn aligned(buffer: &mut Vec<u8>, length: usize) -> usize {
    buffer.clear();
    // From here on it must not be moved.
    buffer.reserve(length.next_multiple_of(BLOCK) + BLOCK);
    let begin = buffer.as_ptr().align_offset(BLOCK);
    buffer.resize(begin, 0);
    begin
}
