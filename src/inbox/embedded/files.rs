//! Whether the store's files are still the ones that were opened: a file that was removed or replaced takes every write and
//! loses it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The files that hold what was acknowledged, and those that keep other processes away: SQLite's locks are in the memory that
/// `state.db-shm` stands for. The appender watches the file of the log that it writes to.
const NAMES: [&str; 5] = [
    "state.db",
    "state.db-wal",
    "state.db-shm",
    "log",
    "livehook.lock",
];

/// The files of an open store.
#[derive(Default)]
pub(super) struct Files(Vec<(PathBuf, Identity)>);

/// Device and inode. An inode is not used again while a process has the file open.
type Identity = (u64, u64);

impl Files {
    /// Remembers the files of a store that is open.
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let file = |name| {
            let path = dir.join(name);
            let found = identity(&path)?;
            Ok((path, found))
        };
        NAMES
            .into_iter()
            .map(file)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Fails if one of them is no longer under its name.
    pub(super) fn check(&self) -> io::Result<()> {
        for (path, opened) in &self.0 {
            let problem = match identity(path) {
                Ok(found) if found == *opened => continue,
                Ok(_) => "was replaced by another file".to_owned(),
                Err(error) => format!("cannot be found any more: {error}"),
            };
            return Err(io::Error::other(format!("{} {problem}", path.display())));
        }
        Ok(())
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let found = std::fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}
