//! Programs of exec handlers: their input, their ends, and their processes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::reload::{RELOADED, reload};
use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, TestServer, json_lines, signed, wait_up_to};

mod first_process;
mod processes;

use self::processes::{Process, children, kill, lives};

const TIMEOUT: Duration = Duration::from_secs(60);

/// An exec handler that runs a script of the shell, whose `$1` is `directory`.
fn shell(script: &str, directory: &Path, more: &str) -> String {
    let directory = directory.display();
    format!(
        "[handlers.exec]\n{more}\nto = {{ type = \"exec\", command = [\"sh\", \"-c\", '''{script}''', \"sh\", \"{directory}\"] }}\n"
    )
}

fn post(server: &TestServer, stream: &str) {
    let body = signed(json!({ "event_type": 1, "appname": "live", "stream_id": stream }));
    assert_eq!(server.post("/css", body).status, 200);
}

fn last_failure(server: &TestServer) -> Option<String> {
    let handlers = server.get("/api/handlers").json();
    let error = &handlers["items"][0]["last_failure"]["error"];
    error.as_str().map(str::to_owned)
}

/// Waits until the handler has failed for this reason.
fn fails(server: &TestServer, reason: &str) {
    wait_up_to(TIMEOUT, reason, || {
        last_failure(server).filter(|error| error == reason)
    });
}

fn text(path: &Path) -> String {
    wait_up_to(TIMEOUT, &path.display().to_string(), || {
        fs::read_to_string(path)
            .ok()
            .filter(|text| text.ends_with('\n'))
    })
}

#[test]
fn a_program_is_what_it_would_be_if_it_were_started_from_a_shell() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"cd "$1"; ulimit -Sn >limit; ls /proc/$$/fd >descriptors
        grep -E "^Sig(Blk|Ign)" /proc/self/status >signals
        cut -d" " -f1,4,5 /proc/$$/stat >family; cat >event; echo >>event"#;
    let mut settings = Settings::with_handlers(&shell(script, directory.path(), ""));
    // livehook raises its own limit as far as allowed.
    settings.under = ["sh", "-c", "ulimit -Sn 300; exec \"$@\"", "sh"]
        .map(Into::into)
        .into();
    let server = TestServer::start(&settings);
    post(&server, "a");
    let found = |name: &str| text(&directory.path().join(name));
    let event: serde_json::Value = serde_json::from_str(&found("event")).unwrap();
    assert_eq!(event["streamid"], "a");
    assert_eq!(found("limit"), "300\n");
    // No descriptors of livehook are inherited. Those of this test are inherited by all.
    let mut plain = Command::new("sh");
    let plain = plain.args(["-c", "cd \"$1\"; ls /proc/$$/fd >plain", "sh"]);
    assert!(plain.arg(directory.path()).status().unwrap().success());
    assert_eq!(found("descriptors"), found("plain"));
    let family = found("family");
    let family: Vec<&str> = family.split_whitespace().collect();
    assert_eq!(family[1], server.pid().to_string(), "its parent");
    assert_eq!(family[2], family[0], "the leader of its group");
    for line in found("signals").lines() {
        let (name, set) = line.split_once(":\t").unwrap();
        let set = u64::from_str_radix(set, 16).unwrap();
        match name {
            "SigBlk" => assert_eq!(set, 0, "{line}"),
            _ => assert_eq!(set & (1 << (13 - 1)), 0, "SIGPIPE is ignored: {line}"),
        }
    }
}

#[test]
fn the_end_of_a_program_is_reported_exactly() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"case "$LIVEHOOK_STREAMID" in
        exit-*) echo "not ${LIVEHOOK_STREAMID}" >&2; exit "${LIVEHOOK_STREAMID#exit-}";;
        *) kill -s "$LIVEHOOK_STREAMID" $$;; esac"#;
    let slow = "retry = { initial = \"1h\", max = \"1h\" }\nconcurrency = 1";
    let handlers = shell(script, directory.path(), slow);
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    post(&server, "exit-65");
    fails(&server, "exit code 65, it said: not exit-65");
    for (stream, reason) in [
        ("exit-3", "exit code 3, it said: not exit-3"),
        ("PIPE", "killed by signal 13"),
        ("KILL", "killed by signal 9"),
    ] {
        post(&server, stream);
        fails(&server, reason);
    }
    // The output of a program may contain a secret or the event: the operator may see it, but the
    // log must not.
    assert!(
        server.log().contains("error=\"exit code 3\""),
        "{}",
        server.log()
    );
    assert!(!server.log().contains("not exit"), "{}", server.log());
    let program = directory.path().join("program");
    fs::copy("/bin/true", &program).unwrap();
    let shown = program.display();
    let gone = format!("[handlers.exec]\nto = {{ type = \"exec\", command = [\"{shown}\"] }}\n");
    reload(&server, &Settings::with_handlers(&gone), RELOADED);
    fs::remove_file(&program).unwrap();
    post(&server, "b");
    let reason = format!("cannot start {shown}: No such file or directory (os error 2)");
    fails(&server, &reason);
    // Only the guard is left.
    wait_up_to(TIMEOUT, "the ends", || {
        let left = children(server.pid());
        left.iter().all(Process::is_guard).then_some(())
    });
}

/// Starts a program with a child that keeps running, and returns the ids of both.
fn staying(server: &TestServer, directory: &Path) -> [u32; 2] {
    post(server, "a");
    let pids = text(&directory.join("pids"));
    let mut pids = pids.split_whitespace().map(|pid| pid.parse().unwrap());
    [pids.next().unwrap(), pids.next().unwrap()]
}

const STAYS: &str = r#"trap "" TERM; sleep 300 & echo "$$ $!" >"$1/pids"; wait"#;

#[test]
fn a_program_does_not_outlive_livehook_however_that_ends() {
    let directory = tempfile::tempdir().unwrap();
    let handlers = shell(STAYS, directory.path(), "timeout = \"5m\"");
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    let running = staying(&server, directory.path());
    let guards = children(server.pid());
    assert!(running.iter().all(|pid| lives(*pid)));
    server.kill();
    wait_up_to(TIMEOUT, "their end", || {
        let mut all = running
            .into_iter()
            .chain(guards.iter().map(|guard| guard.pid));
        (!all.any(lives)).then_some(())
    });
}

#[test]
fn a_guard_that_is_killed_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let handlers = shell(STAYS, directory.path(), "timeout = \"5m\"");
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    let first = staying(&server, directory.path());
    let all = children(server.pid());
    let guard = all.iter().find(|process| process.is_guard()).unwrap();
    kill("KILL", guard.pid);
    fs::remove_file(directory.path().join("pids")).unwrap();
    // Another stream: its program runs beside the first one.
    let body = signed(json!({ "event_type": 1, "appname": "live", "stream_id": "b" }));
    assert_eq!(server.post("/css", body).status, 200);
    text(&directory.path().join("pids"));
    server.kill();
    wait_up_to(TIMEOUT, "the end of the first", || {
        (!first.into_iter().any(lives)).then_some(())
    });
}

#[test]
fn at_the_timeout_the_whole_group_is_killed_and_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let handlers = shell(STAYS, directory.path(), "timeout = \"1s\"");
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    let [program, child] = staying(&server, directory.path());
    fails(&server, "no answer within 1s");
    wait_up_to(TIMEOUT, "their end", || (!lives(child)).then_some(()));
    // No zombie is left either.
    let entry = format!("/proc/{program}");
    wait_up_to(TIMEOUT, "its number", || {
        (!Path::new(&entry).exists()).then_some(())
    });
}

#[test]
fn programs_are_started_although_an_upgrade_has_replaced_the_binary() {
    let built = Path::new(env!("CARGO_BIN_EXE_livehook"));
    // On the same file system: a link instead of a copy.
    let directory = tempfile::tempdir_in(built.parent().unwrap()).unwrap();
    let binary = directory.path().join("livehook");
    fs::hard_link(built, &binary).unwrap();
    let script = r#"echo "$LIVEHOOK_STREAMID" >>"$1/ran""#;
    let mut settings = Settings::with_handlers(&shell(script, directory.path(), ""));
    let instead = "binary=$1; shift 2; exec \"$binary\" \"$@\"";
    settings.under = ["sh", "-c", instead, "sh"].map(Into::into).into();
    settings.under.push(binary.display().to_string());
    let server = TestServer::start(&settings);
    fs::remove_file(&binary).unwrap();
    fs::write(&binary, "something else").unwrap();
    post(&server, "a");
    assert_eq!(text(&directory.path().join("ran")), "a\n");
}

/// An `strace` that lets this call on this path hang; none if there is no strace.
fn hanging(call: &str, path: &Path) -> Option<Vec<String>> {
    let mut strace = Command::new("strace");
    let found = strace.arg("--version").stdout(Stdio::null()).status();
    if found.is_err() {
        eprintln!("SKIPPED: there is no strace; install it to have a file system that hangs");
        return None;
    }
    let path = path.display().to_string();
    let inject = format!("inject={call}:delay_enter=600s");
    let trace = format!("trace={call}");
    let words = [
        "strace",
        "-D",
        "-f",
        "-qqq",
        "-o",
        "/dev/null",
        "-e",
        "signal=none",
    ];
    let words = words
        .into_iter()
        .chain(["-P", &path, "-e", &trace, "-e", &inject]);
    Some(words.map(str::to_owned).collect())
}

/// Fails unless callbacks and health checks are answered.
fn is_well(server: &TestServer) {
    for stream in 0..5 {
        post(server, &format!("well-{stream}"));
        assert_eq!(server.client().get("/healthz").unwrap().status, 200);
    }
}

/// Fails unless the server stops although something hangs. Processes that strace holds end with
/// strace.
fn stops(mut server: TestServer) {
    let tracer = processes::tracer(server.pid());
    server.signal("TERM");
    wait_up_to(TIMEOUT, "the stop", || {
        server.log().contains(": stopped").then_some(())
    });
    kill("KILL", tracer);
    assert_eq!(server.wait(TIMEOUT).code(), Some(0));
}

#[test]
fn a_program_on_a_file_system_that_hangs_blocks_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("slow");
    symlink("/bin/sh", &program).unwrap();
    let Some(under) = hanging("execve", &program) else {
        return;
    };
    let handler = format!(
        "[handlers.exec]\ntimeout = \"1s\"\nto = {{ type = \"exec\", command = [\"{}\", \"-c\", 'echo >\"$1/ran\"', \"sh\", \"{}\"] }}\n",
        program.display(),
        directory.path().display(),
    );
    let server = TestServer::start(&Settings {
        under,
        ..Settings::with_handlers(&(handler + FILE_HANDLER))
    });
    post(&server, "a");
    is_well(&server);
    fails(&server, "no answer within 1s");
    let logged = "the program did not start in time";
    wait_up_to(TIMEOUT, logged, || {
        server.log().contains(logged).then_some(())
    });
    is_well(&server);
    let file = server.path().join("events.jsonl");
    // The second ones are repeats.
    wait_up_to(TIMEOUT, "the file", || {
        (json_lines(&file).len() == 6).then_some(())
    });
    stops(server);
    assert!(
        !directory.path().join("ran").exists(),
        "it was given up, and ran"
    );
}

#[test]
fn a_file_that_hangs_when_it_is_opened_blocks_only_the_reload() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("slow.jsonl");
    let Some(under) = hanging("openat", &path) else {
        return;
    };
    let server = TestServer::start(&Settings {
        under,
        ..Settings::with_handlers(FILE_HANDLER)
    });
    let slow = format!(
        "[handlers.slow]\nto = {{ type = \"file\", path = \"{}\" }}\n",
        path.display()
    );
    let settings = Settings::with_handlers(&(slow + FILE_HANDLER));
    fs::write(server.path().join("livehook.toml"), settings.to_toml()).unwrap();
    server.signal("HUP");
    is_well(&server);
    let logged = "handlers.slow: could not be set up within 10s";
    wait_up_to(TIMEOUT, logged, || {
        is_well(&server);
        server.log().contains(logged).then_some(())
    });
    stops(server);
}
