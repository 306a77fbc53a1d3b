//! An index that is damaged or missing is made again from its segment, when that is noticed.

use std::io;
use std::sync::Arc;

use super::index;
use super::reader::LogReader;
use super::scan::scan;
use super::segment::{Find, Segment};
use super::volume::Volume;

impl<V: Volume> LogReader<V> {
    /// Asks what finds the records of a segment. If that is an index that is damaged or missing, it is made again first.
    pub(super) fn ask<T>(
        &self,
        segment: &Segment,
        ask: impl Fn(&Find, &V) -> io::Result<T>,
    ) -> io::Result<T> {
        let is_damaged = |told: &io::Result<T>| {
            let damages = [io::ErrorKind::InvalidData, io::ErrorKind::NotFound];
            matches!(told, Err(error) if damages.contains(&error.kind()))
        };
        let told = ask(&segment.find, &self.volume);
        if !is_damaged(&told) {
            return told;
        }
        let _alone = self.catalog.lock_indexes();
        let segments = self.catalog.segments();
        let same = segments.iter().find(|one| one.number == segment.number);
        let Some(segment) = same else {
            return Err(io::ErrorKind::NotFound.into());
        };
        // Another thread may have made it again meanwhile.
        match ask(&segment.find, &self.volume) {
            told if is_damaged(&told) => ask(&self.mend(segment)?.find, &self.volume),
            told => told,
        }
    }

    /// Makes the index of a segment again. If it cannot be written, it stays in memory.
    fn mend(&self, segment: &Segment) -> io::Result<Arc<Segment>> {
        let Find::Disk(damaged) = &segment.find else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let volume = &*self.volume;
        let of = (segment.number, segment.first);
        let file = volume.open(&segment.name())?;
        let mut scan = scan(&file, of, Some(damaged.next()), |_, _| None)?;
        scan.table.fill(damaged.count(), damaged.end as u32);
        let mended = match index::write(volume, of, &scan.table, damaged.end) {
            Ok(index) if damaged.filter_size() == 0 => Segment::from(index.without_filter()),
            Ok(index) => Segment::from(index),
            Err(error) => {
                self.catalog.doubt_names();
                tracing::warn!(store.error = %error, "an index of the log cannot be written, it stays in memory until the next start");
                Segment::new(segment.number, segment.first, scan.table)
            }
        };
        let mended = Arc::new(mended);
        self.catalog.replace(&mended);
        let path = volume.path().join(index::name(segment.first));
        tracing::warn!(
            file = %path.display(),
            "an index of the log was damaged or removed: it is made again from its events, nothing is lost"
        );
        Ok(mended)
    }
}
