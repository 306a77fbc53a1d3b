//! Power cuts at any moment lose no acknowledged event.
//!
//! The server runs once, and all its file operations are recorded. A simulated disk then computes
//! what a power cut at some moment could have left: any part of the data that was not synced. The
//! server is started again on each such directory.

mod disk;
mod recording;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::disk::{Chance, Disk};
use self::recording::{Op, library, read};
use crate::support::load::StopOnDrop;
use crate::support::target::reserve;
use crate::support::{Client, Settings, TestServer, signed, wait_for, wait_up_to};

/// The number of power cuts. `LIVEHOOK_POWER_CUTS=500` makes more.
const CUTS: u64 = 12;
/// Few senders, so that batches are small. Each batch takes whole blocks, so few events fill the
/// journal's files.
const SENDERS: u64 = 3;
/// All files of the journal have been used three times.
const JOURNAL: u64 = 60 << 20;

/// The events that were sent, by marker.
#[derive(Default)]
struct Sent {
    bodies: Mutex<BTreeMap<String, Value>>,
    over: AtomicBool,
    answered: AtomicU64,
}

impl Sent {
    /// Sends events until `over`. Repeats each until it is acknowledged.
    fn send(&self, sender: u64, server: SocketAddr) {
        let mut client = Client::with_timeout(server, Duration::from_secs(10));
        for number in 0.. {
            let marker = format!("MARK{:08}", number * SENDERS + sender);
            let body = signed(json!({
                "event_type": 1, "app": "d", "appname": "live", "stream_id": format!("room-{sender}"), "sequence": marker,
            }));
            let value = serde_json::from_str(&body).unwrap();
            self.bodies.lock().unwrap().insert(marker.clone(), value);
            let path = format!("/css/stream-begin?{marker}");
            while !client
                .post(&path, &body)
                .is_ok_and(|answer| answer.status == 200)
            {
                if self.over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
            if self.over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// A recorded run.
struct Run {
    directory: TempDir,
    sent: Sent,
}

impl Run {
    fn data(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("recording")
    }
}

/// Another event during the load.
#[derive(Default)]
struct Beside {
    /// The sync that fails, as `record.c` counts it.
    fail: Option<&'static str>,
    /// The server ends at this point and is started again.
    ends: bool,
    /// Another program holds a read transaction, so SQLite cannot checkpoint and depends on its
    /// log.
    reader: bool,
}

/// Runs the server under load and records it.
fn record(beside: &Beside) -> Run {
    let run = Run {
        directory: tempfile::tempdir().unwrap(),
        sent: Sent::default(),
    };
    let (callbacks, admin) = (reserve(), reserve());
    let library = library(run.directory.path());
    let settings = |fail: Option<&str>| {
        let mut settings = Settings::default().at(callbacks, admin);
        let mut set = |name: &str, value: &str| settings.env.push((name.into(), value.into()));
        set("LD_PRELOAD", library.to_str().unwrap());
        set("POWER_CUT_LOG", run.log().to_str().unwrap());
        set("POWER_CUT_DIR", run.data().to_str().unwrap());
        set("POWER_CUT_FAIL", fail.unwrap_or_default());
        settings
    };
    let mut server = TestServer::start_in(run.directory.path(), &settings(beside.fail));
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            let sent = &run.sent;
            scope.spawn(move || sent.send(sender, callbacks));
        }
        let over = StopOnDrop(&run.sent.over);
        let reader = beside.reader.then(|| reader(&run.data(), &run.sent));
        if beside.ends {
            let status = server.wait(Duration::from_secs(600));
            assert_eq!(status.code(), Some(1), "{}", server.log());
            assert!(server.log().contains("a sync of the store failed"));
            drop(reader);
            server = TestServer::start_in(run.directory.path(), &settings(None));
        }
        let before = written(&run.log());
        wait_up_to(Duration::from_secs(600), "the journal to fill", || {
            (written(&run.log()) > before + JOURNAL).then_some(())
        });
        drop(over);
    });
    server.kill();
    run
}

/// Holds a read transaction from after the first events until it is dropped.
fn reader(data: &Path, sent: &Sent) -> Connection {
    wait_for("events", || {
        (sent.answered.load(Ordering::Relaxed) > 100).then_some(())
    });
    let reader =
        Connection::open_with_flags(data.join("inbox.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let reader = reader.unwrap();
    let began = "BEGIN; SELECT count(*) FROM events";
    reader.execute_batch(began).unwrap();
    reader
}

/// The number of recorded bytes.
fn written(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |log| log.len())
}

/// The records after which the power fails: some of them anywhere, some where a sync, a name or a
/// length has just changed, and some soon after a sync that failed.
fn moments(ops: &[Op], cuts: u64, chance: &mut Chance) -> Vec<u64> {
    let mut turns = Vec::new();
    let mut failed = None;
    for (n, op) in (0..).zip(ops) {
        match op {
            Op::SyncEnd { good: false, .. } => failed = Some(n),
            Op::SyncBegin { .. } | Op::SyncEnd { .. } | Op::Truncate { .. } => turns.push(n),
            Op::Unlink { .. } | Op::Rename { .. } => turns.push(n),
            _ => {}
        }
    }
    let last = ops.len() as u64 - 1;
    let moment = |cut| match (cut % 3, failed) {
        (0, _) => chance.below(last),
        (1, Some(failed)) => last.min(failed + chance.below(500)),
        _ => turns[chance.below(turns.len() as u64) as usize],
    };
    let mut moments: Vec<u64> = (0..cuts).map(moment).collect();
    moments.sort_unstable();
    moments
}

/// Cuts the power at many moments of a run.
fn cut(name: &str, run: &Run) {
    let cuts = std::env::var("LIVEHOOK_POWER_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let recording = std::fs::read(run.log()).unwrap();
    let ops = read(&recording);
    let acknowledged = cut_in(&ops, cuts, run).unwrap_or_else(|lost| panic!("{name}: {lost}"));
    assert!(acknowledged >= run.sent.answered.load(Ordering::Relaxed));
    println!(
        "{name}: {cuts} power cuts, {acknowledged} acknowledged, {} records",
        ops.len()
    );
}

/// The number of acknowledged events, or an error that names a loss.
fn cut_in(ops: &[Op], cuts: u64, run: &Run) -> Result<u64, String> {
    let mut chance = Chance(cuts);
    let mut disk = Disk::default();
    let mut asked = BTreeMap::new();
    let mut acknowledged = Vec::new();
    let mut moments = moments(ops, cuts, &mut chance).into_iter().peekable();
    for (n, op) in (0..).zip(ops) {
        disk.apply(n, op, &mut chance);
        match op {
            Op::Request { connection, marker } => drop(asked.insert(*connection, *marker)),
            Op::Answer { connection } => acknowledged.extend(asked.remove(connection)),
            _ => {}
        }
        while moments.next_if_eq(&n).is_some() {
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().join("data");
            std::fs::create_dir(&data).unwrap();
            disk.cut(&run.data(), &data, &mut chance);
            check(directory.path(), &acknowledged, &run.sent)
                .map_err(|lost| format!("after record {n} {lost}"))?;
        }
    }
    Ok(acknowledged.len() as u64)
}

/// Starts the server on the remaining files and checks every acknowledged event.
fn check(directory: &Path, acknowledged: &[&str], sent: &Sent) -> Result<(), String> {
    let server = TestServer::start_in(directory, &Settings::default());
    let bodies = sent.bodies.lock().unwrap();
    let mut found = BTreeMap::new();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let events = server.events();
    for event in &events {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let marker = text("pushsequence");
        let before = last.insert(text("streamid"), marker.clone());
        assert!(
            before.as_ref().is_none_or(|before| *before < marker),
            "{marker} came before {before:?}"
        );
        assert!(bodies.contains_key(&marker), "{marker} is forged");
        assert_eq!(
            found.insert(marker, text("id")),
            None,
            "something is stored twice"
        );
    }
    // The last ones, and some of all.
    let mut admin = Client::new(server.admin);
    let step = found.len() / 20 + 1;
    for (marker, id) in found
        .iter()
        .rev()
        .take(20)
        .chain(found.iter().step_by(step))
    {
        let event = admin.get(&format!("/api/events/{id}")).unwrap().json();
        assert_eq!(event["data"], bodies[marker], "another body");
    }
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|marker| !found.contains_key(**marker))
        .collect();
    if !lost.is_empty() {
        return Err(format!("of {} are lost: {lost:?}", acknowledged.len()));
    }
    // A repeated event is a duplicate, and a new one is accepted.
    if let Some(marker) = acknowledged.last() {
        let again = server.post("/css/stream-begin", bodies[*marker].to_string());
        assert_eq!(again.status, 200);
    }
    let new = signed(json!({ "event_type": 0, "stream_id": "new" }));
    assert_eq!(server.post("/css/stream-end", new).status, 200);
    assert_eq!(server.events().len(), found.len() + 1);
    Ok(())
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    let run = record(&Beside::default());
    cut("no failure", &run);

    // The same run of a server that does not sync its journal.
    let recording = std::fs::read(run.log()).unwrap();
    let mut ops = read(&recording);
    let journals: Vec<u64> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Create { inode, path } if path.to_str().unwrap().contains("accepted") => {
                Some(*inode)
            }
            _ => None,
        })
        .collect();
    ops.retain(|op| match op {
        Op::SyncBegin { inode } | Op::SyncEnd { inode, .. } => !journals.contains(inode),
        _ => true,
    });
    // The server refuses the directory, or has lost events.
    let noticed = std::panic::catch_unwind(|| cut_in(&ops, 20, &run).unwrap());
    assert!(
        noticed.is_err(),
        "a server that does not sync is not noticed"
    );
}

#[test]
fn power_cuts_beside_a_reader_lose_nothing() {
    let run = record(&Beside {
        reader: true,
        ..Beside::default()
    });
    cut("a reader", &run);
}

#[test]
fn power_cuts_after_a_failed_sync_of_the_journal_lose_nothing() {
    let run = record(&Beside {
        fail: Some("accepted.0-wal:150"),
        ..Beside::default()
    });
    cut("a failed sync of the journal", &run);
}

#[test]
fn power_cuts_after_a_failed_sync_of_sqlites_log_lose_nothing() {
    let run = record(&Beside {
        fail: Some("inbox.db-wal:1:1000000"),
        ends: true,
        reader: true,
    });
    cut("a failed sync of inbox.db-wal", &run);
}

#[test]
fn power_cuts_after_a_failed_sync_of_the_store_lose_nothing() {
    let run = record(&Beside {
        fail: Some("inbox.db:1:1000000"),
        ends: true,
        reader: false,
    });
    cut("a failed sync of inbox.db", &run);
}
