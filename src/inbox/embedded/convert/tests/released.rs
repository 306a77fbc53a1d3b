//! Directories that version 0.1.0 wrote.
//!
//! `killed` is from a process that was killed. Its last 12 events are in the journal only, those before partly in the write-ahead log
//! of SQLite. `stopped` is the same store before that, after a clean stop. Streams were deleted: single events, and 80 in a row.
//! `events.tsv` has what 0.1.0 itself found in `killed` at its next start: the last columns are the length and the CRC of the body.

use std::process::Command;

use super::*;

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/store-0.1.tar.gz"
);
/// The last event that `stopped` has.
const STOPPED: Seq = 342;

/// An event as a line of `events.tsv`.
fn line(event: &OldEvent) -> String {
    let id: String = event
        .id
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let (received, code) = (event.received.millis(), event.code);
    let (length, crc) = (event.body.len(), crc32fast::hash(&event.body));
    format!(
        "{}\t{received}\t{}\t{code}\t{id}\t{length}\t{crc}",
        event.seq, event.source
    )
}

#[tokio::test]
async fn stores_of_the_first_release_are_converted() {
    let unpacked = tempfile::tempdir().unwrap();
    let tar = Command::new("tar")
        .args(["-xzf", FIXTURE, "-C"])
        .arg(unpacked.path())
        .status();
    assert!(tar.unwrap().success());
    let text = |name: &str| std::fs::read_to_string(unpacked.path().join(name)).unwrap();
    let (all, deliveries) = (text("events.tsv"), text("deliveries.tsv"));
    for (name, count, last) in [("stopped", 203, STOPPED), ("killed", 220, 359)] {
        let mut old = Old::empty();
        old.now = Timestamp::from_seconds(1_795_881_200);
        for file in std::fs::read_dir(unpacked.path().join(name)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), old.path().join(file.file_name())).unwrap();
        }
        let store = old.open().unwrap();
        let found = store.after(0, usize::MAX >> 1, usize::MAX).await.unwrap();
        let found: Vec<String> = found.iter().map(|event| line(&old_form(event))).collect();
        let expected: Vec<&str> = all.lines().take(count).collect();
        assert_eq!(found, expected, "{name}");
        assert_eq!(*store.committed().borrow(), last);
        let counts = store.count(1).await.unwrap();
        assert_eq!((counts.due, counts.waiting), (4, 6));
        assert_eq!(store.parked(3, 0, false, 100).await.unwrap().len(), 16);
        store.close();
        let columns = "handler, seq, lane, state, attempts, first_attempt, due, parked, error";
        assert_eq!(
            old.state(&format!("SELECT {columns} FROM deliveries ORDER BY 1, 2")),
            deliveries.lines().collect::<Vec<_>>()
        );
        let handlers = "SELECT id, name, position, paused FROM handlers ORDER BY id";
        let before = rows(&old.path().join("inbox.db.old"), handlers);
        assert_eq!(before.len(), 4);
        assert_eq!(old.state(handlers), before);
        assert_eq!(
            old.state("SELECT first, last FROM removed"),
            ["216\t295"],
            "80 events of a deleted stream in a row"
        );
    }
}
