//! The list of streams: live updates, search, sorting, pages, and the rebuild.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::browser::{Browser, ENTER, TAB};
use crate::support::server::FILE_HANDLER;
use crate::support::{Client, Settings, TestServer, now, signed, wait_for};

/// A begin (1) or an end (0) of a stream, `ago` seconds before now.
fn push(client: &mut Client, kind: i64, stream: &str, ago: i64) {
    let body = json!({
        "event_type": kind, "app": "push.example.com", "appname": "live", "stream_id": stream,
        "sequence": "1", "event_time": now() - ago,
    });
    assert_eq!(client.post("/css", signed(body)).unwrap().status, 200);
}

fn open(server: &TestServer) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("{}/#/streams", server.admin_url()));
    browser.wait_for("return document.body.textContent.includes('Watching:')");
    browser
}

/// The names in the order of the rows.
const NAMES: &str =
    "[...document.querySelectorAll('#streams a')].map((one) => one.textContent.split('live/')[1])";

#[track_caller]
fn wait_for_names(browser: &Browser, names: &[&str]) {
    let names = json!(json!(names).to_string());
    browser.wait_for(&format!("return JSON.stringify({NAMES}) === {names}"));
    let count = browser.run("return document.querySelector('#count').textContent");
    let shown = browser.run(&format!("return {NAMES}.length"));
    let text = count.as_str().unwrap();
    assert!(text.starts_with(&format!("{shown} stream")), "{text}");
}

/// Sets the value of a field, like a user.
fn set(browser: &Browser, name: &str, value: &str) {
    browser.run(&format!(
        "const it = document.querySelector('[name={name}]'); it.value = {}; \
         it.dispatchEvent(new Event('input')); it.dispatchEvent(new Event('change'));",
        json!(value)
    ));
}

fn sorted(browser: &Browser) -> Value {
    browser.run(
        "return [...document.querySelectorAll('[aria-sort]')].map((one) => [one.textContent, one.getAttribute('aria-sort')])",
    )
}

#[test]
fn the_list_is_what_is_live_as_that_changes() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let mut client = server.client();
    push(&mut client, 1, "room-2", 300);
    push(&mut client, 1, "room-10", 200);
    push(&mut client, 1, "gone", 7200);
    push(&mut client, 0, "gone", 3600);
    let browser = open(&server);
    // The stream with the latest event is first.
    wait_for_names(&browser, &["room-10", "room-2"]);
    let cells = "return [...document.querySelectorAll('#streams tr:last-child td')].map((cell) => cell.textContent)";
    let cells = browser.run(cells);
    assert_eq!(cells[1], "live");
    assert_eq!(cells[3], "5 min");
    assert_eq!(cells[5], "css");

    let begin = Instant::now();
    push(&mut client, 1, "room-3", 60);
    wait_for_names(&browser, &["room-3", "room-10", "room-2"]);
    println!("there after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(5));
    push(&mut client, 0, "room-10", 30);
    wait_for_names(&browser, &["room-3", "room-2"]);

    set(&browser, "live", "false");
    wait_for_names(&browser, &["room-10", "gone"]);
    set(&browser, "live", "");
    wait_for_names(&browser, &["room-10", "room-3", "room-2", "gone"]);
    // On this page a stream that ends stays in the list.
    push(&mut client, 0, "room-2", 20);
    browser.wait_for("return document.querySelectorAll('#streams .live').length === 1");

    assert_eq!(
        sorted(&browser),
        json!([["Since, UTC", "descending"]]),
        "at first"
    );
    browser.click("Stream");
    wait_for_names(&browser, &["gone", "room-2", "room-3", "room-10"]);
    assert_eq!(sorted(&browser), json!([["Stream", "ascending"]]));
    // The keyboard can sort too, and keeps the focus on the column's head.
    browser.run("document.querySelector('#main .sortable th button').focus()");
    browser.press(ENTER);
    wait_for_names(&browser, &["room-10", "room-3", "room-2", "gone"]);
    assert_eq!(sorted(&browser), json!([["Stream", "descending"]]));
    browser.press(TAB);
    assert_eq!(
        browser.run("return document.activeElement.textContent"),
        "State"
    );
    // The time of a stream's last event is updated now and then.
    browser.click("Last event, UTC");
    browser.click("Last event, UTC");
    let shot = json!({
        "event_type": 200, "app": "push.example.com", "appname": "live", "stream_id": "gone", "create_time": now(),
    });
    assert_eq!(client.post("/css", signed(shot)).unwrap().status, 200);
    wait_for_names(&browser, &["gone", "room-2", "room-10", "room-3"]);

    // The server searches and ignores case. Streams that appear later must match, too.
    set(&browser, "search", "ROOM-1");
    wait_for_names(&browser, &["room-10"]);
    push(&mut client, 1, "other", 10);
    push(&mut client, 1, "room-11", 0);
    wait_for_names(&browser, &["room-11", "room-10"]);
    set(&browser, "search", "nowhere");
    wait_for_names(&browser, &[]);
    browser.click("Stream");
    set(&browser, "search", "");
    wait_for_names(
        &browser,
        &["gone", "other", "room-2", "room-3", "room-10", "room-11"],
    );
    assert_eq!(browser.errors_logged(), [""; 0]);
}

#[test]
fn a_long_list_comes_in_parts_and_does_not_grow_by_itself() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let mut client = server.client();
    for n in 0..203 {
        push(&mut client, 1, &format!("room-{n}"), 1000 - n);
    }
    let browser = open(&server);
    let wait_for_count = |text: &str| {
        browser.wait_for(&format!(
            "return document.querySelector('#count').textContent === '{text}'"
        ));
    };
    wait_for_count("200 streams shown, there are more.");
    push(&mut client, 1, "late", 0);
    wait_for("the board to know", || {
        let page = server.get("/api/streams?stream=late").json();
        page["items"].get(0).map(drop)
    });
    // A later stream replaces one that was shown.
    push(&mut client, 0, "room-7", 0);
    wait_for_count("199 streams shown, there are more.");
    push(&mut client, 1, "later", 0);
    wait_for_count("200 streams shown, there are more.");
    assert_eq!(browser.run(&format!("return {NAMES}[0]")), "later");
    browser.click("More streams");
    wait_for_count("204 streams shown.");
    let distinct = browser.run(&format!("return new Set({NAMES}).size"));
    assert_eq!(distinct, 204, "each is there once");
    assert_eq!(
        browser.run("return document.querySelector('#main p button').hidden"),
        true,
        "there is no more"
    );

    let artefacts = Path::new(env!("CARGO_TARGET_TMPDIR"));
    set(&browser, "search", "room-1");
    wait_for_count("111 streams shown.");
    for (name, width, height) in [("narrow", 360, 740), ("wide", 1280, 900)] {
        browser.resize(width, height);
        browser.screenshot(&artefacts.join(format!("console-streams-{name}.png")));
        let fits = browser.run(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth",
        );
        assert_eq!(fits, true, "{name}: nothing is cut off");
    }
    browser.open(&format!("{}/#/", server.admin_url()));
    browser.wait_for("return document.querySelector('.tile')?.textContent === 'Live streams204'");
    assert_eq!(browser.errors_logged(), [""; 0]);
}

#[test]
fn the_board_is_rebuilt_after_confirmation() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    push(&mut server.client(), 1, "room-7", 10);
    let browser = open(&server);
    wait_for_names(&browser, &["room-7"]);
    let button = "Rebuild the board";
    let asked = browser.click_and_answer(button, false);
    assert!(
        asked.starts_with("Rebuild the board from every stored event?"),
        "{asked}"
    );
    assert_eq!(
        browser.run("return document.querySelector('#status').hidden"),
        true,
        "that was a no"
    );
    browser.click(button);
    browser.wait_for(
        "return document.querySelector('#status').textContent === 'The board was rebuilt from 1 event.'",
    );
    wait_for_names(&browser, &["room-7"]);
    assert_eq!(browser.errors_logged(), [""; 0]);
}
