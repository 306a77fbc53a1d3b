//! The loop of a part of livehook that gets events in arrival order, many at once, and is never in a hurry.
//!
//! It has a thread of its own that steps back behind all others, reads only what has come to rest in the store, and has no
//! rows: what could not be taken is tried again until it can.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::select;
use tokio::time::{Instant, sleep_until};

use super::runner::{Command, Leased};
use super::status::{InMemory, State, Status};
use super::*;
use crate::handler::Parts;
use crate::inbox::delivery::Settlement;

/// Events taken at once. A long look at the store would keep its log from being taken up again.
const PART: usize = 512;
const PART_BYTES: usize = 1 << 20;
/// More comes together meanwhile.
const GATHER: Duration = Duration::from_millis(20);
/// What has not come to rest after so long is fetched.
const PATIENCE: Duration = Duration::from_millis(200);
/// The position is written this often: after a crash, what was taken since comes again.
const POSITION_EVERY: Duration = Duration::from_millis(500);
/// Between tries of what failed.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Taking {
    pub(super) name: String,
    pub(super) leased: Leased,
    pub(super) parts: Arc<dyn Parts>,
    pub(super) inbox: Inbox,
    pub(super) status: Arc<Status>,
}

struct Loop {
    id: HandlerId,
    epoch: Option<i64>,
    until: watch::Receiver<Instant>,
    committed: watch::Receiver<Seq>,
    taking: Arc<dyn Parts>,
    inbox: Inbox,
    status: Arc<Status>,
    position: Seq,
    written: Seq,
    next_position: Instant,
    /// Since when nothing was found that has come to rest, though there is something.
    waiting: Option<Instant>,
}

/// Takes events until it is told to stop.
pub(super) fn spawn(taking: Taking, commands: mpsc::Receiver<Command>) -> JoinHandle<()> {
    let (ended, end) = oneshot::channel::<()>();
    let runtime = Handle::current();
    let name = taking.name.clone();
    let spawned = std::thread::Builder::new()
        .name("livehook-parts".to_owned())
        .spawn(move || {
            let _ended = ended;
            step_back();
            runtime.block_on(Loop::of(taking).run(commands));
        });
    if let Err(error) = spawned {
        tracing::error!(%error, handler.name = name, "a thread could not be started");
    }
    tokio::spawn(async move {
        let _ = end.await;
    })
}

/// What answers senders goes first.
fn step_back() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), 19) {
        tracing::debug!(%error, "a thread runs with the priority of all others");
    }
}

impl Loop {
    fn of(taking: Taking) -> Self {
        let registered = taking.leased.registered;
        Self {
            id: registered.id,
            epoch: taking.leased.epoch,
            until: taking.leased.until,
            committed: taking.inbox.committed(),
            taking: taking.parts,
            inbox: taking.inbox,
            status: taking.status,
            position: registered.position,
            written: registered.position,
            next_position: Instant::now(),
            waiting: None,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let pause = self.step().await;
            self.show();
            let wake = Instant::now() + pause;
            loop {
                select! {
                    biased;
                    command = commands.recv() => match command {
                        None | Some(Command::Stop { .. }) => {
                            self.write_position().await;
                            return;
                        }
                        // Between two parts; nothing is held back that was read before.
                        Some(command) => command.answer_nothing(),
                    },
                    () = sleep_until(wake) => break,
                }
            }
        }
    }

    /// Takes a part, if there is one: when to look again.
    async fn step(&mut self) -> Duration {
        if self.written < self.position && Instant::now() >= self.next_position {
            self.write_position().await;
        }
        // A part has to be over before somebody else may take the next.
        if Instant::now() + PAUSE >= *self.until.borrow() {
            return PAUSE;
        }
        let upto = *self.committed.borrow_and_update();
        if upto <= self.position {
            return GATHER;
        }
        match self.read(upto).await {
            Ok(None) => GATHER,
            Ok(Some(events)) => self.take(upto, events).await,
            Err(_) => PAUSE,
        }
    }

    /// The next events; nothing if they have not come to rest yet.
    async fn read(&mut self, upto: Seq) -> Result<Option<Vec<Event>>, StoreError> {
        let settled = self.inbox.after_at_rest(self.position, PART, PART_BYTES);
        let events = settled.await?;
        if !events.is_empty() {
            self.waiting = None;
            return Ok(Some(events));
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        if since.elapsed() < PATIENCE {
            return Ok(None);
        }
        self.waiting = None;
        let events = self.inbox.after(self.position, PART, PART_BYTES).await?;
        if events.is_empty() {
            self.position = upto; // retention has removed whatever was there
        }
        Ok(Some(events))
    }

    async fn take(&mut self, upto: Seq, events: Vec<Event>) -> Duration {
        let Some(last) = events.last().map(Event::seq) else {
            return GATHER;
        };
        let is_full = last < upto;
        match self.taking.take(events).await {
            Ok(()) => {
                self.position = last;
                if is_full { Duration::ZERO } else { GATHER }
            }
            Err(_) => PAUSE,
        }
    }

    async fn write_position(&mut self) {
        if self.written == self.position {
            return;
        }
        self.next_position = Instant::now() + POSITION_EVERY;
        let settlement = Settlement {
            epoch: self.epoch,
            position: Some(self.position),
            changes: Vec::new(),
        };
        // What fails is tried again; a receiver that has lost its lease fails until it is told to stop.
        if self.inbox.settle(self.id, settlement).await.is_ok() {
            self.written = self.position;
        }
    }

    fn show(&self) {
        self.status.show(InMemory {
            state: State::Running,
            read_to: self.position,
            ..InMemory::default()
        });
    }
}
