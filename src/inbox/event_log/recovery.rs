//! Opens a log: what an earlier process left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::appender::{LogAppender, NEW};
use super::copy::each_part;
use super::index::{self, SegmentIndex};
use super::keeper::{LogKeeper, remove_files};
use super::reader::LogReader;
use super::record::RecordState;
use super::scan::{self, Scan, scan};
use super::segment::{self, Catalog, Segment};
use super::volume::{LogFile, Volume, remove_if_there};
use super::{Layout, LogError, SPARE};
use crate::event::Seq;

/// What others know of a log.
#[derive(Debug, Default)]
pub(in super::super) struct KnownState {
    /// The last event that was ever given a number.
    pub(in super::super) last: Seq,
    /// The first and the last event of what retention has removed, in order. Each segment is removed whole.
    pub(in super::super) removed: Vec<(Seq, Seq)>,
    /// The bodies of these events were being erased.
    pub(in super::super) erasing: BTreeSet<Seq>,
    /// The bodies of these events are erased.
    pub(in super::super) erased: BTreeSet<Seq>,
    /// A power cut could take this knowledge back: no files are removed because of it.
    pub(in super::super) in_doubt: bool,
}

impl KnownState {
    /// Whether these events were removed.
    pub(in super::super) fn is_removed(&self, first: Seq, last: Seq) -> bool {
        let at = self.removed.partition_point(|(_, end)| *end < first);
        let range = self.removed.get(at);
        range.is_some_and(|(from, upto)| *from <= first && last <= *upto)
    }

    /// Whether this event is deleted.
    pub(in super::super) fn is_deleted(&self, seq: Seq) -> bool {
        self.erasing.contains(&seq) || self.erased.contains(&seq)
    }

    /// The first removed event between these two; the second of them if there is none.
    pub(super) fn before_removed(&self, first: Seq, upto: Seq) -> Seq {
        let at = self.removed.partition_point(|(_, end)| *end < first);
        self.removed
            .get(at)
            .map_or(upto, |(from, _)| upto.min(*from))
    }
}

/// An open log, in three parts for three threads.
pub(in super::super) struct EventLog<V: Volume> {
    pub(in super::super) appender: LogAppender<V>,
    pub(in super::super) reader: LogReader<V>,
    pub(in super::super) keeper: LogKeeper<V>,
}

/// Whether there is any file with events.
pub(in super::super) fn has_segments(volume: &impl Volume) -> io::Result<bool> {
    let files = volume.list()?;
    Ok(files
        .iter()
        .any(|(name, _)| segment::first_of(name).is_some()))
}

/// Opens the log on a volume.
pub(in super::super) fn open<V: Volume>(
    volume: Arc<V>,
    layout: Layout,
    known: &KnownState,
) -> Result<EventLog<V>, LogError> {
    let files: BTreeMap<String, u64> = volume.list()?.into_iter().collect();
    let firsts: Vec<Seq> = files
        .keys()
        .filter_map(|name| segment::first_of(name))
        .collect();
    let mut segments = Vec::new();
    let mut next = None;
    for (n, first) in firsts.iter().enumerate() {
        let upto = firsts.get(n + 1).copied();
        // What is removed between this segment and the next was never in this one.
        let upto = upto.map(|upto| known.before_removed(*first, upto));
        if known.is_removed(*first, *first) {
            if !known.in_doubt {
                remove_files(&*volume, *first)?;
            }
            continue;
        }
        let Some((segment, end)) = load(&*volume, *first, upto, known)? else {
            continue;
        };
        if let Some(next) = next.filter(|next| *next < segment.first)
            && !known.is_removed(next, segment.first - 1)
        {
            // The file that comes next is whole: nobody must take it for the cause.
            return Err(LogError::Missing {
                path: volume.path().to_owned(),
                first: next,
                last: segment.first - 1,
            });
        }
        next = Some(end);
        segments.push(Arc::new(segment));
    }
    remove_leftovers(&*volume, &layout, &files)?;
    let catalog = Arc::new(Catalog::default());
    catalog.note_spare(
        files
            .get(SPARE)
            .is_some_and(|length| *length >= layout.segment),
    );
    catalog.change(|list| list.clone_from(&segments));
    let last = known.last.max(next.map_or(0, |next| next - 1));
    let keeper = LogKeeper::new(volume.clone(), layout.clone(), catalog.clone());
    keeper.drop_filters();
    let reader = LogReader::new(volume.clone(), catalog.clone());
    Ok(EventLog {
        appender: LogAppender::new(volume, layout, catalog, last),
        reader,
        keeper,
    })
}

/// Writes the last segment once more. If a sync of an earlier process failed, the system may show what is not on the disk, as content
/// or as a name, and call every later sync good. What is written anew is surely synced.
fn write_anew<V: Volume>(volume: &V, name: &str, length: u64) -> io::Result<()> {
    let file = volume.open_to_write(name)?;
    let copy = |to: &V::File| {
        each_part(&file, length, |part, at| to.write_at(part, at))?;
        to.sync()
    };
    let copied = volume.create(NEW).and_then(|new| {
        copy(&new)?;
        volume.rename(NEW, name)?;
        volume.sync()
    });
    match copied {
        // In its place the same bytes need no room.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            let _ = volume.remove(NEW);
            copy(&file)
        }
        other => other,
    }
}

/// The index of a segment that nothing is to be done for.
fn sealed(volume: &impl Volume, first: Seq) -> io::Result<Option<SegmentIndex>> {
    let length = volume.open(&segment::name(first))?.length()?;
    let index = SegmentIndex::read(volume, first)?;
    Ok(index.filter(|index| index.end == length))
}

/// What is in a segment that has no index. `None` if its head is damaged.
fn read_through(
    file: &impl LogFile,
    first: Seq,
    upto: Option<Seq>,
    known: &KnownState,
) -> io::Result<Option<Scan>> {
    let problem = |state: &RecordState, seq| {
        let is_lost = matches!(state, RecordState::DamagedBody(_)) && !known.is_deleted(seq);
        is_lost.then_some("is damaged")
    };
    let number = scan::number_of(file, first)?;
    let scan = |number| scan(file, (number, first), upto, problem);
    number.map(scan).transpose()
}

/// A segment of an earlier process, and the event after its last one. `upto`: the first event of the segment that follows. `None`
/// if nothing was ever acknowledged in it.
fn load<V: Volume>(
    volume: &V,
    first: Seq,
    upto: Option<Seq>,
    known: &KnownState,
) -> Result<Option<(Segment, Seq)>, LogError> {
    if let Some(index) = sealed(volume, first)? {
        let next = index.next();
        return Ok(Some((index.into(), next)));
    }
    let name = segment::name(first);
    let file = volume.open(&name)?;
    let scan = match read_through(&file, first, upto, known)? {
        Some(scan) => scan,
        // It was begun, and nothing was ever synced in it.
        None if upto.is_none() && scan::is_unused(&file)? => {
            volume.remove(&name)?;
            return Ok(None);
        }
        None => {
            let last = upto.map_or_else(|| scan::last_event(&file), |next| Ok(next - 1))?;
            return Err(lost(volume, first, first, last.max(first)));
        }
    };
    if let Some(problem) = scan.problems.first() {
        return Err(lost(volume, first, problem.first, scan.promised));
    }
    let next = scan.next();
    if next == first {
        volume.remove(&name)?;
        return Ok(None);
    }
    if upto.is_none() {
        write_anew(volume, &name, scan.end)?;
    }
    let file = volume.open_to_write(&name)?;
    file.set_length(scan.end)?;
    file.sync()?;
    let segment = match index::write(volume, (scan.number, first), &scan.table, scan.end) {
        Ok(index) => index.into(),
        // If there is no room for the index, it stays in memory.
        Err(_) => Segment::new(scan.number, first, scan.table),
    };
    Ok(Some((segment, next)))
}

/// Removes what an earlier process did not finish, and indexes without a segment.
fn remove_leftovers<V: Volume>(
    volume: &V,
    layout: &Layout,
    files: &BTreeMap<String, u64>,
) -> io::Result<()> {
    for (name, length) in files {
        let is_orphan = name
            .strip_suffix(".idx")
            .is_some_and(|first| !files.contains_key(&format!("{first}.log")));
        let is_short = name == SPARE && *length < layout.segment;
        if is_orphan || is_short || name.ends_with(".new") {
            // An index that was begun may have become the index of a segment meanwhile.
            remove_if_there(volume, name)?;
        }
    }
    volume.sync()
}

fn lost(volume: &impl Volume, file: Seq, first: Seq, last: Seq) -> LogError {
    LogError::Lost {
        path: volume.path().join(segment::name(file)),
        first,
        last,
    }
}
