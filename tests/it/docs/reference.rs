//! The pages in `docs/reference`, and tables on other pages, agree with the built program.
//!
//! `LIVEHOOK_BLESS=1` writes the help of the commands to `cli.md` again.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

use super::page::{Page, assert_page, quoted, read, root, rows};
use crate::support::server::livehook;
use crate::support::simulation::Simulation;
use crate::support::{KEY, Settings, TestServer, signed_with};

fn page(name: &str) -> Page {
    Page::read(&format!("docs/reference/{name}"))
}

/// The help of a command, in the width without a terminal.
fn help(command: &[&str]) -> String {
    let mut asking = livehook();
    asking.args(command).arg("--help").stdin(Stdio::null());
    let out = String::from_utf8(asking.output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned() + "\n"
}

/// The commands in the main help.
pub fn commands() -> Vec<String> {
    let help = help(&[]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let names = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.map(str::to_owned).collect();
    names.into_iter().filter(|name| name != "help").collect()
}

/// The page with the help of each command below its heading.
fn with_help(page: &Page) -> Result<String, String> {
    let mut lines = page.lines.clone();
    let mut sections = vec![("# Commands".to_owned(), help(&[]))];
    for name in commands() {
        sections.push((format!("## livehook {name}"), help(&[&name])));
    }
    for (heading, help) in sections {
        let at = page.lines.iter().position(|line| *line == heading);
        let at = at.ok_or_else(|| format!("there is no heading `{heading}`"))?;
        let block = page.blocks_of("text").find(|block| block.line > at);
        let block = block.ok_or_else(|| format!("behind `{heading}` there is no text block"))?;
        for (line, number) in block.text.lines().zip(block.line..) {
            lines[number] = format!("{line}\0");
        }
        lines[block.line - 1] += &format!("\n{}", help.trim_end());
    }
    lines.retain(|line| !line.ends_with('\0'));
    Ok(lines.join("\n") + "\n")
}

#[test]
fn the_page_of_commands_has_the_help_of_each() {
    let page = page("cli.md");
    let expected = with_help(&page).unwrap();
    assert_page(&page.path, &expected);
}

fn texts(values: &Value) -> impl Iterator<Item = &str> {
    let values = values.as_array().into_iter().flatten();
    values.map(|value| value.as_str().unwrap())
}

#[test]
fn the_page_of_the_api_lists_what_the_document_lists() {
    let server = TestServer::start(&Settings::default());
    let document = server.get("/api/openapi.json").json();
    let page = read("docs/reference/api.md");
    let mut listed: Vec<_> = rows(&page)
        .filter(|row| row.len() == 3 && row[0].contains(" /api/"))
        .map(|row| {
            (
                row[0].trim_matches('`').to_owned(),
                quoted(row[1]).collect::<BTreeSet<_>>(),
            )
        })
        .collect();
    let mut described = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let fields = operation["parameters"].as_array().unwrap().iter();
            let fields = fields.filter(|field| field["in"] == "query");
            let fields: BTreeSet<_> = fields
                .map(|field| field["name"].as_str().unwrap())
                .collect();
            described.push((format!("{} {path}", method.to_uppercase()), fields));
        }
    }
    listed.sort();
    described.sort();
    assert!(described.len() > 15);
    assert_eq!(listed, described);

    let first_cells: BTreeSet<_> = rows(&page).flat_map(|row| quoted(row[0])).collect();
    let schemas = &document["components"]["schemas"];
    for (schema, field) in [
        ("Delivery", "state"),
        ("Handler", "state"),
        ("Rejected", "reason"),
    ] {
        let values = &schemas[schema]["properties"][field]["enum"];
        assert!(texts(values).count() > 3, "{schema}");
        for value in texts(values) {
            assert!(
                first_cells.contains(value),
                "{schema}: `{value}` has no row"
            );
        }
    }
}

#[test]
fn the_page_of_answers_has_every_status() {
    let settings = |inbox: &str| Settings {
        server: "drain_delay = \"0s\"\nmax_body = \"1KiB\"".into(),
        inbox: inbox.into(),
        ..Settings::default()
    };
    let server = TestServer::start(&settings(""));
    let full = TestServer::start(&settings("min_free = \"1EiB\""));
    let good = || crate::support::signed(serde_json::json!({ "event_type": 1 }));
    let forged = signed_with("Forged", crate::support::now(), serde_json::json!({}));
    let long = "x".repeat(20 * 1024);
    let request = |headers: &str| format!("POST /css HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n");
    let send = |request: String| server.client().send(request.as_bytes()).unwrap().status;
    let given = [
        server.post("/css", good()).status,
        server.post("/css", "no object").status,
        server.post("/css", forged).status,
        server.post("/nobody", good()).status,
        server.client().get("/css").unwrap().status,
        send(request("content-length: 5")),
        server.post("/css", &long).status,
        send(request("expect: wonders\r\ncontent-length: 5")),
        send(request(&format!("x: {long}"))),
        full.post("/css", good()).status,
    ];
    let page = page("answers.md");
    let text = read(&page.path);
    let listed: Vec<u16> = rows(&text)
        .filter(|row| row.len() == 3)
        .filter_map(|row| row[0].parse().ok())
        .collect();
    assert_eq!(listed, given);
    let [good, refused] = [server.post("/css", good()), server.post("/css", "{}")];
    let shown: Vec<&str> = page
        .blocks_of("json")
        .map(|block| block.text.trim())
        .collect();
    assert_eq!(shown, [good.text(), refused.text()]);
}

#[test]
fn the_readme_has_the_fields_of_the_callback_template() {
    let readme = read("README.md");
    let fields = rows(&readme).filter(|row| row.len() == 2 && row[0].contains("NotifyUrl"));
    let fields = fields.flat_map(|row| {
        let kinds = quoted(row[1]);
        quoted(row[0]).zip(kinds)
    });
    let fields: BTreeSet<(&str, &str)> = fields.collect();
    let config = root().join("config/livehook.toml");
    let checked = livehook().args(["check", "--config"]).arg(config).output();
    let said = String::from_utf8(checked.unwrap().stdout).unwrap();
    let (_, template) = said.split_once("Callback template").unwrap();
    let lines = template.lines().skip(1);
    // The table has one more field, which the platform does not use any more.
    let lines =
        lines.take_while(|line| line.contains("NotifyUrl ") && !line.contains("deprecated"));
    let expected = lines.map(|line| {
        let kind = line.rsplit('/').next().unwrap();
        (line.split_whitespace().next().unwrap(), kind)
    });
    assert_eq!(fields, expected.collect());
    assert_eq!(fields.len(), 9);
}

#[test]
fn the_page_of_the_simulator_says_how_many_cases_there_are() {
    let server = TestServer::start(&Settings::default());
    let graded = Simulation::start(&["--url", &server.css(), "--key", KEY, "--conformance"]).wait();
    let lines = graded.stdout.lines();
    let cases = lines.filter(|line| line.starts_with("pass") || line.starts_with("skip"));
    let said = format!("each of {} cases", cases.count());
    assert!(read("docs/simulate.md").contains(&said), "{said}");
}
