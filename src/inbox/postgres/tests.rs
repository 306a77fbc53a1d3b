//! Several receivers at the same time, which only this engine has.

#![allow(clippy::unwrap_used)]

use css_callbacks::Timestamp;

use super::*;
use crate::inbox::Inbox;
use crate::inbox::contract::{authentic, postgres_settings, push, server};
use crate::inbox::delivery::{Attempts, DeliveryChange, DeliveryCommit, Lease, Start};

const TERM: Duration = Duration::from_secs(2);
/// Longer than a statement takes.
const A_WHILE: Duration = Duration::from_millis(300);

fn database() -> String {
    server::shared().create_database()
}

async fn open(database: &str) -> Inbox {
    let settings = postgres_settings(database);
    Inbox::open(&settings, Clock::system(), Arc::default())
        .await
        .unwrap()
}

async fn accept(inbox: &Inbox, n: Seq) -> Seq {
    let callback = authentic("css", push("room", n).as_bytes(), Clock::system().now());
    inbox.accept(callback, None).await.unwrap().seq()
}

async fn register(inbox: &Inbox, names: &[&str]) -> Vec<(HandlerId, Duration)> {
    let names = names.iter().map(|name| ((*name).to_owned(), Start::Oldest));
    let registered = inbox.register(names.collect()).await.unwrap();
    registered.iter().map(|one| (one.id, TERM)).collect()
}

/// How many leases each has once both have had several turns.
async fn shares(a: &Inbox, b: &Inbox, wanted: &[(HandlerId, Duration)]) -> (usize, usize) {
    let mut held = (0, 0);
    for _ in 0..4 {
        held.0 = kept(a, wanted).await;
        held.1 = kept(b, wanted).await;
    }
    held
}

/// Renews the leases, gives surplus ones back, and counts the rest.
async fn kept(inbox: &Inbox, wanted: &[(HandlerId, Duration)]) -> usize {
    let leases = inbox.lease(wanted).await.unwrap();
    for lease in leases.iter().filter(|lease| lease.surplus) {
        inbox.release(lease).await.unwrap();
    }
    leases.iter().filter(|lease| !lease.surplus).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_were_changed_by_hand_are_refused_at_the_start() {
    let name = database();
    open(&name).await.close().await;
    let sql = |sql| server::shared().sql(&name, sql);
    for (change, back, column) in [
        (
            "ALTER TABLE livehook.events ALTER received TYPE numeric",
            "ALTER TABLE livehook.events ALTER received TYPE bigint",
            "livehook.events was changed by hand: it should have the column \"received bigint NOT NULL\"",
        ),
        (
            "ALTER TABLE livehook.orders RENAME answer TO reply",
            "ALTER TABLE livehook.orders RENAME reply TO answer",
            "\"answer bigint\"",
        ),
        (
            "ALTER TABLE livehook.streams ALTER last DROP NOT NULL",
            "ALTER TABLE livehook.streams ALTER last SET NOT NULL",
            "\"last bigint NOT NULL\"",
        ),
    ] {
        sql(change);
        let settings = postgres_settings(&name);
        let opened = Inbox::open(&settings, Clock::system(), Arc::default()).await;
        let error = opened.err().unwrap();
        assert!(matches!(error, OpenError::Refused(_)), "{error}");
        assert!(error.to_string().contains(column), "{error}");
        sql(back);
    }
    // Columns that a later release adds do no harm.
    sql("ALTER TABLE livehook.events ADD later text");
    open(&name).await.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_appears_before_an_open_transaction_ends() {
    let name = database();
    let (first, second) = (open(&name).await, open(&name).await);
    assert_eq!(accept(&first, 1).await, 1);
    let mut committed = second.committed();
    committed.wait_for(|newest| *newest == 1).await.unwrap();
    // A third receiver has a number and has not committed.
    let (mut client, connection) =
        tokio_postgres::connect(&server::shared().url(&name), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    let held = client.transaction().await.unwrap();
    let given = held
        .query_one(
            "SELECT number FROM livehook.accept_2(
                ARRAY[1::bigint], ARRAY['css'], ARRAY[1], ARRAY['\\x00112233445566778899aabbccddeeff'::bytea],
                ARRAY['{}'::bytea], ARRAY[false], 1000, NULL, true)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(given.get::<_, Seq>(0), 2);
    let inbox = second.clone();
    let later = tokio::spawn(async move { accept(&inbox, 2).await });
    sleep(A_WHILE).await;
    // A worker must not see an event after the open one: its position would pass the open one.
    for inbox in [&first, &second] {
        assert_eq!(*inbox.committed().borrow(), 1);
        let seen = inbox.after(0, 10, usize::MAX).await.unwrap();
        assert_eq!(seen.len(), 1);
    }
    assert!(!later.is_finished());
    held.commit().await.unwrap();
    assert_eq!(later.await.unwrap(), 3);
    let seen = first.after(0, 10, usize::MAX).await.unwrap();
    let seqs: Vec<Seq> = seen.iter().map(crate::event::Event::seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
}

/// Each callback is judged as if it had come alone: a late one looks at the whole past, others only at
/// the window, though they share a batch.
#[tokio::test]
async fn late_and_other_callbacks_share_a_batch() {
    let name = database();
    let _inbox = open(&name).await;
    let batch = |received: Seq, late: &str| {
        format!(
            "SELECT string_agg(number || ' ' || duplicate, ', ' ORDER BY place) FROM livehook.accept_2(
                array_fill({received}::bigint, ARRAY[cardinality({late})]), array_fill('css'::text, ARRAY[cardinality({late})]),
                array_fill(1, ARRAY[cardinality({late})]), array_fill('\\x00112233445566778899aabbccddeeff'::bytea, ARRAY[cardinality({late})]),
                array_fill('{{}}'::bytea, ARRAY[cardinality({late})]), {late}, 1000, {received}, true)"
        )
    };
    let ask = |received, late: &str| server::shared().sql(&name, &batch(received, late));
    assert_eq!(ask(1, "ARRAY[false, true]"), "1 false, 1 true");
    // This is long after the window.
    assert_eq!(
        ask(10_000, "ARRAY[true, false, true, false]"),
        "1 true, 2 false, 2 true, 2 true"
    );
}

/// Behind a pooler, connections may be older than the setting. Then nothing is stored, because it could
/// be stored twice.
#[tokio::test]
async fn a_batch_is_refused_if_it_would_not_see_what_it_waited_for() {
    let name = database();
    let _inbox = open(&name).await;
    let batch = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT number FROM livehook.accept_2(
        ARRAY[1::bigint], ARRAY['css'], ARRAY[1], ARRAY['\\x00'::bytea], ARRAY['{}'::bytea], ARRAY[false], 1000, NULL, true)";
    let refused = server::shared().try_sql(&name, batch).unwrap_err();
    assert!(refused.contains("not read committed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_create_the_schema_at_once() {
    let name = database();
    let opens: Vec<_> = (0..8)
        .map(|_| {
            let mut settings = postgres_settings(&name);
            let crate::inbox::settings::StoreSettings::Postgres(own) = &mut settings.store else {
                unreachable!()
            };
            // No receiver gets a second try.
            own.connect_wait = Duration::ZERO;
            tokio::spawn(
                async move { Inbox::open(&settings, Clock::system(), Arc::default()).await },
            )
        })
        .collect();
    for opened in opens {
        opened.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_announced_to_other_receivers() {
    let name = database();
    let (first, second) = (open(&name).await, open(&name).await);
    let mut committed = second.committed();
    let stored = accept(&first, 1).await;
    committed.wait_for(|seq| *seq == stored).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_are_spread_and_taken_over() {
    let name = database();
    let (first, second) = (open(&name).await, open(&name).await);
    let wanted = register(&first, &["a", "b", "c", "d"]).await;
    assert_eq!(register(&second, &["a", "b", "c", "d"]).await, wanted);
    assert_eq!(kept(&first, &wanted).await, 4, "there is nobody else");
    assert_eq!(shares(&first, &second, &wanted).await, (2, 2));
    assert_eq!(shares(&first, &second, &wanted).await, (2, 2));
    // The first one dies.
    for _ in 0..100 {
        if kept(&second, &wanted).await == 4 {
            break;
        }
        sleep(A_WHILE).await;
    }
    assert_eq!(kept(&second, &wanted).await, 4);
    // It has lost its leases.
    assert_eq!(first.lease(&wanted).await.unwrap(), Vec::<Lease>::new());
    second.close().await;
    assert_eq!(kept(&first, &wanted).await, 4, "it has left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_goes_back_does_not_make_a_lease_last() {
    let name = database();
    let (first, second) = (open(&name).await, open(&name).await);
    let wanted = register(&first, &["a"]).await;
    register(&second, &["a"]).await;
    assert_eq!(kept(&first, &wanted).await, 1);
    // The first one dies, and the database's clock is set back by an hour.
    server::shared().sql(
        &name,
        "UPDATE livehook.handlers SET until = until + interval '1 hour';
         UPDATE livehook.receivers SET until = until + interval '1 hour'",
    );
    assert_eq!(kept(&second, &wanted).await, 0, "the term is not over");
    for _ in 0..100 {
        if kept(&second, &wanted).await == 1 {
            return;
        }
        sleep(A_WHILE).await;
    }
    panic!("nobody took over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_only_one_wants_is_never_idle() {
    let name = database();
    let (first, second) = (open(&name).await, open(&name).await);
    let both = register(&first, &["a", "b", "own"]).await;
    let some = register(&second, &["a", "b"]).await;
    for _ in 0..4 {
        kept(&second, &some).await;
        assert!(kept(&first, &both).await >= 1);
    }
    let own = both[2].0;
    let leases = first.lease(&both).await.unwrap();
    assert!(leases.iter().any(|lease| lease.handler == own));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_of_an_earlier_lease_are_not_written() {
    let name = database();
    let (first, second) = (open(&name).await, open(&name).await);
    let wanted = register(&first, &["a"]).await;
    let handler = wanted[0].0;
    let seq = accept(&first, 1).await;
    let old = first.lease(&wanted).await.unwrap()[0];
    first.release(&old).await.unwrap();
    let new = second.lease(&wanted).await.unwrap()[0];
    assert!(new.epoch > old.epoch);
    let commit = |epoch| DeliveryCommit {
        epoch,
        position: Some(seq),
        changes: vec![DeliveryChange::Park {
            seq,
            lane: 2,
            attempts: Attempts::default(),
            at: Timestamp::from_seconds(1),
        }],
    };
    for epoch in [old.epoch, None] {
        assert!(first.commit(handler, commit(epoch)).await.is_err());
        assert_eq!(second.count(handler).await.unwrap().parked, 0);
        assert_eq!(second.position(handler).await.unwrap(), 0);
    }
    second.commit(handler, commit(new.epoch)).await.unwrap();
    assert_eq!(first.count(handler).await.unwrap().parked, 1);
    assert_eq!(first.position(handler).await.unwrap(), seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rejected_list_keeps_the_newest_of_each_reason() {
    let name = database();
    let inbox = open(&name).await;
    let row = |reason, second, size: usize| crate::inbox::rejected::RejectedRow {
        source: "css".to_owned(),
        reason,
        received: Timestamp::from_seconds(second),
        url_kind: None,
        kind: 1,
        client: None,
        token_hash: None,
        size: size as i64,
        body: Some(vec![b'x'; size]),
    };
    inbox
        .add_rejected(&[row("token", 1, 10)], 3, 100)
        .await
        .unwrap();
    for second in 0..10 {
        let batch = [
            row("signature", 2 * second, 10),
            row("signature", 2 * second + 1, 10),
        ];
        inbox.add_rejected(&batch, 3, 100).await.unwrap();
    }
    let held = |sql: &str| server::shared().sql(&name, sql);
    let times = "SELECT string_agg(received::text, ' ' ORDER BY received) FROM livehook.rejected";
    assert_eq!(held(times), "1000 17000 18000 19000");
    inbox
        .add_rejected(&[row("signature", 20, 95)], 3, 100)
        .await
        .unwrap();
    assert_eq!(held(times), "1000 20000");
}
