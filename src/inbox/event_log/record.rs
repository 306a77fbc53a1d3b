//! One event as it stands in a segment: a head of [`HEAD`] bytes, the name of the source, the body, zeros up to a multiple of 8.
//!
//! All numbers are little-endian. RecordHead and body have a checksum each. A body is erased by writing [`ERASED`] over it: the head
//! stays as it is, so nothing is lost if that is interrupted.
//! The head repeats the number of its segment: what an earlier segment left in a file that is used again is never taken for new.

use std::ops::Range;

use css_callbacks::{EventId, Timestamp};

use crate::event::Seq;

/// The length of a head, and of the head of a segment.
pub(super) const HEAD: usize = 72;
/// Records begin at multiples of this.
pub(super) const ALIGN: usize = 8;

/// Begins every record; the last digit is the version of the format.
const MARK: [u8; 4] = *b"lhr1";
/// Begins every segment; the last digit is the version of the format.
const SEGMENT_MARK: [u8; 8] = *b"lhlog001";
/// What stands, again and again, in place of a body that was erased.
const ERASED: &[u8; 8] = b"-erased-";

/// An event to be written, or one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct LogRecord<'a> {
    pub(in super::super) seq: Seq,
    pub(in super::super) received: Timestamp,
    pub(in super::super) id: EventId,
    /// Its `event_type`, or a number below 0 as `Kind::stored` gives it.
    pub(in super::super) code: i64,
    pub(in super::super) source: &'a str,
    pub(in super::super) body: &'a [u8],
}

impl LogRecord<'_> {
    /// A record for a number whose event is not there, as if its body had been erased. `received` is of an event beside it.
    pub(in super::super) fn erased(seq: Seq, received: Timestamp) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&seq.to_be_bytes());
        id[8..].copy_from_slice(&seq.to_be_bytes());
        Self {
            seq,
            received,
            id: EventId::from_bytes(id),
            code: -1,
            source: "",
            body: ERASED,
        }
    }

    /// Whether it was made by [`erased`](Self::erased): no event has an empty source.
    fn is_erased(&self) -> bool {
        self.source.is_empty() && self.body == ERASED
    }

    /// How many bytes it takes in a segment.
    pub(super) fn stored_length(&self) -> usize {
        (HEAD + self.source.len() + self.body.len()).next_multiple_of(ALIGN)
    }
}

/// The head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHead {
    /// The number of the segment.
    pub(super) segment: u64,
    pub(super) seq: Seq,
    /// When this record was written, all events up to this one were on the disk.
    pub(super) synced: Seq,
    pub(super) received: Timestamp,
    pub(super) id: EventId,
    pub(super) code: i32,
    pub(super) source: u16,
    pub(super) body: u32,
    body_crc: u32,
    crc: u32,
}

impl RecordHead {
    /// Reads the head of a record. `None` if there is no record. [`fits`](Self::fits) tells whether it is whole.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.get(..HEAD)?.strip_prefix(&MARK)?;
        Some(Self {
            crc: u32::from_le_bytes(take(&mut rest)?),
            segment: u64::from_le_bytes(take(&mut rest)?),
            seq: i64::from_le_bytes(take(&mut rest)?),
            synced: i64::from_le_bytes(take(&mut rest)?),
            received: Timestamp::from_millis(i64::from_le_bytes(take(&mut rest)?)),
            id: EventId::from_bytes(take(&mut rest)?),
            code: i32::from_le_bytes(take(&mut rest)?),
            source: u16::from_le_bytes(take(&mut rest)?),
            body: {
                take::<2>(&mut rest)?;
                u32::from_le_bytes(take(&mut rest)?)
            },
            body_crc: u32::from_le_bytes(take(&mut rest)?),
        })
    }

    /// The length of the record.
    pub(super) fn length(&self) -> usize {
        (HEAD + usize::from(self.source) + self.body as usize).next_multiple_of(ALIGN)
    }

    /// Whether head and source are as they were written. `bytes` begin with the record.
    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        let end = HEAD + usize::from(self.source);
        bytes
            .get(8..end)
            .is_some_and(|head| self.crc == crc32fast::hash(head))
    }

    /// Where the body is, counted from the begin of the record.
    pub(super) fn body(&self) -> Range<usize> {
        let begin = HEAD + usize::from(self.source);
        begin..begin + self.body as usize
    }

    /// The name of the source.
    pub(super) fn source<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        let name = bytes.get(HEAD..HEAD + usize::from(self.source))?;
        std::str::from_utf8(name).ok()
    }
}

/// What stands where a record should begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecordState<'a> {
    Whole(RecordHead, LogRecord<'a>),
    /// The head is whole, the body was erased.
    Erased(RecordHead),
    /// The head is whole, the body is not.
    DamagedBody(RecordHead),
    /// There is no record of this segment.
    Nothing,
}

/// Reads the record at the begin of `bytes`.
pub(super) fn read(bytes: &[u8], segment: u64) -> RecordState<'_> {
    let head = RecordHead::read(bytes).filter(|head| head.segment == segment && head.fits(bytes));
    let Some((head, source)) = head.and_then(|head| Some((head, head.source(bytes)?))) else {
        return RecordState::Nothing;
    };
    match bytes.get(head.body()) {
        Some(body) if head.body_crc == crc32fast::hash(body) => {
            let record = LogRecord {
                seq: head.seq,
                received: head.received,
                id: head.id,
                code: i64::from(head.code),
                source,
                body,
            };
            RecordState::Whole(head, record)
        }
        Some(body) if is_erased(body) => RecordState::Erased(head),
        _ => RecordState::DamagedBody(head),
    }
}

/// What is written over a body of this length to erase it.
pub(super) fn erased(length: usize) -> Vec<u8> {
    ERASED.iter().copied().cycle().take(length).collect()
}

fn is_erased(body: &[u8]) -> bool {
    body.iter().eq(ERASED.iter().cycle().take(body.len()))
}

/// Appends a record to `buffer`. `None` if it is longer than a record can be.
pub(super) fn write(
    buffer: &mut Vec<u8>,
    record: &LogRecord,
    segment: u64,
    synced: Seq,
) -> Option<()> {
    let begin = buffer.len();
    let source = u16::try_from(record.source.len()).ok()?;
    let body = u32::try_from(record.body.len()).ok()?;
    let code = i32::try_from(record.code).ok()?;
    buffer.extend_from_slice(&MARK);
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&segment.to_le_bytes());
    buffer.extend_from_slice(&record.seq.to_le_bytes());
    buffer.extend_from_slice(&synced.to_le_bytes());
    buffer.extend_from_slice(&record.received.millis().to_le_bytes());
    buffer.extend_from_slice(record.id.as_bytes());
    buffer.extend_from_slice(&code.to_le_bytes());
    buffer.extend_from_slice(&source.to_le_bytes());
    buffer.extend_from_slice(&[0; 2]);
    buffer.extend_from_slice(&body.to_le_bytes());
    let body_crc = crc32fast::hash(record.body);
    // An erased body does not have the checksum of what it was.
    let body_crc = if record.is_erased() {
        !body_crc
    } else {
        body_crc
    };
    buffer.extend_from_slice(&body_crc.to_le_bytes());
    buffer.extend_from_slice(record.source.as_bytes());
    sign(buffer, begin);
    buffer.extend_from_slice(record.body);
    buffer.resize(begin + record.stored_length(), 0);
    Some(())
}

/// Gives the whole records in `bytes` the number of another segment.
pub(super) fn move_to(bytes: &mut [u8], segment: u64) {
    let mut at = 0;
    while let Some(head) = bytes.get(at..).and_then(RecordHead::read) {
        let end = at + HEAD + usize::from(head.source);
        bytes[at + 8..at + 16].copy_from_slice(&segment.to_le_bytes());
        let crc = crc32fast::hash(&bytes[at + 8..end]);
        bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        at += head.length();
    }
}

/// Writes the checksum of the head that begins at `begin` and ends, with the source, at the end of `buffer`.
fn sign(buffer: &mut [u8], begin: usize) {
    let crc = crc32fast::hash(&buffer[begin + 8..]);
    buffer[begin + 4..begin + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The head of a segment: its number and the first event in it.
pub(super) fn segment_head(number: u64, first: Seq) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[..8].copy_from_slice(&SEGMENT_MARK);
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&bytes[8..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads the head of a segment: its number and its first event.
pub(super) fn read_segment_head(bytes: &[u8]) -> Option<(u64, Seq)> {
    let mut rest = bytes.strip_prefix(&SEGMENT_MARK)?;
    let checked = rest.get(..16)?;
    let number = u64::from_le_bytes(take(&mut rest)?);
    let first = i64::from_le_bytes(take(&mut rest)?);
    let crc = u32::from_le_bytes(take(&mut rest)?);
    (crc == crc32fast::hash(checked)).then_some((number, first))
}

pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}
