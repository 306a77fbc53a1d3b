//! Checks a log on the disk, record by record. It only reads, also beside the process that writes the log.

use std::collections::BTreeMap;
use std::io;

use super::index::{self, SegmentIndex};
use super::record::RecordState;
use super::recovery::KnownState;
use super::scan::{self, scan};
use super::segment;
use super::volume::{LogFile, Volume};
use crate::event::Seq;

/// What a log is.
#[derive(Debug, Default)]
pub(in super::super) struct LogReport {
    /// A sentence for each damage.
    pub(in super::super) damage: Vec<String>,
    /// The first and the last event of each segment.
    pub(in super::super) segments: Vec<(Seq, Seq)>,
    pub(in super::super) records: u64,
}

/// Reads the whole log. Without `known` only the files themselves are checked.
pub(in super::super) fn check(
    volume: &impl Volume,
    known: Option<&KnownState>,
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
        if let Some(known) = known {
            // A removal was interrupted. The next start removes the files.
            if known.is_removed(first, first) {
                continue;
            }
            upto = upto.map(|upto| known.before_removed(first, upto));
            missing(&mut report, known, next, first - 1);
        }
        let (end, records) = match check_segment(volume, first, upto, known, &mut report.damage) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report
                    .damage
                    .push(format!("{}: {error}", segment::name(first)));
                (upto.unwrap_or(first), 0)
            }
            checked => checked?,
        };
        report.records += records;
        report.segments.push((first, end - 1));
        next = next.max(end);
    }
    if let Some(known) = known {
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

/// Checks a segment. Returns the event after its last one, and how many records it has.
fn check_segment(
    volume: &impl Volume,
    first: Seq,
    upto: Option<Seq>,
    known: Option<&KnownState>,
    damage: &mut Vec<String>,
) -> io::Result<(Seq, u64)> {
    let before = damage.len();
    let name = segment::name(first);
    let index = read_index(volume, first, damage)?;
    let file = volume.open(&name)?;
    let (length, end) = (file.length()?, index.as_ref().map(|index| index.end));
    if let Some(end) = end.filter(|end| *end != length) {
        damage.push(format!(
            "{name}: it has {length} bytes, by its index it should have {end}"
        ));
    }
    let number = scan::number_of(&file, first)?;
    let may_be_unused = index.is_none() && upto.is_none();
    if number.is_none() && !(may_be_unused && scan::is_unused(&file)?) {
        damage.push(format!("{name}: its head is damaged"));
    }
    let Some(number) = number.or(index.as_ref().map(|index| index.segment)) else {
        // Nothing was ever acknowledged in it, or the damage is told.
        return Ok((upto.unwrap_or(first), 0));
    };
    let upto = index.as_ref().map(SegmentIndex::next).or(upto);
    let scan = scan(&file, (number, first), upto, |state, seq| {
        problem(known, state, seq)
    })?;
    let is_whole = damage.len() == before && scan.problems.is_empty();
    if let Some(index) = index {
        let problem = match index.fits(volume, number, &scan.table) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Some("its checksum does not match")
            }
            fits => (!fits? && is_whole).then_some("it is not the index of its segment"),
        };
        damage.extend(problem.map(|problem| format!("{}: {problem}", index::name(first))));
    }
    damage.extend(scan.problems.iter().map(|problem| match problem.what {
        Some(what) => format!("{name}: event {} {what}", problem.first),
        None => {
            let events = super::events(problem.first, problem.last);
            format!("{name}: {events} accepted, but cannot be read")
        }
    }));
    let next = upto.unwrap_or(0).max(scan.next());
    Ok((next, scan.table.offsets.len() as u64))
}

/// The index of a segment. One that is missing is no damage: the next start makes it.
fn read_index(
    volume: &impl Volume,
    first: Seq,
    damage: &mut Vec<String>,
) -> io::Result<Option<SegmentIndex>> {
    let index = SegmentIndex::read(volume, first)?;
    let name = index::name(first);
    if index.is_some() || volume.open(&name).is_err() {
        return Ok(index);
    }
    // It may have come after it was looked for.
    let index = SegmentIndex::read(volume, first)?;
    if index.is_none() {
        damage.push(format!(
            "{name}: it is damaged; the next start makes it again"
        ));
    }
    Ok(index)
}

/// What is wrong with a record whose head is whole.
fn problem(known: Option<&KnownState>, state: &RecordState, seq: Seq) -> Option<&'static str> {
    let is_erased = known.is_some_and(|known| known.erased.contains(&seq));
    let is_being_erased = known.is_some_and(|known| known.erasing.contains(&seq));
    match state {
        RecordState::Whole(..) if is_erased => Some("is deleted, but its body is still there"),
        RecordState::DamagedBody(_) if is_erased => {
            Some("is deleted, but its body is not overwritten as it should be")
        }
        RecordState::DamagedBody(_) if !is_being_erased => Some("is damaged"),
        RecordState::Erased(_) if known.is_some() && !is_erased && !is_being_erased => {
            Some("is overwritten, but was never deleted")
        }
        _ => None,
    }
}
