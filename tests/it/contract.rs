//! A running server does what `docs/contract.md` says: kinds, metrics, API, commands. It has the
//! tables that `docs/storage-format.md` shows.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::docs::page::{read, rows};
use crate::docs::reference::commands;
use crate::support::server::FILE_HANDLER;
use crate::support::{KEY, Settings, TestServer, now, signed, signed_raw, signed_with};

/// The contract, without the planned part.
fn contract() -> String {
    let text = read("docs/contract.md");
    let (there, _) = text.split_once("\n## Planned\n").unwrap();
    there.to_owned()
}

/// All words in a text that begin with this prefix, up to the first character that no name has.
fn names<'a>(text: &'a str, begin: &'a str, more: &'a str) -> BTreeSet<&'a str> {
    let each = text.match_indices(begin).map(|(at, _)| {
        let name = &text[at..];
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && !more.contains(c));
        &name[..end.unwrap_or(name.len())]
    });
    each.collect()
}

#[test]
fn every_kind_is_taken_as_the_table_says() {
    let server = TestServer::start(&Settings {
        sources: format!("[sources.css]\nkeys = [\"{KEY}\"]\nallow_unsigned = true\n"),
        ..Settings::default()
    });
    let contract = contract();
    let mut seen = BTreeSet::new();
    for row in rows(&contract) {
        let [slug, code, _, unsigned] = row[..] else {
            continue;
        };
        let Ok(code) = code.parse::<i64>() else {
            continue;
        };
        let slug = slug.trim_matches('`');
        assert_eq!(
            server
                .post("/css", signed(json!({ "event_type": code })))
                .status,
            200
        );
        let newest = server.events().pop().unwrap();
        assert_eq!(newest["type"], format!("css.{slug}"));
        let bare = json!({ "event_type": code, "n": 1 }).to_string();
        let status = if unsigned == "yes" { 200 } else { 401 };
        assert_eq!(
            server.post(&format!("/css/{slug}"), bare).status,
            status,
            "{slug}"
        );
        seen.insert(slug);
    }
    // All kinds but `unknown` have a typed form.
    let metrics = server.get("/metrics").text();
    let typed = metrics.lines().filter_map(|line| {
        let label = line.strip_prefix("livehook_untyped_members_total{kind=\"")?;
        label.split('"').next()
    });
    assert_eq!(seen, typed.collect());
}

#[test]
fn every_metric_is_named_and_no_other() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    // An authentic callback that has expired. It shows the sender's clock and opens a retry window.
    let late = signed_with(KEY, now() - 3600, json!({ "event_type": 1 }));
    assert_eq!(server.post("/css", late).status, 401);
    let metrics = server.get("/metrics").text();
    let there = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("# TYPE ")?;
        rest.split(' ').next()
    });
    let contract = contract();
    let section = contract.split("\n## 12. Metrics\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    assert_eq!(names(section, "livehook_", "_"), there.collect());
}

#[test]
fn every_endpoint_of_the_api_is_named_and_no_other() {
    let server = TestServer::start(&Settings::default());
    let document = server.get("/api/openapi.json").json();
    let contract = contract();
    let named = names(&contract, "/api/", "/{}.-");
    let there = document["paths"].as_object().unwrap();
    for path in there.keys() {
        // Of commands that differ only in the last word, the document names the others by that word
        // alone.
        let (_, last) = path.rsplit_once('/').unwrap();
        let is_named = named.contains(path.as_str()) || contract.contains(&format!("`{last}`"));
        assert!(is_named, "{path}");
    }
    for path in named {
        assert!(there.contains_key(path), "{path}");
    }
}

#[test]
fn every_command_is_named() {
    let contract = contract();
    let mut count = 0;
    for name in commands() {
        count += 1;
        let is_named = contract.contains(&format!("`livehook {name}"))
            || contract.contains(&format!("`{name}`"));
        assert!(is_named, "{name}");
    }
    assert!(count > 5);
}

#[test]
fn the_example_of_an_event_has_the_members_of_one() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let contract = contract();
    let example = contract.split("```json\n").nth(1).unwrap();
    let example: Value = serde_json::from_str(example.split("```").next().unwrap()).unwrap();
    let members = "\"event_type\":1,\"appid\":1250000000,\"app\":\"push.example.com\",\"appname\":\"live\",\
        \"stream_id\":\"room-7\",\"sequence\":\"6674468118806626493\",\"event_time\":1795420800";
    assert_eq!(
        server.post("/css", signed_raw(members.as_bytes())).status,
        200
    );
    let mut event = server.events().pop().unwrap();
    let event = event.as_object_mut().unwrap();
    for (name, value) in example.as_object().unwrap() {
        match name.as_str() {
            // The events of the list have no data, and two items are this same event.
            "data" => {}
            "id" | "receivedtime" => assert!(event.remove(name).is_some(), "{name}"),
            _ => assert_eq!(event.remove(name).as_ref(), Some(value), "{name}"),
        }
    }
    assert!(event.is_empty(), "{event:?}");
}

/// The tables of a file in the form of the document: `name(column, column)`.
fn tables(file: &Path) -> BTreeSet<String> {
    let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = file
        .prepare(
            "SELECT t.name || '(' || group_concat(c.name, ', ' ORDER BY c.cid) || ')'
             FROM sqlite_master t JOIN pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' GROUP BY t.name",
        )
        .unwrap();
    let names = select.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

#[test]
fn the_tables_of_the_embedded_store_are_those_of_the_document() {
    let server = TestServer::start(&Settings::default());
    let format = read("docs/storage-format.md");
    for name in ["state.db", "streams.db", "rejected.db"] {
        let section = format.split(&format!("\n### `{name}`\n")).nth(1).unwrap();
        let section = section.split("\n#").next().unwrap();
        let named = section.split('`').filter(|text| text.ends_with(')'));
        let named: BTreeSet<String> = named.map(str::to_owned).collect();
        assert_eq!(
            named,
            tables(&server.path().join("data").join(name)),
            "{name}"
        );
    }
}
