//! The floor of free space: callbacks are refused while there is still room for positions and retention.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// Watches the room on the volume of the inbox.
pub(super) struct Space {
    path: PathBuf,
    min_free: Option<u64>,
    short: bool,
}

/// What `min_free` is if it is not configured, unless a tenth of the volume is less.
const DEFAULT_MIN_FREE: u64 = 512 << 20;

impl Space {
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
    pub(super) fn is_short(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        // A volume that cannot be asked is no reason to refuse: a write that fails will be.
        if let Ok(volume) = rustix::fs::statvfs(&self.path) {
            let floor = self
                .min_free
                .unwrap_or(DEFAULT_MIN_FREE.min(volume.f_blocks * volume.f_frsize / 10));
            let wanted = if self.short { floor + floor / 4 } else { floor };
            let free = volume.f_bavail * volume.f_frsize;
            self.short = free < wanted && free + reusable(conn)? < wanted;
        }
        Ok(self.short)
    }
}

/// Bytes in pages of the file that hold nothing.
fn reusable(conn: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(pragma("freelist_count")?.unsigned_abs() * pragma("page_size")?.unsigned_abs())
}
