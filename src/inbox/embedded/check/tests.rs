#![allow(clippy::unwrap_used)]

use std::fs;

use css_callbacks::Timestamp;
use rusqlite::Connection;

use super::*;
use crate::clock::Clock;
use crate::inbox::Inbox;
use crate::inbox::contract::{authentic, push, settings};

const BEGIN: Timestamp = Timestamp::from_seconds(1_795_420_800);

struct Store {
    dir: tempfile::TempDir,
    inbox: Inbox,
}

impl Store {
    /// Events in two files, one of them deleted.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let opened = Inbox::open(&settings, Clock::manual(BEGIN), Default::default());
        let store = Self {
            inbox: opened.await.unwrap(),
            dir,
        };
        for n in 0..20 {
            let callback = authentic("css", push("room", n).as_bytes(), BEGIN);
            store.inbox.accept(callback, None).await.unwrap();
            if n == 9 {
                store.inbox.end_segment().await;
            }
        }
        assert_eq!(store.inbox.delete(vec![4]).await, Ok(1));
        store
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("inbox")
    }

    fn damage(&self) -> Vec<String> {
        check_store(&self.path()).unwrap().damage
    }

    /// Names and lengths of all files, but for the one that is made ahead at any time.
    fn files(&self) -> Vec<(PathBuf, u64)> {
        let both = [self.path(), self.path().join("log")];
        let entries = both.iter().flat_map(|path| fs::read_dir(path).unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with("spare"))
            .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    }

    /// Runs this on the state, as if it had come about by damage.
    fn change(&self, sql: &str) {
        let conn = Connection::open(self.path().join("state.db")).unwrap();
        conn.execute_batch(sql).unwrap();
    }
}

#[tokio::test]
async fn a_whole_store_is_whole_whether_it_is_used_or_not_and_nothing_is_written() {
    let store = Store::new().await;
    let copy = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let before = store.files();
        let report = check_store(&store.path()).unwrap();
        assert_eq!(report.damage, [""; 0]);
        assert_eq!((report.events, report.segments), (19, 2), "{round}");
        assert_eq!(store.files(), before);
        if round == 0 {
            // What a crash leaves, without the memory that was shared.
            fs::create_dir(copy.path().join("log")).unwrap();
            for (file, _) in before.iter().filter(|(file, _)| file.is_file()) {
                let name = file.strip_prefix(store.path()).unwrap();
                fs::copy(file, copy.path().join(name)).unwrap();
            }
            fs::remove_file(copy.path().join("state.db-shm")).unwrap();
            let report = check_store(copy.path()).unwrap();
            assert_eq!((report.damage, report.events), (Vec::new(), 19));
            assert!(!copy.path().join("state.db-shm").exists());
            store.inbox.close().await;
        }
    }
}

#[tokio::test]
async fn what_the_state_and_the_log_say_must_agree() {
    let store = Store::new().await;
    store.inbox.close().await;
    let owed = "INSERT INTO deliveries VALUES (1, SEQ, 0, 2, 1, NULL, 0, 0, '')";
    for seq in [4, 99] {
        store.change(&owed.replace("SEQ", &seq.to_string()));
        let message = format!("a delivery of event {seq} is owed, but there is no such event");
        assert!(store.damage()[0].contains(&message), "{:?}", store.damage());
        store.change("DELETE FROM deliveries");
    }
    for (change, back, message) in [
        (
            "UPDATE deleted SET seq = 5",
            "UPDATE deleted SET seq = 4",
            "event 4 is overwritten, but was never deleted",
        ),
        (
            "INSERT INTO handlers(name, position) VALUES ('a', 25)",
            "DELETE FROM handlers",
            "events 21 to 25 were accepted, but no file has them",
        ),
        (
            "INSERT INTO kept VALUES (3, 0, 'css', 1, x'00112233445566778899aabbccddeeff', x'7b7d', 0)",
            "DELETE FROM kept",
            "the copy of event 3 is damaged",
        ),
        (
            "PRAGMA application_id = 7",
            "PRAGMA application_id = 0x6c687374",
            "the file is not a livehook store",
        ),
    ] {
        store.change(change);
        let damage = store.damage();
        assert!(
            damage.iter().any(|found| found.contains(message)),
            "{message}: {damage:?}"
        );
        store.change(back);
        assert_eq!(store.damage(), [""; 0], "{back}");
    }
    // A deletion that was interrupted is finished by the next start.
    store.change("UPDATE deleted SET erased = 0");
    let report = check_store(&store.path()).unwrap();
    assert_eq!(
        (report.damage, report.unfinished_deletions),
        (Vec::new(), 1)
    );
}

#[tokio::test]
async fn damage_of_the_files_is_found() {
    let store = Store::new().await;
    store.inbox.close().await;
    for name in [
        "state.db",
        "log/00000000000000000001.log",
        "log/00000000000000000001.idx",
    ] {
        let file = store.path().join(name);
        let whole = fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        bytes[100] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let damage = store.damage();
        assert!(
            !damage.is_empty() && damage[0].starts_with(name),
            "{name}: {damage:?}"
        );
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(store.damage(), [""; 0]);
    fs::remove_file(store.path().join("state.db")).unwrap();
    assert_eq!(store.damage(), ["state.db is missing"]);
    fs::write(store.path().join("inbox.db"), "").unwrap();
    assert!(matches!(
        check_store(&store.path()),
        Err(CheckError::OldFormat(_))
    ));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        check_store(empty.path()),
        Err(CheckError::NoStore(_))
    ));
}
