//! Third-party clients: generated from the OpenAPI document, and SDKs that receive posted events
//! and verify signatures.
//!
//! They come from PyPI and npm, in the versions that `clients/` names, into cargo's folder for
//! tests: once, and again when the list changes. Without them these tests fail.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::receiver::SECRET;
use crate::support::server::FILE_HANDLER;
use crate::support::target::{Hit, Target};
use crate::support::{Settings, TestServer, now, signed, signed_raw, signed_with, wait_for};

/// The program and its arguments.
fn part(name: &str) -> PathBuf {
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients");
    parts.join(name)
}

/// A folder with the packages that a list names, which `install` puts there.
fn packages(name: &str, list: &Path, install: impl Fn(&Path)) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let installed = folder.join("installed");
    let wanted = std::fs::read_to_string(list).unwrap();
    if std::fs::read_to_string(&installed).ok() != Some(wanted.clone()) {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        install(&folder);
        std::fs::write(installed, wanted).unwrap();
    }
    folder
}

/// The environment with the packages from PyPI that a list names.
pub fn python_packages(name: &str, list: &Path) -> PathBuf {
    packages(name, list, |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder));
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(pip.arg(list));
    })
}

/// The folder with the packages from npm that a list names.
pub fn node_packages(name: &str, list: &Path) -> PathBuf {
    packages(name, list, |folder| {
        std::fs::copy(list, folder.join("package.json")).unwrap();
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock"]);
        run(npm.current_dir(folder));
    })
}

/// The environment with Python's packages.
pub static PYTHON: LazyLock<PathBuf> =
    LazyLock::new(|| python_packages("python", &part("requirements.txt")));

/// The folder with JavaScript's.
pub static NODE: LazyLock<PathBuf> = LazyLock::new(|| node_packages("node", &part("package.json")));

/// The output of a program that must succeed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?} failed:\n{out}{err}");
    out.trim().to_owned()
}

#[test]
fn a_client_generated_from_the_document_uses_the_api() {
    let rejects =
        "[handlers.rejects]\nto = { type = \"exec\", command = [\"sh\", \"-c\", \"exit 65\"] }\n";
    let token = "AdminTokenItself";
    let server = TestServer::start(&Settings {
        admin: format!("token = \"{token}\""),
        ..Settings::with_handlers(&format!("{FILE_HANDLER}{rejects}"))
    });
    let authorization = format!("Bearer {token}");
    let get = |path: &str| {
        let mut client = crate::support::Client::new(server.admin);
        let headers = [("authorization", authorization.as_str())];
        client.request("GET", path, &headers, None).unwrap()
    };
    let full = json!({
        "event_type": 1, "app": "d", "appname": "live", "stream_id": "room-7", "sequence": "1", "event_time": now(),
    });
    assert_eq!(server.post("/css", signed(full)).status, 200);
    let bare = signed(json!({ "event_type": 1 }));
    assert_eq!(server.post("/css", bare).status, 200);
    let forged = signed_with("Forged", now() + 600, json!({ "event_type": 1 }));
    assert_eq!(server.post("/css/stream-begin", forged).status, 401);
    for (list, count) in [
        ("handlers/rejects/parked", 2),
        ("rejected", 1),
        ("streams", 1),
    ] {
        wait_for(list, || {
            let page = get(&format!("/api/{list}")).json();
            (page["items"].as_array().unwrap().len() == count).then_some(())
        });
    }
    wait_for("the file", || {
        let lines = crate::support::json_lines(&server.path().join("events.jsonl"));
        let handlers = get("/api/handlers").json();
        (lines.len() == 2 && handlers["items"][0]["lag_events"] == 0).then_some(())
    });

    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("openapi.json");
    std::fs::write(&document, get("/api/openapi.json").body).unwrap();
    let bin = PYTHON.join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut make = Command::new(bin.join("openapi-python-client"));
    make.args(["generate", "--meta", "none", "--fail-on-warning", "--path"])
        .arg(&document)
        .arg("--output-path")
        .arg(folder.path().join("made"));
    // The generator runs a formatter from the same folder.
    run(make.env("PATH", path));
    let mut using = Command::new(bin.join("python"));
    using
        .arg(part("use_client.py"))
        .args([&server.admin_url(), token])
        .env("PYTHONPATH", folder.path());
    assert_eq!(run(&mut using), "used");
}

/// Bodies of the platform, at least one of each kind, and values that are difficult in headers.
fn bodies() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/css-callbacks/tests/fixtures");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut bodies: Vec<Vec<u8>> = files
        .filter(|file| file.to_string_lossy().ends_with(".json"))
        .filter(|file| !file.to_string_lossy().ends_with(".typed.json"))
        .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
        .map(|body: Value| signed(body).into_bytes())
        .collect();
    assert!(bodies.len() >= 19);
    for stream in [
        "\u{623F}\u{95F4} 7",
        "100%25 \"live\"",
        "a+b&c=d",
        "caf\u{E9}/\u{1F3A5}",
    ] {
        let body = json!({ "event_type": 1, "app": "d", "appname": "live", "stream_id": stream });
        bodies.push(signed(body).into_bytes());
    }
    bodies
}

/// The requests that a handler of this mode makes of these bodies, each with the event as the API
/// has it.
fn requests(mode: &str, bodies: &[Vec<u8>]) -> Vec<Value> {
    let target = Target::good();
    let server = TestServer::start(&Settings::with_handlers(&format!(
        "[handlers.hook]\nto = {{ type = \"http\", url = \"{}\", secret = \"{SECRET}\", mode = \"{mode}\" }}\n",
        target.url()
    )));
    for body in bodies {
        assert_eq!(server.post("/css", body).status, 200);
    }
    wait_for("the requests", || {
        (target.delivered() == bodies.len()).then_some(())
    });
    let described = |hit: &Hit| {
        let id = hit.header("webhook-id").unwrap();
        let headers: serde_json::Map<String, Value> = hit
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect();
        json!({
            "headers": headers,
            "body": STANDARD.encode(&hit.body),
            "event": server.get(&format!("/api/events/{id}")).json(),
        })
    };
    target.hits().iter().map(described).collect()
}

#[test]
fn the_sdks_of_python_and_javascript_take_what_is_posted() {
    let bodies = bodies();
    let mut with_binary = bodies.clone();
    with_binary.push(signed_raw(b"\"event_type\":1,\"stream_id\":\"\xFF\xFE\""));
    let mut all = requests("structured", &with_binary);
    for request in &all {
        let kind = &request["headers"]["content-type"];
        assert_eq!(kind, "application/cloudevents+json");
    }
    all.extend(requests("binary", &bodies));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("requests.jsonl");
    let lines: Vec<String> = all.iter().map(Value::to_string).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let mut python = Command::new(PYTHON.join("bin/python"));
    python.arg(part("receive.py")).arg(SECRET).arg(&file);
    let mut node = Command::new("node");
    node.arg(part("receive.js")).arg(SECRET).arg(&file);
    node.env("NODE_PATH", NODE.join("node_modules"));
    for program in [&mut python, &mut node] {
        let counted: Value = serde_json::from_str(&run(program)).unwrap();
        let expected = json!({ "structured": with_binary.len(), "binary": bodies.len() });
        assert_eq!(counted, expected, "{program:?}");
    }
}
