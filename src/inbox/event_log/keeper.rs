//! What is done to a log beside writing it, while no answer waits: indexes, removal, erasure.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::appender::FullSegment;
use super::reader::LogReader;
use super::record::{self, HEAD, RecordHead};
use super::segment::{self, Catalog, Find, lock};
use super::volume::{BLOCK, LogFile, Volume, remove_if_there};
use super::{Layout, SPARE, index};
use crate::event::Seq;

/// Zeros that are written at once.
const ZEROS: usize = 256 << 10;
/// Under this name a spare file is made.
const NEW_SPARE: &str = "spare.new";

/// Does what no answer has to wait for.
pub(in super::super) struct LogKeeper<V: Volume> {
    volume: Arc<V>,
    layout: Layout,
    catalog: Arc<Catalog>,
    /// A spare file that is being made, and how long it is.
    spare: Option<(V::File, u64)>,
}

impl<V: Volume> LogKeeper<V> {
    pub(super) fn new(volume: Arc<V>, layout: Layout, catalog: Arc<Catalog>) -> Self {
        Self {
            volume,
            layout,
            catalog,
            spare: None,
        }
    }

    /// Cuts a segment to its length and writes its index. If it fails, the index stays in memory, and the next start does it.
    pub(in super::super) fn seal(&self, full: &FullSegment) -> io::Result<()> {
        let FullSegment { segment, end } = full;
        let file = self.volume.open_to_write(&segment.name())?;
        file.set_length(*end)?;
        file.sync()?;
        let Find::Memory(entries) = &segment.find else {
            return Ok(());
        };
        let _alone = self.catalog.lock_indexes();
        let of = (segment.number, segment.first);
        let index = index::write(&*self.volume, of, lock(entries), *end);
        self.catalog
            .replace(&Arc::new(self.doubting(index)?.into()));
        self.drop_filters();
        Ok(())
    }

    /// Keeps the filters of the newest segments in memory, as far as they fit.
    pub(super) fn drop_filters(&self) {
        let mut left = self.layout.filters;
        for segment in self.catalog.segments().iter().rev() {
            let Find::Disk(index) = &segment.find else {
                continue;
            };
            match left.checked_sub(index.filter_size()) {
                Some(less) => left = less,
                None => {
                    left = 0;
                    self.catalog
                        .replace(&Arc::new(index.without_filter().into()));
                }
            }
        }
    }

    /// Begins a spare file for the next segment, if there is none and the volume has room. [`write_spare`](Self::write_spare) goes
    /// on with it.
    pub(in super::super) fn begin_spare(&mut self) -> io::Result<()> {
        let has_room = self.volume.free()? >= self.layout.room;
        if has_room && !self.is_making_spare() && !self.catalog.has_spare() {
            self.spare = Some((self.volume.create(NEW_SPARE)?, 0));
        }
        Ok(())
    }

    /// Whether a spare file is begun and not complete.
    pub(in super::super) fn is_making_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// Writes the next zeros of the spare file. Returns how many. If it fails, the file is given up.
    pub(in super::super) fn write_spare(&mut self) -> io::Result<u64> {
        let Some((file, at)) = self.spare.take() else {
            return Ok(0);
        };
        let zeros = vec![0; ZEROS + BLOCK];
        let begin = zeros.as_ptr().align_offset(BLOCK);
        let step = (ZEROS as u64).min(self.layout.segment - at);
        file.write_blocks(&zeros[begin..begin + step as usize], at)?;
        if at + step < self.layout.segment {
            self.spare = Some((file, at + step));
            return Ok(step);
        }
        file.sync()?;
        self.volume.rename(NEW_SPARE, SPARE)?;
        self.doubting(self.volume.sync())?;
        self.catalog.note_spare(true);
        Ok(step)
    }

    /// Removes a segment that nothing more is written to. Others must know before that its events are removed
    /// ([`KnownState::removed`](super::KnownState)): a power cut may leave its files.
    pub(in super::super) fn remove(&self, first: Seq) -> io::Result<()> {
        let _alone = self.catalog.lock_indexes();
        self.catalog
            .change(|segments| segments.retain(|segment| segment.first != first));
        remove_files(&*self.volume, first)?;
        self.doubting(self.volume.sync())
    }

    /// If the directory may have failed to sync, the appender has to know: the failure may have been that of its names.
    fn doubting<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.catalog.doubt_names();
        }
        result
    }

    /// Writes over the bodies of these events, synced. They must not be in the segment that is written to. Others must know of it
    /// before ([`KnownState::erasing`](super::KnownState)), and have it done again after a start if this does not return.
    pub(in super::super) fn erase(&self, seqs: &[Seq]) -> io::Result<()> {
        let reader = LogReader::new(self.volume.clone(), self.catalog.clone());
        let mut touched = BTreeMap::new();
        for seq in seqs {
            let Some(segment) = reader.segment_of(*seq) else {
                continue;
            };
            let offsets = reader.offsets(&segment, (seq - segment.first) as usize, 1)?;
            let Some(at) = offsets.first().map(|at| u64::from(*at)) else {
                continue;
            };
            let name = segment.name();
            if !touched.contains_key(&name) {
                touched.insert(name.clone(), self.volume.open_to_write(&name)?);
            }
            let file = &touched[&name];
            let mut bytes = vec![0; HEAD + usize::from(u16::MAX)];
            let read = file.read_at(&mut bytes, at)?;
            bytes.truncate(read);
            let head = RecordHead::read(&bytes).filter(|head| head.fits(&bytes));
            let next = offsets.get(1).map(|next| u64::from(*next));
            let body = match (head, next.filter(|next| *next >= at + HEAD as u64)) {
                (Some(head), _) if head.seq == *seq => head.body(),
                // The index is damaged. Another record must not be written over.
                (Some(_), _) | (None, None) => {
                    let problem = format!("event {seq} cannot be found in {name}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
                }
                // The head is damaged: the body lies between it and the next record.
                (None, Some(next)) => HEAD..(next - at) as usize,
            };
            file.write_at(&record::erased(body.len()), at + body.start as u64)?;
        }
        touched.values().try_for_each(LogFile::sync)
    }
}

/// Removes the files of a segment, as far as they are there.
pub(super) fn remove_files(volume: &impl Volume, first: Seq) -> io::Result<()> {
    remove_if_there(volume, &segment::name(first))?;
    remove_if_there(volume, &index::name(first))
}
