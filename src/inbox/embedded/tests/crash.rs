//! What a process that was killed leaves: all that it had acknowledged.

use futures_util::future::join_all;

use super::*;

#[tokio::test]
async fn what_many_were_told_at_once_is_in_the_files() {
    let bench = Bench::new();
    for round in 1..=3 {
        let all: Vec<String> = (0..700).map(|n| body("room", round * 1000 + n)).collect();
        let receipts = join_all(all.iter().map(|body| bench.try_accept(body))).await;
        assert!(receipts.iter().all(|receipt| receipt.is_ok()));
        let after = bench.crash();
        assert_eq!(after.stored().await, (1..=700 * round).collect::<Vec<_>>());
        for (body, receipt) in all.iter().zip(&receipts).step_by(31) {
            let repeated = after.try_accept(body).await.unwrap();
            assert!(repeated.is_duplicate());
            assert_eq!(repeated.seq(), receipt.unwrap().seq());
        }
        assert_eq!(
            after.try_accept(&body("new", 0)).await.unwrap().seq(),
            700 * round + 1
        );
    }
}

/// Each process is killed, and the next one goes on with what it left.
#[tokio::test]
async fn one_crash_after_the_other_loses_nothing() {
    let mut bench = Bench::new();
    let handler = bench.handler("h", 0).await;
    for n in 1..=30 {
        bench.try_accept(&body("room", n)).await.unwrap();
        let event = bench.after(n - 1).await.remove(0);
        bench.commit(handler, n, vec![retry(&event)]).await;
        if n % 5 == 0 {
            // A segment that is sealed, and one that is not, in turn.
            bench.store().end_segment(Duration::ZERO).await.unwrap();
        }
        bench = bench.crash();
        assert_eq!(bench.stored().await, (1..=n).collect::<Vec<_>>());
        assert_eq!(bench.store().position(handler).await.unwrap(), n);
        let counts = bench.store().count(handler).await.unwrap();
        assert_eq!(counts.due + counts.waiting, n.unsigned_abs());
    }
}

/// A start writes the last segment anew. A crash in between leaves both.
#[tokio::test]
async fn leftovers_of_a_start_that_was_killed_are_removed() {
    let mut bench = Bench::new();
    for n in 1..=20 {
        bench.try_accept(&body("room", n)).await.unwrap();
    }
    let mut after = bench.crash();
    after.store = None;
    let log = after.path().join("log");
    for name in [
        "segment.new",
        "index.new",
        "spare.new",
        "spare",
        "00000000000000000777.idx",
    ] {
        std::fs::write(log.join(name), "begun").unwrap();
    }
    after.open();
    assert_eq!(after.stored().await.len(), 20);
    assert_eq!(after.log("").len(), 2, "{:?}", after.log(""));
    // A new segment that nothing was ever acknowledged in.
    let empty = bench.log(".log")[0].with_file_name("00000000000000000021.log");
    std::fs::write(&empty, [0; 4096]).unwrap();
    bench = bench.crash();
    assert_eq!(bench.stored().await.len(), 20);
    assert_eq!(bench.try_accept(&body("room", 21)).await.unwrap().seq(), 21);
}
