//! The embedded engine: one directory, a journal that answers wait for, and one SQLite file in WAL mode behind it.
//!
//! Three threads: one accepts into the journal (`intake`), one moves what it holds into SQLite and does every other write
//! (`writer`), one moves SQLite's WAL into its file (`wal`). No answer waits for the second or the third. Reads have
//! connections of their own; they wait until SQLite has what was accepted before they were asked.

mod deliveries;
mod directory;
mod events;
mod identity;
mod intake;
mod journal;
mod progress;
mod readers;
mod recent;
mod schema;
mod space;
mod tail;
mod wal;
mod writer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use css_callbacks::{EventId, Timestamp};
use rusqlite::{Connection, ErrorCode};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use self::directory::{checkpoint_whole, close, connect, create_durably, lock};
use self::identity::Files;
use self::intake::queue::{self, Requests};
use self::intake::{Intake, Request};
use self::journal::{Damage, Journal};
use self::progress::Progress;
use self::readers::Readers;
use self::recent::{Change, Recent, Upkeep};
use self::schema::SchemaError;
use self::space::Space;
use self::tail::Tail;
use self::writer::{Command, Commands, Writer};
use super::delivery::{
    DeliveryCommit, DeliveryRow, HandlerId, Lane, Owed, Parked, Registered, ReplayedDelivery,
    RowCounts, Start,
};
use super::query::{EventFilter, Page};
use super::settings::{InboxSettings, SqliteSettings};
use super::sweep::Sweep;
use super::{Condition, OpenError, Receipt, StoreError};
use crate::auth::Authentic;
use crate::budget::Charge;
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::metrics::Metrics;

/// Events removed, or rows looked at, in one go.
const CHUNK: usize = 500;

/// The WAL is not longer at rest.
const WAL_LIMIT: i64 = wal::WAL_LIMIT_PAGES * 8192;

/// A reader waits no longer for what was accepted before to be moved: something holds the writer up.
const MOVED_WITHIN: Duration = Duration::from_secs(1);

/// An open store. Dropping it finishes what was sent to the writer.
pub(super) struct Store {
    path: PathBuf,
    requests: Requests,
    commands: Commands,
    readers: Arc<Readers>,
    committed: watch::Receiver<Seq>,
    tail: Arc<Tail>,
    progress: Arc<Progress>,
    swept: Mutex<Sweep>,
    clock: Clock,
    settings: InboxSettings,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Given back when it is closed.
    lock: Mutex<Option<File>>,
}

impl Store {
    /// Opens or creates the store; waits for another process to leave the directory.
    pub(super) fn open(
        settings: &InboxSettings,
        own: &SqliteSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let path = own.path.clone();
        let unwritable = |error: std::io::Error| OpenError::Unwritable {
            path: path.clone(),
            error,
        };
        create_durably(&path).map_err(unwritable)?;
        let lock = lock(&path, own.lock_wait)?;
        let file = path.join("inbox.db");
        let sqlite = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                OpenError::Unwritable {
                    path: file.clone(),
                    error: std::io::Error::other(error),
                }
            }
            _ => OpenError::Broken {
                path: file.clone(),
                reason: error.to_string(),
            },
        };
        let mut conn = connect(&file).map_err(sqlite)?;
        conn.pragma_update(None, "wal_autocheckpoint", 0)
            .map_err(sqlite)?;
        conn.pragma_update(None, "cache_size", -4096)
            .map_err(sqlite)?;
        // What a burst took is given back when the WAL is begun anew.
        conn.pragma_update(None, "journal_size_limit", WAL_LIMIT)
            .map_err(sqlite)?;
        schema::migrate(&mut conn).map_err(|error| match error {
            SchemaError::Sqlite(error) => sqlite(error),
            other => OpenError::Broken {
                path: file.clone(),
                reason: other.to_string(),
            },
        })?;
        let damage = |damage: Damage| match damage {
            Damage::Io(error) => unwritable(error),
            Damage::Sqlite(error) => sqlite(error),
            gap @ Damage::Gap { .. } => OpenError::Broken {
                path: path.clone(),
                reason: gap.to_string(),
            },
        };
        let last = last_seq(&conn).map_err(sqlite)?;
        let last = writer::recover(&conn, &path, last).map_err(damage)?;
        // The journal is written over from now on. A process that was killed may not have synced what it had moved, or its sync
        // failed: what the WAL holds is written once more.
        let is_sure = journal::is_empty(&path) || checkpoint_whole(&conn).map_err(sqlite)?;
        if !is_sure {
            tracing::warn!(
                "another program reads inbox.db and keeps SQLite's log from being moved into it: the journal grows until it ends"
            );
        }
        let cutoff = clock.now().minus(settings.dedupe_window);
        let recent = Recent::load(&conn, last, cutoff).map_err(sqlite)?;
        let upkeep = Upkeep::load(&conn).map_err(sqlite)?;
        let runtime = Handle::try_current().ok();
        let (requests, queue) = queue::queue(runtime.clone());
        let (commands, received_commands) = mpsc::channel();
        let (committed, watched) = watch::channel(last);
        let tail = Arc::new(Tail::default());
        let readers = Arc::new(Readers::new(file.clone()));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(unwritable)
        };
        let (alive, ended) = mpsc::channel::<()>();
        let kept = (!is_sure).then_some(last);
        let journal = Journal::open(&path, kept).map_err(unwritable)?;
        let files = Files::of(&path).map_err(unwritable)?;
        let progress = Arc::new(Progress::new(last, files));
        progress.doubt(!is_sure);
        let checkpoints = connect(&file).map_err(sqlite)?;
        checkpoints
            .busy_timeout(wal::RESTART_WAIT)
            .map_err(sqlite)?;
        let wal = spawn(
            "inbox-wal",
            Box::new({
                let progress = progress.clone();
                move || wal::run(&checkpoints, &progress, &ended)
            }),
        )?;
        let writer = Writer::new(conn, progress.clone(), upkeep);
        let writer = spawn(
            "inbox-writer",
            Box::new(move || {
                let _alive = alive;
                writer.run(&received_commands);
            }),
        )?;
        let commands = Commands::new(commands, writer.thread().clone());
        let intake = Intake {
            conn: readers.connect().map_err(sqlite)?,
            journal,
            recent,
            space: Space::new(&path, own.min_free),
            last,
            dedupe_window: settings.dedupe_window,
            clock: clock.clone(),
            metrics,
            committed,
            tail: tail.clone(),
            progress: progress.clone(),
            writer: commands.clone(),
            runtime,
        };
        // The directory entry of a new file must survive as well.
        File::open(&path)
            .and_then(|dir| dir.sync_all())
            .map_err(unwritable)?;
        let intake = spawn("inbox-intake", Box::new(move || intake.run(queue)))?;
        let threads = vec![intake, writer, wal];
        Ok(Self {
            readers,
            path,
            requests,
            commands,
            committed: watched,
            tail,
            progress,
            swept: Mutex::default(),
            clock,
            settings: settings.clone(),
            threads: Mutex::new(threads),
            lock: Mutex::new(Some(lock)),
        })
    }

    pub(super) fn committed(&self) -> watch::Receiver<Seq> {
        self.committed.clone()
    }

    pub(super) fn condition(&self) -> Condition {
        self.progress.condition()
    }

    pub(super) fn condemn_if_not_synced(&self, error: &rusqlite::Error) {
        self.progress.condemn_if_not_synced(error);
    }

    /// Ends when only a new start can help.
    pub(super) async fn until_condemned(&self) {
        self.progress.until_condemned().await;
    }

    /// Looks whether the files are still there; [`Self::condition`] says what was found.
    pub(super) async fn check_files(&self) {
        let progress = self.progress.clone();
        let _ = tokio::task::spawn_blocking(move || progress.check_files()).await;
    }

    pub(super) async fn accept(
        &self,
        callback: Authentic,
        charge: Option<Charge>,
        unless_ever_stored: bool,
    ) -> Result<Receipt, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Accept {
            callback,
            charge,
            reply,
            unless_ever_stored,
        });
        self.answer(answer).await
    }

    pub(super) async fn register(
        &self,
        configured: Vec<(String, Start)>,
    ) -> Result<Vec<Registered>, StoreError> {
        let now = self.clock.now();
        // A part of livehook is in no hurry: nothing is kept in memory for it.
        self.tail.want(
            configured
                .iter()
                .any(|(name, _)| !super::delivery::is_projection(name)),
        );
        self.write(move |conn| deliveries::register(conn, &configured, last_seq(conn)?, now))
            .await
    }

    pub(super) async fn resume(&self, handler: HandlerId) -> Result<Registered, StoreError> {
        self.read(move |conn| deliveries::resume(conn, handler))
            .await
    }

    pub(super) async fn pause(
        &self,
        handler: HandlerId,
        paused: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |conn| deliveries::pause(conn, handler, paused, now))
            .await
    }

    pub(super) async fn position(&self, handler: HandlerId) -> Result<Seq, StoreError> {
        self.read(move |conn| deliveries::position(conn, handler))
            .await
    }

    pub(super) async fn commit(
        &self,
        handler: HandlerId,
        commit: DeliveryCommit,
    ) -> Result<(), StoreError> {
        self.write(move |conn| deliveries::settle(conn, handler, &commit))
            .await
    }

    pub(super) async fn after(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        match self.tail.after(seq, limit, bytes) {
            Some(events) => Ok(events),
            None => {
                self.read(move |conn| events::after(conn, seq, limit, bytes))
                    .await
            }
        }
    }

    /// Without making the writer hurry, as [`Self::read`] does.
    pub(super) fn after_at_rest(
        &self,
        seq: Seq,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let read = |conn: &Connection| events::after(conn, seq, limit, bytes);
        self.readers.with(read).map_err(|error| {
            if !matches!(error, rusqlite::Error::InvalidPath(_)) {
                tracing::error!(store.error = %error, "the store could not be read");
            }
            StoreError::Failed
        })
    }

    pub(super) async fn due(
        &self,
        handler: HandlerId,
        until: Timestamp,
        latest: Timestamp,
        limit: usize,
    ) -> Result<(Vec<Owed>, Option<Timestamp>), StoreError> {
        self.read(move |conn| deliveries::due(conn, handler, until, latest, limit))
            .await
    }

    pub(super) async fn count(&self, handler: HandlerId) -> Result<RowCounts, StoreError> {
        self.read(move |conn| deliveries::count(conn, handler))
            .await
    }

    pub(super) async fn received_from(
        &self,
        seq: Seq,
    ) -> Result<Option<(Seq, Timestamp)>, StoreError> {
        self.read(move |conn| events::received_from(conn, seq))
            .await
    }

    pub(super) async fn parked(
        &self,
        handler: HandlerId,
        beyond: Seq,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        self.read(move |conn| deliveries::parked(conn, handler, beyond, newest_first, limit))
            .await
    }

    pub(super) async fn search(
        &self,
        filter: EventFilter,
        beyond: Option<Seq>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Page<Event>, StoreError> {
        self.read(move |conn| events::search(conn, &filter, beyond, newest_first, limit))
            .await
    }

    pub(super) async fn find(&self, id: EventId) -> Result<Option<Event>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Find { id, reply });
        match self.answer(answer).await? {
            Some(seq) => self.read(move |conn| events::one(conn, seq)).await,
            None => {
                self.read(move |conn| match recent::find_on_disk(conn, &id)? {
                    Some(seq) => events::one(conn, seq),
                    None => Ok(None),
                })
                .await
            }
        }
    }

    pub(super) async fn replay(
        &self,
        handler: HandlerId,
        wanted: Vec<ReplayedDelivery>,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        self.write(move |conn| deliveries::replay(conn, handler, &wanted, dry_run))
            .await
    }

    pub(super) async fn discard(
        &self,
        handler: HandlerId,
        wanted: Vec<Seq>,
    ) -> Result<(u64, Vec<Lane>), StoreError> {
        self.write(move |conn| deliveries::discard(conn, handler, &wanted))
            .await
    }

    pub(super) async fn hold(&self, handler: HandlerId, seqs: Vec<Seq>) -> Result<(), StoreError> {
        self.write(move |conn| deliveries::hold(conn, handler, &seqs))
            .await
    }

    pub(super) async fn these(&self, seqs: Vec<Seq>) -> Result<Vec<Event>, StoreError> {
        self.read(move |conn| {
            let events = seqs.iter().map(|seq| events::one(conn, *seq));
            events.filter_map(Result::transpose).collect()
        })
        .await
    }

    pub(super) async fn existing(&self, seqs: Vec<Seq>) -> Result<Vec<Seq>, StoreError> {
        self.read(move |conn| events::existing(conn, &seqs)).await
    }

    pub(super) async fn delete(&self, seqs: Vec<Seq>) -> Result<u64, StoreError> {
        let Some(newest) = seqs.iter().copied().max() else {
            return Ok(0);
        };
        let (removed, runs) = self
            .write(move |conn| {
                deliveries::delete(conn, &seqs)?;
                let removed = events::delete(conn, &seqs)?;
                Ok((removed, recent::forget_runs(conn, newest)?))
            })
            .await?;
        self.forgets(runs);
        self.tail.forget(newest);
        Ok(removed)
    }

    pub(super) async fn delivery_row(
        &self,
        handler: HandlerId,
        seq: Seq,
    ) -> Result<Option<DeliveryRow>, StoreError> {
        self.read(move |conn| deliveries::delivery_row(conn, handler, seq))
            .await
    }

    /// One round of retention; `true` if there is more to do.
    pub(super) async fn sweep(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let InboxSettings {
            retention,
            parked_retention,
            ..
        } = self.settings;
        let swept = || self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let round = swept().round();
        let (forgotten, removed, found, runs) = self
            .write(move |conn| {
                let forgotten = deliveries::forget_missing(conn, now, retention)?;
                let dropped = deliveries::drop_orphans(conn, CHUNK)?
                    + deliveries::drop_old_parked(conn, now, parked_retention, CHUNK)?;
                let floor = deliveries::floor(conn)?;
                let (removed, mut found) =
                    events::sweep(conn, round, floor, now, retention, CHUNK)?;
                found.dropped = dropped > 0;
                let mut runs = Vec::new();
                if removed > 0 {
                    runs = recent::forget_runs(conn, found.upto)?;
                }
                Ok((forgotten, removed, found, runs))
            })
            .await?;
        self.forgets(runs);
        if removed > 0 {
            self.tail.forget(found.upto);
        }
        for (name, rows) in forgotten {
            tracing::warn!(
                handler.name = name,
                deliveries = rows,
                "a handler that has long been missing from the configuration is forgotten, with what it was still owed"
            );
        }
        Ok(swept().finish_round(found))
    }

    /// Of these runs of ids no event is left.
    fn forgets(&self, runs: Vec<i64>) {
        if !runs.is_empty() {
            self.progress.changes(Change::Forgotten(runs.clone()));
            self.commands.send(Command::Remove(runs));
        }
    }

    /// Writes that change nothing, to find out whether the store works again.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        self.write(|conn| conn.execute(writer::TOUCH, []).map(drop))
            .await?;
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Probe { reply });
        self.answer(answer).await
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        let length =
            |name: &str| std::fs::metadata(self.path.join(name)).map_or(0, |file| file.len());
        length("inbox.db") + length("inbox.db-wal") + Journal::size(&self.path)
    }

    /// Finishes what was sent before and closes the files.
    pub(super) fn close(&self) {
        self.ask(Request::Close);
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let was_open = !threads.is_empty();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the inbox had panicked");
            }
        }
        let idle = self.readers.close();
        let accepted = *self.committed.borrow();
        if was_open
            && self.progress.is_surely_synced(accepted)
            && self.progress.check_files().is_ok()
        {
            journal::clear(&self.path);
            idle.into_iter().for_each(close);
        }
        self.tail.want(false);
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// A reply that is dropped says that it failed.
    async fn answer<T>(
        &self,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        answer.await.unwrap_or(Err(StoreError::Failed))
    }

    /// A request that finds nobody is dropped with its reply, which says that it failed; so is a command.
    fn ask(&self, request: Request) {
        self.requests.send(request);
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let progress = self.progress.clone();
        self.commands.send(Command::Write(Box::new(move |conn| {
            let result = in_savepoint(conn, job);
            // A statement may sync, too, and SQLite then ends the transaction with another error.
            if let Err(error) = &result {
                progress.condemn_if_not_synced(error);
            }
            Box::new(move |committed| {
                let result = committed.and_then(|()| {
                    result.map_err(|error| {
                        tracing::error!(store.error = %error, "a write to the store failed");
                        StoreError::Failed
                    })
                });
                let _ = reply.send(result);
            })
        })));
        self.answer(answer).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let accepted = *self.committed.borrow();
        if self.progress.moved() < accepted {
            self.commands.send(Command::Hurry);
            timeout(MOVED_WITHIN, self.progress.moved_to(accepted))
                .await
                .unwrap_or(Err(StoreError::Failed))?;
        }
        let readers = self.readers.clone();
        let result = tokio::task::spawn_blocking(move || readers.with(query)).await;
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(rusqlite::Error::InvalidPath(_))) => Err(StoreError::Failed), // it is closed
            Ok(Err(error)) => {
                tracing::error!(store.error = %error, "the store could not be read");
                Err(StoreError::Failed)
            }
            Err(_) => Err(StoreError::Failed),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn in_savepoint<T>(
    conn: &Connection,
    job: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    conn.execute_batch("SAVEPOINT job")?;
    let result = job(conn);
    conn.execute_batch(if result.is_ok() {
        "RELEASE job"
    } else {
        "ROLLBACK TO job; RELEASE job"
    })?;
    result
}

/// The highest number ever given to an event; events may be gone, positions remember.
fn last_seq(conn: &Connection) -> rusqlite::Result<Seq> {
    conn.query_row(
        "SELECT max(
            coalesce((SELECT max(seq) FROM events), 0),
            coalesce((SELECT max(position) FROM handlers), 0),
            coalesce((SELECT max(last) FROM id_runs), 0),
            (SELECT value FROM meta WHERE name = 'last_seq'))",
        [],
        |row| row.get(0),
    )
}

#[cfg(test)]
mod tests;
