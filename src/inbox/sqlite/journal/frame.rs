//! One batch as it stands in the journal: a head, the callbacks one after the other, zeros up to the next block.
//!
//! All numbers are little-endian. The head: a mark, the number of the first callback, how many there are, the length of what
//! follows, and a CRC-32 of all that. A batch counts whole or not at all.

use std::ops::Range;

use css_callbacks::{EventId, Timestamp};

use crate::event::Seq;

/// Begins every head; the last digit is the format's.
const MARK: [u8; 8] = *b"lhbatch1";
/// The length of a head.
pub(super) const HEAD: usize = 32;

/// What a callback takes beside its source's name and its body.
const FIXED: usize = 8 + 16 + 8 + 4 + 4;

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) first: Seq,
    pub(super) count: u32,
    pub(super) length: u32,
    crc: u32,
}

impl Head {
    /// Reads a head; none where there is no mark.
    pub(super) fn read(bytes: &[u8; HEAD]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&MARK)?;
        Some(Self {
            first: i64::from_le_bytes(take(&mut rest)?),
            count: u32::from_le_bytes(take(&mut rest)?),
            length: u32::from_le_bytes(take(&mut rest)?),
            crc: u32::from_le_bytes(take(&mut rest)?),
        })
    }

    /// The number of the last callback; of an empty batch, of the one before it.
    pub(super) fn last(&self) -> Seq {
        self.first + Seq::from(self.count) - 1
    }

    /// What the batch takes with its head and its zeros, in blocks of so many bytes.
    pub(super) fn total(&self, block: usize) -> u64 {
        (HEAD as u64 + u64::from(self.length)).next_multiple_of(block as u64)
    }

    /// Whether this is what follows the head of a whole batch.
    pub(super) fn fits(&self, content: &[u8]) -> bool {
        content.len() == self.length as usize && self.crc == self.sum(content)
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

/// Writes a batch over what `buffer` holds: where in it, which is at a multiple of `block` bytes in memory. None if it is
/// longer than a batch can be.
pub(super) fn encode<'a>(
    first: Seq,
    callbacks: impl Iterator<Item = Record<'a>> + Clone,
    block: usize,
    buffer: &mut Vec<u8>,
) -> Option<Range<usize>> {
    let length = |callback: Record| FIXED + callback.source.len() + callback.body.len();
    let length = HEAD + callbacks.clone().map(length).sum::<usize>();
    let total = length.next_multiple_of(block);
    buffer.clear();
    // From here on it must not be moved.
    buffer.reserve(total + block);
    let begin = buffer.as_ptr().align_offset(block);
    buffer.resize(begin + HEAD, 0);
    let mut count = 0;
    for callback in callbacks {
        let source = callback.source.as_bytes();
        let body = callback.body;
        buffer.extend_from_slice(&callback.received.millis().to_le_bytes());
        buffer.extend_from_slice(callback.id.as_bytes());
        buffer.extend_from_slice(&callback.code.to_le_bytes());
        buffer.extend_from_slice(&u32::try_from(source.len()).ok()?.to_le_bytes());
        buffer.extend_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
        buffer.extend_from_slice(source);
        buffer.extend_from_slice(body);
        count += 1;
    }
    let mut head = Head {
        first,
        count,
        length: u32::try_from(length - HEAD).ok()?,
        crc: 0,
    };
    head.crc = head.sum(&buffer[begin + HEAD..]);
    let mut at = begin;
    for part in [
        &MARK[..],
        &head.first.to_le_bytes(),
        &head.count.to_le_bytes(),
        &head.length.to_le_bytes(),
        &head.crc.to_le_bytes(),
    ] {
        buffer[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    buffer.resize(begin + total, 0);
    Some(begin..begin + total)
}

/// A callback as the journal and the store hold it.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Record<'a> {
    pub(in super::super) seq: Seq,
    pub(in super::super) received: Timestamp,
    pub(in super::super) id: EventId,
    /// Its `event_type`, or -1.
    pub(in super::super) code: i64,
    pub(in super::super) source: &'a str,
    pub(in super::super) body: &'a [u8],
}

/// The callbacks of a batch; none if they are not what the head says.
pub(super) fn decode<'a>(head: &Head, mut content: &'a [u8]) -> Option<Vec<Record<'a>>> {
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
        found.push(Record {
            seq: head.first + Seq::from(n),
            received: Timestamp::from_millis(received),
            id: EventId::from_bytes(id),
            code,
            source: std::str::from_utf8(source).ok()?,
            body,
        });
    }
    content.is_empty().then_some(found)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}
