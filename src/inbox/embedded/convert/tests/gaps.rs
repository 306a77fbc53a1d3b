//! Where numbers are missing.

use super::*;
use crate::inbox::event_log::{self, Directory, KnownState};

const REMOVED: &str = "SELECT first, last FROM removed ORDER BY first";

#[tokio::test]
async fn events_with_gaps_of_all_sizes_keep_their_numbers() {
    let none = || std::iter::empty();
    let cases = [
        Old::of(1..=10, none()),
        Old::of(none(), 1..=10),
        Old::of(1..=20, 21..=50),
        Old::of(500..=510, 511..=511),
        // Small gaps, also in front of the journal's events.
        Old::of(
            (1..=3000).filter(|seq| seq % 7 != 0 && seq % 500 > 60),
            3001..=3005,
        ),
        // A few events that were owed for long, then the bulk, a large gap, and the bulk again.
        Old::of(
            [3, 4, 90, 2000]
                .into_iter()
                .chain(5000..=7500)
                .chain(9000..=9003)
                .chain(10_000..=12_000),
            none(),
        ),
    ];
    for old in cases {
        let last = *old.events.keys().next_back().unwrap();
        let store = old.check().await;
        for event in old.events.values().step_by(97) {
            let found = store.find(event.id).await.unwrap().unwrap();
            assert_eq!(found.seq(), event.seq);
        }
        let callback = authentic("css", push("new", 0).as_bytes(), store.clock.now());
        let receipt = store.accept(callback, None, false).await.unwrap();
        assert_eq!(receipt.seq(), last + 1);
        store.close();
        // Another start is one without a conversion.
        let again = old.open().unwrap();
        let found = again.after(0, usize::MAX >> 1, usize::MAX).await.unwrap();
        assert_eq!(found.len(), old.events.len() + 1);
    }
}

#[tokio::test]
async fn a_gap_of_64_numbers_is_filled_and_a_larger_one_is_left_out() {
    // 64 numbers are missing behind 10, 65 behind 80.
    let old = Old::of((1..=10).chain(75..=80).chain(146..=150), std::iter::empty());
    old.sql("UPDATE meta SET value = 160 WHERE name = 'last_seq'");
    old.check().await.close();
    assert_eq!(old.state(REMOVED), ["81\t145", "151\t160"]);
    let filled: Vec<String> = (11..=74).map(|seq| format!("{seq}\t1")).collect();
    assert_eq!(
        old.state("SELECT seq, erased FROM deleted ORDER BY seq"),
        filled
    );
}

/// Runs of few events that are old: retention would make copies of the first one only.
#[tokio::test]
async fn few_events_are_copies_if_only_rows_hold_them() {
    let mut old = Old::of(
        (1..=5)
            .chain(200..=205)
            .chain(400..=405)
            .chain(600..=2000)
            .chain(3000..=3003),
        std::iter::empty(),
    );
    old.sql(
        "INSERT INTO handlers VALUES (1, 'behind', 300, 0, NULL), (2, 'other', 3003, 0, NULL);
         INSERT INTO deliveries SELECT 2, seq, 12, 2, 3, 5, 6, 6, 'no' FROM events
             WHERE seq BETWEEN 1 AND 204 OR seq BETWEEN 400 AND 405;",
    );
    let young = old.copy();
    old.now = BEGIN.plus(old.settings.retention).plus(DAY);
    old.check().await.close();
    let kept = "SELECT seq FROM kept ORDER BY seq";
    assert_eq!(old.state(kept), ["1", "2", "3", "4", "5"]);
    assert_eq!(
        old.state(REMOVED),
        ["1\t199", "206\t399", "406\t599", "2001\t2999"]
    );
    young.check().await.close();
    assert!(young.state(kept).is_empty(), "they are not old");
}

/// A handler was away while most events were deleted. Retention drops copies without rows.
#[tokio::test]
async fn events_that_a_handler_has_not_had_survive_retention() {
    let mut old = Old::of(
        (1..=10).chain(200..=210).chain(400..=410),
        std::iter::empty(),
    );
    old.sql("INSERT INTO handlers VALUES (1, 'h', 0, 0, NULL)");
    let young = old.copy();
    old.now = BEGIN.plus(old.settings.retention).plus(DAY);
    for old in [old, young] {
        let store = old.check().await;
        store.sweep().await.unwrap();
        old.check_events(&store).await;
    }
}

/// Retention removes a segment when its newest event is old.
#[test]
fn segments_have_no_longer_time_than_those_of_a_running_store() {
    let old = Old::of(1..=480, std::iter::empty());
    // One event each hour, and a wrong clock for a moment.
    old.sql(
        "UPDATE events SET received = received + seq * 3599000;
         UPDATE events SET received = received + 900 * 86400000 WHERE seq = 100;",
    );
    let layout = Layout {
        span: DAY,
        ..Layout::default()
    };
    let now = BEGIN.plus(20 * DAY);
    convert(
        old.path(),
        &layout,
        AgeCutoff::older_than(old.settings.retention, now),
    )
    .unwrap();
    let volume = Arc::new(Directory::new(old.path().join("log")));
    let log = event_log::open(volume, layout, &KnownState::default()).unwrap();
    let segments = log.reader.segments();
    assert!(segments.len() >= 15, "{}", segments.len());
    for segment in &segments {
        let hours = segment.last - segment.first + 1;
        assert!(hours <= 24 + 6 + 1, "{hours} hours in one segment");
        assert!(segment.sealed.is_some());
    }
    assert_eq!(log.reader.range(), Some((1, 480)));
}

#[tokio::test]
async fn numbers_handlers_and_deliveries_are_kept() {
    let old = Old::of(1..=100, std::iter::empty());
    old.sql(
        "UPDATE meta SET value = 250 WHERE name = 'last_seq';
         INSERT INTO handlers VALUES (3, 'a', 90, 0, NULL), (9, 'gone', 200, 0, NULL);
         DELETE FROM handlers WHERE id = 9;
         INSERT INTO deliveries VALUES (3, 7, 12, 0, 2, 5, 77, NULL, 'it does not listen'),
             (3, 8, 12, 1, 0, NULL, 0, NULL, ''), (3, 9, 14, 2, 3, 5, 6, 6, 'no'),
             (3, 150, 14, 2, 3, 5, 6, 6, 'its event is nowhere');",
    );
    let store = old.check().await;
    let registered = store
        .register(vec![
            ("a".to_owned(), Start::Now),
            ("new".to_owned(), Start::Now),
        ])
        .await
        .unwrap();
    assert_eq!((registered[0].id, registered[0].position), (3, 90));
    assert!(registered[1].id > 9, "a number is never given twice");
    assert_eq!(registered[1].position, 250);
    let counts = store.count(3).await.unwrap();
    assert_eq!((counts.due, counts.waiting, counts.parked), (1, 1, 1));
    let (due, _) = store.due(3, BEGIN, BEGIN, 10).await.unwrap();
    assert_eq!((due[0].event.seq(), due[0].attempts.count), (7, 2));
    assert_eq!(*store.committed().borrow(), 250);
}
