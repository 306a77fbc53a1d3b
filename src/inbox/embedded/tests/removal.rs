//! Removing segments: beside readers, interrupted, in doubt, and many at once.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use super::*;

/// The files of the log as they are now.
fn files(bench: &Bench) -> Vec<(PathBuf, Vec<u8>)> {
    let each = bench.log("").into_iter();
    each.map(|file| (file.clone(), std::fs::read(file).unwrap()))
        .collect()
}

#[tokio::test]
async fn many_segments_go_without_a_row_for_each_event() {
    let bench = Bench::new();
    for n in 0..200 {
        bench.try_accept(&body("room", n)).await.unwrap();
        bench.try_accept(&body("other", n)).await.unwrap();
        bench.store().end_segment(Duration::ZERO).await.unwrap();
    }
    assert_eq!(bench.log(".log").len(), 200);
    let handler = bench.handler("h", 390).await;
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, (391..=400).collect::<Vec<_>>());
    bench.commit(handler, 400, Vec::new()).await;
    bench.sweep().await;
    assert!(bench.log("").is_empty());
    let removed = bench.store().read_state(stored::removed_ranges).await;
    assert_eq!(removed.unwrap(), [(1, 400)]);
    assert_eq!(bench.try_accept(&body("room", 1)).await.unwrap().seq(), 401);
}

#[tokio::test]
async fn no_reader_fails_while_segments_are_removed() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for n in 0..120 {
        bench.try_accept(&body("room", n)).await.unwrap();
        bench.store().end_segment(Duration::ZERO).await.unwrap();
    }
    for event in bench.after(0).await {
        ids.push(event.id());
    }
    bench.clock.advance(8 * DAY);
    bench.try_accept(&body("young", 0)).await.unwrap();
    let store = bench.store();
    let is_over = AtomicBool::new(false);
    let remove = async {
        bench.sweep().await;
        is_over.store(true, Ordering::Relaxed);
    };
    let read = async |from: usize| {
        let mut at = from;
        while !is_over.load(Ordering::Relaxed) {
            let id = ids[at % ids.len()];
            let seq = (at % ids.len()) as Seq + 1;
            let events = store.after(seq - 1, 1000, usize::MAX).await.unwrap();
            assert_eq!(events.last().unwrap().seq(), 121);
            let filter = EventFilter::default();
            let found = store.search(filter, None, at.is_multiple_of(2), 1000);
            assert!(!found.await.unwrap().items.is_empty());
            if let Some(event) = store.find(id).await.unwrap() {
                assert_eq!(event.seq(), seq);
            }
            let these = store.by_seq(&[seq, 121]).await.unwrap();
            assert_eq!(these.last().unwrap().seq(), 121);
            store.received_from(seq).await.unwrap().unwrap();
            at += 7;
        }
    };
    tokio::join!(remove, join_all((0..4).map(|n| read(n * 30))));
    assert_eq!(bench.stored().await, [121]);
}

/// Some of the files that the state notes as removed are still there.
#[tokio::test]
async fn whichever_files_a_killed_removal_left_the_next_start_removes_them() {
    let bench = Bench::new();
    let events = bench.segment("room", 150).await;
    bench.segment("room", 150).await;
    bench.segment("room", 10).await;
    let handler = bench.handler("h", 310).await;
    bench.commit(handler, 310, vec![retry(&events[6])]).await;
    let before = files(&bench);
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    for left in 1..1 << before.len() {
        let chosen = (0..).zip(&before).filter(|(n, _)| left & (1 << n) != 0);
        chosen.for_each(|(_, (file, bytes))| std::fs::write(file, bytes).unwrap());
        let after = bench.crash();
        assert_eq!(after.stored().await, [7], "{left:b}");
        assert_eq!(after.due(handler).await, [7]);
        assert!(after.log("").is_empty(), "{left:b}: {:?}", after.log(""));
        bench
            .log("")
            .iter()
            .for_each(|file| std::fs::remove_file(file).unwrap());
    }
}

/// The state may be lost, and with it the copies of what is owed.
#[tokio::test]
async fn a_start_in_doubt_removes_no_files() {
    let bench = Bench::new();
    let events = bench.segment("room", 300).await;
    let handler = bench.handler("h", 300).await;
    bench.commit(handler, 300, vec![retry(&events[6])]).await;
    let before = files(&bench);
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    let mut crashed = bench.crash();
    // Another program reads what was there before the last change.
    let file = crashed.path().join("state.db");
    crashed.handler("h", 0).await;
    let reader = directory::connect(&file).unwrap();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM handlers")
        .unwrap();
    crashed.store().pause(handler, true, BEGIN).await.unwrap();
    crashed.store = None;
    // As if it had been killed before it removed them.
    crashed.put(&before, &bench);
    crashed.open();
    assert!(crashed.store().health.is_in_doubt());
    assert_eq!(crashed.stored().await, [7]);
    assert_eq!(crashed.log("").len(), before.len());
    assert_eq!(
        crashed.store().delete(vec![7]).await,
        Err(StoreError::Failed)
    );
    drop(reader);
    crashed.store().state.empty_wal().await.unwrap();
    assert_eq!(crashed.store().delete(vec![7]).await, Ok(1));
    crashed.reopen();
    assert!(crashed.log("").is_empty());
}

impl Bench {
    /// Puts files of the log of another one here.
    fn put(&self, files: &[(PathBuf, Vec<u8>)], of: &Self) {
        for (file, bytes) in files {
            let name = file.strip_prefix(of.path()).unwrap();
            std::fs::write(self.path().join(name), bytes).unwrap();
        }
    }
}
