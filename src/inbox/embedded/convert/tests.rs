#![allow(clippy::unwrap_used)]

mod gaps;
mod interrupted;
mod refused;
mod released;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::{EventId, Timestamp};
use rusqlite::params;

use super::old_store::OldEvent;
use super::*;
use crate::clock::Clock;
use crate::event::{Event, Seq};
use crate::inbox::contract::{authentic, push, settings};
use crate::inbox::delivery::Start;
use crate::inbox::embedded::EmbeddedStore;
use crate::inbox::settings::{InboxSettings, StoreSettings};

const BEGIN: Timestamp = Timestamp::from_seconds(1_795_420_800);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A directory with a store of the first format.
struct Old {
    dir: tempfile::TempDir,
    settings: InboxSettings,
    events: BTreeMap<Seq, OldEvent>,
    /// When it is converted.
    now: Timestamp,
}

pub(super) fn event(seq: Seq) -> OldEvent {
    let mut id = [7; 16];
    id[..8]
        .copy_from_slice(&(seq.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
    id[8..].copy_from_slice(&seq.to_be_bytes());
    OldEvent {
        seq,
        received: BEGIN.plus(Duration::from_secs(seq.unsigned_abs())),
        id: EventId::from_bytes(id),
        code: 1,
        source: "css".to_owned(),
        body: push("room", seq).into_bytes(),
    }
}

impl Old {
    fn path(&self) -> &Path {
        match &self.settings.store {
            StoreSettings::Sqlite(own) => &own.path,
            StoreSettings::Postgres(_) => panic!("it is embedded"),
        }
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let old = Self {
            dir,
            settings,
            events: BTreeMap::new(),
            now: BEGIN,
        };
        std::fs::create_dir(old.path()).unwrap();
        old
    }

    /// A store with these events in inbox.db, and others in the journal only.
    fn of(in_file: impl Iterator<Item = Seq>, in_journal: impl Iterator<Item = Seq>) -> Self {
        let mut old = Self::empty();
        let conn = connect(&old.path().join(OLD)).unwrap();
        conn.execute_batch(include_str!("inbox.sql")).unwrap();
        conn.execute_batch("BEGIN").unwrap();
        for seq in in_file {
            let event = event(seq);
            conn.execute(
                "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    seq,
                    event.received.millis(),
                    event.source,
                    event.code,
                    event.id.as_bytes(),
                    event.body
                ],
            )
            .unwrap();
            old.events.insert(seq, event);
        }
        conn.execute_batch("COMMIT").unwrap();
        let in_journal: Vec<Seq> = in_journal.collect();
        if let Some(first) = in_journal.first() {
            // The number before may be of an event that was deleted.
            let sql = "UPDATE meta SET value = ?1 WHERE name = 'last_seq'";
            conn.execute(sql, [first - 1]).unwrap();
        }
        let waiting: Vec<OldEvent> = in_journal.into_iter().map(event).collect();
        let batches = waiting.chunks(3);
        let bytes: Vec<u8> = batches.flat_map(journal::tests::encode).collect();
        std::fs::write(old.path().join("accepted.0-wal"), bytes).unwrap();
        old.events
            .extend(waiting.into_iter().map(|event| (event.seq, event)));
        old
    }

    fn sql(&self, sql: &str) {
        connect(&self.path().join(OLD))
            .unwrap()
            .execute_batch(sql)
            .unwrap();
    }

    fn cutoff(&self) -> AgeCutoff {
        AgeCutoff::older_than(self.settings.retention, self.now)
    }

    fn convert(&self, at: Interrupt) -> Result<(), ConvertError> {
        convert_or(self.path(), &Layout::default(), self.cutoff(), at)
    }

    fn open(&self) -> Result<EmbeddedStore, OpenError> {
        let StoreSettings::Sqlite(own) = &self.settings.store else {
            panic!("it is embedded")
        };
        let clock = Clock::manual(self.now);
        EmbeddedStore::open(&self.settings, own, clock, Arc::default())
    }

    /// Why it is not opened.
    fn refused(&self) -> String {
        match self.open().err() {
            Some(OpenError::Broken { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Opens the store, which converts it, and checks that exactly its events are there.
    async fn check(&self) -> EmbeddedStore {
        let store = self.open().unwrap();
        self.check_events(&store).await;
        assert!(!self.path().join(OLD).exists() && self.path().join("inbox.db.old").exists());
        store
    }

    async fn check_events(&self, store: &EmbeddedStore) {
        let found = store.after(0, usize::MAX >> 1, usize::MAX).await.unwrap();
        let found: Vec<OldEvent> = found.iter().map(old_form).collect();
        let expected: Vec<OldEvent> = self.events.values().cloned().collect();
        assert_eq!(found, expected);
    }

    fn copy(&self) -> Self {
        let copy = Self {
            events: self.events.clone(),
            now: self.now,
            ..Self::empty()
        };
        for file in std::fs::read_dir(self.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        copy
    }

    /// The rows of a query to the new state, as text.
    fn state(&self, sql: &str) -> Vec<String> {
        rows(&self.path().join("state.db"), sql)
    }
}

/// An event of the new store as the old one had it.
fn old_form(event: &Event) -> OldEvent {
    OldEvent {
        seq: event.seq(),
        received: event.received(),
        id: event.id(),
        code: event.kind().stored(),
        source: event.source().to_string(),
        body: event.body().to_vec(),
    }
}

/// The rows of a query, each as text with tabs.
fn rows(file: &Path, sql: &str) -> Vec<String> {
    let conn = connect(file).unwrap();
    let mut select = conn.prepare(sql).unwrap();
    let columns = select.column_count();
    let row = |row: &rusqlite::Row| {
        let value = |column| match row.get_ref_unwrap(column) {
            rusqlite::types::ValueRef::Null => String::new(),
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            other => String::from_utf8_lossy(other.as_bytes().unwrap()).into_owned(),
        };
        Ok((0..columns).map(value).collect::<Vec<_>>().join("\t"))
    };
    let found = select.query_map([], row).unwrap();
    found.collect::<Result<_, _>>().unwrap()
}
