//! Tests of the PostgreSQL helpers that other tests rely on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::postgres::{GUEST, OWNER, OWNER_PASSWORD, Postgres, shared};
use crate::support::wait_for;

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}/cwd")).read_link().is_ok()
}

#[test]
fn a_killed_primary_leaves_no_process_and_its_standby_has_every_commit() {
    let primary = Postgres::start();
    let database = primary.create_database();
    let standby = primary.standby();
    primary.wait_for_sync(&standby);
    primary.sql(
        &database,
        "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)",
    );
    let processes = primary.processes();
    assert!(processes.len() > 4, "{processes:?}");
    primary.kill();
    assert!(!processes.into_iter().any(exists));
    assert!(!primary.answers());
    standby.promote();
    standby.sql(&database, "INSERT INTO t VALUES (0)");
    assert_eq!(standby.sql(&database, "SELECT count(*) FROM t"), "1001");

    let home = standby.home().to_owned();
    standby.freeze();
    let processes = standby.processes();
    drop(standby);
    assert!(!home.exists());
    assert!(!processes.into_iter().any(exists));
}

#[test]
fn a_server_keeps_its_port_and_its_data_over_a_stop_and_over_a_kill() {
    let server = Postgres::start_with(&[("application_name", "it's mine")]);
    assert_eq!(server.sql("postgres", "SHOW application_name"), "psql");
    let database = server.create_database();
    let port = server.port();
    server.sql(
        &database,
        "CREATE TABLE t (n int); INSERT INTO t VALUES (1)",
    );
    server.stop();
    assert!(!server.answers());
    server.start_again();
    server.kill();
    server.start_again();
    assert_eq!(server.port(), port);
    assert_eq!(server.sql(&database, "TABLE t"), "1");
    for (setting, value) in [("fsync", "on"), ("synchronous_commit", "on")] {
        assert_eq!(server.sql("postgres", &format!("SHOW {setting}")), value);
    }
}

#[test]
fn the_roles_may_what_they_are_for() {
    let server = shared();
    let database = server.create_database();
    let create = "CREATE TABLE public.t (n int)";
    let owner = server.url_as(OWNER, OWNER_PASSWORD, &database);
    server.run(&owner, create).unwrap();
    let wrong = server.url_as(OWNER, "wrong", &database);
    let error = server.run(&wrong, "SELECT 1").unwrap_err();
    assert!(error.contains("password authentication failed"), "{error}");
    let guest = server.url_as(GUEST, "", &database);
    assert_eq!(server.run(&guest, "SELECT 1").unwrap(), "1");
    let error = server
        .run(&guest, "CREATE TABLE public.u (n int)")
        .unwrap_err();
    assert!(error.contains("permission denied"), "{error}");
}

/// If set, the test below is the process that is killed, and writes to this file what it started.
const HOME: &str = "LIVEHOOK_TEST_HOME";

#[test]
fn a_process_that_is_killed_leaves_no_server() {
    let directory = tempfile::tempdir().unwrap();
    let note = directory.path().join("home");
    if let Some(note) = std::env::var_os(HOME) {
        let text = format!("{} {}", shared().home().display(), shared().processes()[0]);
        std::fs::write(note, text).unwrap();
        loop {
            std::thread::park();
        }
    }
    let name = "postgres::harness::a_process_that_is_killed_leaves_no_server";
    let mut tests = Command::new(std::env::current_exe().unwrap());
    let mut tests = tests
        .args([name, "--exact"])
        .env(HOME, &note)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (home, pid) = wait_for("the server", || {
        let text = std::fs::read_to_string(&note).ok()?;
        let (home, pid) = text.split_once(' ')?;
        Some((PathBuf::from(home), pid.parse().ok()?))
    });
    assert!(home.exists() && exists(pid));
    tests.kill().unwrap();
    tests.wait().unwrap();
    wait_for("everything to be gone", || {
        (!home.exists() && !exists(pid)).then_some(())
    });
}
