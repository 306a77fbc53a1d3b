//! The console in a real browser.

use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::json;

use super::server;
use crate::support::browser::Browser;
use crate::support::target::{Reply, Target};
use crate::support::{
    Client, Settings, TestServer, json_lines, now, signed, signed_with, wait_for,
};

fn push(server: &TestServer, stream: &str) {
    let body = json!({
        "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream,
        "stream_param": "txSecret=f85a2ab363fe4deaffef9754d79da6fe&txTime=1",
    });
    assert_eq!(server.post("/css", signed(body)).status, 200);
}

#[test]
fn an_operator_sees_events_and_replays_them_and_markup_is_shown_as_text() {
    let server = server();
    let forged = signed_with(
        "Forged",
        now() + 600,
        json!({ "event_type": 1, "stream_id": "forged" }),
    );
    assert_eq!(server.post("/css/stream-begin", forged).status, 401);
    let browser = Browser::start();
    browser.open(&server.admin_url());

    // Nothing is shown before the token is known.
    browser.wait_for("return document.querySelector('input[name=token]')?.type === 'password'");
    browser.run("document.querySelector('input[name=token]').value = 'AdminTokenItself'");
    browser.click("Sign in");
    browser.wait_for("return document.querySelector('h1')?.textContent === 'Overview'");
    browser.wait_for("return document.body.textContent.includes('refused since')");
    browser
        .wait_for("return document.body.textContent.includes('css gets no authentic callbacks')");
    let artefacts = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, width, height) in [("wide", 1280, 900), ("narrow", 360, 740)] {
        browser.resize(width, height);
        browser.screenshot(&artefacts.join(format!("console-{name}.png")));
        let fits = browser.run("return document.documentElement.scrollWidth <= window.innerWidth");
        assert_eq!(fits, true, "{name}: nothing is cut off");
    }
    browser.resize(1280, 900);

    browser.click("Live");
    browser.wait_for("return document.body.textContent.includes('Watching.')");
    let sent = Instant::now();
    push(&server, "<script>document.title='deceived'</script>");
    browser.wait_for("return document.querySelector('#feed')?.textContent.includes(\"live/<script>document.title='deceived'</script>\")");
    let took = sent.elapsed();
    println!("shown after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_ne!(browser.run("return document.title"), "deceived");

    browser.click("stream-begin");
    browser.wait_for("return document.querySelector('h1')?.textContent === 'Event'");
    browser.wait_for("return document.body.textContent.includes('As received')");
    let text = browser.run("return document.body.textContent").to_string();
    assert!(
        text.contains("txSecret=") && !text.contains("f85a2ab363fe4deaffef9754d79da6fe"),
        "{text}"
    );
    let file = server.path().join("events.jsonl");
    wait_for("the first delivery", || {
        (json_lines(&file).len() == 1).then_some(())
    });
    browser.click("Replay to file");
    wait_for("the second delivery", || {
        (json_lines(&file).len() == 2).then_some(())
    });

    browser.click("Rejected");
    browser.wait_for("return document.body.textContent.includes('signature') && document.body.textContent.includes('forged')");
    browser.click("Handlers");
    browser.wait_for("return document.querySelector('h1')?.textContent === 'Handlers'");
    browser.click("Pause file");
    wait_for("the pause", || {
        let token = [("authorization", "Bearer AdminTokenItself")];
        let page = Client::new(server.admin).request("GET", "/api/handlers", &token, None);
        (page.unwrap().json()["items"][0]["state"] == "paused").then_some(())
    });
    browser.click("Sign out");
    browser.wait_for("return document.querySelector('input[name=token]') !== null");
    let errors_logged = browser.errors_logged();
    let other: Vec<_> = errors_logged
        .iter()
        .filter(|complaint| !complaint.contains("401"))
        .collect();
    assert!(other.is_empty(), "{other:?}");
}

#[test]
fn an_operator_sees_how_much_of_a_replay_is_left() {
    let target = Target::start(|_| Reply::Status(400));
    let handler = format!(
        "[handlers.backend]\nconcurrency = 1\nto = {{ type = \"http\", url = \"{}\" }}\n",
        target.url()
    );
    let server = TestServer::start(&Settings::with_handlers(&handler));
    for stream in ["a", "b", "c"] {
        push(&server, stream);
    }
    let parked = || server.get("/api/handlers").json()["items"][0]["parked"] == 3;
    wait_for("all to be parked", || parked().then_some(()));
    // Each answer waits until it may be given.
    let (allow, allowed) = channel();
    let allowed = Mutex::new(allowed);
    target.change_to(move |_| {
        let _ = allowed.lock().unwrap().recv();
        Reply::Status(200)
    });

    let browser = Browser::start();
    browser.open(&format!("{}#/handlers", server.admin_url()));
    browser.wait_for("return document.querySelector('.left')?.textContent === ''");
    browser.click("Replay parked of backend");
    let left = |text: &str, parked: u32| {
        browser.wait_for(&format!(
            "return document.querySelector('.left')?.textContent === '{text}' \
             && document.querySelector('td[data-label=Parked]').textContent === '{parked}'"
        ));
    };
    left("3 left to replay", 3);
    let status = "return document.querySelector('#status').textContent";
    browser.wait_for(&format!("{status} === 'Replay parked of backend: 3.'"));
    // A button that has the focus is not replaced, and the message stays.
    browser.run("document.querySelector('td button').focus()");
    allow.send(()).unwrap();
    left("2 left to replay", 2);
    allow.send(()).unwrap();
    left("1 left to replay", 1);
    drop(allow);
    left("", 0);
    assert_eq!(
        browser.run("return document.activeElement.textContent"),
        "Pause backend"
    );
    assert_eq!(browser.run(status), "Replay parked of backend: 3.");
    assert!(browser.errors_logged().is_empty());
}
