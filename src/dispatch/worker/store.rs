//! What the worker reads from the inbox and writes to it.

use std::collections::HashSet;
use std::time::Duration;

use css_callbacks::Timestamp;
use tokio::time::Instant;

use super::attempts::ready_now;
use super::{TaskOutput, Worker};
use crate::event::{Event, Seq};
use crate::inbox::StoreError;
use crate::inbox::delivery::{DeliveryChange, DeliveryCommit, Owed};

/// The position alone is written this often. After a crash, events finished since then come again.
const POSITION_EVERY: Duration = Duration::from_millis(100);
/// The pause after a failure of the store.
pub(super) const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The most that is read at a time.
const READ_EVENTS: usize = 512;
const READ_BYTES: usize = 1 << 20;
/// With this many outcomes to write, no more events are read.
const MAX_UNWRITTEN: usize = 1024;
/// With this many lanes that have rows, no more events are read: each lane takes memory.
const MAX_BLOCKED_LANES: usize = 10_000;

impl Worker {
    /// Starts the store's next work: write outcomes, discard, pause, or read due rows.
    pub(super) fn start_store_work(&mut self, now: Timestamp) {
        if self.store_is_busy()
            || self
                .store_retry_at
                .is_some_and(|until| Instant::now() < until)
        {
            return;
        }
        self.store_retry_at = None;
        self.start_replays();
        let inbox = self.inbox.clone();
        let id = self.id;
        // Writing and other work take turns, because there may always be something to write.
        let read_due = self.must_read_due(now);
        let other_work = read_due || !self.discards.is_empty() || !self.pauses.is_empty();
        if (self.forget_must_wait() || self.replay_must_wait() || !(other_work && self.wrote_last))
            && let Some(commit) = self.next_commit(false)
        {
            self.wrote_last = true;
            self.commits_started += 1;
            self.writing = Some(commit.clone());
            self.tasks
                .spawn(async move { TaskOutput::Committed(inbox.commit(id, commit).await) });
        } else if let Some(discard) = self.discards.pop_front() {
            self.wrote_last = false;
            self.discard(discard);
        } else if let Some(pause) = self.pauses.pop_front() {
            self.wrote_last = false;
            self.pause(pause);
        } else if read_due {
            self.wrote_last = false;
            // A stream has at most two due rows, so this is more than the rows of running attempts
            // and the rows that wait for these attempts to end.
            let limit = 2 * self.settings.concurrency + 2;
            let until = if self.health.is_down() {
                Timestamp::from_millis(i64::MAX)
            } else {
                now
            };
            let latest = now.plus(self.settings.retry.max);
            self.look_for_due = false;
            self.reading_due = true;
            self.tasks
                .spawn(async move { TaskOutput::Due(inbox.due(id, until, latest, limit).await) });
        }
    }

    pub(super) fn store_is_busy(&self) -> bool {
        self.writing.is_some() || self.reading_due || self.changing_rows
    }

    pub(super) fn must_read_due(&self, now: Timestamp) -> bool {
        let timer = self.next_due.is_some_and(|due| due <= now);
        !self.paused
            && (self.look_for_due || timer)
            && self.due.iter().all(|owed| self.is_busy(owed.lane))
    }

    /// The next commit, if something must be written now.
    pub(super) fn next_commit(&mut self, write_position: bool) -> Option<DeliveryCommit> {
        let position = self.read_ahead.position();
        let moved = position > self.written_position;
        let position_due = write_position || Instant::now() >= self.next_position_write;
        if self.unwritten.is_empty() && !(moved && position_due) {
            return None;
        }
        self.next_position_write = Instant::now() + POSITION_EVERY;
        let changes = std::mem::take(&mut self.unwritten);
        Some(DeliveryCommit {
            epoch: self.epoch,
            position: moved.then_some(position),
            changes,
        })
    }

    /// Reads as many events as there is room for. `true`: the events came at once.
    pub(super) fn read(&mut self) -> bool {
        let wanted = self.read_ahead.room().min(READ_EVENTS);
        // After each failed probe one more read: another stream may be the one that works.
        let waits_for_probe =
            self.health.is_down() && !(self.probe_failed && self.read_ahead.len() == 0);
        let too_many_unwritten = self.unwritten.len() >= MAX_UNWRITTEN;
        let must_wait =
            self.paused || self.reading || self.store_retry_at.is_some() || too_many_unwritten;
        if must_wait || wanted == 0 || waits_for_probe || self.blocked.len() >= MAX_BLOCKED_LANES {
            return false;
        }
        // Mark the value as seen before reading: a later commit then wakes the worker.
        let upto = *self.committed.borrow_and_update();
        if upto <= self.read_ahead.read_to() {
            return false;
        }
        self.probe_failed = false;
        self.reading = true;
        let inbox = self.inbox.clone();
        let after = self.read_ahead.read_to();
        match ready_now(Box::pin(async move {
            inbox.after(after, wanted, READ_BYTES).await
        })) {
            Ok(events) => {
                self.events_read(upto, events);
                true
            }
            Err(pending) => {
                self.tasks
                    .spawn(async move { TaskOutput::Read(upto, pending.await) });
                false
            }
        }
    }

    pub(super) fn events_read(&mut self, upto: Seq, events: Result<Vec<Event>, StoreError>) {
        self.reading = false;
        self.step_time = Instant::now();
        let Ok(events) = events else {
            self.delay_store();
            return;
        };
        if events.is_empty() {
            // Retention has removed the events.
            self.read_ahead.mark_read(upto);
        }
        for event in events {
            let seq = event.seq();
            self.read_ahead.mark_read(seq);
            let settled = self.rows_ahead.contains(&seq) || self.deleted_ahead.contains(&seq);
            if !settled && self.settings.wants(&event) {
                self.read_ahead.push(event);
            }
        }
        let read_to = self.read_ahead.read_to();
        self.rows_ahead.retain(|seq| *seq > read_to);
        self.deleted_ahead.retain(|seq| *seq > read_to);
        self.assign_lanes();
    }

    pub(super) fn due_read(&mut self, rows: Result<(Vec<Owed>, Option<Timestamp>), StoreError>) {
        self.reading_due = false;
        let Ok((rows, next)) = rows else {
            self.look_for_due = true;
            self.delay_store();
            return;
        };
        self.next_due = next;
        let found = rows.len();
        for owed in rows {
            if self.unconfirmed.insert(owed.event.seq()) {
                self.due.push(owed);
            }
        }
        // There may be more rows. They are read when none of these can start.
        self.look_for_due |= found > 2 * self.settings.concurrency;
        let nothing_left = found == 0
            && self.read_ahead.len() == 0
            && self.running.is_empty()
            && self.unwritten.is_empty();
        if nothing_left && self.health.is_down() {
            // There is no event to probe with, so the next event is the probe.
            self.health.end_probing();
        }
    }

    pub(super) fn commit_ended(&mut self, result: Result<(), StoreError>) {
        let Some(commit) = self.writing.take() else {
            return;
        };
        if result.is_err() {
            let newer = std::mem::replace(&mut self.unwritten, commit.changes);
            self.unwritten.extend(newer);
            self.delay_store();
            return;
        }
        self.written_position = commit.position.unwrap_or(self.written_position);
        self.look_for_due |= !commit.changes.is_empty();
        if self.unconfirmed.is_empty() {
            return;
        }
        // The rows of running attempts, and of those that ended during the write, are outdated.
        let running = self.running.values();
        let outdated: HashSet<Seq> = running
            .map(|running| running.attempt.event.seq())
            .chain(self.unwritten.iter().map(DeliveryChange::seq))
            .collect();
        for change in commit.changes {
            if !outdated.contains(&change.seq()) {
                self.unconfirmed.remove(&change.seq());
            }
        }
    }

    /// A task that was no attempt panicked, so its work was not done.
    pub(super) fn recover(&mut self) {
        tracing::error!(
            handler.name = self.name,
            "a task of the dispatcher panicked"
        );
        self.reading = false;
        self.reading_due = false;
        self.changing_rows = false;
        self.look_for_due = true;
        self.commit_ended(Err(StoreError::Failed));
        self.delay_store();
    }

    pub(super) fn delay_store(&mut self) {
        self.store_retry_at = Some(Instant::now() + STORE_RETRY_DELAY);
    }
}
