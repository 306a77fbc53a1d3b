//! How events come to the board: as to a handler.

use tokio::sync::{mpsc, oneshot};

use std::sync::PoisonError;

use super::{Board, Place};
use crate::event::Event;
use crate::handler::{Failure, Handler, Handling};
use crate::inbox::StoreError;
use crate::stream::Told;

/// Under this name it has its position; no handler can have it.
pub const NAME: &str = "streams.board";
/// Facts written in one go.
const BATCH: usize = 512;

type Fed = (Told, oneshot::Sender<bool>);

/// Takes events and answers when they are on the board.
struct Feed(mpsc::Sender<Fed>);

impl Handler for Feed {
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
        let told = Told::by(event);
        Box::pin(async move {
            let Some(told) = told else { return Ok(()) };
            let (reply, done) = oneshot::channel();
            let closed = || Failure::retry("the board is closed");
            self.0.send((told, reply)).await.map_err(|_| closed())?;
            match done.await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::retry("the board cannot be written")),
                Err(_) => Err(closed()),
            }
        })
    }
}

impl Board {
    /// What the board is fed through. Belongs into a runtime.
    pub fn feed(&self) -> impl Handler {
        let (sender, mut fed) = mpsc::channel::<Fed>(BATCH);
        let board = self.clone();
        let mut batch = Vec::new();
        match &self.place {
            Place::File { .. } => {
                let thread = std::thread::Builder::new().name("streams".to_owned());
                let spawned = thread.spawn(move || {
                    step_back();
                    while fed.blocking_recv_many(&mut batch, BATCH) > 0 {
                        let (told, replies) = batch.drain(..).unzip();
                        answer(replies, board.apply_here(told));
                    }
                });
                if let Err(error) = spawned {
                    tracing::error!(%error, "the board of streams has no thread, and stays as it is");
                }
            }
            Place::Shared(_) => {
                tokio::spawn(async move {
                    while fed.recv_many(&mut batch, BATCH).await > 0 {
                        let (told, replies) = batch.drain(..).unzip();
                        answer(replies, board.apply(told, None).await);
                    }
                });
            }
        }
        Feed(sender)
    }

    /// Takes facts in, in the thread that calls.
    fn apply_here(&self, told: Vec<Told>) -> Result<(), StoreError> {
        let Place::File { shelf, .. } = &self.place else {
            return Err(StoreError::Failed);
        };
        let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let written = shelf.apply(&told, None, self.settle_at());
        drop(shelf);
        self.count(super::told_of(written)?);
        Ok(())
    }
}

fn answer(replies: Vec<oneshot::Sender<bool>>, written: Result<(), StoreError>) {
    for reply in replies {
        let _ = reply.send(written.is_ok());
    }
}

/// What answers senders goes first: the board may be late.
fn step_back() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), 19) {
        tracing::debug!(%error, "the board of streams runs as all others do");
    }
}
