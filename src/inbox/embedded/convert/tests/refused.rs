//! What cannot be converted is left as it is.

use std::fs::File;

use super::*;

#[tokio::test]
async fn what_cannot_be_converted_is_left_as_it_is() {
    let old = Old::of(1..=3, 4..=9);
    old.sql("PRAGMA user_version = 7; UPDATE meta SET value = 7 WHERE name = 'readable_by'");
    let refused = old.refused();
    assert!(refused.contains("newer livehook"), "{refused}");
    let old = Old::of(1..=3, 4..=9);
    old.sql("PRAGMA application_id = 1");
    assert!(old.refused().contains("not a livehook inbox"));
    let old = Old::of(1..=3, 4..=12);
    let journal = old.path().join("accepted.0-wal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    let refused = old.refused();
    assert!(
        refused.contains("accepted.0-wal is damaged: event 4 "),
        "{refused}"
    );
    let old = Old::of(1..=3, 4..=9);
    let reader = connect(&old.path().join(OLD)).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM events")
        .unwrap();
    let refused = old.refused();
    assert!(refused.contains("another program reads"), "{refused}");
    assert!(old.dir.path().exists() && !old.path().join("state.db").exists());
    drop(reader);
    old.check().await;
}

/// A first start of the first release was interrupted, or its file was moved away.
#[tokio::test]
async fn an_empty_file_is_an_empty_store() {
    for in_journal in [0, 7] {
        let old = Old::of(std::iter::empty(), 1..=in_journal);
        for ending in ["-wal", "-shm"] {
            remove(&old.path().join(format!("{OLD}{ending}"))).unwrap();
        }
        std::fs::write(old.path().join(OLD), b"").unwrap();
        old.check().await;
    }
}

#[tokio::test]
async fn leftovers_are_removed_before_the_room_is_measured() {
    let old = Old::of(1..=20, std::iter::empty());
    std::fs::create_dir(old.path().join(NEW_LOG)).unwrap();
    std::fs::write(old.path().join(NEW_LOG).join("1.log"), b"partial").unwrap();
    let database = File::options().write(true).open(old.path().join(OLD));
    let length = std::fs::metadata(old.path().join(OLD)).unwrap().len();
    // A hole takes no room.
    database.as_ref().unwrap().set_len(8 << 40).unwrap();
    let refused = old.refused();
    assert!(refused.contains("too little room"), "{refused}");
    assert!(!old.path().join(NEW_LOG).exists());
    database.unwrap().set_len(length).unwrap();
    old.check().await;
}

/// What an earlier release accepted after the conversion is not lost in silence, and the file of before is not overwritten.
#[tokio::test]
async fn a_second_old_store_is_refused() {
    let old = Old::of(1..=20, std::iter::empty());
    old.check().await.close();
    let path = |name: &str| old.path().join(name);
    let before = std::fs::read(path("inbox.db.old")).unwrap();
    let second = Old::of(1..=3, std::iter::empty());
    std::fs::copy(second.path().join(OLD), path(OLD)).unwrap();
    let refused = old.refused();
    assert!(
        refused.contains("an earlier release was started"),
        "{refused}"
    );
    std::fs::rename(path("state.db"), path("moved.db")).unwrap();
    let refused = old.refused();
    assert!(refused.contains("would be overwritten"), "{refused}");
    std::fs::rename(path("moved.db"), path("state.db")).unwrap();
    assert_eq!(std::fs::read(path("inbox.db.old")).unwrap(), before);
    std::fs::remove_file(path(OLD)).unwrap();
    old.check_events(&old.open().unwrap()).await;
}
