//! Walks through the file of a segment, record by record.

use std::io;

use super::record::{self, ALIGN, HEAD, RecordHead, RecordState};
use super::segment::RecordTable;
use super::volume::LogFile;
use crate::event::Seq;

/// Read at once while a file is walked through.
const WINDOW: usize = 1 << 20;

/// What a segment holds.
pub(super) struct Scan {
    pub(super) number: u64,
    pub(super) first: Seq,
    pub(super) table: RecordTable,
    /// Where the last record ends.
    pub(super) end: u64,
    /// Up to this event all were on the disk once, as far as that can be known.
    pub(super) promised: Seq,
    /// In the order of their events. None of them is beyond `promised`.
    pub(super) problems: Vec<RecordProblem>,
}

/// What is wrong with some events.
pub(super) struct RecordProblem {
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// None: they have no record that can be found.
    pub(super) what: Option<&'static str>,
}

impl Scan {
    /// The event after the last one that has a record.
    pub(super) fn next(&self) -> Seq {
        self.first + self.table.offsets.len() as Seq
    }

    /// Takes in the next record whose head is whole.
    fn add(&mut self, at: u64, head: &RecordHead, what: Option<&'static str>) {
        let next = self.next();
        if head.seq > next {
            self.problems.push(RecordProblem {
                first: next,
                last: head.seq - 1,
                what: None,
            });
            self.table
                .fill((head.seq - self.first) as usize, self.end as u32);
        }
        if what.is_some() {
            self.problems.push(RecordProblem {
                first: head.seq,
                last: head.seq,
                what,
            });
        }
        self.table.add(at as u32, &head.id, head.received);
        self.end = at + head.length() as u64;
    }

    /// Adds what has to be there, and leaves out what was being written when the process ended.
    fn finish(&mut self) {
        if self.next() <= self.promised {
            self.problems.push(RecordProblem {
                first: self.next(),
                last: self.promised,
                what: None,
            });
        }
        let is_torn = |problem: &RecordProblem| problem.first > self.promised;
        if let Some(torn) = self.problems.iter().position(is_torn) {
            let count = (self.problems[torn].first - self.first) as usize;
            self.end = self
                .table
                .offsets
                .get(count)
                .map_or(self.end, |at| u64::from(*at));
            self.table.truncate(count);
            self.problems.truncate(torn);
        }
        for problem in &mut self.problems {
            problem.last = problem.last.min(self.promised);
        }
    }
}

/// Walks through a segment with this number and first event. `upto`: the first event that is not in it. If nobody knows that, the
/// segment ends where a record cannot be read, unless one behind it proves that the first was on the disk once. `problem` tells what
/// is wrong with a record whose head is whole.
pub(super) fn scan(
    file: &impl LogFile,
    (number, first): (u64, Seq),
    upto: Option<Seq>,
    problem: impl Fn(&RecordState, Seq) -> Option<&'static str>,
) -> io::Result<Scan> {
    let mut scan = Scan {
        number,
        first,
        table: RecordTable::default(),
        end: HEAD as u64,
        promised: first - 1,
        problems: Vec::new(),
    };
    each_record(file, HEAD as u64, Some(number), |at, head, state| {
        scan.promised = scan.promised.max(head.synced);
        // What was begun anew counts in the next segment.
        let is_mine = head.seq >= scan.next() && upto.is_none_or(|upto| head.seq < upto);
        if is_mine && u32::try_from(at).is_ok() {
            scan.add(at, head, problem(state, head.seq));
        }
    })?;
    scan.promised = upto.map_or(scan.promised, |upto| upto - 1);
    scan.finish();
    Ok(scan)
}

/// The number of the segment in a file, if its head is the one of a segment that begins with this event.
pub(super) fn number_of(file: &impl LogFile, first: Seq) -> io::Result<Option<u64>> {
    let mut bytes = [0; HEAD];
    file.read_at(&mut bytes, 0)?;
    let head = record::read_segment_head(&bytes);
    Ok(head
        .filter(|(_, of)| *of == first)
        .map(|(number, _)| number))
}

/// Whether nothing was ever synced in a file: its head is in one sector, so a power cut leaves all of it or nothing.
pub(super) fn is_unused(file: &impl LogFile) -> io::Result<bool> {
    let mut head = [0; HEAD];
    file.read_at(&mut head, 0)?;
    Ok(head == [0; HEAD])
}

/// The last event in a file whose head cannot be read. 0 if there is none.
pub(super) fn last_event(file: &impl LogFile) -> io::Result<Seq> {
    let mut last = 0;
    each_record(file, 0, None, |_, head, _| last = last.max(head.seq))?;
    Ok(last)
}

/// Gives every record from `from` on whose head is whole to `found`, with its place. Between them there may be anything.
/// `number`: of the segment, if it is known.
fn each_record(
    file: &impl LogFile,
    from: u64,
    number: Option<u64>,
    mut found: impl FnMut(u64, &RecordHead, &RecordState),
) -> io::Result<()> {
    let mut window = Window::new(file)?;
    let mut at = from;
    while at + HEAD as u64 <= window.length {
        let head = RecordHead::read(window.at(at, HEAD)?)
            .filter(|head| number.is_none_or(|number| head.segment == number));
        let mut length = ALIGN;
        if let Some(head) = head
            && head.fits(window.at(at, HEAD + usize::from(head.source))?)
        {
            length = head.length();
            found(
                at,
                &head,
                &record::read(window.at(at, length)?, head.segment),
            );
        }
        at += length as u64;
    }
    Ok(())
}

/// A part of a file in memory, which moves forward.
struct Window<'a, F> {
    file: &'a F,
    length: u64,
    begin: u64,
    bytes: Vec<u8>,
}

impl<'a, F: LogFile> Window<'a, F> {
    fn new(file: &'a F) -> io::Result<Self> {
        Ok(Self {
            file,
            length: file.length()?,
            begin: 0,
            bytes: Vec::new(),
        })
    }

    /// The bytes from `at` on: at least `wanted`, unless the file ends before.
    fn at(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
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
