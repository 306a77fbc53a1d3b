//! What is deleted is in no file any more.

use super::*;

#[tokio::test]
async fn deleted_bodies_are_in_no_file() {
    let mut bench = Bench::new();
    let old = bench.segment("room", 300).await;
    let handler = bench.handler("h", 300).await;
    // A copy in the state.
    bench.commit(handler, 300, vec![retry(&old[20])]).await;
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert!(bench.log(".log").is_empty());
    bench.segment("room", 40).await;
    // The segment that is written to, up to its unfinished block.
    for n in 341..=400 {
        bench.try_accept(&body("room", n)).await.unwrap();
    }
    let wanted = [21, 301, 340, 341, 370, 400, 401, 9999];
    assert_eq!(bench.store().delete(wanted.to_vec()).await.unwrap(), 6);
    let check = async |bench: &Bench| {
        for n in [21, 301, 340, 341, 370, 400] {
            assert!(!contains(bench.dir.path(), &format!("marker-{n}-")), "{n}");
            assert!(!bench.stored().await.contains(&n));
        }
        assert_eq!(bench.after(300).await.len(), 95);
        assert!(contains(bench.dir.path(), "marker-399-"));
        assert!(bench.due(handler).await.is_empty());
    };
    check(&bench).await;
    assert_eq!(bench.store().delete(wanted.to_vec()).await.unwrap(), 0);
    // It is written on, with the unfinished block.
    for n in 401..=420 {
        assert_eq!(bench.try_accept(&body("room", n)).await.unwrap().seq(), n);
    }
    assert_eq!(
        bench.store().delete((401..=420).collect()).await.unwrap(),
        20
    );
    check(&bench).await;
    bench.reopen();
    check(&bench).await;
    let again = bench.try_accept(&body("room", 370)).await.unwrap();
    assert_eq!((again.seq(), again.is_duplicate()), (421, false));
}

#[tokio::test]
async fn a_deletion_that_a_crash_interrupted_is_finished_by_the_next_start() {
    let bench = Bench::new();
    bench.segment("room", 30).await;
    for n in 31..=60 {
        bench.try_accept(&body("room", n)).await.unwrap();
    }
    // The state knows of it, and some of the bytes are overwritten.
    let note = |conn: &Connection| conn.execute_batch("INSERT INTO deleted VALUES (7, 0), (45, 0)");
    bench.store().write(note).await.unwrap();
    let half = |file: &Path, n: i64| {
        let mut bytes = std::fs::read(file).unwrap();
        let marker = format!("marker-{n}-");
        let at = bytes
            .windows(marker.len())
            .position(|part| part == marker.as_bytes())
            .unwrap();
        bytes[at..at + 30].fill(b'-');
        std::fs::write(file, bytes).unwrap();
    };
    let copy = bench.crash();
    let mut copy = copy;
    copy.store = None;
    // As it was before the copy was opened.
    for file in copy.log("") {
        std::fs::remove_file(file).unwrap();
    }
    for file in bench.log("") {
        std::fs::copy(
            &file,
            copy.path().join("log").join(file.file_name().unwrap()),
        )
        .unwrap();
    }
    let state = directory::connect(&copy.path().join("state.db")).unwrap();
    state
        .execute_batch("UPDATE deleted SET erased = 0")
        .unwrap();
    drop(state);
    let logs = copy.log(".log");
    half(&logs[0], 7);
    half(&logs[1], 45);
    copy.open();
    assert_eq!(copy.stored().await.len(), 58);
    for n in [7, 45] {
        assert!(!contains(copy.dir.path(), &format!("marker-{n}-")), "{n}");
    }
    let mut damage = Vec::new();
    copy.store()
        .reads
        .log
        .after(0, 100, usize::MAX)
        .unwrap()
        .iter()
        .for_each(|entry| {
            if let crate::inbox::event_log::LogEntry::Damaged(seq, _) = entry {
                damage.push(*seq);
            }
        });
    assert!(damage.is_empty(), "{damage:?}");
}

#[tokio::test]
async fn a_deletion_that_failed_is_finished_by_the_next_one() {
    let bench = Bench::new();
    bench.segment("room", 100).await;
    let handler = bench.handler("h", 100).await;
    let events = bench.after(0).await;
    bench.commit(handler, 100, vec![retry(&events[3])]).await;
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    // The write-ahead log cannot be emptied while somebody reads.
    let reader = directory::connect(&bench.path().join("state.db")).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM kept")
        .unwrap();
    assert_eq!(bench.store().delete(vec![4]).await, Err(StoreError::Failed));
    assert!(bench.stored().await.is_empty());
    drop(reader);
    assert!(contains(bench.dir.path(), "marker-4-"));
    assert_eq!(bench.store().delete(Vec::new()).await, Ok(0));
    assert!(!contains(bench.dir.path(), "marker-4-"));
}
