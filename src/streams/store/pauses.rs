//! Pauses in long work beside the answers.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// After so much work there is a rest of this length.
const WORK: Duration = Duration::from_micros(100);
const REST: Duration = Duration::from_micros(100);

/// Divides work into short pieces. Even a thread of the lowest priority may go on for milliseconds while a thread that answers
/// senders waits for its processor, because the scheduler gives each thread its whole slice.
pub(super) struct Pauses(Instant);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Rests, if the last rest is long ago.
    pub(super) fn rest(&mut self) {
        if self.0.elapsed() >= WORK {
            sleep(REST);
            self.0 = Instant::now();
        }
    }
}
