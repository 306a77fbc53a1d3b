//! Opens the embedded store.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::EmbeddedStore;
use super::acceptor::Acceptor;
use super::backup::UNFINISHED_STATE;
use super::batcher;
use super::convert::convert;
use super::damage::{count_damaged, park_damaged};
use super::directory::{checkpoint_whole, connect, create_durably, lock, sync};
use super::disk_space::DiskSpace;
use super::event_cache::EventCache;
use super::files::Files;
use super::health::Health;
use super::log_maintenance::log_maintenance;
use super::readers::Readers;
use super::reads::Reads;
use super::retention::segment_span;
use super::schema::{self, SchemaError};
use super::state_writer::{StateWrites, WAL_LIMIT, state_writer};
use super::stored;
use crate::clock::{AgeCutoff, Clock};
use crate::event::Seq;
use crate::inbox::OpenError;
use crate::inbox::event_log::{self, Directory, EventLog, Layout, LogError};
use crate::inbox::settings::{InboxSettings, SqliteSettings};
use crate::metrics::Metrics;

/// A volume has room for so many segments at least, or they are smaller.
const SEGMENTS: u64 = 64;
const SMALLEST_SEGMENT: u64 = 1 << 20;

impl EmbeddedStore {
    /// Opens or creates the store. It waits until another process leaves the directory.
    pub(in super::super) fn open(
        settings: &InboxSettings,
        own: &SqliteSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let path = &own.path;
        let unwritable = |error| OpenError::unwritable(path, error);
        create_durably(path).map_err(unwritable)?;
        let lock = lock(path, own.lock_wait)?;
        let layout = layout(settings, own);
        let cutoff = AgeCutoff::older_than(settings.retention, clock.now());
        convert(path, &layout, cutoff)?;
        create_durably(&path.join("log")).map_err(unwritable)?;
        refuse_without_state(path)?;
        let (conn, in_doubt) = open_state(path)?;
        let (log, last) = open_log(path, (&conn, in_doubt), layout)?;
        let EventLog {
            appender,
            reader,
            keeper,
        } = log;
        // The directory entry of a new file must survive a power cut, too.
        sync(path).map_err(unwritable)?;
        let health = Arc::new(Health::new(Files::of(path).map_err(unwritable)?, in_doubt));
        let sqlite = |error| OpenError::sqlite(&path.join("state.db"), &error);
        let damaged = count_damaged(&conn).map_err(sqlite)?;
        metrics.damaged_events.set(damaged);
        let (state, writer) = state_writer(conn, health.clone());
        let (maintenance, maintainer) = log_maintenance(keeper, health.clone(), metrics.clone());
        let runtime = Handle::try_current().ok();
        let (requests, queue) = batcher::queue(runtime.clone());
        let (committed, watched) = watch::channel(last);
        let cache = Arc::new(EventCache::default());
        let acceptor = Acceptor {
            log: appender,
            reader: reader.clone(),
            disk_space: DiskSpace::new(path, own.min_free),
            dedupe_window: settings.dedupe_window,
            clock: clock.clone(),
            metrics: metrics.clone(),
            committed,
            cache: cache.clone(),
            health: health.clone(),
            maintenance: maintenance.clone(),
            runtime,
        };
        let threads = vec![
            spawn("inbox-accept", move || acceptor.run(queue)).map_err(unwritable)?,
            spawn("inbox-state", move || writer.run()).map_err(unwritable)?,
            spawn("inbox-log", move || maintainer.run()).map_err(unwritable)?,
        ];
        Ok(Self {
            path: path.clone(),
            requests,
            maintenance,
            reads: Arc::new(Reads {
                log: reader,
                readers: Readers::new(path.join("state.db")),
                damaged: damage_report(state.clone(), clock.clone(), metrics.clone()),
            }),
            state,
            committed: watched,
            cache,
            health,
            clock,
            settings: settings.clone(),
            min_free: own.min_free,
            metrics,
            removals: Arc::default(),
            erasure_pending: AtomicBool::new(false),
            threads: Mutex::new(threads),
            lock: Mutex::new(Some(lock)),
        })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// Refuses a directory that has a log, or a part of a backup, but no state: to begin with an empty state would give handlers again
/// what they have had, or forget what they are owed.
fn refuse_without_state(path: &Path) -> Result<(), OpenError> {
    if path.join("state.db").exists() {
        return Ok(());
    }
    if path.join(UNFINISHED_STATE).exists() {
        let reason =
            "this is a backup that was not finished; make another one in an empty directory";
        return Err(OpenError::broken(path, reason));
    }
    let log = Directory::new(path.join("log"));
    if event_log::has_segments(&log).map_err(|error| OpenError::unwritable(path, error))? {
        let reason = "log has events, but there is no state.db: put it back, or restore a backup; \
            to go on with the events and forget what handlers have had, create an empty file of that name";
        return Err(OpenError::broken(path, reason));
    }
    Ok(())
}

/// Opens `state.db`. Returns whether it may hold what is not on the disk.
fn open_state(path: &Path) -> Result<(Connection, bool), OpenError> {
    let sqlite = |error| OpenError::sqlite(&path.join("state.db"), &error);
    let mut conn = connect(&path.join("state.db")).map_err(sqlite)?;
    // The writer moves the WAL, because SQLite would not report that a sync failed then.
    conn.pragma_update(None, "wal_autocheckpoint", 0)
        .map_err(sqlite)?;
    conn.pragma_update(None, "cache_size", -4096)
        .map_err(sqlite)?;
    conn.pragma_update(None, "journal_size_limit", WAL_LIMIT)
        .map_err(sqlite)?;
    schema::migrate(&mut conn).map_err(|error| match error {
        SchemaError::Sqlite(error) => sqlite(error),
        other => OpenError::broken(path, other),
    })?;
    // A sync of an earlier process may have failed, so all that the WAL holds is written once more.
    let in_doubt = !checkpoint_whole(&conn).map_err(sqlite)?;
    if in_doubt {
        tracing::warn!(
            "another program reads state.db: retention and deletions wait until it ends"
        );
    }
    Ok((conn, in_doubt))
}

/// Opens the log. Returns it with the number of its last event.
fn open_log(
    path: &Path,
    (conn, in_doubt): (&Connection, bool),
    layout: Layout,
) -> Result<(EventLog<Directory>, Seq), OpenError> {
    let sqlite = |error| OpenError::sqlite(&path.join("state.db"), &error);
    let known = stored::known_state(conn, in_doubt).map_err(sqlite)?;
    let volume = Arc::new(Directory::new(path.join("log")));
    let log = event_log::open(volume, layout, &known).map_err(|error| match error {
        LogError::Io(error) => OpenError::unwritable(path, error),
        LogError::Lost { .. } | LogError::Missing { .. } => OpenError::broken(path, error),
    })?;
    // A deletion that a crash interrupted.
    if !known.erasing.is_empty() {
        let erasing: Vec<Seq> = known.erasing.into_iter().collect();
        log.keeper
            .erase(&erasing)
            .map_err(|error| OpenError::unwritable(path, error))?;
        stored::note_erased(conn, &erasing).map_err(sqlite)?;
        checkpoint_whole(conn).map_err(sqlite)?;
    }
    let last = log.appender.last();
    Ok((log, last))
}

/// On a small volume segments are small, so that retention can free room.
fn layout(settings: &InboxSettings, own: &SqliteSettings) -> Layout {
    let default = Layout::default();
    let volume = rustix::fs::statvfs(&own.path);
    let volume = volume.map_or(u64::MAX, |volume| volume.f_blocks * volume.f_frsize);
    let fitting = default
        .segment
        .min((volume / SEGMENTS).max(SMALLEST_SEGMENT));
    let segment = own.segment_size.unwrap_or(fitting);
    Layout {
        segment,
        room: segment * SEGMENTS / 2,
        span: segment_span(settings.retention),
        ..default
    }
}

/// Parks the deliveries of damaged events.
fn damage_report(
    state: StateWrites,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> Box<dyn Fn(Vec<Seq>) + Send + Sync> {
    Box::new(move |seqs| {
        let (now, metrics) = (clock.now(), metrics.clone());
        let park =
            move |conn: &Connection| Ok((park_damaged(conn, &seqs, now)?, count_damaged(conn)?));
        state.send(park, move |parked| {
            let Ok((new, count)) = parked else { return };
            metrics.damaged_events.set(count);
            for seq in new {
                tracing::error!(event.seq = seq, "an event is damaged on the disk: it is not delivered, its deliveries are parked");
            }
        });
    })
}
