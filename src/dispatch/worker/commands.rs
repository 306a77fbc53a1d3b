//! Commands to a worker: replay, discard, forget, pause.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Attempt, Running, TaskOutput, Worker, WorkerCommand};
use crate::event::{Event, Seq};
use crate::inbox::delivery::{DeliveryChange, HandlerId, InHand, Lane, Selection, stream_lane};
use crate::inbox::{Inbox, StoreError};

/// How many rows one transaction removes.
const CHUNK: usize = 500;

/// A replay that waits until the outcomes from before it are written as rows.
pub(super) struct Replay {
    selection: Selection,
    dry_run: bool,
    reply: oneshot::Sender<Result<u64, StoreError>>,
    /// The replay starts when so many commits have started and the last one has ended.
    after: u64,
}

/// A discard that waits until the store is free.
pub(super) struct Discard {
    target: DiscardTarget,
    reply: oneshot::Sender<Result<u64, StoreError>>,
}

enum DiscardTarget {
    /// A dry run only counts.
    Selected { selection: Selection, dry_run: bool },
    /// All deliveries of these events, which are about to be deleted.
    Events(HashSet<Seq>),
}

/// A pause or a resume that waits until the store is free.
pub(super) struct Pause {
    paused: bool,
    was_paused: bool,
    reply: oneshot::Sender<Result<u64, StoreError>>,
}

/// The result of a discard: the lanes of the removed due and waiting rows, once for each row, and
/// the events whose deliveries are still in memory.
#[derive(Default)]
pub(super) struct Discarded {
    lanes: Vec<Lane>,
    seqs: Vec<Seq>,
}

impl Worker {
    pub(super) fn execute(&mut self, command: WorkerCommand) {
        match command {
            WorkerCommand::Replay {
                selection,
                dry_run,
                reply,
            } => self.replay(selection, dry_run, reply),
            WorkerCommand::Discard {
                selection,
                dry_run,
                reply,
            } => self.discards.push_back(Discard {
                target: DiscardTarget::Selected { selection, dry_run },
                reply,
            }),
            WorkerCommand::Forget { seqs, reply } => self.discards.push_back(Discard {
                target: DiscardTarget::Events(seqs.into_iter().collect()),
                reply,
            }),
            WorkerCommand::Pause { paused, reply } => {
                // The pause takes effect at once. The reply comes when the store has it.
                let was_paused = self.paused;
                self.paused |= paused;
                self.pauses.push_back(Pause {
                    paused,
                    was_paused,
                    reply,
                });
            }
            WorkerCommand::Stop { .. } => {}
        }
    }

    fn replay(
        &mut self,
        selection: Selection,
        dry_run: bool,
        reply: oneshot::Sender<Result<u64, StoreError>>,
    ) {
        let unwritten = !self.unwritten.is_empty();
        self.replays.push(Replay {
            selection,
            dry_run,
            reply,
            after: self.commits_started + u64::from(unwritten),
        });
    }

    /// Whether a replay waits for a commit.
    pub(super) fn replay_must_wait(&self) -> bool {
        let mut replays = self.replays.iter();
        replays.any(|replay| replay.after > self.commits_started)
    }

    /// Starts the replays that wait for no commit. No commit is being written now.
    pub(super) fn start_replays(&mut self) {
        let started = self.commits_started;
        let ready = |replay: &mut Replay| replay.after <= started;
        for replay in self.replays.extract_if(.., ready).collect::<Vec<_>>() {
            self.start_replay(replay);
        }
    }

    fn start_replay(&mut self, replay: Replay) {
        let Replay {
            selection,
            dry_run,
            reply,
            ..
        } = replay;
        let in_hand = Arc::new(self.in_hand());
        let settings = self.settings.clone();
        let wants = Arc::new(move |event: &Event| settings.wants(event));
        let (inbox, id) = (self.inbox.clone(), self.id);
        self.replay_tasks.retain(|replay| !replay.is_finished());
        self.replay_tasks.push(self.tasks.spawn(async move {
            let result = inbox.replay(id, selection, wants, in_hand, dry_run).await;
            let is_due = !dry_run && result.is_ok_and(|count| count > 0);
            let _ = reply.send(result);
            TaskOutput::Replayed(is_due)
        }));
    }

    /// What the worker knows of a delivery beside its row. An event that was read, or a first
    /// attempt, needs no replay: it is delivered in a moment. If the handler is down it waits for
    /// the next probe, so a replay counts it. A running attempt that is not the first is counted
    /// too, because its delivery has waited already.
    fn in_hand(&self) -> impl Fn(Seq) -> InHand + Send + Sync + 'static {
        let open = if self.health.is_down() {
            InHand::Owed
        } else {
            InHand::InProgress
        };
        let mut known: HashMap<Seq, InHand> = HashMap::new();
        known.extend(self.read_ahead.open().map(|seq| (seq, open)));
        known.extend(self.rows_ahead.iter().map(|seq| (*seq, InHand::Nothing)));
        let ended = self.unwritten.iter().map(DeliveryChange::seq);
        known.extend(ended.map(|seq| (seq, open)));
        for Running { attempt, .. } in self.running.values() {
            let is_first = attempt.attempts.count == 0;
            let in_hand = if is_first { open } else { InHand::Owed };
            known.insert(attempt.event.seq(), in_hand);
        }
        let read_to = self.read_ahead.read_to();
        move |seq| match known.get(&seq) {
            Some(in_hand) => *in_hand,
            None if seq > read_to => open,
            None => InHand::Nothing,
        }
    }

    pub(super) fn replay_ended(&mut self, is_due: bool) {
        self.look_for_due = true;
        if is_due {
            self.health.probe_at(self.clock.steady());
        }
    }

    /// Starts a discard. While it runs, no row of this handler is read or written.
    pub(super) fn discard(&mut self, discard: Discard) {
        let Discard { target, reply } = discard;
        let (selection, dry_run) = match target {
            DiscardTarget::Selected { selection, dry_run } => (selection, dry_run),
            DiscardTarget::Events(seqs) => return self.forget(seqs, reply),
        };
        let replaying: Vec<Seq> = self.replaying_seqs().collect();
        let (inbox, id) = (self.inbox.clone(), self.id);
        self.changing_rows = true;
        self.tasks.spawn(async move {
            let result = inbox.discard(id, selection, dry_run).await;
            let mut discarded = Discarded::default();
            if let (Ok((count, lanes)), false) = (&result, dry_run) {
                discarded.lanes.clone_from(lanes);
                discarded.seqs = match selection {
                    Selection::Event(seq) if *count > 0 => vec![seq],
                    Selection::Event(_) => Vec::new(),
                    _ => without_rows(&inbox, id, replaying).await,
                };
            }
            let _ = reply.send(result.map(|(count, _)| count));
            TaskOutput::Discarded(discarded)
        });
    }

    /// Whether the next forget must wait until the changes of its events are written. After that,
    /// the events that count in a lane are exactly those that have a row.
    pub(super) fn forget_must_wait(&self) -> bool {
        match self.discards.front().map(|discard| &discard.target) {
            Some(DiscardTarget::Events(seqs)) => {
                let changes = &self.unwritten;
                changes.iter().any(|change| seqs.contains(&change.seq()))
            }
            _ => false,
        }
    }

    /// Gives up events that are about to be deleted. First it removes them from memory, so that no
    /// attempt starts and no outcome of a running one is stored. Then it removes their rows. If the
    /// deletion fails later, the events stay given up.
    fn forget(&mut self, gone: HashSet<Seq>, reply: oneshot::Sender<Result<u64, StoreError>>) {
        self.read_ahead.forget(&gone);
        for Running { attempt, .. } in self.running.values_mut() {
            let seq = attempt.event.seq();
            if gone.contains(&seq) {
                // Treat it like a delivery whose row is discarded.
                attempt.has_row = true;
                self.read_ahead.close(seq);
                self.discarded.insert(seq);
            }
        }
        for owed in self
            .due
            .extract_if(.., |owed| gone.contains(&owed.event.seq()))
        {
            self.unconfirmed.remove(&owed.event.seq());
        }
        // The events of earlier deletions are gone by now: no later read returns them.
        if !self.reading {
            self.deleted_ahead.clear();
        }
        let read_to = self.read_ahead.read_to();
        let unread = gone.iter().filter(|seq| **seq > read_to);
        self.deleted_ahead.extend(unread);
        let (inbox, id) = (self.inbox.clone(), self.id);
        self.changing_rows = true;
        self.tasks.spawn(async move {
            let mut discarded = Discarded::default();
            let mut result = Ok(0);
            let seqs: Vec<Seq> = gone.into_iter().collect();
            for chunk in seqs.chunks(CHUNK) {
                match inbox.discard_events(id, chunk.to_vec()).await {
                    Ok((count, lanes)) => {
                        discarded.lanes.extend(lanes);
                        result = result.map(|all: u64| all + count);
                    }
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
            let _ = reply.send(result);
            TaskOutput::Discarded(discarded)
        });
    }

    /// Starts a pause or a resume. Meanwhile no due row is read: a resume makes the rows younger.
    pub(super) fn pause(&mut self, pause: Pause) {
        let Pause {
            paused,
            was_paused,
            reply,
        } = pause;
        let (inbox, id, now) = (self.inbox.clone(), self.id, self.clock.steady());
        self.changing_rows = true;
        self.tasks.spawn(async move {
            let result = inbox.pause(id, paused, now).await;
            let is_paused = if result.is_ok() { paused } else { was_paused };
            let _ = reply.send(result.map(|()| 1));
            TaskOutput::Paused(is_paused)
        });
    }

    pub(super) fn pause_written(&mut self, paused: bool) {
        self.changing_rows = false;
        self.paused = paused || self.pauses.iter().any(|pause| pause.paused);
        // These rows were read with their old age, so they must be read again.
        for owed in std::mem::take(&mut self.due) {
            self.unconfirmed.remove(&owed.event.seq());
        }
        self.look_for_due = true;
    }

    /// The replayed deliveries in memory. They count as parked until they are done.
    fn replaying_seqs(&self) -> impl Iterator<Item = Seq> {
        let due = self.due.iter().map(|owed| (owed.event.seq(), owed.lane));
        let running = self
            .running
            .values()
            .map(|running| (running.attempt.event.seq(), running.attempt.lane));
        let ended = self
            .unwritten
            .iter()
            .map(|change| (change.seq(), change.lane()));
        due.chain(running)
            .chain(ended)
            .filter(|(_, lane)| *lane != stream_lane(*lane))
            .map(|(seq, _)| seq)
    }

    pub(super) fn rows_discarded(&mut self, discarded: Discarded) {
        self.changing_rows = false;
        self.look_for_due = true;
        discarded
            .seqs
            .iter()
            .for_each(|seq| self.drop_from_memory(*seq));
        discarded.lanes.iter().for_each(|lane| self.unblock(*lane));
    }

    /// Removes a delivery whose row is gone from `due`, `running`, and `unwritten`.
    fn drop_from_memory(&mut self, seq: Seq) {
        self.due.retain(|owed| owed.event.seq() != seq);
        let is_same = |attempt: &Attempt| attempt.has_row && attempt.event.seq() == seq;
        if self
            .running
            .values()
            .any(|running| is_same(&running.attempt))
        {
            self.discarded.insert(seq);
            return;
        }
        self.unconfirmed.remove(&seq);
        let ended = |change: &mut DeliveryChange| change.seq() == seq;
        for change in self.unwritten.extract_if(.., ended) {
            let frees_row = matches!(
                change,
                DeliveryChange::Done { .. } | DeliveryChange::Park { .. }
            );
            if frees_row && change.lane() == stream_lane(change.lane()) {
                // This change has unblocked the lane, and so does the discard: count it only once.
                *self.blocked.entry(change.lane()).or_default() += 1;
            }
        }
    }
}

async fn without_rows(inbox: &Inbox, id: HandlerId, seqs: Vec<Seq>) -> Vec<Seq> {
    let mut gone = Vec::new();
    for seq in seqs {
        if let Ok((0, _)) = inbox.discard(id, Selection::Event(seq), true).await {
            gone.push(seq);
        }
    }
    gone
}
