//! The floor of free space: callbacks are refused while there is still room for positions and retention.

use std::path::{Path, PathBuf};

use rustix::fs::StatVfs;

/// Watches the room on the volume of the inbox.
pub(super) struct DiskSpace {
    path: PathBuf,
    min_free: Option<u64>,
    short: bool,
}

/// What `min_free` is if it is not configured, unless a tenth of the volume is less.
const DEFAULT_MIN_FREE: u64 = 512 << 20;

impl DiskSpace {
    pub(super) fn new(path: &Path, min_free: Option<u64>) -> Self {
        Self {
            path: path.to_owned(),
            min_free,
            short: false,
        }
    }

    /// A write found the volume full, whatever the floor says.
    pub(super) fn found_full(&mut self) {
        self.short = true;
    }

    /// Whether callbacks must be refused: below the floor, and then until a quarter more than the floor is free.
    pub(super) fn is_short(&mut self) -> bool {
        // If the volume cannot be asked, nothing is refused: a write that fails will be noticed.
        if let Ok(volume) = rustix::fs::statvfs(&self.path) {
            let floor = floor(&volume, self.min_free);
            let wanted = if self.short { floor + floor / 4 } else { floor };
            self.short = free(&volume) < wanted;
        }
        self.short
    }
}

/// How many bytes of a volume callbacks leave free.
pub(super) fn floor(volume: &StatVfs, min_free: Option<u64>) -> u64 {
    min_free.unwrap_or(DEFAULT_MIN_FREE.min(volume.f_blocks * volume.f_frsize / 10))
}

/// How many bytes of a volume can still be written.
pub(super) fn free(volume: &StatVfs) -> u64 {
    volume.f_bavail * volume.f_frsize
}
