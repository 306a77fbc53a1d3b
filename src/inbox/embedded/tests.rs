#![allow(clippy::unwrap_used)]

mod crash;
mod damage;
mod deletion;
mod erasing;
mod failures;
mod flips;
mod open;
mod recovers;
mod removal;
mod retention;

use std::path::Path;

use super::*;
use crate::inbox::OpenError;
use crate::inbox::contract::{authentic, push, settings};
use crate::inbox::delivery::{Attempts, DeliveryChange, DeliveryCommit, Start};
use crate::inbox::settings::{SqliteSettings, StoreSettings};
use crate::metrics::Metrics;

const BEGIN: Timestamp = Timestamp::from_seconds(1_795_420_800);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store in a directory of its own.
struct Bench {
    dir: tempfile::TempDir,
    settings: InboxSettings,
    clock: Clock,
    metrics: Arc<Metrics>,
    store: Option<EmbeddedStore>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut SqliteSettings)) -> Self {
        let mut bench = Self::closed();
        if let StoreSettings::Sqlite(own) = &mut bench.settings.store {
            change(own);
        }
        bench.open();
        bench
    }

    fn closed() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            settings: settings(dir.path()),
            dir,
            clock: Clock::manual(BEGIN),
            metrics: Arc::default(),
            store: None,
        }
    }

    fn own(&self) -> &SqliteSettings {
        match &self.settings.store {
            StoreSettings::Sqlite(own) => own,
            StoreSettings::Postgres(_) => panic!("it is embedded"),
        }
    }

    fn path(&self) -> &Path {
        &self.own().path
    }

    fn try_open(&self) -> Result<EmbeddedStore, OpenError> {
        let metrics = self.metrics.clone();
        EmbeddedStore::open(&self.settings, self.own(), self.clock.clone(), metrics)
    }

    fn open(&mut self) {
        self.store = Some(self.try_open().unwrap());
    }

    fn reopen(&mut self) {
        self.store = None;
        self.open();
    }

    fn store(&self) -> &EmbeddedStore {
        self.store.as_ref().unwrap()
    }

    async fn try_accept(&self, body: &str) -> Result<Receipt, StoreError> {
        let callback = authentic("css", body.as_bytes(), self.clock.now());
        self.store().accept(callback, None, false).await
    }

    /// Stores so many events of a stream as one segment of the log. Their bodies contain `marker-N-`.
    async fn segment(&self, stream: &str, count: i64) -> Vec<Event> {
        let before = *self.store().committed().borrow();
        for n in before + 1..=before + count {
            let receipt = self.try_accept(&body(stream, n)).await.unwrap();
            assert_eq!((receipt.seq(), receipt.is_duplicate()), (n, false));
        }
        self.store().end_segment(Duration::ZERO).await.unwrap();
        self.after(before).await
    }

    async fn after(&self, seq: Seq) -> Vec<Event> {
        self.store().after(seq, 100_000, usize::MAX).await.unwrap()
    }

    async fn stored(&self) -> Vec<Seq> {
        self.after(0).await.iter().map(Event::seq).collect()
    }

    /// A handler whose position is `position`.
    async fn handler(&self, name: &str, position: Seq) -> HandlerId {
        let configured = vec![(name.to_owned(), Start::Oldest)];
        let id = self.store().register(configured).await.unwrap()[0].id;
        self.commit(id, position, Vec::new()).await;
        id
    }

    async fn commit(&self, handler: HandlerId, position: Seq, changes: Vec<DeliveryChange>) {
        let commit = DeliveryCommit {
            epoch: None,
            position: Some(position),
            changes,
        };
        self.store().commit(handler, commit).await.unwrap();
    }

    async fn due(&self, handler: HandlerId) -> Vec<Seq> {
        let (latest, now) = (Timestamp::from_millis(i64::MAX), self.clock.now());
        let (due, _) = self.store().due(handler, now, latest, 100).await.unwrap();
        due.iter().map(|owed| owed.event.seq()).collect()
    }

    async fn parked(&self, handler: HandlerId) -> Vec<(Seq, String)> {
        let parked = self.store().parked(handler, 0, false, 100).await.unwrap();
        let each = parked.into_iter();
        each.map(|parked| (parked.event.seq(), parked.attempts.error))
            .collect()
    }

    async fn sweep(&self) {
        while self.store().sweep().await.unwrap() {}
    }

    /// The files of the log with this ending, in order.
    fn log(&self, ending: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path().join("log")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths
            .filter(|path| path.to_string_lossy().ends_with(ending))
            .collect();
        paths.sort();
        paths
    }

    /// Copies the directory, as a crash now would leave it.
    fn crash(&self) -> Self {
        let mut copy = Self::closed();
        copy.clock
            .set_by(self.clock.now().millis() - copy.clock.now().millis());
        std::fs::create_dir_all(copy.path().join("log")).unwrap();
        let reader = directory::connect(&self.path().join("state.db")).unwrap();
        // While somebody reads, the WAL is not begun anew between the copies.
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM meta")
            .unwrap();
        for name in ["state.db", "state.db-wal"] {
            std::fs::copy(self.path().join(name), copy.path().join(name)).unwrap();
        }
        for file in self.log("") {
            let name = file.file_name().unwrap();
            // An index may just get its name.
            let _ = std::fs::copy(&file, copy.path().join("log").join(name));
        }
        copy.open();
        copy
    }
}

fn body(stream: &str, n: i64) -> String {
    let marker = format!("marker-{n}-").repeat(20);
    push(stream, n).replacen('{', &format!(r#"{{"marker":"{marker}","#), 1)
}

fn retry(event: &Event) -> DeliveryChange {
    DeliveryChange::Retry {
        seq: event.seq(),
        lane: event.lane(),
        attempts: Attempts::default(),
        due: BEGIN,
    }
}

fn done(event: &Event) -> DeliveryChange {
    DeliveryChange::Done {
        seq: event.seq(),
        lane: event.lane(),
    }
}

/// Whether a file under this path contains the text.
fn contains(path: &Path, text: &str) -> bool {
    if path.is_dir() {
        let mut entries = std::fs::read_dir(path).unwrap();
        return entries.any(|entry| contains(&entry.unwrap().path(), text));
    }
    let bytes = std::fs::read(path).unwrap();
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}
