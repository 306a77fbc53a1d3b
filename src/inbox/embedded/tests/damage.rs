//! Events that are damaged on the disk.

use super::*;
use crate::inbox::delivery::ReplayedDelivery;
use crate::inbox::embedded::damage::DAMAGED;

pub(super) fn flip(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 4;
    std::fs::write(file, bytes).unwrap();
}

pub(super) fn place(file: &Path, text: &str) -> usize {
    let bytes = std::fs::read(file).unwrap();
    bytes
        .windows(text.len())
        .position(|part| part == text.as_bytes())
        .unwrap()
}

#[tokio::test]
async fn a_damaged_event_is_parked_and_never_delivered() {
    let mut bench = Bench::new();
    bench.segment("room", 20).await;
    let registered = bench
        .store()
        .register(vec![
            ("a".to_owned(), Start::Oldest),
            ("b".to_owned(), Start::Oldest),
        ])
        .await
        .unwrap();
    let (passed, comes) = (registered[0].id, registered[1].id);
    bench.commit(passed, 20, Vec::new()).await;
    bench.store = None;
    let file = &bench.log(".log")[0];
    flip(file, place(file, "marker-5-"));
    bench.open();
    let stored: Vec<Seq> = (1..=20).filter(|seq| *seq != 5).collect();
    assert_eq!(bench.stored().await, stored);
    assert_eq!(bench.after(4).await[0].seq(), 6);
    // The row is written behind what is read.
    bench.commit(comes, 20, Vec::new()).await;
    let why = DAMAGED.to_owned();
    assert_eq!(bench.parked(comes).await, [(5, why.clone())]);
    assert!(bench.parked(passed).await.is_empty());
    assert_eq!(bench.metrics.damaged_events.get(), 1);
    // A replay cannot read it either.
    let wanted = vec![ReplayedDelivery {
        seq: 5,
        lane: 0,
        is_owed: false,
    }];
    assert_eq!(bench.store().replay(comes, wanted, false).await.unwrap(), 1);
    assert!(bench.due(comes).await.is_empty());
    bench.commit(comes, 20, Vec::new()).await;
    assert_eq!(bench.parked(comes).await, [(5, why)]);
    // Its callback is not taken for a repeat of what is lost.
    let again = bench.try_accept(&body("room", 5)).await.unwrap();
    assert_eq!((again.seq(), again.is_duplicate()), (21, false));
    bench.reopen();
    assert_eq!(bench.metrics.damaged_events.get(), 1);
    // It goes with its segment.
    bench.commit(passed, 21, Vec::new()).await;
    bench.commit(comes, 21, Vec::new()).await;
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert!(bench.stored().await.is_empty() && bench.parked(comes).await.is_empty());
}

#[tokio::test]
async fn a_flipped_bit_anywhere_gives_no_wrong_event() {
    let mut bench = Bench::new();
    bench.segment("room", 60).await;
    bench.segment("room", 60).await;
    bench.store = None;
    let files: Vec<PathBuf> = bench
        .log(".log")
        .into_iter()
        .chain(bench.log(".idx"))
        .collect();
    assert_eq!(files.len(), 4);
    for file in &files {
        let length = std::fs::metadata(file).unwrap().len() as usize;
        for at in (0..length).step_by(length / 40) {
            flip(file, at);
            match bench.try_open() {
                Ok(store) => {
                    let events = store.after(0, 1000, usize::MAX).await.unwrap();
                    assert!(
                        events.len() >= 119,
                        "{} events, {} at {at}",
                        events.len(),
                        file.display()
                    );
                    for event in events {
                        let expected = body("room", event.seq());
                        assert_eq!(&event.body()[..], expected.as_bytes());
                    }
                }
                // Nothing is silently left out.
                Err(OpenError::Broken { reason, .. }) => {
                    assert!(reason.contains("is damaged: event"), "{reason}")
                }
                Err(other) => panic!("{other}"),
            }
            flip(file, at);
        }
    }
    bench.open();
    assert_eq!(bench.stored().await.len(), 120);
}

#[tokio::test]
async fn a_damaged_copy_is_parked_and_never_delivered() {
    let mut bench = Bench::new();
    let events = bench.segment("room", 200).await;
    let handler = bench.handler("h", 200).await;
    bench.commit(handler, 200, vec![retry(&events[4])]).await;
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert_eq!(bench.due(handler).await, [5]);
    bench.store = None;
    let file = &bench.path().join("state.db");
    flip(file, place(file, "marker-5-"));
    bench.open();
    assert!(bench.due(handler).await.is_empty() && bench.stored().await.is_empty());
    bench.commit(handler, 200, Vec::new()).await;
    assert_eq!(bench.parked(handler).await, [(5, DAMAGED.to_owned())]);
}

#[tokio::test]
async fn what_is_damaged_of_a_deleted_event_is_no_damage() {
    let mut bench = Bench::new();
    bench.segment("room", 20).await;
    let handler = bench.handler("h", 0).await;
    bench.store().delete(vec![5]).await.unwrap();
    bench.store = None;
    let file = &bench.log(".log")[0];
    flip(file, place(file, "-erased-"));
    // Without its index the segment is read at the start.
    std::fs::remove_file(&bench.log(".idx")[0]).unwrap();
    bench.open();
    let stored: Vec<Seq> = (1..=20).filter(|seq| *seq != 5).collect();
    assert_eq!(bench.stored().await, stored);
    bench.commit(handler, 20, Vec::new()).await;
    assert!(bench.parked(handler).await.is_empty());
    assert_eq!(bench.metrics.damaged_events.get(), 0);
    let again = bench.try_accept(&body("room", 5)).await.unwrap();
    assert_eq!((again.seq(), again.is_duplicate()), (21, false));
}

#[tokio::test]
async fn a_repeat_is_recognised_with_a_damaged_index() {
    let mut bench = Bench::new();
    bench.segment("room", 20).await;
    bench.store = None;
    let file = &bench.log(".idx")[0];
    // Its rows begin behind a head of 48 bytes and have 16 bytes each.
    for row in 0..20 {
        flip(file, 48 + 16 * row);
    }
    bench.open();
    for seq in 1..=20 {
        let again = bench.try_accept(&body("room", seq)).await.unwrap();
        assert_eq!((again.seq(), again.is_duplicate()), (seq, true));
    }
}

#[tokio::test]
async fn the_newest_arrival_is_known_without_the_body_of_the_newest_event() {
    let mut bench = Bench::new();
    bench.segment("room", 19).await;
    bench.clock.advance(DAY);
    let now = bench.clock.now();
    bench.segment("room", 1).await;
    let newest = |bench: &Bench| bench.store().reads.newest().unwrap();
    assert_eq!(newest(&bench), Some(now));
    bench.store().delete(vec![20]).await.unwrap();
    assert_eq!(newest(&bench), Some(now));
    bench.store = None;
    let file = &bench.log(".log")[1];
    flip(file, place(file, "-erased-"));
    bench.open();
    assert_eq!(newest(&bench), Some(now));
    // The head of the record, which begins behind the one of the segment.
    flip(&bench.log(".log")[1], 72 + 20);
    assert_eq!(newest(&bench), Some(now.minus(DAY)));
}
