//! The pages in docs/handlers are true: options and defaults, the event, and the programs on them.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::clients::run;
use crate::docs::page::{assert_page, blocks, code, read, table};
use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, TestServer, json_lines, signed, wait_for};

/// The names of a struct's fields, from its source.
fn fields(source: &str, name: &str) -> Vec<String> {
    let text = read(source);
    let opening = format!("struct {name} {{\n");
    let (_, body) = text.split_once(&opening).unwrap();
    let lines = body.lines().take_while(|line| *line != "}");
    let declared = lines.filter_map(|line| {
        let (before, _) = line.split_once(": ")?;
        let (visibility, name) = before.trim_start().rsplit_once(' ')?;
        visibility.starts_with("pub").then(|| name.to_owned())
    });
    declared.collect()
}

#[test]
fn every_option_of_a_handler_is_on_its_page_with_its_default() {
    let configuration = read("config/livehook.toml");
    for (page, source, name, opening) in [
        ("README", "dispatch/settings", "HandlerConfig", ""),
        ("file", "handlers/file", "Config", "to = { type = \"file\""),
        ("http", "handlers/http", "Config", "to = { type = \"http\""),
        ("exec", "handlers/exec", "Config", "to = { type = \"exec\""),
    ] {
        let rows = table(&format!("docs/handlers/{page}.md"), "Option");
        let named: Vec<&str> = rows.iter().map(|row| code(&row[0]).unwrap()).collect();
        assert_eq!(
            named,
            fields(&format!("src/{source}.rs"), name),
            "{page}.md and the options there are"
        );
        // config/livehook.toml has the defaults; other tests compare it with the program.
        let mut lines = configuration.lines();
        let line = lines.find(|line| line.contains(opening) && !opening.is_empty());
        for row in &rows {
            let (option, Some(default)) = (code(&row[0]).unwrap(), code(&row[1])) else {
                continue;
            };
            let written = format!("{option} = {default}");
            let is_there = match line {
                Some(line) => line.contains(&written),
                None => configuration.lines().any(|line| line == written),
            };
            assert!(is_there, "{page}.md: {written}");
        }
    }
    // This handler has no options.
    assert!(read("src/handlers/log.rs").contains("struct Config {}"));
}

/// The event on the page, and the event that a server makes of the same callback.
#[test]
fn the_event_is_the_one_that_the_page_shows() {
    let shown = &blocks("docs/handlers/README.md", "json")[0];
    let shown: Value = serde_json::from_str(shown).unwrap();
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let body = signed(shown["data"].clone());
    assert_eq!(server.post("/css", body).status, 200);
    let mut made = wait_for("the event", || {
        json_lines(&server.path().join("events.jsonl")).pop()
    });
    assert_eq!(
        made["receivedtime"].as_str().unwrap().len(),
        shown["receivedtime"].as_str().unwrap().len()
    );
    for name in ["t", "sign"] {
        made["data"][name] = shown["data"][name].clone();
    }
    for name in ["id", "receivedtime"] {
        made[name] = shown[name].clone();
    }
    assert_eq!(made, shown);
    let all = table("docs/handlers/README.md", "Attribute");
    for name in shown.as_object().unwrap().keys() {
        let described = all.iter().any(|row| row[0].contains(&format!("`{name}`")));
        let known = ["specversion", "datacontenttype"].contains(&name.as_str());
        assert!(described || known, "{name}");
    }
}

/// The words of a line without the time. Of a field, only the name before `=`.
fn names(line: &str) -> Vec<&str> {
    let words = line.split_whitespace().skip(1);
    words.map(|word| word.split('=').next().unwrap()).collect()
}

#[test]
fn the_line_of_a_log_handler_is_the_one_that_the_page_shows() {
    let shown = blocks("docs/handlers/log.md", "text").remove(0);
    let callback = &blocks("docs/handlers/README.md", "json")[0];
    let callback: Value = serde_json::from_str(callback).unwrap();
    let handler = &blocks("docs/handlers/log.md", "toml")[0];
    let server = TestServer::start(&Settings::with_handlers(handler));
    assert_eq!(
        server.post("/css", signed(callback["data"].clone())).status,
        200
    );
    let line = wait_for("the line", || {
        let log = server.log();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("event received"))?;
        Some(line.to_owned())
    });
    assert_eq!(names(&shown), names(&line), "{line}");
    for part in ["event.subject=\"push.example.com/live/room-7\"", "INFO"] {
        assert!(shown.contains(part) && line.contains(part), "{line}");
    }
}

#[test]
fn the_program_of_the_exec_page_lists_recordings_and_rejects_what_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("on_recording.py");
    std::fs::write(&program, &blocks("docs/handlers/exec.md", "python")[0]).unwrap();
    let list = folder.path().join("recordings.db");
    let handler = blocks("docs/handlers/exec.md", "toml").remove(0);
    let handler = handler
        .replace("on_recording.py", program.to_str().unwrap())
        .replace("recordings.db", list.to_str().unwrap());
    let server = TestServer::start(&Settings::with_handlers(&handler));
    let recording = |url: Value| {
        signed(json!({
            "event_type": 100, "app": "push.example.com", "appname": "live", "stream_id": "room-7",
            "duration": 65, "video_url": url,
        }))
    };
    for url in [json!("http://example.com/1.mp4"), json!("")] {
        assert_eq!(server.post("/css", recording(url)).status, 200);
    }
    let parked = wait_for("the event without a URL to be parked", || {
        let parked = server.get("/api/handlers/recordings/parked").json();
        parked["items"].get(0).cloned()
    });
    let reason = parked["error"].as_str().unwrap_or_default();
    assert!(
        reason.contains("65") && reason.contains("a recording without video_url"),
        "{parked}"
    );
    let done = "livehook_deliveries_total{handler=\"recordings\",outcome=\"done\"}";
    wait_for("the recording", || {
        (server.metric(done) == 1.0).then_some(())
    });
    // Received again, it is still in the list only once.
    let replay = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
    let replay = server.command("/api/handlers/recordings/replay", &replay);
    assert_eq!(replay.status, 202, "{}", replay.text());
    wait_for("the repeat", || (server.metric(done) == 2.0).then_some(()));
    let rows = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT stream, url, seconds FROM recordings').fetchall())";
    let mut python = Command::new("python3");
    let rows = run(python.args(["-c", rows]).arg(&list));
    assert_eq!(rows, "[('room-7', 'http://example.com/1.mp4', 65)]");
}

#[test]
fn the_reader_of_the_file_page_shows_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    let event = &blocks("docs/handlers/README.md", "json")[0];
    let event: Value = serde_json::from_str(event).unwrap();
    let mut other = event.clone();
    other["id"] = json!("0123456789abcdef0123456789abcdef");
    other.as_object_mut().unwrap().remove("subject");
    std::fs::write(&file, format!("{event}\n{other}\n{event}\n")).unwrap();
    let reader = folder.path().join("read.py");
    std::fs::write(&reader, &blocks("docs/handlers/file.md", "python")[0]).unwrap();
    let mut python = Command::new("python3");
    let shown = run(python.arg(reader).arg(&file).stdin(Stdio::null()));
    assert_eq!(
        shown,
        "2026-11-23T08:00:00.123Z css.stream-begin push.example.com/live/room-7\n\
         2026-11-23T08:00:00.123Z css.stream-begin -"
    );
}

/// `LIVEHOOK_BLESS=1` copies the example to the page. Another test runs the example.
#[test]
fn the_program_of_the_rust_page_is_the_example() {
    let page = "docs/handlers/rust.md";
    let example = read("examples/custom_handler.rs");
    let text = read(page);
    let (before, rest) = text.split_once("```rust\n").unwrap();
    let (_, after) = rest.split_once("```\n").unwrap();
    assert_page(
        page,
        &[before, "```rust\n", &example, "```\n", after].concat(),
    );
}
