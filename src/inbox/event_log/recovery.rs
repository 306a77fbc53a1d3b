//! Opens a log: what an earlier process left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::appender::{LogAppender, NEW};
use super::index::{self, SegmentIndex};
use super::keeper::{LogKeeper, remove_files};
use super::reader::LogReader;
use super::segment::{self, Catalog, Find, Scan, Segment};
use super::volume::{LogFile, Volume, remove_if_there};
use super::{Layout, LogError, SPARE};
use crate::event::Seq;

/// Copied at once.
const COPIED: usize = 1 << 20;

/// What others know of a log.
#[derive(Debug, Default)]
pub(in super::super) struct KnownState {
    /// The last event that was ever given a number.
    pub(in super::super) last: Seq,
    /// The first and the last event of what retention has removed, in order. Each segment is removed whole.
    pub(in super::super) removed: Vec<(Seq, Seq)>,
    /// The bodies of these events were being erased.
    pub(in super::super) erasing: BTreeSet<Seq>,
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
    if let Some(last) = firsts.last() {
        write_anew(&*volume, *last, &known.erasing)?;
    }
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
        let Some((segment, end)) = load(&*volume, *first, upto, &known.erasing)? else {
            continue;
        };
        if let Some(next) = next.filter(|next| *next < segment.first)
            && !known.is_removed(next, segment.first - 1)
        {
            return Err(lost(&*volume, *first, next, segment.first - 1));
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

/// Writes the last segment once more, unless it is sealed. If a sync of an earlier process failed, the system may show what is not on
/// the disk, as content or as a name, and call every later sync good. What is written anew is surely synced.
fn write_anew<V: Volume>(volume: &V, first: Seq, erasing: &BTreeSet<Seq>) -> io::Result<()> {
    let name = segment::name(first);
    let file = volume.open_to_write(&name)?;
    if let Some(index) = SegmentIndex::read(volume, first)?
        && file.length()? == index.end()
    {
        return Ok(());
    }
    let scan = segment::scan(&file, Seq::MAX, erasing)?;
    // Damage is found when it is loaded.
    let Some(scan) = scan.filter(|scan| scan.first == first && scan.next() > scan.proven) else {
        return Ok(());
    };
    let copied = volume.create(NEW).and_then(|new| {
        copy(&file, &new, scan.end)?;
        volume.rename(NEW, &name)?;
        volume.sync()
    });
    match copied {
        // In its place the same bytes need no room.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            let _ = volume.remove(NEW);
            copy(&file, &file, scan.end)
        }
        other => other,
    }
}

/// Copies the first `length` bytes of a file, synced.
fn copy(from: &impl LogFile, to: &impl LogFile, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; COPIED];
    let mut at = 0;
    while at < length {
        let step = (COPIED as u64).min(length - at) as usize;
        let read = from.read_at(&mut buffer[..step], at)?;
        to.write_at(&buffer[..read], at)?;
        if read < step {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += step as u64;
    }
    to.sync()
}

/// A segment of an earlier process, and the event after its last one. `upto`: the first event of the segment that follows. `None`
/// if nothing was ever acknowledged in it.
fn load<V: Volume>(
    volume: &V,
    first: Seq,
    upto: Option<Seq>,
    erasing: &BTreeSet<Seq>,
) -> Result<Option<(Segment, Seq)>, LogError> {
    if let Some(index) = SegmentIndex::read(volume, first)?
        && volume.open(&segment::name(first))?.length()? == index.end()
    {
        let next = first + index.count() as Seq;
        let segment = Segment {
            number: index.segment(),
            first,
            find: Find::Disk(index),
        };
        return Ok(Some((segment, next)));
    }
    let file = volume.open_to_write(&segment::name(first))?;
    let scan = segment::scan(&file, upto.unwrap_or(Seq::MAX), erasing)?;
    let Some(scan) = scan.filter(|scan| scan.first == first) else {
        return match upto {
            // It was begun, and nothing was ever synced in it.
            None if segment::is_unused(&file)? => {
                volume.remove(&segment::name(first))?;
                Ok(None)
            }
            None => Err(lost(
                volume,
                first,
                first,
                segment::last_head(&file)?.max(first),
            )),
            Some(next) => Err(lost(volume, first, first, next - 1)),
        };
    };
    let promised = upto.map_or(scan.proven, |next| next - 1);
    if scan.next() <= promised {
        return Err(lost(volume, first, scan.next(), promised));
    }
    let next = scan.next();
    if next == first {
        volume.remove(&segment::name(first))?;
        return Ok(None);
    }
    let end = scan.end;
    let segment = seal(volume, &file, scan, end)?;
    Ok(Some((segment, next)))
}

/// Cuts a segment that was scanned to its length, and writes its index. If there is no room for the index, it stays in memory.
fn seal<V: Volume>(volume: &V, file: &V::File, scan: Scan, end: u64) -> io::Result<Segment> {
    file.set_length(end)?;
    file.sync()?;
    let find = match index::write(volume, (scan.number, scan.first), &scan.entries, end) {
        Ok(index) => Find::Disk(index),
        Err(_) => Find::Memory(scan.entries.into()),
    };
    Ok(Segment {
        number: scan.number,
        first: scan.first,
        find,
    })
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
