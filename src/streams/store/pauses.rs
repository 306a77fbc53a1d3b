//! Pauses in long work beside the answers.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The length of a pause, and of the work before it.
const PAUSE: Duration = Duration::from_micros(100);
/// On a busy machine a pause is longer, and so is the work after it: up to the slice that the
/// scheduler gives.
const LONGEST_WORK: Duration = Duration::from_millis(3);

/// Divides work into short pieces. Even a thread of the lowest priority may go on for milliseconds while a thread that answers
/// senders waits for its processor, because the scheduler gives each thread its whole slice.
pub(super) struct Pauses {
    since: Instant,
    work: Duration,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            work: PAUSE,
        }
    }

    /// Rests, if the last pause is long ago.
    pub(super) fn rest(&mut self) {
        let worked_until = Instant::now();
        if worked_until - self.since >= self.work {
            sleep(PAUSE);
            self.since = Instant::now();
            self.work = (self.since - worked_until).min(LONGEST_WORK);
        }
    }
}
