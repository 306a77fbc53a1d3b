//! A trace of system calls shows that no 200 is sent before the sync that covers its callback has
//! returned.

mod trace;

use std::process::{Command, Stdio};

use serde_json::json;

use self::trace::{Proof, check};
use crate::support::{Client, Settings, TestServer, signed};

const CONNECTIONS: usize = 16;
/// The number in the contract is 10,000 requests.
const REQUESTS_EACH: usize = 640;

/// The traced calls: those that read or write requests, records and answers, and those that sync.
const CALLS: &str = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync";

#[test]
fn every_200_is_written_after_the_sync_of_its_record_returned() {
    let strace = Command::new("strace")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if strace.is_err() {
        eprintln!(
            "SKIPPED: there is no strace; install it to prove that syncs come before answers"
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.txt");
    // -D: the server stays our child. -y: descriptors show their files. -s: the whole page is
    // shown.
    let under = [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-qqq",
        "-y",
        "-s",
        "8192",
        "-e",
        "signal=none",
        "-e",
        CALLS,
        "-o",
    ];
    let mut under: Vec<String> = under.map(str::to_owned).to_vec();
    under.push(file.to_str().unwrap().to_owned());
    let server = TestServer::start_in(
        directory.path(),
        &Settings {
            under,
            ..Settings::default()
        },
    );
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let mut client = Client::new(server.addr);
            scope.spawn(move || {
                for number in 0..REQUESTS_EACH {
                    let body = signed(json!({
                        "event_type": 1, "app": "d", "appname": "live", "stream_id": format!("room-{connection}"),
                        "marker": format!("MARK{connection:03}x{number:06}K"),
                    }));
                    let answer = client.post("/css/stream-begin", body).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
    assert!(server.stop().success());
    let trace = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
    let proof = check(&trace).unwrap_or_else(|flaws| {
        panic!("{} flaws: {:#?}", flaws.len(), &flaws[..flaws.len().min(5)])
    });
    println!("{proof:?} in a trace of {} MB", trace.len() >> 20);
    assert_eq!(proof.answers, CONNECTIONS * REQUESTS_EACH);
    assert!(proof.syncs > 0 && proof.syncs <= proof.answers);
    // By default SQLite syncs with fsync, with which a journaling file system has more work.
    let sqlite_syncs = |call: &str| {
        trace
            .lines()
            .any(|line| line.contains(call) && line.contains("/state.db"))
    };
    assert!(sqlite_syncs(" fdatasync("), "SQLite was built without it");

    // The same trace with syncs that are missing, late, or of another file must fail.
    for (what, doctored) in [
        (
            "no sync",
            trace
                .replace("fdatasync(", "getpid(")
                .replace("fsync(", "getpid("),
        ),
        ("another file", trace.replace(".log>)", ".idx>)")),
        (
            "failed syncs",
            trace.replace(".log>) = 0", ".log>) = -1 EIO"),
        ),
    ] {
        assert!(check(&doctored).is_err(), "{what} is not noticed");
    }
}

const RECEIVED: &str =
    r#"11 recvfrom(20<socket:[7]>, "POST /css ... MARK000x000001K\"}", 8192, 0, NULL, NULL) = 300"#;
const RECORD: &str = r#"12 pwrite64(9</d/log/00000000000000000001.log>, "\r\0 ... MARK000x000001K\"}", 4096, 56) = 4096"#;
const SYNC: &str = "12 fdatasync(9</d/log/00000000000000000001.log>) = 0";
const ANSWER: &str =
    r#"11 writev(20<socket:[7]>, [{iov_base="HTTP/1.1 200 OK\r\n", iov_len=99}], 1) = 99"#;

#[test]
fn the_trace_of_a_right_server_is_a_proof() {
    let proof = Proof {
        answers: 1,
        records: 1,
        syncs: 1,
    };
    let right = [RECEIVED, RECORD, SYNC, ANSWER].join("\n");
    assert_eq!(check(&right), Ok(proof.clone()));
    let interrupted = [
        RECEIVED,
        RECORD,
        "12 fdatasync(9</d/log/00000000000000000001.log> <unfinished ...>",
        "11 read(21<pipe:[8]>,  <unfinished ...>",
        "12 <... fdatasync resumed>) = 0",
        "11 <... read resumed>\"x\", 1) = 1",
        ANSWER,
    ];
    assert_eq!(check(&interrupted.join("\n")), Ok(proof));
}

#[test]
fn the_trace_of_a_wrong_server_is_not() {
    let began = "12 fdatasync(9</d/log/00000000000000000001.log> <unfinished ...>";
    let ended = "12 <... fdatasync resumed>) = 0";
    let wrong: [(&str, &[&str]); 9] = [
        (
            "answered before the sync",
            &[RECEIVED, RECORD, ANSWER, SYNC],
        ),
        (
            "answered during the sync",
            &[RECEIVED, RECORD, began, ANSWER, ended],
        ),
        (
            "synced before the record",
            &[RECEIVED, SYNC, RECORD, ANSWER],
        ),
        ("never written", &[RECEIVED, SYNC, ANSWER]),
        ("never synced", &[RECEIVED, RECORD, ANSWER]),
        (
            "another file is synced",
            &[
                RECEIVED,
                RECORD,
                "12 fdatasync(9</d/state.db-wal>) = 0",
                ANSWER,
            ],
        ),
        (
            "another segment is synced",
            &[
                RECEIVED,
                RECORD,
                "12 fdatasync(9</d/log/00000000000000000002.log>) = 0",
                ANSWER,
            ],
        ),
        (
            "the sync failed",
            &[
                RECEIVED,
                RECORD,
                "12 fdatasync(9</d/log/00000000000000000001.log>) = -1 EIO (Input/output error)",
                ANSWER,
            ],
        ),
        (
            "only a thread that knows nothing of the commit syncs",
            &[
                RECEIVED,
                RECORD,
                "13 fdatasync(9</d/log/00000000000000000001.log>) = 0",
                ANSWER,
            ],
        ),
    ];
    for (what, lines) in wrong {
        assert!(check(&lines.join("\n")).is_err(), "{what} is not noticed");
    }
}
