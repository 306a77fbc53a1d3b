//! What is read from the inbox and what is written to it.

use super::*;

impl Runner {
    /// Has the store write outcomes, discard, or look for due rows.
    pub(super) fn use_store(&mut self, now: Timestamp) {
        if self.store_is_busy() || self.store_pause.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.store_pause = None;
        self.begin_replays();
        let inbox = self.inbox.clone();
        let id = self.id;
        // In turn: there may always be something to write.
        let look = self.wants_due(now);
        let other = look || !self.discards.is_empty() || !self.pauses.is_empty();
        if (self.forgets_unwritten() || self.replays_wait() || !(other && self.wrote_last))
            && let Some(settlement) = self.settlement(false)
        {
            self.wrote_last = true;
            self.written += 1;
            self.writing = Some(settlement.clone());
            self.tasks
                .spawn(async move { Report::Settled(inbox.commit(id, settlement).await) });
        } else if let Some(discard) = self.discards.pop_front() {
            self.wrote_last = false;
            self.discard(discard);
        } else if let Some(pause) = self.pauses.pop_front() {
            self.wrote_last = false;
            self.pause(pause);
        } else if look {
            self.wrote_last = false;
            // More than those that run and those that wait for these to end: a stream has at most two due rows.
            let limit = 2 * self.settings.concurrency + 2;
            let until = if self.health.is_down() {
                Timestamp::from_millis(i64::MAX)
            } else {
                now
            };
            let latest = now.plus(self.settings.retry.max);
            self.look_for_due = false;
            self.looking = true;
            self.tasks
                .spawn(async move { Report::Due(inbox.due(id, until, latest, limit).await) });
        }
    }

    pub(super) fn store_is_busy(&self) -> bool {
        self.writing.is_some() || self.looking || self.discarding
    }

    pub(super) fn wants_due(&self, now: Timestamp) -> bool {
        let timer = self.next_due.is_some_and(|due| due <= now);
        !self.paused
            && (self.look_for_due || timer)
            && self.due.iter().all(|owed| self.is_busy(owed.lane))
    }

    /// What is to be written now.
    pub(super) fn settlement(&mut self, position_at_once: bool) -> Option<DeliveryCommit> {
        let position = self.window.position();
        let moved = position > self.written_position;
        let timely = position_at_once || Instant::now() >= self.next_position;
        if self.unwritten.changes.is_empty() && !(moved && timely) {
            return None;
        }
        self.next_position = Instant::now() + POSITION_EVERY;
        let changes = std::mem::take(&mut self.unwritten.changes);
        Some(DeliveryCommit {
            epoch: self.epoch,
            position: moved.then_some(position),
            changes,
        })
    }

    /// Reads what there is room for; `true` if something came of it at once.
    pub(super) fn read(&mut self) -> bool {
        let wanted = self.window.room().min(READ);
        // One look at the backlog per probe: another stream may be the one that works.
        let stuck = self.health.is_down() && !(self.probed && self.window.len() == 0);
        let behind = self.unwritten.changes.len() >= UNWRITTEN;
        let held_up = self.paused || self.reading || self.store_pause.is_some() || behind;
        if held_up || wanted == 0 || stuck || self.blocked.len() >= BLOCKED_LANES {
            return false;
        }
        // Registered before looking: what is committed from here on wakes the loop.
        let upto = *self.committed.borrow_and_update();
        if upto <= self.window.read_to() {
            return false;
        }
        self.probed = false;
        self.reading = true;
        let inbox = self.inbox.clone();
        let after = self.window.read_to();
        match at_once(Box::pin(async move {
            inbox.after(after, wanted, READ_BYTES).await
        })) {
            Ok(events) => {
                self.took_events(upto, events);
                true
            }
            Err(pending) => {
                self.tasks
                    .spawn(async move { Report::Read(upto, pending.await) });
                false
            }
        }
    }

    pub(super) fn took_events(&mut self, upto: Seq, events: Result<Vec<Event>, StoreError>) {
        self.reading = false;
        self.looked = Instant::now();
        let Ok(events) = events else {
            self.pause_store();
            return;
        };
        if events.is_empty() {
            // Retention has removed whatever was there.
            self.window.read(upto);
        }
        for event in events {
            let seq = event.seq();
            self.window.read(seq);
            let settled = self.settled_before.contains(&seq) || self.deleted.contains(&seq);
            if !settled && self.settings.wants(&event) {
                self.window.push(event);
            }
        }
        let read_to = self.window.read_to();
        self.settled_before.retain(|seq| *seq > read_to);
        self.deleted.retain(|seq| *seq > read_to);
        self.sort();
    }

    pub(super) fn took_due(&mut self, rows: Result<(Vec<Owed>, Option<Timestamp>), StoreError>) {
        self.looking = false;
        let Ok((rows, next)) = rows else {
            self.look_for_due = true;
            self.pause_store();
            return;
        };
        self.next_due = next;
        let found = rows.len();
        for owed in rows {
            if self.in_doubt.insert(owed.event.seq()) {
                self.due.push(owed);
            }
        }
        // There may be more; they are looked for when none of these can be started.
        self.look_for_due |= found > 2 * self.settings.concurrency;
        let nothing_left = found == 0
            && self.window.len() == 0
            && self.running.is_empty()
            && self.unwritten.changes.is_empty();
        if nothing_left && self.health.is_down() {
            // Nothing is left to probe with: let the next event be the probe.
            self.health.nothing_to_probe_with();
        }
    }

    pub(super) fn settled(&mut self, result: Result<(), StoreError>) {
        let Some(settlement) = self.writing.take() else {
            return;
        };
        if result.is_err() {
            let newer = std::mem::replace(&mut self.unwritten.changes, settlement.changes);
            self.unwritten.changes.extend(newer);
            self.pause_store();
            return;
        }
        self.written_position = settlement.position.unwrap_or(self.written_position);
        self.look_for_due |= !settlement.changes.is_empty();
        if self.in_doubt.is_empty() {
            return;
        }
        // What runs, and what ended while its row was being written, is not as the store has it.
        let running = self.running.values();
        let known_better: HashSet<Seq> = running
            .map(|running| running.attempt.event.seq())
            .chain(self.unwritten.changes.iter().map(DeliveryChange::seq))
            .collect();
        for change in settlement.changes {
            if !known_better.contains(&change.seq()) {
                self.in_doubt.remove(&change.seq());
            }
        }
    }

    /// A task that was no attempt panicked: whatever it was, it did not do its work.
    pub(super) fn recover(&mut self) {
        tracing::error!(
            handler.name = self.name,
            "a task of the dispatcher panicked"
        );
        self.reading = false;
        self.looking = false;
        self.discarding = false;
        self.look_for_due = true;
        self.settled(Err(StoreError::Failed));
        self.pause_store();
    }

    pub(super) fn pause_store(&mut self) {
        self.store_pause = Some(Instant::now() + STORE_PAUSE);
    }
}
