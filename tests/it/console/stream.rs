//! The page of one stream: facts, the picture of its history, its events, and names that are hard
//! to write.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::browser::{Browser, TAB};
use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, TestServer, now, signed};

const NASTY: &str = "<script>alert(1)</script>/x?y#z%";
const RIGHT: char = '\u{e014}';

fn post(server: &TestServer, body: Value) {
    assert_eq!(server.post("/css", signed(body)).status, 200);
}

fn begin(server: &TestServer, stream: &str, sequence: &str, ago: i64) {
    post(
        server,
        json!({
            "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "sequence": sequence,
            "event_time": now() - ago, "user_ip": "198.51.100.4", "width": 1920, "height": 1080,
        }),
    );
}

fn end(server: &TestServer, stream: &str, sequence: &str, ago: i64, lasted: i64) {
    post(
        server,
        json!({
            "event_type": 0, "app": "push.example.com", "appname": "live", "stream_id": stream, "sequence": sequence,
            "event_time": now() - ago, "push_duration": (lasted * 1000).to_string(), "errcode": 2,
            "errmsg": "The push client actively stopped the push", "user_ip": "198.51.100.4", "width": 1280, "height": 720,
        }),
    );
}

fn snapshot(server: &TestServer, stream: &str, ago: i64, url: &str) {
    post(
        server,
        json!({
            "event_type": 200, "app": "push.example.com", "appname": "live", "stream_id": stream,
            "create_time": now() - ago, "width": 1280, "height": 720, "pic_full_url": url,
        }),
    );
}

fn recording(server: &TestServer, stream: &str, id: &str, step: &str, ago: i64) {
    post(
        server,
        json!({
            "event_type": 332, "domain": "push.example.com", "appname": "live", "stream_id": stream,
            "event_time": now() - ago, "record_event": step, "session_id": id, "seq": ago.to_string(),
        }),
    );
}

/// Posts the history of a live stream: a push that ended, a push without an end, a push that goes
/// on, and some events of all other kinds.
pub fn post_history(server: &TestServer, stream: &str) {
    begin(server, stream, "101", 3300);
    recording(server, stream, "7001", "record_start_succeeded", 3290);
    recording(server, stream, "7001", "record_ended", 2395);
    end(server, stream, "101", 2400, 900);
    post(
        server,
        json!({
            "event_type": 100, "app": "push.example.com", "appname": "live", "stream_id": stream, "file_id": "5285890813738446783",
            "start_time": now() - 3290, "end_time": now() - 2400, "video_url": "https://1250000000.vod2.example.com/9a1c/playlist.m3u8",
        }),
    );
    begin(server, stream, "102", 2100);
    begin(server, stream, "103", 1500);
    recording(server, stream, "7002", "record_start_succeeded", 1490);
    for ago in [3000, 1200, 900, 600, 300] {
        snapshot(server, stream, ago, "https://shots.example.com/room-7.jpg");
    }
    for ago in [1000, 400] {
        post(
            server,
            json!({
                "event_type": 321, "domain": "push.example.com", "path": "live", "stream_id": stream, "sequence": "103",
                "data_time": (now() - ago) * 1000, "abnormal_event": [],
            }),
        );
    }
    post(
        server,
        json!({
            "event_type": 317, "app": "push.example.com", "appname": "live", "streamId": stream, "suggestion": "Block",
            "label": "Porn", "sendTime": now() - 590, "screenshotTime": now() - 600,
        }),
    );
}

fn open(server: &TestServer, stream: &str) -> Browser {
    let browser = Browser::start();
    browser.open(&format!("{}/#/streams", server.admin_url()));
    browser.click(&format!("push.example.com/live/{stream}"));
    browser.wait_for("return document.querySelector('#events tbody tr') !== null");
    browser
}

fn count(browser: &Browser, selector: &str) -> Value {
    browser.run(&format!(
        "return document.querySelectorAll('svg.timeline ' + {}).length",
        json!(selector)
    ))
}

/// The value of a fact.
fn fact(browser: &Browser, name: &str) -> Value {
    browser.run(&format!(
        "return [...document.querySelectorAll('dt')].find((one) => one.textContent === '{name}').nextElementSibling.textContent"
    ))
}

#[test]
fn the_history_of_a_stream_is_a_picture_that_can_be_read() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    post_history(&server, "room-7");
    let browser = open(&server, "room-7");
    browser.wait_for("return document.querySelectorAll('.mark').length === 8");
    for (selector, number) in [
        (".bar.push", 3),
        (".bar.push.open", 1),
        (".bar.push.superseded", 1),
        (".bar.recording", 3),
        (".bar.recording.open", 1),
        (".mark.snapshot", 5),
        (".mark.exception", 2),
        (".mark.audit", 1),
        (".mark.other", 0),
        (".bar[role=img][aria-label]", 6),
        ("a.mark[aria-label]", 8),
        ("[tabindex='0']", 1),
    ] {
        assert_eq!(count(&browser, selector), number, "{selector}");
    }
    let desc = browser.run(
        "const svg = document.querySelector('svg.timeline'); \
         return document.getElementById(svg.getAttribute('aria-describedby')).textContent",
    );
    let desc = desc.as_str().unwrap();
    let all = "3 pushes, 3 recordings, 5 snapshots, 2 exceptions, 1 audit, from ";
    assert!(desc.starts_with(all), "{desc}");
    // Bars are in the right places: the open one reaches the end of the axis, an earlier one is
    // left of it.
    let order = browser.run(
        "const at = (kind) => { const { x, width } = document.querySelector(kind).getBBox(); return [x, x + width]; }; \
         const [first, open] = [at('.bar.push:not(.open, .superseded)'), at('.bar.push.open')]; \
         const axis = document.querySelector('.axis line').getBBox(); \
         return first[1] < open[0] && Math.abs(open[1] - axis.x - axis.width) < 5;",
    );
    assert_eq!(order, true);

    for (name, value) in [
        ("Source", "css"),
        ("Push sequence", "103"),
        ("Pusher", "198.51.100.4"),
        ("Resolution", "1920 × 1080"),
        ("Push exceptions", "2"),
    ] {
        assert_eq!(fact(&browser, name), value, "{name}");
    }
    let sessions = browser.run(
        "return [...document.querySelectorAll('#sessions table[aria-label=Sessions] tbody tr')].map((row) => \
         [...row.cells].map((cell) => cell.textContent))",
    );
    assert_eq!(sessions[0][1], "open");
    assert_eq!(sessions[1][1], "not known, superseded");
    assert_eq!(sessions[1][2], "–");
    assert_eq!(sessions[2][2], "15 min");
    let reason = sessions[2][6].as_str().unwrap();
    assert!(
        reason.starts_with("the push client ended the stream (2)"),
        "{reason}"
    );
    let link = browser.run(
        "const it = document.querySelector('#about a'); return [it.href, it.rel, document.querySelectorAll('img').length]",
    );
    let url = "https://shots.example.com/room-7.jpg";
    assert_eq!(link, json!([url, "noreferrer", 0]));

    // Every bar and mark has a name for the keyboard and for the pointer.
    browser.run("document.querySelector('form select').focus()");
    browser.press(TAB);
    let naming = "return document.querySelector('#naming').textContent";
    let name = browser.run(naming);
    let name = name.as_str().unwrap();
    assert!(
        name.starts_with("Push from ") && name.contains(" to "),
        "{name}"
    );
    browser.press(RIGHT);
    let name = browser.run(naming);
    assert!(
        name.as_str()
            .unwrap()
            .ends_with("superseded, its end is not known"),
        "{name}"
    );
    let rest = "const it = document.querySelector('.mark.audit'); \
        it.dispatchEvent(new PointerEvent('pointerover', { bubbles: true })); \
        return document.querySelector('#naming').textContent";
    let name = browser.run(rest);
    assert!(
        name.as_str()
            .unwrap()
            .starts_with("image-audit (Block Porn) at "),
        "{name}"
    );

    // The page follows the stream, and keeps the focus.
    snapshot(&server, "room-7", 60, url);
    browser.wait_for("return document.querySelectorAll('.mark.snapshot').length === 6");
    let focused = browser.run("return document.activeElement.getAttribute('aria-label')");
    assert!(
        focused.as_str().unwrap().contains("superseded"),
        "{focused}"
    );
    let artefacts = Path::new(env!("CARGO_TARGET_TMPDIR"));
    browser.run("document.activeElement.blur(); window.scrollTo(0, 0)");
    for (name, width, height) in [("wide", 1280, 1400), ("narrow", 360, 1600)] {
        browser.resize(width, height);
        // Text in the picture does not change its size.
        browser.wait_for(
            "const svg = document.querySelector('svg.timeline'); \
             return Math.abs(svg.viewBox.baseVal.width - svg.clientWidth) < 2",
        );
        browser.screenshot(&artefacts.join(format!("console-stream-{name}.png")));
        let fits = browser.run(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth",
        );
        assert_eq!(fits, true, "{name}: nothing is cut off");
    }
    browser.set_color_scheme("dark");
    browser.resize(1280, 1400);
    browser.wait_for("return document.querySelector('svg.timeline').viewBox.baseVal.width > 1000");
    browser.screenshot(&artefacts.join("console-stream-dark.png"));
    end(&server, "room-7", "103", 0, 1500);
    browser.wait_for(
        "return document.querySelector('#state').textContent.startsWith('offline since')",
    );
    assert_eq!(count(&browser, ".bar.push.open"), 0);
    let reason = fact(&browser, "End reason");
    assert!(
        reason
            .as_str()
            .unwrap()
            .starts_with("the push client ended"),
        "{reason}"
    );

    // A mark leads to its event.
    browser.run("document.querySelector('.mark.audit').dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true }))");
    browser.wait_for("return document.querySelector('h1')?.textContent === 'Event'");
    assert_eq!(browser.errors_logged(), [""; 0]);
}

#[test]
fn a_name_is_text_and_its_page_opens_whatever_is_in_it() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let secret = "f85a2ab363fe4deaffef9754d79da6fe";
    let keyed = format!("room?txSecret={secret}");
    for stream in [NASTY, "a b/ü 房间&+;", "-", &keyed] {
        begin(&server, stream, "1", 60);
    }
    snapshot(
        &server,
        NASTY,
        30,
        "javascript:alert(document.domain)//x.jpg",
    );
    post(
        &server,
        json!({ "event_type": 1, "stream_id": "bare", "sequence": "1", "event_time": now() - 60 }),
    );
    let browser = open(&server, NASTY);
    assert_eq!(
        browser.run("return document.querySelector('h1').textContent"),
        format!("push.example.com/live/{NASTY}")
    );
    assert_eq!(fact(&browser, "Stream"), NASTY);
    assert_eq!(
        browser
            .run("return [document.querySelectorAll('#about a').length, document.scripts.length]"),
        json!([0, 1])
    );
    assert!(
        fact(&browser, "Last snapshot")
            .as_str()
            .unwrap()
            .contains("1280 × 720")
    );
    // The same if its address is opened again.
    let address = browser.run("return location.href");
    browser.open("about:blank");
    browser.open(address.as_str().unwrap());
    browser.wait_for("return document.querySelector('#events tbody tr') !== null");
    assert_eq!(fact(&browser, "Stream"), NASTY);

    for (link, stream) in [
        ("push.example.com/live/a b/ü 房间&+;", "a b/ü 房间&+;"),
        ("push.example.com/live/-", "-"),
        ("bare", "bare"),
        (
            "push.example.com/live/room?txSecret=•••",
            "room?txSecret=•••",
        ),
    ] {
        browser.click("Streams");
        browser.click(link);
        browser.wait_for("return document.querySelector('#events tbody tr') !== null");
        assert_eq!(fact(&browser, "Stream"), stream);
        let page = browser.run("return location.href + document.documentElement.outerHTML");
        assert!(!page.as_str().unwrap().contains(secret), "{page}");
    }
    assert_eq!(browser.errors_logged(), [""; 0]);
}

#[test]
fn more_of_a_long_history_is_there_when_asked_for() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    begin(&server, "room-7", "1", 1000);
    for n in 0..110 {
        snapshot(
            &server,
            "room-7",
            900 - n,
            "https://shots.example.com/x.jpg",
        );
    }
    let browser = open(&server, "room-7");
    let rows = |number: u32| {
        browser.wait_for(&format!(
            "return document.querySelectorAll('#events tbody tr').length === {number}"
        ));
    };
    rows(100);
    assert_eq!(count(&browser, ".mark.snapshot"), 100);
    browser.click("More events");
    rows(111);
    assert_eq!(count(&browser, ".mark.snapshot"), 110);
    // Loaded events stay when new ones arrive.
    snapshot(&server, "room-7", 1, "https://shots.example.com/x.jpg");
    rows(112);
    assert_eq!(
        browser.run("return document.querySelector('#events button')"),
        Value::Null
    );
    assert_eq!(browser.errors_logged(), [""; 0]);
}
