//! livehook as the first process, as in a container.

use std::process::{Command, Stdio};

use super::*;
use crate::programs::processes::descendants;

/// The command that runs a program as process 1 of a namespace; none if that is not permitted.
fn namespace() -> Option<Vec<String>> {
    let plain = ["unshare", "--pid", "--fork", "--mount-proc"];
    let user = [
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let works = |words: &&[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("true").stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = [&plain[..], &user[..]].into_iter().find(works);
    if found.is_none() {
        eprintln!("SKIPPED: unshare cannot make a PID namespace here; run this as root");
    }
    Some(found?.iter().map(|word| (*word).to_owned()).collect())
}

/// Process 1 of the server's namespace, and the server that it started.
fn first_and_server(server: &TestServer) -> (u32, u32) {
    let only_child = |pid| {
        let children = children(pid);
        assert_eq!(children.len(), 1, "of {pid}");
        children[0].pid
    };
    let first = only_child(server.pid());
    (first, only_child(first))
}

#[test]
fn process_1_reaps_orphans_and_ends_like_the_server() {
    let Some(under) = namespace() else { return };
    let directory = tempfile::tempdir().unwrap();
    // The subshell outlives the program. Then it has no parent.
    let script = r#"(sleep 0.1; echo >>"$1/left") & exit 0"#;
    let mut server = TestServer::start(&Settings {
        under,
        ..Settings::with_handlers(&shell(script, directory.path(), ""))
    });
    let (first, _) = first_and_server(&server);
    for stream in 0..20 {
        post(&server, &format!("room-{stream}"));
    }
    wait_up_to(TIMEOUT, "what is left behind", || {
        let left = fs::read_to_string(directory.path().join("left"));
        (left.ok()?.len() == 20).then_some(())
    });
    wait_up_to(TIMEOUT, "the zombies' end", || {
        let all = descendants(server.pid());
        (!all.iter().any(Process::is_zombie)).then_some(())
    });
    // Signals to the first process: a reload, then the end.
    kill("HUP", first);
    wait_up_to(TIMEOUT, RELOADED, || {
        server.log().contains(RELOADED).then_some(())
    });
    kill("TERM", first);
    assert_eq!(server.wait(TIMEOUT).code(), Some(0));
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[test]
fn the_exit_code_of_the_server_is_its_own() {
    let Some(under) = namespace() else { return };
    let settings = Settings {
        under: under.clone(),
        ..Settings::default()
    };
    let mut server = TestServer::start(&settings);
    let (_, second) = first_and_server(&server);
    kill("KILL", second);
    assert_eq!(server.wait(TIMEOUT).code(), Some(128 + 9));
    let refused = Command::new(&under[0])
        .args(&under[1..])
        .arg(env!("CARGO_BIN_EXE_livehook"))
        .args(["serve", "--config", "/nowhere/livehook.toml"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}
