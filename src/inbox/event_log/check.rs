//! Checks a log on the disk, record by record. It only reads, also beside the process that writes the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::index::{self, SegmentIndex};
use super::record::{self, HEAD, RecordHead, RecordState};
use super::recovery::KnownState;
use super::segment::{self, RecordTable, Window};
use super::volume::{LogFile, Volume};
use crate::event::Seq;

/// What a log should be.
#[derive(Debug, Default)]
pub(in super::super) struct Expected {
    pub(in super::super) known: KnownState,
    /// Events whose bodies are overwritten.
    pub(in super::super) erased: BTreeSet<Seq>,
}

/// What a log is.
#[derive(Debug, Default)]
pub(in super::super) struct LogReport {
    /// A sentence for each damage.
    pub(in super::super) damage: Vec<String>,
    /// The first and the last event of each segment.
    pub(in super::super) segments: Vec<(Seq, Seq)>,
    pub(in super::super) records: u64,
}

/// Reads the whole log. Without `expected` only the files themselves are checked.
pub(in super::super) fn check(
    volume: &impl Volume,
    expected: Option<&Expected>,
) -> io::Result<LogReport> {
    let files: BTreeMap<String, u64> = volume.list()?.into_iter().collect();
    let firsts: Vec<Seq> = files
        .keys()
        .filter_map(|name| segment::first_of(name))
        .collect();
    let mut report = LogReport::default();
    let mut next = 1;
    for (n, first) in firsts.iter().copied().enumerate() {
        let mut upto = firsts.get(n + 1).copied();
        if let Some(Expected { known, .. }) = expected {
            // A removal was interrupted. The next start removes the files.
            if known.is_removed(first, first) {
                continue;
            }
            upto = upto.map(|upto| known.before_removed(first, upto));
            missing(&mut report, known, next, first - 1);
        }
        let walk = Walk::of(volume, first, upto, expected);
        let end = match walk.and_then(|walk| walk.check(&mut report)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report
                    .damage
                    .push(format!("{}: {error}", segment::name(first)));
                upto.unwrap_or(first)
            }
            end => end?,
        };
        report.segments.push((first, end - 1));
        next = next.max(end);
    }
    if let Some(Expected { known, .. }) = expected {
        missing(&mut report, known, next, known.last);
    }
    Ok(report)
}

/// Tells that these events are in no segment, unless they were removed.
fn missing(report: &mut LogReport, known: &KnownState, first: Seq, last: Seq) {
    if first <= last && !known.is_removed(first, last) {
        let events = super::events(first, last);
        report
            .damage
            .push(format!("log: {events} accepted, but no file has them"));
    }
}

/// A walk through a segment.
struct Walk<'a, V: Volume> {
    volume: &'a V,
    name: String,
    first: Seq,
    /// The first event of the segment after it.
    upto: Option<Seq>,
    expected: Option<&'a Expected>,
    file: V::File,
    length: u64,
    index: Option<SegmentIndex>,
    /// The number of the segment.
    number: u64,
    table: RecordTable,
    damage: Vec<String>,
    /// A record could not be found.
    is_broken: bool,
}

impl<'a, V: Volume> Walk<'a, V> {
    fn of(
        volume: &'a V,
        first: Seq,
        upto: Option<Seq>,
        expected: Option<&'a Expected>,
    ) -> io::Result<Self> {
        let index = SegmentIndex::read(volume, first)?;
        let name = segment::name(first);
        let file = volume.open(&name)?;
        Ok(Self {
            volume,
            name,
            first,
            upto,
            expected,
            length: file.length()?,
            file,
            index,
            number: 0,
            table: RecordTable::default(),
            damage: Vec::new(),
            is_broken: false,
        })
    }

    fn found(&mut self, problem: &str) {
        self.damage.push(format!("{}: {problem}", self.name));
    }

    /// Checks everything. Returns the event after the last one.
    fn check(mut self, report: &mut LogReport) -> io::Result<Seq> {
        self.check_index_is_whole()?;
        let end = match self.read_head()? {
            Some(number) => {
                self.number = number;
                self.walk()?
            }
            // Nothing was ever acknowledged in it, or the damage is told.
            None => self.upto.unwrap_or(self.first),
        };
        self.check_index_fits()?;
        report.records += self.table.offsets.len() as u64;
        report.damage.append(&mut self.damage);
        Ok(end)
    }

    /// An index that is missing is no damage: the next start makes it.
    fn check_index_is_whole(&mut self) -> io::Result<()> {
        let name = index::name(self.first);
        let problem = match &self.index {
            None if self.volume.open(&name).is_ok() => {
                // It may have come after it was looked for.
                self.index = SegmentIndex::read(self.volume, self.first)?;
                let is_whole = self.index.is_some();
                (!is_whole).then(|| "it is damaged; the next start makes it again".to_owned())
            }
            None => None,
            Some(index) => index.check(self.volume)?,
        };
        if let Some(problem) = problem {
            self.damage.push(format!("{name}: {problem}"));
        }
        if let Some(index) = &self.index
            && index.end() != self.file.length()?
        {
            let problem = format!(
                "it has {} bytes, by its index it should have {}",
                self.length,
                index.end()
            );
            self.found(&problem);
        }
        Ok(())
    }

    /// The number of the segment, if it can be known.
    fn read_head(&mut self) -> io::Result<Option<u64>> {
        let mut bytes = [0; HEAD];
        self.file.read_at(&mut bytes, 0)?;
        let head = record::read_segment_head(&bytes);
        if let Some((number, _)) = head.filter(|(_, first)| *first == self.first) {
            return Ok(Some(number));
        }
        let may_be_unused = self.index.is_none() && self.upto.is_none();
        if !(may_be_unused && segment::is_unused(&self.file)?) {
            self.found("its head is damaged");
        }
        Ok(self.index.as_ref().map(SegmentIndex::segment))
    }

    /// Reads all records. Returns the event after the last one.
    fn walk(&mut self) -> io::Result<Seq> {
        let file = self.volume.open(&self.name)?;
        let mut window = Window::new(&file, self.length);
        let sealed_end = self
            .index
            .as_ref()
            .map(|index| self.first + index.count() as Seq);
        let upto = sealed_end.or(self.upto).unwrap_or(Seq::MAX);
        let (mut seq, mut at) = (self.first, HEAD as u64);
        while seq < upto {
            if let Some(length) = self.check_record(&mut window, at, seq, upto)? {
                (seq, at) = (seq + 1, at + length);
                continue;
            }
            // Not a record: the end, or damage if there has to be one.
            let (proven, found) = look_behind(&mut window, self.number, at, seq)?;
            let promised = if upto == Seq::MAX { proven } else { upto - 1 };
            let last = found.map_or(promised, |(_, found)| promised.min(found - 1));
            if last < seq {
                break;
            }
            self.is_broken = true;
            let which = super::events(seq, last);
            self.found(&format!("{which} accepted, but cannot be read"));
            match found {
                Some((place, found)) if found < upto => (at, seq) = (place, found),
                _ => return Ok(last + 1),
            }
        }
        Ok(seq)
    }

    /// Checks the record of an event. Returns its length, or none if there is no record of this event, or only a part of one at
    /// the end of the log.
    fn check_record(
        &mut self,
        window: &mut Window<V::File>,
        at: u64,
        seq: Seq,
        upto: Seq,
    ) -> io::Result<Option<u64>> {
        let Some(head) = RecordHead::read(window.at(at, HEAD)?) else {
            return Ok(None);
        };
        let state = record::read(window.at(at, head.length())?, self.number);
        let (head, problem) = match state {
            RecordState::Whole(head, _) => (head, self.problem_of_whole(seq)),
            RecordState::Erased(head) => (head, self.problem_of_erased(seq)),
            RecordState::DamagedBody(head) => (head, self.problem_of_damaged(seq)),
            RecordState::Nothing => return Ok(None),
        };
        let is_torn = matches!(state, RecordState::DamagedBody(_))
            && upto == Seq::MAX
            && look_behind(window, self.number, at, seq)?.0 < seq;
        let offset = u32::try_from(at)
            .ok()
            .filter(|_| head.seq == seq && !is_torn);
        let Some(offset) = offset else {
            return Ok(None);
        };
        if let Some(problem) = problem {
            self.found(&problem);
        }
        self.table.add(offset, &head.id, head.received);
        Ok(Some(head.length() as u64))
    }

    fn problem_of_whole(&self, seq: Seq) -> Option<String> {
        let is_erased = self.expected.is_some_and(|all| all.erased.contains(&seq));
        is_erased.then(|| format!("event {seq} is deleted, but its body is still there"))
    }

    fn problem_of_erased(&self, seq: Seq) -> Option<String> {
        let all = self.expected?;
        let is_deleted = all.erased.contains(&seq) || all.known.erasing.contains(&seq);
        (!is_deleted).then(|| format!("event {seq} is overwritten, but was never deleted"))
    }

    fn problem_of_damaged(&self, seq: Seq) -> Option<String> {
        let being_erased = self
            .expected
            .is_some_and(|all| all.known.erasing.contains(&seq));
        (!being_erased).then(|| format!("event {seq} is damaged"))
    }

    /// Whether the index is the one of these records.
    fn check_index_fits(&mut self) -> io::Result<()> {
        let Some(index) = &self.index else {
            return Ok(());
        };
        if !self.is_broken
            && self.damage.is_empty()
            && !index.fits(self.volume, self.number, &self.table)?
        {
            let name = index::name(self.first);
            self.damage
                .push(format!("{name}: it is not the index of its segment"));
        }
        Ok(())
    }
}

/// What stands behind the place where the record of an event should be: the last event that was on the disk once, as far as the
/// records there prove it, and the first whole head of a later event with its place.
fn look_behind(
    window: &mut Window<impl LogFile>,
    number: u64,
    from: u64,
    seq: Seq,
) -> io::Result<(Seq, Option<(u64, Seq)>)> {
    let (mut proven, mut found) = (0, None);
    window.each_head(from, |at, head| {
        if head.segment == number {
            proven = proven.max(head.synced);
            if found.is_none() && head.seq > seq {
                found = Some((at, head.seq));
            }
        }
    })?;
    Ok((proven, found))
}
