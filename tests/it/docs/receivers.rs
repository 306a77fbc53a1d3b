//! The programs in README.md that receive an event, in Python and JavaScript, work as they are.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::page::Page;
use crate::clients::{NODE, PYTHON};
use crate::support::receiver::{Receiver, SECRET};
use crate::support::target::reserve;
use crate::support::{Client, Settings, TestServer, signed, wait_for};

/// Writes the program into the folder, with this address instead of its own.
fn program(folder: &Path, language: &str, address: SocketAddr) -> std::path::PathBuf {
    let readme = Page::read("README.md");
    let mut blocks = readme.blocks_of(language);
    let block = blocks.next().unwrap();
    assert!(blocks.next().is_none());
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    assert!(block.text.contains("127.0.0.1") && block.text.contains("9000"));
    let text = block.text.replace("127.0.0.1", &ip).replace("9000", &port);
    // With this suffix, node accepts that the program imports modules.
    let file = folder.join("receive").with_extension(match language {
        "js" => "mjs",
        _ => "py",
    });
    std::fs::write(&file, text).unwrap();
    file
}

fn receives(language: &str, interpreter: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let modules = NODE.join("node_modules");
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules")).unwrap();
    let address = reserve();
    let mut running = Command::new(interpreter);
    running
        .arg(program(folder.path(), language, address))
        .env("SECRET", SECRET);
    let receiver = Receiver::start(running, folder, address);

    let forged = [
        ("webhook-id", "1"),
        ("webhook-timestamp", "1"),
        ("webhook-signature", "v1,AAAA"),
    ];
    let body = Some(&b"{\"id\":\"forged\",\"type\":\"forged\"}"[..]);
    let answer = Client::new(address).request("POST", "/hook", &forged, body);
    assert!(answer.is_err() || answer.unwrap().status == 401);

    let handler = format!(
        "to = {{ type = \"http\", url = \"http://{address}/hook\", secret = \"{SECRET}\" }}"
    );
    let server = TestServer::start(&Settings::with_handlers(&format!(
        "[handlers.backend]\n{handler}\n"
    )));
    let begin = json!({ "event_type": 1, "stream_id": "room-7" });
    assert_eq!(server.post("/css", signed(begin)).status, 200);
    let id = server.events()[0]["id"].as_str().unwrap().to_owned();
    wait_for("the delivery", || {
        let handlers = server.get("/api/handlers").json();
        let backend = &handlers["items"][0];
        (backend["lag_events"] == 0 && !backend["last_success"].is_null()).then_some(())
    });
    let said = receiver.said();
    let line = said.trim_end();
    assert!(
        line.starts_with(&format!("{id} css.stream-begin {{")),
        "{said}"
    );
    assert!(
        line.contains("room-7") && line.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn the_receiver_in_python_takes_an_event_and_no_forgery() {
    receives("python", &PYTHON.join("bin/python"));
}

#[test]
fn the_receiver_in_javascript_takes_an_event_and_no_forgery() {
    receives("js", Path::new("node"));
}
