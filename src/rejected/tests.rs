#![allow(clippy::unwrap_used)]

use rusqlite::Connection;

use super::sqlite::count_sizes;
use super::*;
use crate::auth::Refusal;

fn rejected(reason: Refusal, second: i64, size: usize) -> Rejected {
    Rejected {
        reason: Reason::Refused(reason),
        received: Timestamp::from_seconds(second),
        source: "css".into(),
        url_kind: None,
        kind: Kind::StreamEnd,
        client: None,
        token_hash: Some([7; 32]),
        size,
        body: vec![b'x'; size].into(),
    }
}

fn query(directory: &Path, what: &str) -> i64 {
    let conn = Connection::open(directory.join("rejected.db")).unwrap();
    conn.query_row(&format!("SELECT {what} FROM rejected"), [], |row| {
        row.get(0)
    })
    .unwrap()
}

#[test]
fn the_newest_are_kept_across_restarts_and_reasons_do_not_push_each_other_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&directory.path().join("rejected.db")).unwrap();
    store.write(&[rejected(Refusal::Expired, 1, 10)]).unwrap();
    for second in 0..700 {
        store
            .write(&[rejected(Refusal::Signature, second, 10)])
            .unwrap();
    }
    drop(store);
    let mut store = SqliteStore::open(&directory.path().join("rejected.db")).unwrap();
    for second in 700..1100 {
        store
            .write(&[rejected(Refusal::Signature, second, 10)])
            .unwrap();
    }
    assert_eq!(query(directory.path(), "count(*)"), 1001);
    assert_eq!(
        query(directory.path(), "min(received)"),
        1000,
        "the expired one"
    );
}

#[test]
fn bodies_are_bounded_and_long_ones_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&directory.path().join("rejected.db")).unwrap();
    for second in 0..300 {
        store
            .write(&[rejected(Refusal::Token, second, MAX_BODY)])
            .unwrap();
    }
    assert!(query(directory.path(), "sum(length(body))") <= BYTES as i64);
    store
        .write(&[rejected(Refusal::Token, 300, MAX_BODY + 1)])
        .unwrap();
    assert_eq!(
        query(
            directory.path(),
            "count(*) FILTER (WHERE body IS NULL AND size > 65536)"
        ),
        1
    );
}

#[test]
fn a_batch_that_could_not_be_written_does_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&directory.path().join("rejected.db")).unwrap();
    let batch = || vec![rejected(Refusal::Signature, 1, 10); 600];
    store.write(&batch()).unwrap();
    store
        .conn
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON rejected WHEN new.kind = 1 BEGIN SELECT RAISE(ABORT, 'full'); END")
        .unwrap();
    for _ in 0..3 {
        let mut batch = batch();
        batch[599].kind = Kind::StreamBegin;
        assert!(store.write(&batch).is_err());
    }
    store.conn.execute_batch("DROP TRIGGER full").unwrap();
    store.write(&batch()).unwrap();
    assert_eq!(count_sizes(&store.conn).unwrap(), store.sizes);
    assert_eq!(query(directory.path(), "count(*)"), 1000);
}

#[test]
fn a_flood_is_sampled() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::default());
    let list = RejectedList::open(directory.path(), metrics.clone()).unwrap();
    for _ in 0..1000 {
        list.keep(rejected(Refusal::Signature, 7, 10));
    }
    list.close();
    let kept = query(directory.path(), "count(*)");
    assert!((1..=i64::from(PER_SECOND)).contains(&kept), "{kept}");
    assert_eq!(metrics.rejected_dropped.get() + kept.unsigned_abs(), 1000);
}

#[tokio::test]
async fn a_deletion_removes_the_entries_of_the_stream_from_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let list = RejectedList::open(directory.path(), Arc::default()).unwrap();
    let keep = |stream: &str, n: i64| {
        let body = format!(r#"{{"event_type":0,"appname":"live","stream_id":"{stream}","n":{n}}}"#);
        let size = body.len();
        let body = body.into();
        list.keep(Rejected {
            body,
            ..rejected(Refusal::Signature, n, size)
        });
    };
    // More than one page, over several seconds because of the limit for a second.
    (0..450).for_each(|n| {
        let written = n % 40 == 39;
        keep(if n % 3 == 0 { "goes" } else { "stays" }, n);
        while written && query(directory.path(), "count(*)") < n {
            std::thread::yield_now();
        }
    });
    let filter = EventFilter {
        stream: Some("live/goes".to_owned()),
        ..EventFilter::default()
    };
    list.forget_deleted(&filter).await.unwrap();
    assert_eq!(query(directory.path(), "count(*)"), 300);
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"\"goes\""));
    }
}
