#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::clock::Clock;
use crate::event::Event;
use crate::inbox::contract::{authentic, push, settings};
use crate::inbox::delivery::Start;
use crate::inbox::embedded::EmbeddedStore;
use crate::inbox::settings::{InboxSettings, StoreSettings};

/// The tables of the first format.
const TABLES: &str = include_str!("tests/inbox.sql");

/// A store of the first format as version 0.1.0 left it when it was killed: 210 events were accepted, 29 of them deleted.
const KILLED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/store-0.1.tar.gz"
);

struct Old {
    dir: tempfile::TempDir,
    settings: InboxSettings,
    events: BTreeMap<Seq, OldEvent>,
}

fn event(seq: Seq) -> OldEvent {
    let mut id = [7; 16];
    id[..8]
        .copy_from_slice(&(seq.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
    id[8..].copy_from_slice(&seq.to_be_bytes());
    OldEvent {
        seq,
        received: Timestamp::from_seconds(1_795_420_800 + seq),
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
        };
        std::fs::create_dir(old.path()).unwrap();
        old
    }

    /// A store with these events in inbox.db, and others in the journal only.
    fn of(in_file: impl Iterator<Item = Seq>, in_journal: impl Iterator<Item = Seq>) -> Self {
        let mut old = Self::empty();
        let conn = connect(&old.path().join(OLD)).unwrap();
        conn.execute_batch(TABLES).unwrap();
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
        let bytes: Vec<u8> = waiting.chunks(3).flat_map(journal::encode).collect();
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

    fn open(&self) -> Result<EmbeddedStore, OpenError> {
        let StoreSettings::Sqlite(own) = &self.settings.store else {
            panic!("it is embedded")
        };
        let clock = Clock::manual(Timestamp::from_seconds(1_795_420_800));
        EmbeddedStore::open(&self.settings, own, clock, Arc::default())
    }

    /// Opens the store, which converts it, and checks that exactly its events are there.
    async fn check(&self) -> EmbeddedStore {
        let store = self.open().unwrap();
        let found = store.after(0, usize::MAX >> 1, usize::MAX).await.unwrap();
        let seqs: Vec<Seq> = found.iter().map(Event::seq).collect();
        assert_eq!(seqs, self.events.keys().copied().collect::<Vec<_>>());
        for found in &found {
            let old = &self.events[&found.seq()];
            assert_eq!((found.id(), found.received()), (old.id, old.received));
            assert_eq!(
                (&**found.source(), found.kind().stored()),
                (&*old.source, old.code)
            );
            assert_eq!(&found.body()[..], &old.body[..]);
        }
        assert!(!self.path().join(OLD).exists() && self.path().join("inbox.db.old").exists());
        store
    }

    fn copy(&self) -> Self {
        let copy = Self {
            events: self.events.clone(),
            ..Self::empty()
        };
        for file in std::fs::read_dir(self.path()).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        copy
    }
}

#[tokio::test]
async fn events_with_gaps_of_all_sizes_keep_their_numbers() {
    let none = || std::iter::empty();
    let cases = [
        Old::of(1..=10, none()),
        Old::of(none(), 1..=10),
        Old::of(1..=20, 21..=50),
        Old::of(500..=510, 511..=511),
        // Small gaps, also in front of the journal's events.
        Old::of(
            (1..=3000).filter(|seq| seq % 7 != 0 && seq % 500 > 60),
            3001..=3005,
        ),
        // A few events that were owed for long, then the bulk, a large gap, and the bulk again.
        Old::of(
            [3, 4, 90, 2000]
                .into_iter()
                .chain(5000..=7500)
                .chain(9000..=9003)
                .chain(10_000..=12_000),
            none(),
        ),
    ];
    for old in cases {
        let last = *old.events.keys().next_back().unwrap();
        let store = old.check().await;
        for event in old.events.values().step_by(97) {
            let found = store.find(event.id).await.unwrap().unwrap();
            assert_eq!(found.seq(), event.seq);
        }
        let callback = authentic("css", push("new", 0).as_bytes(), store.clock.now());
        let receipt = store.accept(callback, None, false).await.unwrap();
        assert_eq!(receipt.seq(), last + 1);
        store.close();
        // Another start is one without a conversion.
        let again = old.open().unwrap();
        assert_eq!(
            again
                .after(0, usize::MAX >> 1, usize::MAX)
                .await
                .unwrap()
                .len(),
            old.events.len() + 1
        );
    }
}

#[tokio::test]
async fn numbers_handlers_and_deliveries_are_kept() {
    let old = Old::of(1..=100, std::iter::empty());
    old.sql(
        "UPDATE meta SET value = 250 WHERE name = 'last_seq';
         INSERT INTO handlers VALUES (3, 'a', 90, 0, NULL), (9, 'gone', 200, 0, NULL);
         DELETE FROM handlers WHERE id = 9;
         INSERT INTO deliveries VALUES (3, 7, 12, 0, 2, 5, 77, NULL, 'it does not listen'),
             (3, 8, 12, 1, 0, NULL, 0, NULL, ''), (3, 9, 14, 2, 3, 5, 6, 6, 'no'),
             (3, 150, 14, 2, 3, 5, 6, 6, 'its event is nowhere');",
    );
    let store = old.check().await;
    let registered = store
        .register(vec![
            ("a".to_owned(), Start::Now),
            ("new".to_owned(), Start::Now),
        ])
        .await
        .unwrap();
    assert_eq!((registered[0].id, registered[0].position), (3, 90));
    assert!(registered[1].id > 9, "a number is never given twice");
    assert_eq!(registered[1].position, 250);
    let counts = store.count(3).await.unwrap();
    assert_eq!((counts.due, counts.waiting, counts.parked), (1, 1, 1));
    let now = Timestamp::from_seconds(1_795_420_800);
    let (due, _) = store.due(3, now, now, 10).await.unwrap();
    assert_eq!((due[0].event.seq(), due[0].attempts.count), (7, 2));
    assert_eq!(*store.committed().borrow(), 250);
}

#[tokio::test]
async fn a_store_that_was_killed_is_converted() {
    let mut old = Old::empty();
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(KILLED)
        .arg("-C")
        .arg(old.path())
        .status();
    assert!(unpacked.unwrap().success());
    let converted = old.copy();
    convert(converted.path(), &Layout::default()).unwrap();
    // What the old engine had at its next start.
    let conn = connect(&converted.path().join("inbox.db.old")).unwrap();
    let mut select = conn
        .prepare("SELECT seq, received, source, kind, id, body FROM events")
        .unwrap();
    let events = select.query_map([], |row| {
        Ok(OldEvent {
            seq: row.get(0)?,
            received: Timestamp::from_millis(row.get(1)?),
            source: row.get(2)?,
            code: row.get(3)?,
            id: EventId::from_bytes(row.get(4)?),
            body: row.get(5)?,
        })
    });
    old.events = events
        .unwrap()
        .map(|event| event.unwrap())
        .map(|event| (event.seq, event))
        .collect();
    assert_eq!(old.events.len(), 181);
    let store = old.check().await;
    let counts = store.count(1).await.unwrap();
    assert_eq!((counts.due, counts.waiting), (4, 6));
    assert_eq!(store.parked(3, 0, false, 100).await.unwrap().len(), 16);
}

#[tokio::test]
async fn an_interrupted_conversion_is_begun_again_or_finished() {
    let old = Old::of((1..=9000).filter(|seq| seq % 50 != 0), 9001..=9010);
    for interrupted in 0.. {
        let copy = old.copy();
        let mut left = interrupted;
        let result = convert_or(copy.path(), &Layout::default(), &mut |_| {
            left -= 1;
            if left < 0 {
                Err(io::Error::other("interrupted"))
            } else {
                Ok(())
            }
        });
        let store = copy.check().await;
        store.close();
        if result.is_ok() {
            assert!(interrupted > 8, "{interrupted}");
            return;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_converted_is_left_as_it_is() {
    let refused = |old: &Old| match old.open().err() {
        Some(OpenError::Broken { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let old = Old::of(1..=3, 4..=9);
    old.sql("PRAGMA user_version = 7; UPDATE meta SET value = 7 WHERE name = 'readable_by'");
    assert!(
        refused(&old).contains("newer livehook"),
        "{}",
        refused(&old)
    );
    let old = Old::of(1..=3, 4..=9);
    old.sql("PRAGMA application_id = 1");
    assert!(refused(&old).contains("not a livehook inbox"));
    let old = Old::of(1..=3, 4..=12);
    let journal = old.path().join("accepted.0-wal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    assert!(
        refused(&old).contains("accepted.0-wal is damaged: event 4 "),
        "{}",
        refused(&old)
    );
    let old = Old::of(1..=3, 4..=9);
    let reader = connect(&old.path().join(OLD)).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM events")
        .unwrap();
    assert!(
        refused(&old).contains("another program reads"),
        "{}",
        refused(&old)
    );
    assert!(old.dir.path().exists() && !old.path().join("state.db").exists());
    drop(reader);
    old.check().await;
}
