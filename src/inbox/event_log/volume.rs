//! The directory that the log lies in, and its files. A simulated one takes its place in tests of faults and power cuts.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

/// A write begins and ends at multiples of this, in the file and in memory: past the page cache it has to.
pub(super) const BLOCK: usize = 4096;

/// A directory with the files of one log.
pub(in super::super) trait Volume: Send + Sync + 'static {
    type File: LogFile;

    /// Creates an empty file, or empties the one of this name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file for reading and writing.
    fn open_to_write(&self, name: &str) -> io::Result<Self::File>;
    /// Names and lengths of all files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Gives a file another name, in place of a file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes what was created, renamed and removed before survive a power cut.
    fn sync(&self) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free(&self) -> io::Result<u64>;
    /// Fails if the file does not have this name any more.
    fn check(&self, file: &Self::File, name: &str) -> io::Result<()>;
    /// Where it is, for people.
    fn path(&self) -> &Path;
}

/// Removes a file, if it is there.
pub(super) fn remove_if_there(volume: &impl Volume, name: &str) -> io::Result<()> {
    match volume.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An open file.
pub(in super::super) trait LogFile: Send + Sync {
    /// Reads until `buffer` is full or the file ends: how many bytes.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes`: whole blocks, at a multiple of [`BLOCK`] in the file and in memory.
    fn write_blocks(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes`, anywhere.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn set_length(&self, length: u64) -> io::Result<()>;
    fn length(&self) -> io::Result<u64>;
    /// Makes what was written survive a power cut. After one that failed nothing is known of what was written.
    fn sync(&self) -> io::Result<()>;
}

/// A directory on a disk.
pub(in super::super) struct Directory(PathBuf);

impl Directory {
    pub(in super::super) fn new(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Volume for Directory {
    type File = DiskFile;

    fn create(&self, name: &str) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        options.create(true).read(true).write(true).truncate(true);
        DiskFile::open_to_write(&self.0.join(name), &options)
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        DiskFile::of(File::open(self.0.join(name))?, None)
    }

    fn open_to_write(&self, name: &str) -> io::Result<DiskFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        DiskFile::open_to_write(&self.0.join(name), &options)
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.metadata() {
                Ok(found) => files.push((name, found.len())),
                // It was renamed or removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn free(&self) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(&self.0)?;
        Ok(volume.f_bavail * volume.f_frsize)
    }

    fn check(&self, file: &DiskFile, name: &str) -> io::Result<()> {
        let path = self.0.join(name);
        let problem = match std::fs::metadata(&path) {
            Ok(found) if (found.dev(), found.ino()) == file.identity => return Ok(()),
            Ok(_) => "was replaced by another file".to_owned(),
            Err(error) => format!("cannot be found any more: {error}"),
        };
        Err(io::Error::other(format!("{} {problem}", path.display())))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

/// A file on a disk.
pub(in super::super) struct DiskFile {
    /// Through the page cache.
    file: File,
    /// Past the page cache, where the file system can do that: a sync then has less to wait for.
    direct: Option<File>,
    /// The file system wants larger blocks.
    refused: AtomicBool,
    /// Device and inode. An inode is not used again while a process has the file open.
    identity: (u64, u64),
}

impl DiskFile {
    fn open_to_write(path: &Path, options: &OpenOptions) -> io::Result<Self> {
        let file = options.open(path)?;
        let direct = OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path);
        Self::of(file, direct.ok())
    }

    fn of(file: File, direct: Option<File>) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            identity: (found.dev(), found.ino()),
            file,
            direct,
            refused: AtomicBool::new(false),
        })
    }
}

impl LogFile for DiskFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_blocks(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && !self.refused.load(Ordering::Relaxed)
        {
            match direct.write_all_at(bytes, at) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                written => return written,
            }
        }
        self.file.write_all_at(bytes, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
