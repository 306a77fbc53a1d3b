#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::*;
use crate::handlers::tests::{env_of, event};

fn program(command: &[&str]) -> Program {
    let config = Config {
        command: command.iter().map(|part| (*part).to_owned()).collect(),
    };
    config
        .validate("handlers.a.to", &env_of(Path::new("/nowhere")))
        .unwrap()
        .build(PayloadForm::Original)
}

fn shell(script: &str, argument: &Path) -> Program {
    program(&["sh", "-c", script, "sh", argument.to_str().unwrap()])
}

/// The outcome of a call. Fails if the call takes too long.
async fn outcome(program: &Program, event: &Event) -> Outcome {
    tokio::time::timeout(Duration::from_secs(20), program.handle(event))
        .await
        .unwrap()
}

async fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(10), "never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_event_comes_on_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let event = event(r#"{"stream_id":"a"}"#);
    outcome(&shell(r#"cat > "$1""#, &path), &event)
        .await
        .unwrap();
    assert_eq!(
        fs::read(path).unwrap(),
        event.cloud_event(PayloadForm::Original).to_json()
    );
}

#[tokio::test]
async fn the_environment_has_only_the_documented_variables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let body = r#"{"appid":1250000000,"app":"d","appname":"p","stream_id":"$(id) 直播\u0000\n"}"#;
    let event = event(body);
    let program = shell(r#"cat /proc/$$/environ > "$1""#, &path);
    outcome(&program, &event).await.unwrap();
    let out = String::from_utf8(fs::read(path).unwrap()).unwrap();
    let mut found: Vec<&str> = out.split_terminator('\0').collect();
    found.sort_unstable();
    let mut expected: Vec<String> = [
        ("SPECVERSION", "1.0"),
        ("ID", &"ab".repeat(16)),
        ("SOURCE", "/css"),
        ("TYPE", "css.stream-begin"),
        ("SUBJECT", "d/p/$(id) 直播\u{FFFD}\n"),
        ("DATACONTENTTYPE", "application/json"),
        ("APPID", "1250000000"),
        ("DOMAIN", "d"),
        ("APPNAME", "p"),
        ("STREAMID", "$(id) 直播\u{FFFD}\n"),
        ("RECEIVEDTIME", "2026-11-23T08:00:00.000Z"),
    ]
    .map(|(name, value)| format!("LIVEHOOK_{name}={value}"))
    .into();
    for name in ["PATH", "HOME", "TZ"] {
        expected.extend(std::env::var(name).map(|value| format!("{name}={value}")));
    }
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn exit_codes_and_signals_decide() {
    let run = async |script: &str| outcome(&program(&["sh", "-c", script]), &event("{}")).await;
    assert_eq!(run("exit 0").await, Ok(()));
    assert_eq!(run("exit 65").await, Err(Failure::reject("exit code 65")));
    for code in [1, 2, 64, 66, 75, 126, 127, 255] {
        let expected = Failure::retry(format_args!("exit code {code}"));
        assert_eq!(run(&format!("exit {code}")).await, Err(expected));
    }
    let killed = run("kill -9 $$").await;
    assert_eq!(killed, Err(Failure::retry("killed by signal 9")));
}

#[tokio::test]
async fn a_failure_reports_the_last_line_of_standard_error() {
    let run = async |script: &str| outcome(&program(&["sh", "-c", script]), &event("{}")).await;
    let said = |code| format!("exit code {code}, it said: no such room");
    let speaks = "echo first >&2; printf 'no such room\n' >&2; exit ";
    assert_eq!(
        run(&format!("{speaks}65")).await,
        Err(Failure::reject(said(65)))
    );
    assert_eq!(
        run(&format!("{speaks}1")).await,
        Err(Failure::retry(said(1)))
    );
    assert_eq!(run(&format!("{speaks}0")).await, Ok(()));
    // More output than a pipe holds, with its last part just before the program ends.
    let much = "head -c 300000 /dev/zero | tr '\\0' x >&2; printf '\n\x1b[1mend' >&2; kill -9 $$";
    let expected = Failure::retry("killed by signal 9, it said: \\u{1b}[1mend");
    assert_eq!(run(&much.replace("\\x1b", "\\033")).await, Err(expected));
}

#[tokio::test]
async fn what_a_program_leaves_behind_may_go_on_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("done");
    // If nobody read the pipe, the process would be killed, or would block on a full pipe.
    let left = "i=0; while [ $i -lt 200 ]; do head -c 1000 /dev/zero >&2 || exit; i=$((i+1)); done";
    let script = format!("( sleep 0.3; {left}; echo >\"$1\" ) & exit 3");
    let failure = outcome(&shell(&script, &path), &event("{}")).await;
    assert_eq!(failure, Err(Failure::retry("exit code 3")));
    until(|| path.exists()).await;
}

#[tokio::test]
async fn a_program_that_does_not_start_is_retried() {
    for command in ["livehook-no-such-program", "./no-such-program", "/etc"] {
        let failure = outcome(&program(&[command]), &event("{}"))
            .await
            .unwrap_err();
        assert!(
            matches!(&failure, Failure::Retry { reason, .. } if reason.starts_with("cannot start ")),
            "{failure:?}"
        );
    }
}

#[tokio::test]
async fn a_program_need_not_read() {
    let event = event(format!(r#"{{"x":"{}"}}"#, "x".repeat(1 << 20)));
    assert_eq!(outcome(&program(&["true"]), &event).await, Ok(()));
    let closing = program(&["sh", "-c", "exec 0<&-; sleep 0.05; exit 3"]);
    let expected = Failure::retry("exit code 3");
    assert_eq!(outcome(&closing, &event).await, Err(expected));
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pid");
    // It holds all three standard streams open and reads nothing.
    let program = shell(r#"sleep 60 <&0 & echo $! > "$1""#, &path);
    let event = event(format!(r#"{{"x":"{}"}}"#, "x".repeat(1 << 20)));
    assert_eq!(outcome(&program, &event).await, Ok(()));
    let left = pid(&path).unwrap();
    assert!(lives(left));
    rustix::process::kill_process(left, Signal::KILL).unwrap();
}

fn pid(path: &Path) -> Option<Pid> {
    let text = fs::read_to_string(path).ok()?;
    Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
}

/// Whether the process runs. A zombie does not.
fn lives(pid: Pid) -> bool {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    fs::read_to_string(stat).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn giving_up_kills_the_program_and_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let (child, grandchild) = (
        folder.path().join("child"),
        folder.path().join("grandchild"),
    );
    let script =
        r#"trap "" TERM; sleep 60 & echo $! > "$1/grandchild"; echo $$ > "$1/child"; wait"#;
    let program = shell(script, folder.path());
    let event = event("{}");
    tokio::select! {
        outcome = program.handle(&event) => panic!("{outcome:?}"),
        () = until(|| pid(&child).is_some()) => {}
    }
    let (child, grandchild) = (pid(&child).unwrap(), pid(&grandchild).unwrap());
    until(|| !lives(grandchild)).await;
    // There is no zombie: the number is free.
    let entry = format!("/proc/{}", child.as_raw_nonzero());
    until(|| !Path::new(&entry).exists()).await;
}

#[test]
fn programs_are_found_from_the_configuration_file() {
    let found = |command: &str| program(&[command]).launcher.program().to_owned();
    assert_eq!(found("notify"), Path::new("notify"));
    assert_eq!(found("bin/notify"), Path::new("/nowhere/bin/notify"));
    assert_eq!(found("./notify"), Path::new("/nowhere/./notify"));
    assert_eq!(found("/bin/notify"), Path::new("/bin/notify"));
}

#[test]
fn what_is_no_command_is_refused() {
    for bad in [&[][..], &[""], &[" "], &["a", "b\0"]] {
        let config = Config {
            command: bad.iter().map(|part| (*part).to_owned()).collect(),
        };
        let invalid = config
            .validate("handlers.a.to", &env_of(Path::new("/")))
            .unwrap_err();
        assert_eq!(invalid.place, "handlers.a.to.command");
    }
}
