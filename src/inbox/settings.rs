//! stub until merge
use std::path::PathBuf;
use std::time::Duration;
/// stub
#[derive(Debug, Clone, PartialEq)]
pub struct InboxSettings {
    /// p
    pub path: PathBuf,
    /// p
    pub lock_wait: Duration,
    /// p
    pub min_free: Option<u64>,
    /// p
    pub retention: Duration,
    /// p
    pub parked_retention: Duration,
    /// p
    pub dedupe_window: Duration,
}
