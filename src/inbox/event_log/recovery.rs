//! Opens a log, and does what is to be done to a segment that is full.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::appender::{Appender, Full};
use super::index::{self, Index};
use super::reader::LogReader;
use super::segment::{self, Catalog, Find, Scan, Segment, lock};
use super::volume::{BLOCK, LogFile, Volume};
use super::{Layout, LogError, SPARE};
use crate::event::Seq;

/// Zeros that are written at once.
const ZEROS: usize = 1 << 20;
/// Under this name a spare file is made.
const NEW_SPARE: &str = "spare.new";

/// Opens the log on a volume. `last` is the last event that was ever given a number, as far as others know.
pub(in super::super) fn open<V: Volume>(
    volume: Arc<V>,
    layout: Layout,
    last: Seq,
) -> Result<(Appender<V>, LogReader<V>, LogKeeper<V>), LogError> {
    let files: BTreeMap<String, u64> = volume.list()?.into_iter().collect();
    let firsts: Vec<Seq> = files
        .keys()
        .filter_map(|name| segment::first_of(name))
        .collect();
    let mut segments = Vec::new();
    let mut next = None;
    for (n, first) in firsts.iter().enumerate() {
        let upto = firsts.get(n + 1).copied();
        let Some((segment, end)) = load(&*volume, *first, upto)? else {
            continue;
        };
        if let Some(next) = next.filter(|next| *next < segment.first) {
            return Err(lost(&*volume, *first, next, segment.first - 1));
        }
        next = Some(end);
        segments.push(Arc::new(segment));
    }
    remove_leftovers(&*volume, &layout, &files)?;
    let catalog = Arc::new(Catalog::default());
    catalog.change(|list| list.clone_from(&segments));
    let last = last.max(next.map_or(0, |next| next - 1));
    let keeper = LogKeeper {
        volume: volume.clone(),
        layout: layout.clone(),
        catalog: catalog.clone(),
    };
    keeper.drop_filters();
    let reader = LogReader::new(volume.clone(), catalog.clone());
    Ok((Appender::new(volume, layout, catalog, last), reader, keeper))
}

/// A segment of an earlier process, and the event after its last one. `upto`: the first event of the segment that follows. `None`
/// if nothing was ever acknowledged in it.
fn load<V: Volume>(
    volume: &V,
    first: Seq,
    upto: Option<Seq>,
) -> Result<Option<(Segment, Seq)>, LogError> {
    if let Some(index) = Index::read(volume, first)?
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
    let file = volume.open(&segment::name(first))?;
    let scan = segment::scan(&file, upto.unwrap_or(Seq::MAX))?;
    let Some(scan) = scan.filter(|scan| scan.first == first) else {
        return match upto {
            // It was begun, and nothing was ever synced in it.
            None => {
                volume.remove(&segment::name(first))?;
                Ok(None)
            }
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
            volume.remove(name)?;
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

/// Does what no answer has to wait for.
pub(in super::super) struct LogKeeper<V: Volume> {
    volume: Arc<V>,
    layout: Layout,
    catalog: Arc<Catalog>,
}

impl<V: Volume> LogKeeper<V> {
    /// The same one with another layout.
    #[cfg(test)]
    pub(super) fn for_test(other: &Self, layout: Layout) -> Self {
        let keeper = Self {
            volume: other.volume.clone(),
            layout,
            catalog: other.catalog.clone(),
        };
        keeper.drop_filters();
        keeper
    }

    /// Cuts a segment to its length and writes its index. If it fails, the index stays in memory, and the next start does it.
    pub(in super::super) fn seal(&self, full: &Full) -> io::Result<()> {
        let Full { segment, end } = full;
        let file = self.volume.open(&segment.name())?;
        file.set_length(*end)?;
        file.sync()?;
        let Find::Memory(entries) = &segment.find else {
            return Ok(());
        };
        let of = (segment.number, segment.first);
        let index = index::write(&*self.volume, of, &lock(entries), *end)?;
        let sealed = Arc::new(Segment {
            number: segment.number,
            first: segment.first,
            find: Find::Disk(index),
        });
        self.replace(segment.number, &sealed);
        self.drop_filters();
        Ok(())
    }

    fn replace(&self, number: u64, with: &Arc<Segment>) {
        self.catalog.change(|segments| {
            for segment in segments {
                if segment.number == number {
                    segment.clone_from(with);
                }
            }
        });
    }

    /// Keeps the filters of the newest segments in memory, as far as they fit.
    fn drop_filters(&self) {
        let mut left = self.layout.filters;
        for segment in self.catalog.segments().iter().rev() {
            let Find::Disk(index) = &segment.find else {
                continue;
            };
            match left.checked_sub(index.filter_size()) {
                Some(less) => left = less,
                None => {
                    left = 0;
                    let smaller = Arc::new(Segment {
                        number: segment.number,
                        first: segment.first,
                        find: Find::Disk(index.without_filter()),
                    });
                    self.replace(segment.number, &smaller);
                }
            }
        }
    }

    /// Makes a spare file for the next segment, if there is none and the volume has room.
    pub(in super::super) fn make_spare(&self) -> io::Result<()> {
        if self.volume.free()? < self.layout.room || self.volume.open(SPARE).is_ok() {
            return Ok(());
        }
        let file = self.volume.create(NEW_SPARE)?;
        let zeros = vec![0; ZEROS + BLOCK];
        let begin = zeros.as_ptr().align_offset(BLOCK);
        let mut at = 0;
        while at < self.layout.segment {
            let step = (ZEROS as u64).min(self.layout.segment - at);
            file.write_blocks(&zeros[begin..begin + step as usize], at)?;
            at += step;
        }
        file.sync()?;
        self.volume.rename(NEW_SPARE, SPARE)?;
        self.volume.sync()
    }
}
