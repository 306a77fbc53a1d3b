//! With a full disk, callbacks are refused, none is lost, and work continues when there is space.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::load::StopOnDrop;
use crate::support::server::FILE_HANDLER;
use crate::support::target::{Target, reserve};
use crate::support::{Client, Settings, TestServer, json_lines, signed, wait_for};

/// A small volume. Dropping it unmounts it.
struct Volume(PathBuf);

impl Volume {
    /// Mounts a volume. Returns none if this user may not mount.
    fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        let size = format!("size={size}");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "livehook-test"])
            .arg(path);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: a small volume cannot be mounted here; root can");
        }
        mounted.then(|| Self(path.to_owned()))
    }

    /// Writes a file until less than `keep` bytes are left.
    fn fill(&self, keep: u64) {
        let mut filler = fs::File::options()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        for piece in [vec![7; 64 << 10], vec![7; 4096], vec![7; 1]] {
            while self.free() > keep && filler.write_all(&piece).is_ok() {}
        }
    }

    fn free(&self) -> u64 {
        let volume = rustix::fs::statvfs(&self.0).unwrap();
        volume.f_bavail * volume.f_frsize
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Senders that repeat each event until it is acknowledged.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    refused: AtomicU64,
    taken: AtomicU64,
}

impl Load {
    fn send(&self, sender: u64, mut client: Client) -> Vec<String> {
        let mut acknowledged = Vec::new();
        for number in 0.. {
            let marker = format!("{sender}-{number}");
            let body = signed(json!({
                "event_type": 1, "app": "d", "appname": "live", "stream_id": format!("room-{sender}"),
                "marker": marker, "padding": "x".repeat(if number % 8 == 7 { 20_000 } else { 900 }),
            }));
            loop {
                if self.over.load(Ordering::Relaxed) {
                    return acknowledged;
                }
                let answer = client.post("/css/stream-begin", &body).unwrap();
                if answer.status == 200 {
                    break;
                }
                assert_eq!(
                    (answer.status, answer.header("retry-after")),
                    (503, Some("5"))
                );
                self.refused.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            acknowledged.push(marker);
            self.taken.fetch_add(1, Ordering::Relaxed);
            // Not so fast that the events themselves fill the volume on a slow machine.
            std::thread::sleep(Duration::from_millis(20));
        }
        acknowledged
    }
}

fn ready(server: &TestServer) -> u16 {
    server.client().get("/readyz").unwrap().status
}

/// Fills the volume under load and frees it again, several times, and checks every acknowledged event.
fn fills_up(size: &str, min_free: &str, keep: u64) {
    let directory = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::mount(&directory.path().join("data"), size) else {
        return;
    };
    let settings = Settings {
        inbox: format!("min_free = \"{min_free}\"\nsegment_size = \"1MiB\""),
        ..Settings::with_handlers(FILE_HANDLER)
    };
    let server = TestServer::start_in(directory.path(), &settings);
    let load = Load::default();
    let acknowledged: BTreeSet<String> = std::thread::scope(|scope| {
        let load = &load;
        let ending = StopOnDrop(&load.over);
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let client = server.client();
                scope.spawn(move || load.send(sender, client))
            })
            .collect();
        for round in 1..=4 {
            let taken = load.taken.load(Ordering::Relaxed);
            wait_for("callbacks to be taken", || {
                (load.taken.load(Ordering::Relaxed) > taken + 100).then_some(())
            });
            let refused = load.refused.load(Ordering::Relaxed);
            volume.fill(keep);
            wait_for("refusals", || {
                volume.fill(keep); // what a checkpoint gave back
                (load.refused.load(Ordering::Relaxed) > refused + 50 && ready(&server) == 503)
                    .then_some(())
            });
            assert_eq!(
                server.client().get("/healthz").unwrap().status,
                200,
                "it is alive, round {round}"
            );
            fs::remove_file(volume.filler()).unwrap();
            wait_for("it to be ready again", || {
                (ready(&server) == 200).then_some(())
            });
        }
        let taken = load.taken.load(Ordering::Relaxed);
        wait_for("callbacks to be taken again", || {
            (load.taken.load(Ordering::Relaxed) > taken + 100).then_some(())
        });
        drop(ending);
        senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap())
            .collect()
    });
    let file = directory.path().join("events.jsonl");
    wait_for("every acknowledged event to be delivered", || {
        let lines = json_lines(&file);
        let delivered: BTreeSet<String> = lines
            .iter()
            .map(|line| line["data"]["marker"].as_str().unwrap().to_owned())
            .collect();
        acknowledged.is_subset(&delivered).then_some(())
    });
    let stored = server.events();
    let ids: BTreeSet<&str> = stored
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), stored.len(), "nothing is stored twice");
    assert!(stored.len() >= acknowledged.len());
    assert!(server.stop().success());
    // The next process has all acknowledged events, too.
    let server = TestServer::start_in(directory.path(), &settings);
    assert_eq!(server.events().len(), stored.len());
    println!(
        "{} acknowledged, {} refused",
        acknowledged.len(),
        load.refused.load(Ordering::Relaxed)
    );
}

#[test]
fn below_the_floor_callbacks_are_refused_until_there_is_room() {
    fills_up("32m", "4MiB", 3 << 20);
}

#[test]
fn a_full_volume_loses_nothing_and_works_again_with_room() {
    fills_up("32m", "0B", 0);
}

/// There is room for a spare file at first, which is used when the volume is full.
#[test]
fn a_full_volume_with_a_spare_file_loses_nothing_and_works_again_with_room() {
    fills_up("48m", "0B", 0);
}

#[test]
fn below_the_floor_retention_makes_room() {
    let directory = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::mount(&directory.path().join("data"), "24m") else {
        return;
    };
    let settings = Settings {
        inbox: "min_free = \"4MiB\"\nsegment_size = \"1MiB\"\nretention = \"1s\"".into(),
        ..Settings::with_handlers(FILE_HANDLER)
    };
    let server = TestServer::start_in(directory.path(), &settings);
    let mut client = server.client();
    let mut push = |number: usize| {
        let body = json!({ "event_type": 1, "number": number, "padding": "x".repeat(60_000) });
        client.post("/css", signed(body)).unwrap().status
    };
    assert!((0..100).all(|number| push(number) == 200));
    volume.fill(3 << 20);
    assert_eq!(push(100), 503);
    // Nobody else frees anything.
    wait_for("it to be ready again", || {
        (ready(&server) == 200).then_some(())
    });
    assert_eq!(push(100), 200);
    assert!(server.stop().success());
}

#[test]
fn below_the_floor_positions_are_still_written() {
    let directory = tempfile::tempdir().unwrap();
    let address = reserve();
    let handlers = format!(
        "[handlers.http]\nretry = {{ initial = \"50ms\", max = \"100ms\" }}\nto = {{ type = \"http\", url = \"http://{address}/\" }}\n"
    );
    let settings = Settings::with_handlers(&handlers);
    let server = TestServer::start_in(directory.path(), &settings);
    for number in 0..50 {
        let body = signed(
            json!({ "event_type": 1, "stream_id": format!("room-{}", number % 10), "number": number }),
        );
        assert_eq!(server.post("/css/stream-begin", body).status, 200);
    }
    assert!(server.stop().success());

    let settings = Settings {
        inbox: "min_free = \"4096TiB\"".into(),
        ..settings
    };
    let server = TestServer::start_in(directory.path(), &settings);
    let answer = server.post(
        "/css/stream-begin",
        signed(json!({ "event_type": 1, "stream_id": "new" })),
    );
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("5"))
    );
    assert_eq!(ready(&server), 503);
    let target = Target::at(address, |_| crate::support::target::Reply::Status(200));
    wait_for("the backlog to be delivered", || {
        (target.delivered() >= 50).then_some(())
    });
    wait_for("no lag", || {
        (server.metric("livehook_handler_lag_events{handler=\"http\"}") == 0.0).then_some(())
    });
    assert!(server.stop().success());

    let before = target.count();
    let server = TestServer::start_in(
        directory.path(),
        &Settings {
            inbox: String::new(),
            ..settings
        },
    );
    let body = signed(json!({ "event_type": 1, "stream_id": "new", "number": 50 }));
    assert_eq!(server.post("/css/stream-begin", body).status, 200);
    wait_for("the new event", || (target.count() > before).then_some(()));
    let news: Vec<u64> = target.hits()[before..]
        .iter()
        .map(|hit| hit.number_in_stream().1)
        .collect();
    assert_eq!(
        news,
        [50],
        "positions had been written, nothing comes again"
    );
}

#[test]
fn a_limit_on_the_size_of_files_refuses_callbacks_and_kills_nothing() {
    let server = TestServer::start(&Settings::default());
    // More than the limit leaves for the log of events. What is printed goes to a file too, but a short one.
    let padding = "x".repeat(100_000);
    let callback = |n: u32| signed(json!({ "event_type": 1, "sequence": n, "padding": padding }));
    assert_eq!(server.post("/css", callback(1)).status, 200);
    let limit = |bytes: Option<u64>| {
        let pid = rustix::process::Pid::from_raw(server.pid().cast_signed());
        let limit = rustix::process::Rlimit {
            current: bytes,
            maximum: None,
        };
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit).unwrap();
    };
    limit(Some(64 << 10));
    assert_eq!(server.post("/css", callback(2)).status, 503);
    assert_eq!(server.post("/css", callback(3)).status, 503);
    // Chance decides which of the files reaches its limit first. None is reported for every
    // callback.
    for message in [
        "the log of events could not be written",
        "the store failed: callbacks",
    ] {
        let logged = server.log().matches(message).count();
        assert!(logged <= 1, "{}", server.log());
    }
    limit(None);
    wait_for("the store to work again", || {
        (server.post("/css", callback(2)).status == 200).then_some(())
    });
}
