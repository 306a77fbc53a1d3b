//! The examples do what the documents say.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Client, Settings, signed, wait_for};

/// The built example. It is built now if the tests were built without it.
fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_livehook"))
        .with_file_name("examples")
        .join(name);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--locked", "--example", name]);
        // Cargo's variables for this test would make cargo build the dependencies again.
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("CARGO_"))
        {
            if !["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&variable.as_str()) {
                build.env_remove(variable);
            }
        }
        let built = build.status().unwrap();
        assert!(built.success());
    }
    path
}

fn configure(directory: &Path, settings: &Settings) -> PathBuf {
    let file = directory.join("livehook.toml");
    std::fs::write(&file, settings.to_toml()).unwrap();
    file
}

#[test]
fn the_custom_handler_prints_who_is_live() {
    let directory = tempfile::tempdir().unwrap();
    let file = configure(directory.path(), &Settings::default());
    let out = std::fs::File::create(directory.path().join("out.txt")).unwrap();
    let mut running = Command::new(example("custom_handler"))
        .arg(&file)
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(directory.path().join("out.txt")).unwrap();
    let address = wait_for("the address", || {
        let said = said();
        said.lines()
            .find_map(|line| line.strip_prefix("callbacks: http://"))
            .map(|address| address.parse().unwrap())
    });
    let body = signed(serde_json::json!({ "event_type": 1, "stream_id": "room-7" }));
    assert_eq!(
        Client::new(address)
            .post("/css/stream-begin", body)
            .unwrap()
            .status,
        200
    );
    wait_for("the handler", || {
        said().contains("live: room-7").then_some(())
    });
    running.kill().unwrap();
    running.wait().unwrap();
}
