//! The index of a segment that is full: where its records begin, and which id is where. A file of its own, `<first>.idx`.
//!
//! A head; the offsets of all records; fingerprints of ids, sorted, each with its record; then what is held in memory: the time spans
//! of records, the first fingerprint of every page, and a filter that tells of nearly every id that is not in the segment that it
//! is not. Everything in it follows from the segment: an index that cannot be read is made again.

use std::io;
use std::path::PathBuf;

use css_callbacks::Timestamp;
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

use super::record::take;
use super::segment::{RecordTable, SPAN_RECORDS, TimeSpan};
use super::volume::{LogFile, Volume};
use crate::event::Seq;

/// Begins every index; the last digit is the version of the format.
const MARK: [u8; 8] = *b"lhidx001";
/// The length of the head.
const HEAD: usize = 64;
/// An offset of a record.
const OFFSET: usize = 4;
/// The time span of some records.
const SPAN: usize = 16;
/// A fingerprint and the number of its record within the segment.
const ID: usize = 12;
/// Ids that are read at once. The first fingerprint of each such page is in memory.
const PAGE: usize = 512;
/// Under this name an index is written.
const NEW: &str = "index.new";

/// What is in memory of the index of a segment.
#[derive(Debug, Clone)]
pub(super) struct SegmentIndex {
    head: IndexHead,
    /// Of each [`SPAN_RECORDS`] records.
    spans: Vec<TimeSpan>,
    /// Of all of them.
    span: TimeSpan,
    /// The first fingerprint of each page.
    pages: Vec<u64>,
    /// Descriptor and fingerprints of a [`BinaryFuse8`]. Empty: not in memory.
    filter: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IndexHead {
    segment: u64,
    first: Seq,
    records: u32,
    ids: u32,
    filter: u32,
    /// The length of the segment.
    end: u64,
    /// Of what is held in memory.
    crc: u32,
    /// Of the rest.
    rest_crc: u32,
}

/// The index of the segment that begins with this event.
pub(super) fn name(first: Seq) -> String {
    format!("{first:020}.idx")
}

/// Writes the index of a segment, synced.
pub(super) fn write(
    volume: &impl Volume,
    (segment, first): (u64, Seq),
    entries: &RecordTable,
    end: u64,
) -> io::Result<SegmentIndex> {
    let ids = sorted_ids(entries);
    let fingerprints: Vec<u64> = ids.iter().map(|(fingerprint, _)| *fingerprint).collect();
    let pages: Vec<u64> = fingerprints.iter().step_by(PAGE).copied().collect();
    let filter = filter(&fingerprints);
    let rest = rest(entries, &ids);
    let mut held: Vec<u8> = entries
        .spans
        .iter()
        .flat_map(|span| span.to_bytes())
        .collect();
    held.extend(pages.iter().flat_map(|page| page.to_le_bytes()));
    held.extend_from_slice(&filter);
    let head = IndexHead {
        segment,
        first,
        records: entries.offsets.len() as u32,
        ids: ids.len() as u32,
        filter: filter.len() as u32,
        end,
        crc: crc32fast::hash(&held),
        rest_crc: crc32fast::hash(&rest),
    };
    let file = volume.create(NEW)?;
    let content = [&head.to_bytes()[..], &rest, &held].concat();
    file.write_at(&content, 0)?;
    file.sync()?;
    volume.rename(NEW, &name(first))?;
    volume.sync()?;
    Ok(SegmentIndex {
        head,
        span: TimeSpan::of(&entries.spans),
        spans: entries.spans.clone(),
        pages,
        filter,
    })
}

/// The fingerprints with their records, in order.
fn sorted_ids(entries: &RecordTable) -> Vec<(u64, u32)> {
    let mut ids: Vec<(u64, u32)> = entries.ids.iter().map(|(id, at)| (*id, *at)).collect();
    ids.sort_unstable();
    ids
}

/// What is not held in memory.
fn rest(entries: &RecordTable, ids: &[(u64, u32)]) -> Vec<u8> {
    let offsets = entries.offsets.iter().flat_map(|at| at.to_le_bytes());
    let mut rest: Vec<u8> = offsets.collect();
    for (fingerprint, at) in ids {
        rest.extend_from_slice(&fingerprint.to_le_bytes());
        rest.extend_from_slice(&at.to_le_bytes());
    }
    rest
}

/// Without a filter the pages are asked; it is not made if two ids have the same fingerprint, which they never have here.
fn filter(fingerprints: &[u64]) -> Vec<u8> {
    let Ok(filter) = BinaryFuse8::try_from(fingerprints) else {
        return Vec::new();
    };
    let mut bytes = vec![0; BinaryFuse8::DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend_from_slice(filter.dma_fingerprints());
    bytes
}

impl IndexHead {
    fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = Vec::with_capacity(HEAD);
        bytes.extend_from_slice(&MARK);
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.records.to_le_bytes());
        bytes.extend_from_slice(&self.ids.to_le_bytes());
        bytes.extend_from_slice(&self.filter.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.end.to_le_bytes());
        bytes.extend_from_slice(&self.crc.to_le_bytes());
        bytes.extend_from_slice(&self.rest_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let mut head = [0; HEAD];
        head[..bytes.len()].copy_from_slice(&bytes);
        head
    }

    fn read(bytes: &[u8; HEAD]) -> Option<Self> {
        const CHECKED: usize = HEAD - 8;
        let mut rest = bytes.strip_prefix(&MARK)?;
        let head = Self {
            segment: u64::from_le_bytes(take(&mut rest)?),
            first: i64::from_le_bytes(take(&mut rest)?),
            records: u32::from_le_bytes(take(&mut rest)?),
            ids: u32::from_le_bytes(take(&mut rest)?),
            filter: u32::from_le_bytes(take(&mut rest)?),
            end: {
                take::<4>(&mut rest)?;
                u64::from_le_bytes(take(&mut rest)?)
            },
            crc: u32::from_le_bytes(take(&mut rest)?),
            rest_crc: u32::from_le_bytes(take(&mut rest)?),
        };
        let crc = u32::from_le_bytes(take(&mut rest)?);
        (crc == crc32fast::hash(&bytes[..CHECKED])).then_some(head)
    }

    fn offsets_at(&self) -> u64 {
        HEAD as u64
    }

    fn ids_at(&self) -> u64 {
        self.offsets_at() + u64::from(self.records) * OFFSET as u64
    }

    fn held_at(&self) -> u64 {
        self.ids_at() + u64::from(self.ids) * ID as u64
    }

    /// How many bytes are held in memory.
    fn held(&self) -> usize {
        self.spans() * SPAN + (self.ids as usize).div_ceil(PAGE) * 8 + self.filter as usize
    }

    fn spans(&self) -> usize {
        (self.records as usize).div_ceil(SPAN_RECORDS)
    }
}

impl TimeSpan {
    fn to_bytes(self) -> [u8; SPAN] {
        let mut bytes = [0; SPAN];
        bytes[..8].copy_from_slice(&self.oldest.millis().to_le_bytes());
        bytes[8..].copy_from_slice(&self.newest.millis().to_le_bytes());
        bytes
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        Some(Self {
            oldest: Timestamp::from_millis(i64::from_le_bytes(take(&mut bytes)?)),
            newest: Timestamp::from_millis(i64::from_le_bytes(take(&mut bytes)?)),
        })
    }
}

impl SegmentIndex {
    /// Reads the index of a segment that begins with `first`. `None` if it is missing or damaged.
    pub(super) fn read(volume: &impl Volume, first: Seq) -> io::Result<Option<Self>> {
        let file = match volume.open(&name(first)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = [0; HEAD];
        if file.read_at(&mut bytes, 0)? < HEAD {
            return Ok(None);
        }
        let Some(head) = IndexHead::read(&bytes).filter(|head| head.first == first) else {
            return Ok(None);
        };
        if file.length()? != head.held_at() + head.held() as u64 {
            return Ok(None);
        }
        let mut held = vec![0; head.held()];
        if file.read_at(&mut held, head.held_at())? < held.len()
            || crc32fast::hash(&held) != head.crc
        {
            return Ok(None);
        }
        let filter = held.split_off(held.len() - head.filter as usize);
        let (spans, pages) = held.split_at(head.spans() * SPAN);
        let (pages, _) = pages.as_chunks();
        let spans: Vec<TimeSpan> = spans.chunks(SPAN).filter_map(TimeSpan::read).collect();
        Ok(Some(Self {
            head,
            span: TimeSpan::of(&spans),
            spans,
            pages: pages.iter().map(|page| u64::from_le_bytes(*page)).collect(),
            filter,
        }))
    }

    pub(super) fn segment(&self) -> u64 {
        self.head.segment
    }

    pub(super) fn count(&self) -> usize {
        self.head.records as usize
    }

    /// The length of the segment.
    pub(super) fn end(&self) -> u64 {
        self.head.end
    }

    pub(super) fn spans(&self) -> &[TimeSpan] {
        &self.spans
    }

    pub(super) fn span(&self) -> TimeSpan {
        self.span
    }

    /// Bytes that the filter takes in memory.
    pub(super) fn filter_size(&self) -> usize {
        self.filter.len()
    }

    /// The same index with its filter on the disk only: every id is looked up there.
    pub(super) fn without_filter(&self) -> Self {
        Self {
            head: self.head,
            spans: self.spans.clone(),
            span: self.span,
            pages: self.pages.clone(),
            filter: Vec::new(),
        }
    }

    /// Where so many records from the one at `from` on begin, and where the last of them ends. What cannot be read is damaged.
    pub(super) fn offsets(
        &self,
        volume: &impl Volume,
        from: usize,
        wanted: usize,
    ) -> io::Result<Vec<u32>> {
        let until = (from + wanted + 1).min(self.count());
        let mut bytes = vec![0; (until - from) * OFFSET];
        let at = self.head.offsets_at() + (from * OFFSET) as u64;
        read_exact(volume, self.head.first, &mut bytes, at)?;
        let (offsets, _) = bytes.as_chunks();
        let mut offsets: Vec<u32> = offsets.iter().map(|at| u32::from_le_bytes(*at)).collect();
        if until == self.count() {
            offsets.push(self.head.end as u32);
        }
        Ok(offsets)
    }

    /// Whether the filter rules out that an id with this fingerprint is in the segment.
    pub(super) fn rules_out(&self, fingerprint: u64) -> bool {
        let Some((descriptor, filter)) = self.filter.split_at_checked(BinaryFuse8::DESCRIPTOR_LEN)
        else {
            return false;
        };
        !BinaryFuse8Ref::from_dma(descriptor, filter).contains(&fingerprint)
    }

    /// The record with this fingerprint, counted from the first one.
    pub(super) fn find(&self, volume: &impl Volume, fingerprint: u64) -> io::Result<Option<u32>> {
        if self.rules_out(fingerprint) {
            return Ok(None);
        }
        let Some(page) = self
            .pages
            .partition_point(|first| *first <= fingerprint)
            .checked_sub(1)
        else {
            return Ok(None);
        };
        let begin = page * PAGE;
        let end = (begin + PAGE).min(self.head.ids as usize);
        let mut bytes = vec![0; (end - begin) * ID];
        let at = self.head.ids_at() + (begin * ID) as u64;
        read_exact(volume, self.head.first, &mut bytes, at)?;
        let (ids, _) = bytes.as_chunks::<ID>();
        let key = |id: &[u8; ID]| {
            id.first_chunk()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let found = ids.binary_search_by_key(&fingerprint, key).ok();
        let ordinal = found.and_then(|at| ids[at].last_chunk());
        let ordinal = ordinal.map(|bytes| u32::from_le_bytes(*bytes));
        Ok(ordinal.filter(|ordinal| *ordinal < self.head.records))
    }

    /// Reads all of the index: what is wrong with it, if anything.
    pub(super) fn check(&self, volume: &impl Volume) -> io::Result<Option<String>> {
        let fits = crc32fast::hash(&self.read_rest(volume)?) == self.head.rest_crc;
        Ok((!fits).then(|| "its checksum does not match".to_owned()))
    }

    /// Whether it is the index of a segment with this number and these records.
    pub(super) fn fits(
        &self,
        volume: &impl Volume,
        number: u64,
        entries: &RecordTable,
    ) -> io::Result<bool> {
        let is_same = self.head.segment == number && self.spans == entries.spans;
        Ok(is_same && self.read_rest(volume)? == rest(entries, &sorted_ids(entries)))
    }

    fn read_rest(&self, volume: &impl Volume) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (self.head.held_at() - self.head.offsets_at()) as usize];
        read_exact(volume, self.head.first, &mut bytes, self.head.offsets_at())?;
        Ok(bytes)
    }
}

fn read_exact(volume: &impl Volume, first: Seq, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let name = name(first);
    if volume.open(&name)?.read_at(bytes, at)? < bytes.len() {
        let path: PathBuf = volume.path().join(name);
        let problem = format!("{} is shorter than it was", path.display());
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
    }
    Ok(())
}
