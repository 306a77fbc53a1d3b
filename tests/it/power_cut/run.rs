//! Runs a server under load and records what it does to its files.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::recording::whole_records;
use crate::support::load::StopOnDrop;
use crate::support::server::{FILE_HANDLER, preloaded};
use crate::support::target::reserve;
use crate::support::{Client, Settings, TestServer, signed, wait_for, wait_up_to};

/// Few senders, so that batches are small.
const SENDERS: u64 = 3;
/// So many recorded bytes are about seven segments with what belongs to them.
const RECORDED: u64 = 24 << 20;
/// The stream that is deleted.
pub(super) const DOOMED: &str = "doomed";
/// A part of the bodies of its events.
pub(super) const SECRET: &str = "nobody may read this";
/// Marks the request that deletes it.
pub(super) const DELETION: &str = "MARK99999999";

/// The events that were sent, by marker.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) bodies: Mutex<BTreeMap<String, Value>>,
    pub(super) answered: AtomicU64,
    over: AtomicBool,
    doomed_over: AtomicBool,
}

impl Sent {
    /// Sends events until `over`. Repeats each until it is acknowledged.
    fn send(&self, sender: u64, stream: &str, server: SocketAddr, over: &AtomicBool) {
        let mut client = Client::with_timeout(server, Duration::from_secs(10));
        for number in 0.. {
            let marker = format!("MARK{:08}", number * (SENDERS + 1) + sender);
            let more = match (stream, number % 40) {
                (DOOMED, _) => SECRET.to_owned(),
                (_, 39) => "x".repeat(60_000),
                _ => "x".repeat(number as usize * 37 % 3000),
            };
            let body = signed(json!({
                "event_type": 1, "app": "d", "appname": "live", "stream_id": stream, "sequence": marker, "more": more,
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
            if over.load(Ordering::Relaxed) || self.over.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// What happens after something has failed.
#[derive(Default, PartialEq, Eq)]
pub(super) enum After {
    #[default]
    Nothing,
    /// The server ends by itself and is started again.
    End,
    /// The server refuses callbacks, is killed and started again.
    Kill,
}

/// What happens beside the load.
#[derive(Default)]
pub(super) struct Beside {
    /// What fails, as `record.c` wants it.
    pub(super) fail: Option<&'static str>,
    pub(super) after: After,
    /// Another program holds a read transaction, so SQLite cannot checkpoint and depends on its log.
    pub(super) reader: bool,
    /// A stream is deleted.
    pub(super) deletion: bool,
    /// In seconds.
    pub(super) retention: Option<u64>,
}

/// A recorded run.
pub(super) struct Run {
    directory: TempDir,
    pub(super) sent: Sent,
    pub(super) beside: Beside,
}

impl Run {
    pub(super) fn data(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("data")
    }

    pub(super) fn recording(&self) -> Vec<u8> {
        std::fs::read(self.log()).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("recording")
    }

    /// The number of recorded bytes.
    fn written(&self) -> u64 {
        std::fs::metadata(self.log()).map_or(0, |log| log.len())
    }

    fn wait_for_more(&self, bytes: u64) {
        let before = self.written();
        wait_up_to(Duration::from_secs(600), "the log to fill", || {
            (self.written() > before + bytes).then_some(())
        });
    }

    /// Runs the server under load and records it.
    pub(super) fn record(beside: Beside) -> Self {
        let run = Self {
            directory: tempfile::tempdir().unwrap(),
            sent: Sent::default(),
            beside,
        };
        let (callbacks, admin) = (reserve(), reserve());
        let library = preloaded("power_cut/record.c", run.directory.path());
        let settings = |fail: Option<&str>| {
            let mut settings = run.settings().at(callbacks, admin);
            let mut set = |name: &str, value: &str| settings.env.push((name.into(), value.into()));
            set("LD_PRELOAD", library.to_str().unwrap());
            set("POWER_CUT_LOG", run.log().to_str().unwrap());
            set("POWER_CUT_DIR", run.data().to_str().unwrap());
            set("POWER_CUT_FAIL", fail.unwrap_or_default());
            settings
        };
        let start =
            |fail: Option<&str>| TestServer::start_in(run.directory.path(), &settings(fail));
        let first = start(run.beside.fail);
        let server = std::thread::scope(|scope| {
            let mut server = first;
            let sent = &run.sent;
            for sender in 0..SENDERS {
                let stream = format!("room-{sender}");
                scope.spawn(move || sent.send(sender, &stream, callbacks, &sent.over));
            }
            let over = StopOnDrop(&run.sent.over);
            let reader = run.beside.reader.then(|| reader(&run.data(), &run.sent));
            if run.beside.deletion {
                let doomed =
                    scope.spawn(|| sent.send(SENDERS, DOOMED, callbacks, &sent.doomed_over));
                run.wait_for_more(RECORDED / 2);
                run.sent.doomed_over.store(true, Ordering::Relaxed);
                doomed.join().unwrap();
                delete(&server);
            }
            if run.beside.retention.is_some() {
                let first = run.data().join("log/00000000000000000001.log");
                wait_for("a segment", || first.exists().then_some(()));
                wait_for("retention", || (!first.exists()).then_some(()));
            }
            if run.beside.after != After::Nothing {
                run.wait_for_end(&mut server);
                drop(reader);
                server.kill();
                run.drop_torn_record();
                server = start(None);
            }
            run.wait_for_more(RECORDED);
            drop(over);
            server
        });
        server.kill();
        run.drop_torn_record();
        run
    }

    /// A process that is killed may leave its last record half written.
    fn drop_torn_record(&self) {
        let whole = whole_records(&self.recording());
        let log = std::fs::File::options().write(true).open(self.log());
        log.unwrap().set_len(whole as u64).unwrap();
    }

    /// The settings of the recorded server.
    fn settings(&self) -> Settings {
        let retention = self
            .beside
            .retention
            .map(|seconds| format!("retention = \"{seconds}s\"\n"));
        Settings {
            inbox: format!("segment_size = \"1MiB\"\n{}", retention.unwrap_or_default()),
            ..Settings::with_handlers(FILE_HANDLER)
        }
    }

    /// Waits until the failure has ended the server, or has it refuse callbacks.
    fn wait_for_end(&self, server: &mut TestServer) {
        if self.beside.after == After::End {
            let status = server.wait(Duration::from_secs(600));
            assert_eq!(status.code(), Some(1), "{}", server.log());
            assert!(server.log().contains("a sync of the store failed"));
            return;
        }
        wait_up_to(Duration::from_secs(600), "the failure", || {
            let log = server.log();
            log.contains("the log of events could not be written")
                .then_some(())
        });
    }
}

/// Holds a read transaction from after the first events until it is dropped.
fn reader(data: &Path, sent: &Sent) -> Connection {
    wait_for("events", || {
        (sent.answered.load(Ordering::Relaxed) > 100).then_some(())
    });
    let reader =
        Connection::open_with_flags(data.join("state.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let reader = reader.unwrap();
    let began = "BEGIN; SELECT count(*) FROM handlers";
    reader.execute_batch(began).unwrap();
    reader
}

/// Deletes the doomed stream.
fn delete(server: &TestServer) {
    let path = format!("/api/events?stream={DOOMED}");
    let mut client = Client::with_timeout(server.admin, Duration::from_secs(120));
    let answer = client.request("DELETE", &path, &[("x-marker", DELETION)], None);
    let answer = answer.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert!(answer.json()["count"].as_u64() > Some(10));
}
