//! Deletions that are interrupted, that fail, and that run beside other work.

use futures_util::future::join_all;

use super::*;
use crate::inbox::event_log::LogEntry;

/// What the log holds of these events.
fn entries(bench: &Bench, seqs: &[Seq]) -> Vec<LogEntry> {
    let log = &bench.store().reads.log;
    let each = seqs.iter().map(|seq| log.get(*seq).unwrap().unwrap());
    each.collect()
}

fn is_erased(entry: &LogEntry) -> bool {
    matches!(entry, LogEntry::Erased(_))
}

#[tokio::test]
async fn a_deletion_that_failed_is_finished_when_it_is_repeated() {
    let bench = Bench::new();
    bench.segment("room", 10).await;
    bench.segment("room", 10).await;
    let file = bench.log(".log")[0].clone();
    let away = bench.dir.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    // The state knows of it, but nothing can be overwritten.
    assert!(bench.store().delete(vec![5, 15]).await.is_err());
    std::fs::rename(&away, &file).unwrap();
    assert!(bench.store().delete(vec![5, 15]).await.is_ok());
    for n in [5, 15] {
        assert!(!contains(bench.dir.path(), &format!("marker-{n}-")), "{n}");
    }
    assert!(entries(&bench, &[5, 15]).iter().all(is_erased));
    assert_eq!(bench.after(4).await[0].seq(), 6);
}

#[tokio::test]
async fn retention_finishes_a_deletion_that_failed() {
    let bench = Bench::new();
    let events = bench.segment("room", 300).await;
    let handler = bench.handler("h", 300).await;
    bench.segment("room", 10).await;
    bench.commit(handler, 300, vec![retry(&events[20])]).await;
    let file = bench.log(".log")[1].clone();
    let away = bench.dir.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    assert!(bench.store().delete(vec![305]).await.is_err());
    std::fs::rename(&away, &file).unwrap();
    bench.sweep().await;
    assert!(!contains(bench.dir.path(), "marker-305-"));
    assert!(is_erased(&entries(&bench, &[305])[0]));
}

#[tokio::test]
async fn deletions_run_beside_writing_and_reading() {
    let bench = Bench::with(|own| own.segment_size = Some(1 << 20));
    let total = 250;
    let write = async {
        for n in 1..=total {
            // Large enough to fill several segments.
            let body =
                body("room", n).replacen('{', &format!(r#"{{"x":"{}","#, "x".repeat(9000)), 1);
            assert_eq!(bench.try_accept(&body).await.unwrap().seq(), n);
        }
    };
    let delete = async {
        let mut committed = bench.store().committed();
        for n in (2..=total).step_by(7) {
            committed.wait_for(|last| *last >= n).await.unwrap();
            assert_eq!(bench.store().delete(vec![n, n - 1]).await.unwrap(), 2);
        }
    };
    let read = async {
        let mut committed = bench.store().committed();
        let mut seen = 0;
        while seen < total {
            committed.wait_for(|last| *last > seen).await.unwrap();
            let upto = *committed.borrow();
            for event in bench.after(seen).await {
                let marker = format!("marker-{}-", event.seq());
                assert!(
                    event
                        .body()
                        .windows(marker.len())
                        .any(|part| part == marker.as_bytes())
                );
            }
            seen = upto;
        }
    };
    tokio::join!(write, delete, read);
    let after = bench.crash();
    for bench in [&bench, &after] {
        let stored = bench.stored().await;
        let deleted: Vec<Seq> = (2..=total).step_by(7).flat_map(|n| [n - 1, n]).collect();
        let left: Vec<Seq> = (1..=total).filter(|n| !deleted.contains(n)).collect();
        assert_eq!(stored, left);
        for n in deleted {
            assert!(!contains(bench.dir.path(), &format!("marker-{n}-")), "{n}");
        }
    }
    assert!(bench.log(".log").len() > 2);
}

#[tokio::test]
async fn the_lane_of_a_deleted_event_goes_on() {
    let bench = Bench::new();
    let events = bench.segment("room", 300).await;
    let handler = bench.handler("h", 0).await;
    let wait = |event: &Event| DeliveryChange::Wait {
        seq: event.seq(),
        lane: event.lane(),
    };
    let changes = vec![retry(&events[0]), wait(&events[1]), wait(&events[2])];
    bench.commit(handler, 300, changes).await;
    // The first from the log, the second from a copy.
    assert_eq!(bench.store().delete(vec![1]).await.unwrap(), 1);
    assert_eq!(bench.due(handler).await, [2]);
    bench.clock.advance(8 * DAY);
    bench.sweep().await;
    assert_eq!(bench.stored().await, [2, 3]);
    assert_eq!(bench.store().delete(vec![1, 2]).await.unwrap(), 1);
    assert_eq!(bench.due(handler).await, [3]);
    assert_eq!(bench.stored().await, [3]);
    assert!(!contains(bench.dir.path(), "marker-2-"));
}

/// Of a store that was deleting when it was killed, at each of its steps.
#[tokio::test]
async fn whenever_it_is_killed_a_deletion_is_none_or_whole() {
    let bench = Bench::new();
    bench.segment("room", 10).await;
    for n in 11..=20 {
        bench.try_accept(&body("room", n)).await.unwrap();
    }
    let (seqs, markers) = (vec![3, 13], ["marker-3-", "marker-13-"]);
    let has = |bench: &Bench| markers.map(|marker| contains(bench.dir.path(), marker));
    // Nothing is noted yet.
    assert_eq!(has(&bench.crash()), [true; 2]);
    // It is noted.
    let (log, noted) = (bench.store().reads.log.clone(), seqs.clone());
    let note = move |conn: &Connection| stored::note_deleted(conn, &log, &noted).map(drop);
    bench.store().write(note).await.unwrap();
    // One body is overwritten.
    for _ in 0..2 {
        let after = bench.crash();
        assert_eq!(has(&after), [false; 2]);
        assert_eq!(after.stored().await.len(), 18);
        let erased = entries(&after, &seqs);
        assert!(erased.iter().all(is_erased));
        bench.store().maintenance.erase(vec![3]).await.unwrap();
    }
    let not_erased = stored::not_erased;
    assert_eq!(bench.store().read_state(not_erased).await.unwrap(), seqs);
    let each = join_all(seqs.iter().map(|seq| bench.store().delete(vec![*seq]))).await;
    assert!(each.iter().all(Result::is_ok));
    assert!(
        bench
            .store()
            .read_state(not_erased)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(has(&bench), [false; 2]);
}
