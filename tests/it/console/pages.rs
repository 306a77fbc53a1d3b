//! The pages of the console: what they show, that they hide secrets, and their buttons.

use serde_json::json;

use crate::reload::{RELOADED, reload};
use crate::support::browser::Browser;
use crate::support::{KEY, Settings, TestServer, now, signed, signed_with, wait_for};

const SECRET: &str = "f85a2ab363fe4deaffef9754d79da6fe";
const OTHER: &str = "OtherOtherOtherOtherOtherOther12";

/// A handler that prints its input and rejects it.
const REJECTING: &str = "[handlers.picky]\nto = { type = \"exec\", command = [\"sh\", \"-c\", \"cat >&2; exit 65\"] }\n";

fn parked(server: &TestServer) -> u64 {
    let page = server.get("/api/handlers").json();
    page["items"][0]["parked"].as_u64().unwrap()
}

fn settings(key: &str) -> Settings {
    Settings {
        sources: format!("[sources.css]\nkeys = [\"{key}\"]\n"),
        ..Settings::with_handlers(REJECTING)
    }
}

/// Opens a page and waits until it shows this text. The secret must not appear.
#[track_caller]
fn visit(browser: &Browser, link: &str, shows: &str) {
    browser.click(link);
    let shows = json!(shows);
    browser.wait_for(&format!(
        "return document.querySelector('main').textContent.includes({shows})"
    ));
    let page = browser.run("return document.documentElement.outerHTML");
    let page = page.as_str().unwrap();
    assert!(!page.contains(SECRET), "{link}: {page}");
}

#[test]
fn the_stream_key_is_masked_on_every_page() {
    let server = TestServer::start(&settings(KEY));
    let body = json!({
        "event_type": 1, "appname": "live", "stream_id": format!("room?txSecret={SECRET}&x=1"),
        "stream_param": format!("txSecret={SECRET}&txTime=1"),
    });
    let escaped = signed(body).replace("txSecret=", "txSecret\\u003d");
    assert_eq!(server.post("/css", &escaped).status, 200);
    wait_for("it to be parked", || (parked(&server) == 1).then_some(()));
    for bytes in [&b""[..], b"\xff"] {
        let note = format!(
            "txSecret={SECRET}&u=txSecret%3D{SECRET}\",\"t\":{}",
            now() + 600
        );
        let forged = [b"{\"note\":\"", bytes, note.as_bytes(), b",\"sign\":\"0\"}"].concat();
        let answer = server.post("/css/stream-begin", forged);
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    wait_for("the rejected list", || {
        let page = server.get("/api/rejected").json();
        (page["items"].as_array().unwrap().len() == 2).then_some(())
    });

    let browser = Browser::start();
    browser.open(&server.admin_url());
    visit(&browser, "Overview", "exit code 65");
    visit(&browser, "Handlers", "exit code 65");
    visit(
        &browser,
        "Rejected",
        "\u{fffd}txSecret=•••&u=txSecret%3D•••",
    );
    visit(&browser, "Live", "live/room?txSecret=•••&x=1");
    visit(&browser, "stream-begin", "As received");
    let parts =
        browser.run("return [...document.querySelectorAll('pre')].map((part) => part.textContent)");
    let typed = parts[0].as_str().unwrap();
    assert!(
        typed.contains("\"stream_param\": \"txSecret=•••&txTime=1\""),
        "{typed}"
    );
    let raw = parts[1].as_str().unwrap();
    assert!(raw.contains("txSecret\\u003d•••&txTime=1"), "{raw}");
    assert_eq!(browser.errors_logged(), [""; 0]);
}

#[test]
fn buttons_do_what_they_say_once_that_is_confirmed() {
    let server = TestServer::start(&settings(OTHER));
    let begin = |n: i64| {
        signed_with(
            KEY,
            now() + 600,
            json!({ "event_type": 1, "appname": "live", "stream_id": "room-7", "sequence": n }),
        )
    };
    for n in 0..2 {
        assert_eq!(server.post("/css", begin(n)).status, 401);
    }
    wait_for("the rejected list", || {
        let page = server.get("/api/rejected").json();
        (page["items"].as_array().unwrap().len() == 2).then_some(())
    });
    let browser = Browser::start();
    browser.open(&server.admin_url());

    visit(&browser, "Rejected", "room-7");
    assert_eq!(
        browser.click_and_answer("Recheck", true),
        "There is nothing to do: 0 found."
    );
    reload(&server, &settings(KEY), RELOADED);
    let question = "Take 2 callbacks into the inbox?";
    assert_eq!(browser.click_and_answer("Recheck", false), question);
    assert_eq!(server.events().len(), 0, "that was a no");
    assert_eq!(browser.click_and_answer("Recheck", true), question);
    assert_eq!(server.events().len(), 2);
    browser.wait_for("return document.querySelector('#status').textContent === 'Taken into the inbox: 2 callbacks.'");
    visit(&browser, "Rejected", "Nothing was refused.");

    wait_for("both to be parked", || (parked(&server) == 2).then_some(()));
    visit(&browser, "Handlers", "Discard parked of picky");
    for (button, state) in [("Pause picky", "paused"), ("Resume picky", "running")] {
        assert_eq!(browser.click_and_answer(button, true), "");
        let page = server.get("/api/handlers").json();
        assert_eq!(page["items"][0]["state"], state);
        browser.wait_for(&format!(
            "return document.querySelector('td[data-label=State]').textContent === '{state}'"
        ));
    }
    let question = "Give up 2 parked events of picky? This cannot be undone.";
    let button = "Discard parked of picky";
    assert_eq!(browser.click_and_answer(button, false), question);
    assert_eq!(parked(&server), 2, "that was a no");
    assert_eq!(browser.click_and_answer(button, true), question);
    assert_eq!(parked(&server), 0);
    browser.wait_for("return document.querySelector('td[data-label=Parked]').textContent === '0'");
    assert_eq!(browser.errors_logged(), [""; 0]);
}

#[test]
fn the_typed_view_exists_only_if_the_body_fits() {
    let server = TestServer::start(&settings(KEY));
    for (n, code) in [(1, json!("7")), (2, json!({ "a": 1 }))] {
        let body = json!({ "event_type": 0, "stream_id": format!("room-{n}"), "errcode": code });
        assert_eq!(server.post("/css", signed(body)).status, 200);
    }
    let browser = Browser::start();
    let events = server.events();
    let headings = |at: usize| {
        let id = events[at]["id"].as_str().unwrap();
        browser.open(&format!("{}/#/event/{id}", server.admin_url()));
        let stream = events[at]["streamid"].as_str().unwrap();
        browser.wait_for(&format!(
            "const main = document.querySelector('main').textContent; \
             return main.includes('As received') && main.includes('{stream}')"
        ));
        browser.run("return [...document.querySelectorAll('h2')].map((one) => one.textContent)")
    };
    assert_eq!(headings(0), json!(["Handlers", "Typed", "As received"]));
    let typed = browser.run("return JSON.parse(document.querySelector('pre').textContent)");
    assert_eq!(typed["errcode"], 7, "a number, whatever was sent: {typed}");
    assert_eq!(headings(1), json!(["Handlers", "As received"]));
    assert_eq!(browser.errors_logged(), [""; 0]);
}
