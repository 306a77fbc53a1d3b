//! Bits that flip in the files of a store that was killed, and in those of its state.

use super::damage::flip;
use super::*;

fn check_bodies(events: &[Event], place: &str) {
    for event in events {
        let expected = body("room", event.seq());
        assert_eq!(&event.body()[..], expected.as_bytes(), "{place}");
    }
}

/// The last batch cannot be told from one that was never acknowledged. All others are there, or the start is refused by name.
#[tokio::test]
async fn a_flipped_bit_in_a_segment_without_an_index_loses_nothing_silently() {
    let bench = Bench::new();
    for n in 1..=30 {
        bench.try_accept(&body("room", n)).await.unwrap();
    }
    let mut copy = bench.crash();
    copy.store = None;
    let source = std::fs::read(&bench.log(".log")[0]).unwrap();
    let file = copy.path().join("log").join("00000000000000000001.log");
    let used = source.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut refused, mut whole) = (0, 0);
    for at in (0..72).step_by(5).chain((72..used).step_by(used / 50)) {
        copy.log("")
            .iter()
            .for_each(|file| std::fs::remove_file(file).unwrap());
        std::fs::write(&file, &source).unwrap();
        flip(&file, at);
        match copy.try_open() {
            Ok(store) => {
                let events = store.after(0, 1000, usize::MAX).await.unwrap();
                assert!(events.len() >= 29, "{} events at {at}", events.len());
                check_bodies(&events, &format!("at {at}"));
                whole += 1;
            }
            Err(OpenError::Broken { reason, .. }) => {
                assert!(reason.contains("is damaged: event"), "{reason}");
                assert!(file.exists(), "it is left as it is");
                refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 20 && whole > 0, "{refused} {whole}");
}

#[tokio::test]
async fn a_flipped_bit_in_the_state_gives_no_wrong_event_of_the_log() {
    let mut bench = Bench::new();
    let events = bench.segment("room", 60).await;
    let handler = bench.handler("h", 60).await;
    bench
        .commit(handler, 60, events.iter().map(retry).collect())
        .await;
    bench.store().delete(vec![7]).await.unwrap();
    bench.store = None;
    let file = bench.path().join("state.db");
    let source = std::fs::read(&file).unwrap();
    for at in (0..source.len()).step_by(source.len() / 120) {
        std::fs::write(&file, &source).unwrap();
        flip(&file, at);
        let opened = bench.try_open();
        if let Ok(store) = &opened {
            // Either is right, a panic or another event is not.
            if let Ok(events) = store.after(0, 1000, usize::MAX).await {
                assert!(events.len() >= 59 || events.is_empty(), "at {at}");
                check_bodies(&events, &format!("at {at}"));
            }
            let latest = Timestamp::from_millis(i64::MAX);
            if let Ok((due, _)) = store.due(handler, latest, latest, 100).await {
                let due: Vec<Event> = due.into_iter().map(|owed| owed.event).collect();
                check_bodies(&due, &format!("at {at}"));
            }
        }
        drop(opened);
        let _ = std::fs::remove_file(bench.path().join("state.db-wal"));
        let _ = std::fs::remove_file(bench.path().join("state.db-shm"));
    }
    std::fs::write(&file, &source).unwrap();
    bench.open();
    assert_eq!(bench.stored().await.len(), 59);
}
