//! Reads events: by number, in order, and by id.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use css_callbacks::{EventId, Kind, Timestamp};

use super::record::{self, HEAD, RecordHead, RecordState};
use super::segment::{Catalog, Find, SPAN_RECORDS, Segment, TimeSpan};
use super::volume::{LogFile, Volume};
use crate::event::{Event, Seq};

/// Read at once, unless a record is longer.
const CHUNK: u32 = 1 << 20;

/// What the log holds under a number.
#[derive(Debug, Clone)]
pub(in super::super) enum LogEntry {
    Event(Event),
    /// The body was erased. This is its event without a body.
    Erased(Event),
    /// The record is there, but it is not as it was written. If its head is, this is its event without a body.
    Damaged(Seq, Option<Event>),
}

impl LogEntry {
    pub(in super::super) fn seq(&self) -> Seq {
        match self {
            Self::Event(event) | Self::Erased(event) => event.seq(),
            Self::Damaged(seq, _) => *seq,
        }
    }

    /// What the head of its record tells, if that is whole.
    pub(in super::super) fn head(&self) -> Option<&Event> {
        match self {
            Self::Event(event) | Self::Erased(event) => Some(event),
            Self::Damaged(_, head) => head.as_ref(),
        }
    }
}

/// A segment, for those who decide what becomes of it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct SegmentInfo {
    pub(in super::super) first: Seq,
    pub(in super::super) last: Seq,
    pub(in super::super) span: TimeSpan,
    /// Its length in bytes, if nothing more is written to it.
    pub(in super::super) sealed: Option<u64>,
}

/// Reads the log. Any number of them read beside the one that writes.
pub(in super::super) struct LogReader<V: Volume> {
    pub(super) volume: Arc<V>,
    pub(super) catalog: Arc<Catalog>,
}

impl<V: Volume> Clone for LogReader<V> {
    fn clone(&self) -> Self {
        Self::new(self.volume.clone(), self.catalog.clone())
    }
}

impl<V: Volume> LogReader<V> {
    pub(super) fn new(volume: Arc<V>, catalog: Arc<Catalog>) -> Self {
        Self { volume, catalog }
    }

    /// The first and the last event of the log, if it has any.
    pub(in super::super) fn range(&self) -> Option<(Seq, Seq)> {
        let segments = self.catalog.segments();
        let last = segments.iter().map(|segment| segment.last()).max()?;
        let first = segments.first()?.first;
        (first <= last).then_some((first, last))
    }

    /// The events after `seq` in order: at most `limit`, at least one if there is one, and no more once their bodies have more
    /// than `bytes` bytes.
    pub(in super::super) fn after(
        &self,
        mut seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> io::Result<Vec<LogEntry>> {
        let segments = self.catalog.segments();
        let mut found = Vec::new();
        let mut size = 0;
        while found.len() < limit && size < bytes.max(1) {
            let at = segments.partition_point(|segment| segment.first <= seq + 1);
            let holds = at.checked_sub(1).map(|at| &segments[at]);
            let segment = match holds.filter(|segment| segment.last() > seq) {
                Some(segment) => segment,
                None => match segments.get(at) {
                    Some(next) if next.count() > 0 => next,
                    _ => break,
                },
            };
            let end = segments.get(at).map_or(Seq::MAX, |next| next.first);
            seq = seq.max(segment.first - 1);
            let wanted = (limit - found.len()).min((end - seq - 1) as usize);
            let read = self.read(segment, seq + 1, wanted, bytes - size.min(bytes));
            let Some(read) = self.unless_removed(segment, read)? else {
                seq = segment.last().min(end - 1);
                continue;
            };
            for stored in read {
                seq = stored.seq();
                if let LogEntry::Event(event) = &stored {
                    size += event.body().len();
                }
                found.push(stored);
            }
        }
        Ok(found)
    }

    /// The segments that begin with this event or an earlier one.
    pub(super) fn segments_upto(&self, upto: Seq) -> Vec<Arc<Segment>> {
        let segments = self.catalog.segments();
        let wanted = segments.iter().filter(|segment| segment.first <= upto);
        wanted.cloned().collect()
    }

    /// The segment that holds an event.
    pub(super) fn segment_of(&self, seq: Seq) -> Option<Arc<Segment>> {
        let segments = self.catalog.segments();
        let at = segments.partition_point(|segment| segment.first <= seq);
        let segment = segments.get(at.checked_sub(1)?)?;
        (segment.last() >= seq).then(|| segment.clone())
    }

    /// The segments, in the order of their events.
    pub(in super::super) fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Arc<Segment>| SegmentInfo {
            first: segment.first,
            last: segment.last(),
            span: segment.span(),
            sealed: match &segment.find {
                Find::Disk(index) => Some(index.end),
                Find::Memory(_) => None,
            },
        };
        self.catalog.segments().iter().map(info).collect()
    }

    /// Fails if a file of the log was removed.
    pub(in super::super) fn check_files(&self) -> io::Result<()> {
        for segment in self.catalog.segments().iter() {
            let name = segment.name();
            let file = self.volume.open(&name);
            self.unless_removed(segment, file).map_err(|error| {
                let path = self.volume.path().join(name);
                let problem = format!("{} cannot be found any more: {error}", path.display());
                io::Error::new(error.kind(), problem)
            })?;
        }
        Ok(())
    }

    /// Whether the log has a record with this number.
    pub(in super::super) fn contains(&self, seq: Seq) -> bool {
        self.segment_of(seq).is_some()
    }

    /// The first event from `seq` on, forwards or backwards, that may have arrived in a time that `wanted` accepts. Events between
    /// the two did not.
    pub(in super::super) fn skip(
        &self,
        seq: Seq,
        backwards: bool,
        wanted: impl Fn(TimeSpan) -> bool,
    ) -> Option<Seq> {
        let segments = self.catalog.segments();
        // The first and the last event of each group of records that has a span.
        let mut groups = segments.iter().flat_map(|segment| {
            let (first, last) = (segment.first, segment.last());
            let from = (first..).step_by(SPAN_RECORDS);
            let wanted = from.zip(segment.spans()).filter(|(_, span)| wanted(*span));
            let each = wanted.map(|(from, _)| (from, last.min(from + SPAN_RECORDS as Seq - 1)));
            each.collect::<Vec<_>>()
        });
        if backwards {
            let nearest = groups.filter(|(from, _)| *from <= seq).last();
            return nearest.map(|(_, to)| to.min(seq));
        }
        let nearest = groups.find(|(_, to)| *to >= seq);
        nearest.map(|(from, _)| from.max(seq))
    }

    /// One event.
    pub(in super::super) fn get(&self, seq: Seq) -> io::Result<Option<LogEntry>> {
        let found = self.after(seq - 1, 1, 0)?;
        Ok(found.into_iter().find(|stored| stored.seq() == seq))
    }

    /// The newest event with this id that can be read.
    pub(in super::super) fn find(&self, id: &EventId) -> io::Result<Option<Seq>> {
        self.find_if(id, |_| true, |_| true)
    }

    /// The newest event with this id that arrived within `window` before `now`. An event that arrived later than `window` after
    /// `now` does not count: the clock was wrong.
    pub(in super::super) fn find_within(
        &self,
        id: &EventId,
        now: Timestamp,
        window: Duration,
    ) -> io::Result<Option<Seq>> {
        let (cutoff, ahead) = (now.minus(window), now.plus(window));
        self.find_if(
            id,
            |span| span.newest > cutoff && span.oldest <= ahead,
            |received| received > cutoff && received <= ahead,
        )
    }

    fn find_if(
        &self,
        id: &EventId,
        in_span: impl Fn(TimeSpan) -> bool,
        in_time: impl Fn(Timestamp) -> bool,
    ) -> io::Result<Option<Seq>> {
        let fingerprint = id.fingerprint();
        for segment in self.catalog.segments().iter().rev() {
            if !in_span(segment.span()) {
                continue;
            }
            let found = self.ask(segment, |find, volume| {
                find.with_fingerprint(volume, fingerprint)
            });
            let found = self.unless_removed(segment, found)?.unwrap_or_default();
            for record in found {
                match self.get(segment.first + Seq::from(record))? {
                    Some(LogEntry::Event(event))
                        if event.id() == *id && in_time(event.received()) =>
                    {
                        return Ok(Some(event.seq()));
                    }
                    // Its body was erased, it is damaged, only its fingerprint is the same, or the clock was wrong when it arrived.
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// What was read from a segment. `None` if it was removed meanwhile, as its files were looked for.
    fn unless_removed<T>(&self, segment: &Segment, read: io::Result<T>) -> io::Result<Option<T>> {
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let segments = self.catalog.segments();
                match segments.iter().any(|other| other.number == segment.number) {
                    true => Err(error),
                    false => Ok(None),
                }
            }
            other => other.map(Some),
        }
    }

    /// Where so many records begin, and where the last of them ends, if there is one more.
    pub(super) fn offsets(
        &self,
        segment: &Segment,
        from: usize,
        wanted: usize,
    ) -> io::Result<Vec<u32>> {
        self.ask(segment, |find, volume| find.offsets(volume, from, wanted))
    }

    /// Up to `limit` records from the event `seq` on, the first one whatever its size, and no more once their bodies have more
    /// than `bytes` bytes.
    fn read(
        &self,
        segment: &Segment,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> io::Result<Vec<LogEntry>> {
        let from = (seq - segment.first) as usize;
        let limit = limit.min(segment.count().saturating_sub(from));
        let offsets = self.offsets(segment, from, limit)?;
        let file = self.volume.open(&segment.name())?;
        let mut found = Vec::new();
        let mut size = 0;
        let mut part = Part::default();
        for (seq, n) in (seq..).zip(0..limit) {
            if !found.is_empty() && size >= bytes {
                break;
            }
            let record = part.read(&file, offsets.get(n..).unwrap_or_default())?;
            let stored = event(segment, seq, record);
            if let LogEntry::Event(event) = &stored {
                size += event.body().len();
            }
            found.push(stored);
        }
        Ok(found)
    }
}

/// A part of a segment in memory.
#[derive(Default)]
struct Part {
    begin: u32,
    bytes: Vec<u8>,
}

impl Part {
    /// The bytes from the first of these offsets on: at least one record. Offsets are of records that follow each other.
    fn read(&mut self, file: &impl LogFile, offsets: &[u32]) -> io::Result<&[u8]> {
        let Some((at, next)) = offsets.split_first() else {
            return Ok(&[]);
        };
        let skip = at
            .checked_sub(self.begin)
            .map_or(usize::MAX, |skip| skip as usize);
        let fits = self.bytes.get(skip..).is_some_and(|bytes| {
            RecordHead::read(bytes).is_some_and(|head| head.length() <= bytes.len())
        });
        if fits {
            return Ok(&self.bytes[skip..]);
        }
        let mut head = [0; HEAD];
        let read = file.read_at(&mut head, u64::from(*at))?;
        let record =
            RecordHead::read(&head[..read]).map_or(HEAD as u64, |head| head.length() as u64);
        // The next records as well, as far as their offsets are known.
        let upto = next
            .iter()
            .rfind(|upto| (*at..at.saturating_add(CHUNK)).contains(upto));
        let length = record.max(upto.map_or(0, |upto| u64::from(upto - at)));
        let rest = file.length()?.saturating_sub(u64::from(*at));
        self.bytes.resize(length.min(rest) as usize, 0);
        let read = file.read_at(&mut self.bytes, u64::from(*at))?;
        self.bytes.truncate(read);
        self.begin = *at;
        Ok(&self.bytes)
    }
}

/// The event of the record at the begin of `bytes`.
fn event(segment: &Segment, seq: Seq, bytes: &[u8]) -> LogEntry {
    let state = record::read(bytes, segment.number);
    let (RecordState::Whole(head, _) | RecordState::Erased(head) | RecordState::DamagedBody(head)) =
        state
    else {
        return LogEntry::Damaged(seq, None);
    };
    if head.seq != seq {
        return LogEntry::Damaged(seq, None);
    }
    let source = head.source(bytes).unwrap_or_default();
    let kind = Kind::from_stored(i64::from(head.code));
    let event = |body| Event::new(seq, head.id, source.into(), kind, head.received, body);
    match state {
        RecordState::Whole(_, record) => {
            LogEntry::Event(event(Bytes::copy_from_slice(record.body)))
        }
        RecordState::Erased(_) => LogEntry::Erased(event(Bytes::new())),
        _ => LogEntry::Damaged(seq, Some(event(Bytes::new()))),
    }
}
