//! Gives a server process its own clock, which a test can set while the process runs.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use tempfile::TempDir;

use super::server::preloaded;

/// The preloaded library, compiled once for all tests.
static LIBRARY: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let library = preloaded("support/clock.c", directory.path());
    (directory, library)
});

/// The clock of all servers that are started with its [variables](Self::variables).
pub struct ServerClock {
    directory: TempDir,
}

impl ServerClock {
    /// A clock that is this many seconds ahead of the machine's.
    pub fn ahead(seconds: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Self { directory };
        clock.set(seconds);
        clock
    }

    /// Sets the clock, also for running servers.
    pub fn set(&self, seconds: i64) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, seconds.to_string()).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    /// The environment variables for `Settings::env`.
    pub fn variables(&self) -> [(String, String); 2] {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD".to_owned(), text(&LIBRARY.1)),
            ("TEST_CLOCK".to_owned(), text(&self.file())),
        ]
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ahead")
    }
}
