//! Copies a log while it is written to.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use super::index;
use super::reader::LogReader;
use super::segment::Find;
use super::volume::{LogFile, Volume};
use crate::event::Seq;

/// Copied at once.
const CHUNK: usize = 1 << 20;
/// Synced at once: a long sync would make those who wait for an answer wait, too.
const SYNCED: u64 = 8 << 20;

/// A file of the log that does not change any more, unless events are erased.
#[derive(Debug)]
pub(in super::super) struct SettledFile {
    pub(in super::super) name: String,
    pub(in super::super) length: u64,
}

impl<V: Volume> LogReader<V> {
    /// The files of all segments that begin with the event `upto` or an earlier one. Nothing more may be written to these
    /// segments. If one could not be sealed, its file is the one that the next start would find.
    pub(in super::super) fn settled_files(&self, upto: Seq) -> io::Result<Vec<SettledFile>> {
        let mut files = Vec::new();
        for segment in self.segments_upto(upto) {
            let file_of = |name: String| -> io::Result<SettledFile> {
                let length = self.volume.open(&name)?.length()?;
                Ok(SettledFile { name, length })
            };
            files.push(file_of(segment.name())?);
            if let Find::Disk(_) = &segment.find {
                match file_of(index::name(segment.first)) {
                    // The start on the copy makes it again.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    index => files.push(index?),
                }
            }
        }
        Ok(files)
    }

    /// How many records these segments have. What two of them have counts once.
    pub(in super::super) fn count_upto(&self, upto: Seq) -> u64 {
        let segments = self.segments_upto(upto);
        let nexts = segments.iter().skip(1).map(|next| next.first);
        let ends = nexts.chain([Seq::MAX]);
        let counts = segments.iter().zip(ends).map(|(segment, end)| {
            let last = segment.last().min(end - 1);
            (last + 1 - segment.first).max(0).unsigned_abs()
        });
        counts.sum()
    }

    /// Copies a file into another directory, synced. `copied` hears of every part.
    pub(in super::super) fn copy(
        &self,
        file: &SettledFile,
        directory: &Path,
        copied: &dyn Fn(u64),
    ) -> io::Result<()> {
        let source = self.volume.open(&file.name)?;
        let mut target = File::create_new(directory.join(&file.name))?;
        each_part(&source, file.length, |part, at| {
            target.write_all(part)?;
            copied(part.len() as u64);
            match at.is_multiple_of(SYNCED) {
                true => target.sync_data(),
                false => Ok(()),
            }
        })?;
        target.sync_all()
    }
}

/// Gives the first `length` bytes of a file to `take`, part by part, each with its place.
pub(super) fn each_part(
    file: &impl LogFile,
    length: u64,
    mut take: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < length {
        let part = &mut buffer[..(length - at).min(CHUNK as u64) as usize];
        if file.read_at(part, at)? < part.len() {
            let problem = "a file of the log is shorter than it was";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
        }
        take(part, at)?;
        at += part.len() as u64;
    }
    Ok(())
}
