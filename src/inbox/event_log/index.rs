//! The index of a segment that is full: where its records begin, and which id is where. A file of its own, `<first>.idx`.
//!
//! A head; a row for each record; then what is held in memory: the time spans of records, of every page of rows its first fingerprint
//! and its checksum, and a filter that tells of nearly every id that is not in the segment that it is not. A row has two things that
//! have nothing to do with each other: the next fingerprint in order, with its record, and the offset of the next record.
//! Everything in it follows from the segment: an index that is damaged is made again.

use std::io;
use std::ops::{Deref, Range};

use css_callbacks::Timestamp;
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

use super::record::take;
use super::segment::{RecordTable, SPAN_RECORDS, TimeSpan};
use super::volume::{LogFile, Volume};
use crate::event::Seq;

/// Begins every index; the last digit is the version of the format.
const MARK: [u8; 8] = *b"lhidx002";
/// The length of the head.
const HEAD: usize = 48;
/// A fingerprint, the number of its record within the segment, and an offset.
const ROW: usize = 16;
/// Rows that are read at once and have a checksum together.
const PAGE_ROWS: usize = 512;
/// The time span of some records.
const SPAN: usize = 16;
/// What is held in memory of a page.
const PAGE: usize = 12;
/// Under this name an index is written.
const NEW: &str = "index.new";

/// What is in memory of the index of a segment.
#[derive(Debug, Clone)]
pub(super) struct SegmentIndex {
    pub(super) segment: u64,
    pub(super) first: Seq,
    /// The length of the segment.
    pub(super) end: u64,
    records: u32,
    /// Of each [`SPAN_RECORDS`] records.
    pub(super) spans: Vec<TimeSpan>,
    /// Of all of them.
    pub(super) span: TimeSpan,
    /// The first fingerprint and the checksum of each page.
    pages: Vec<(u64, u32)>,
    /// Descriptor and fingerprints of a [`BinaryFuse8`]. Empty: not in memory.
    filter: Vec<u8>,
}

/// The index of the segment that begins with this event.
pub(super) fn name(first: Seq) -> String {
    format!("{first:020}.idx")
}

/// Writes the index of a segment, synced.
pub(super) fn write(
    volume: &impl Volume,
    (segment, first): (u64, Seq),
    table: impl Deref<Target = RecordTable>,
    end: u64,
) -> io::Result<SegmentIndex> {
    let rows = rows(&table);
    let page = |rows: &[u8]| (fingerprint(rows), crc32fast::hash(rows));
    let index = SegmentIndex {
        segment,
        first,
        end,
        records: table.offsets.len() as u32,
        spans: table.spans.clone(),
        span: TimeSpan::of(&table.spans),
        pages: rows.chunks(PAGE_ROWS * ROW).map(page).collect(),
        filter: filter(rows.chunks(ROW).map(fingerprint).collect()),
    };
    // Nobody waits for the disk because of it.
    drop(table);
    let held = index.held();
    let file = volume.create(NEW)?;
    file.write_at(&[&index.head(&held)[..], &rows, &held].concat(), 0)?;
    file.sync()?;
    volume.rename(NEW, &name(first))?;
    volume.sync()?;
    Ok(index)
}

/// What is not held in memory.
fn rows(table: &RecordTable) -> Vec<u8> {
    let mut rows = Vec::with_capacity(table.offsets.len() * ROW);
    for ((fingerprint, record), offset) in table.sorted_ids().into_iter().zip(&table.offsets) {
        rows.extend_from_slice(&fingerprint.to_le_bytes());
        rows.extend_from_slice(&record.to_le_bytes());
        rows.extend_from_slice(&offset.to_le_bytes());
    }
    rows
}

/// The fingerprint in the first of these rows.
fn fingerprint(mut rows: &[u8]) -> u64 {
    take(&mut rows).map_or(0, u64::from_le_bytes)
}

/// The number at this place of a row.
fn number(row: &[u8; ROW], at: usize) -> u32 {
    take(&mut &row[at..]).map_or(0, u32::from_le_bytes)
}

/// Of fingerprints in order. If none can be made, the pages are asked.
fn filter(mut fingerprints: Vec<u64>) -> Vec<u8> {
    fingerprints.dedup();
    let Ok(filter) = BinaryFuse8::try_from(fingerprints) else {
        return Vec::new();
    };
    let mut bytes = vec![0; BinaryFuse8::DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend_from_slice(filter.dma_fingerprints());
    bytes
}

impl SegmentIndex {
    fn head(&self, held: &[u8]) -> Vec<u8> {
        let mut head = MARK.to_vec();
        head.extend(self.segment.to_le_bytes());
        head.extend(self.first.to_le_bytes());
        head.extend(self.end.to_le_bytes());
        head.extend(self.records.to_le_bytes());
        head.extend((self.filter.len() as u32).to_le_bytes());
        head.extend(crc32fast::hash(held).to_le_bytes());
        head.extend(crc32fast::hash(&head).to_le_bytes());
        head
    }

    fn held(&self) -> Vec<u8> {
        let mut held = Vec::new();
        for span in &self.spans {
            held.extend(span.oldest.millis().to_le_bytes());
            held.extend(span.newest.millis().to_le_bytes());
        }
        for (first, crc) in &self.pages {
            held.extend(first.to_le_bytes());
            held.extend(crc.to_le_bytes());
        }
        held.extend(&self.filter);
        held
    }

    /// Reads the index of a segment that begins with `first`. `None` if it is missing, or what is held in memory is damaged.
    pub(super) fn read(volume: &impl Volume, first: Seq) -> io::Result<Option<Self>> {
        let file = match volume.open(&name(first)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut head = [0; HEAD];
        file.read_at(&mut head, 0)?;
        let Some((index, filter, crc)) = Self::of_head(&head).filter(|(of, ..)| of.first == first)
        else {
            return Ok(None);
        };
        let spans = index.count().div_ceil(SPAN_RECORDS) * SPAN;
        let pages = index.count().div_ceil(PAGE_ROWS) * PAGE;
        let length = spans + pages + filter;
        let at = (HEAD + index.count() * ROW) as u64;
        if file.length()? != at + length as u64 {
            return Ok(None);
        }
        let mut held = vec![0; length];
        file.read_at(&mut held, at)?;
        if crc32fast::hash(&held) != crc {
            return Ok(None);
        }
        let filter = held.split_off(spans + pages);
        let (spans, pages) = held.split_at(spans);
        let time = |time: &mut &[u8]| Some(Timestamp::from_millis(i64::from_le_bytes(take(time)?)));
        let span = |mut span: &[u8]| {
            let (oldest, newest) = (time(&mut span)?, time(&mut span)?);
            Some(TimeSpan { oldest, newest })
        };
        let spans: Vec<TimeSpan> = spans.chunks(SPAN).filter_map(span).collect();
        let page = |mut page: &[u8]| {
            let first = u64::from_le_bytes(take(&mut page)?);
            Some((first, u32::from_le_bytes(take(&mut page)?)))
        };
        Ok(Some(Self {
            span: TimeSpan::of(&spans),
            spans,
            pages: pages.chunks(PAGE).filter_map(page).collect(),
            filter,
            ..index
        }))
    }

    /// An index without what is behind its head, then the length of the filter, and the checksum of what is held in memory.
    fn of_head(head: &[u8; HEAD]) -> Option<(Self, usize, u32)> {
        let (checked, mut crc) = head.split_at(HEAD - 4);
        let mut rest = checked.strip_prefix(&MARK)?;
        let index = Self {
            segment: u64::from_le_bytes(take(&mut rest)?),
            first: i64::from_le_bytes(take(&mut rest)?),
            end: u64::from_le_bytes(take(&mut rest)?),
            records: u32::from_le_bytes(take(&mut rest)?),
            spans: Vec::new(),
            span: TimeSpan::EMPTY,
            pages: Vec::new(),
            filter: Vec::new(),
        };
        let filter = u32::from_le_bytes(take(&mut rest)?) as usize;
        let held = u32::from_le_bytes(take(&mut rest)?);
        let is_whole = u32::from_le_bytes(take(&mut crc)?) == crc32fast::hash(checked);
        is_whole.then_some((index, filter, held))
    }

    pub(super) fn count(&self) -> usize {
        self.records as usize
    }

    /// The event after the last one of the segment.
    pub(super) fn next(&self) -> Seq {
        self.first + Seq::from(self.records)
    }

    /// Bytes that the filter takes in memory.
    pub(super) fn filter_size(&self) -> usize {
        self.filter.len()
    }

    /// The same index with its filter on the disk only: every id is looked up there.
    pub(super) fn without_filter(&self) -> Self {
        Self {
            spans: self.spans.clone(),
            pages: self.pages.clone(),
            filter: Vec::new(),
            ..*self
        }
    }

    /// Where so many records from the one at `from` on begin, and where the last of them ends.
    pub(super) fn offsets(
        &self,
        volume: &impl Volume,
        from: usize,
        wanted: usize,
    ) -> io::Result<Vec<u32>> {
        let until = (from + wanted + 1).min(self.count());
        let rows = self.rows(volume, from..until)?;
        let (rows, _) = rows.as_chunks();
        let skipped = from % PAGE_ROWS;
        let rows = rows.iter().skip(skipped).take(until.saturating_sub(from));
        let mut offsets: Vec<u32> = rows.map(|row| number(row, 12)).collect();
        if until == self.count() {
            offsets.push(self.end as u32);
        }
        Ok(offsets)
    }

    /// The records with this fingerprint, the newest first.
    pub(super) fn with_fingerprint(
        &self,
        volume: &impl Volume,
        wanted: u64,
    ) -> io::Result<Vec<u32>> {
        if self.rules_out(wanted) {
            return Ok(Vec::new());
        }
        // The last one of the page before may have it, too.
        let from = self.pages.partition_point(|(first, _)| *first < wanted);
        let until = self.pages.partition_point(|(first, _)| *first <= wanted);
        let rows = self.rows(
            volume,
            from.saturating_sub(1) * PAGE_ROWS..until * PAGE_ROWS,
        )?;
        let (rows, _) = rows.as_chunks();
        let found = rows.iter().rev().filter(|row| fingerprint(*row) == wanted);
        Ok(found.map(|row| number(row, 8)).collect())
    }

    /// Whether the filter rules out that an id with this fingerprint is in the segment.
    fn rules_out(&self, fingerprint: u64) -> bool {
        let Some((descriptor, filter)) = self.filter.split_at_checked(BinaryFuse8::DESCRIPTOR_LEN)
        else {
            return false;
        };
        !BinaryFuse8Ref::from_dma(descriptor, filter).contains(&fingerprint)
    }

    /// The pages with these rows. Fails with [`io::ErrorKind::InvalidData`] if one is damaged.
    fn rows(&self, volume: &impl Volume, wanted: Range<usize>) -> io::Result<Vec<u8>> {
        let begin = wanted.start - wanted.start % PAGE_ROWS;
        let end = wanted.end.next_multiple_of(PAGE_ROWS).min(self.count());
        let mut rows = vec![0; end.saturating_sub(begin) * ROW];
        let name = name(self.first);
        volume
            .open(&name)?
            .read_at(&mut rows, (HEAD + begin * ROW) as u64)?;
        let pages = self.pages.iter().skip(begin / PAGE_ROWS);
        let mut each = rows.chunks(PAGE_ROWS * ROW).zip(pages);
        match each.all(|(rows, (_, crc))| crc32fast::hash(rows) == *crc) {
            true => Ok(rows),
            false => {
                let problem = format!("{} is damaged", volume.path().join(name).display());
                Err(io::Error::new(io::ErrorKind::InvalidData, problem))
            }
        }
    }

    /// Whether it is the index of a segment with this number and these records. Fails with [`io::ErrorKind::InvalidData`] if it is
    /// damaged.
    pub(super) fn fits(
        &self,
        volume: &impl Volume,
        segment: u64,
        table: &RecordTable,
    ) -> io::Result<bool> {
        let stored = self.rows(volume, 0..self.count())?;
        Ok(self.segment == segment && self.spans == table.spans && stored == rows(table))
    }
}
