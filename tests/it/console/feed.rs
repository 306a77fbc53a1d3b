//! The page of new events shows events that arrive while it opens.

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, TestServer, signed};

/// Delays the page before it asks for the list, and before it receives it.
const GATES: &str = "
    const real = window.fetch;
    window.gate = (name) => new Promise((go) => { window[name] = go; });
    window.fetch = async (path, ...more) => {
      if (!String(path).startsWith('/api/events?')) return real(path, ...more);
      await window.gate('ask');
      const answer = await real(path, ...more);
      await window.gate('give');
      return answer;
    };
";

fn push(server: &TestServer, stream: &str) {
    let body = json!({ "event_type": 1, "appname": "live", "stream_id": stream });
    assert_eq!(server.post("/css", signed(body)).status, 200);
}

fn shown(browser: &Browser) -> Vec<Value> {
    let cells = "return [...document.querySelectorAll('#feed td:last-child')].map((cell) => cell.textContent)";
    browser.run(cells).as_array().unwrap().clone()
}

#[test]
fn what_arrives_while_the_page_is_opened_is_shown_once() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    push(&server, "before");
    let browser = Browser::start();
    browser.open(&server.admin_url());
    browser.wait_for("return document.querySelector('h1')?.textContent === 'Overview'");
    browser.run(GATES);
    browser.click("Live");
    browser.wait_for("return Boolean(window.ask)");
    push(&server, "in-both");
    browser.run("window.ask()");
    browser.wait_for("return Boolean(window.give)");
    push(&server, "between");
    browser.run("window.give()");
    browser.wait_for("return document.querySelector('#feed')?.textContent.includes('between')");
    push(&server, "after");
    browser.wait_for("return document.querySelector('#feed').textContent.includes('after')");
    assert_eq!(
        shown(&browser),
        ["live/after", "live/between", "live/in-both", "live/before"]
    );

    // A filter that is not understood is named.
    browser.run("window.ask = window.give = null; document.querySelector('input[name=kind]').value = 'push'");
    browser.click("Filter");
    browser.wait_for("return Boolean(window.ask)");
    browser.run("window.ask()");
    browser.wait_for("return Boolean(window.give)");
    browser.run("window.give()");
    browser.wait_for("return document.querySelector('#alert').textContent.includes('`kind`')");
    assert_eq!(shown(&browser), [""; 0]);
    // A valid filter is applied.
    browser.run(
        "window.ask = window.give = null; document.querySelector('input[name=kind]').value = ''; \
         document.querySelector('input[name=stream]').value = 'live/before'",
    );
    browser.click("Filter");
    browser.wait_for("return Boolean(window.ask)");
    push(&server, "unwanted");
    let again =
        json!({ "event_type": 1, "appname": "live", "stream_id": "before", "sequence": "2" });
    assert_eq!(server.post("/css", signed(again)).status, 200);
    browser.run("window.ask()");
    browser.wait_for("return Boolean(window.give)");
    browser.run("window.give()");
    browser.wait_for("return document.querySelectorAll('#feed tr').length === 2");
    assert_eq!(shown(&browser), ["live/before", "live/before"]);
    assert_eq!(
        browser.run("return document.querySelector('#alert').hidden"),
        true
    );
}

#[test]
fn a_page_that_is_too_far_behind_says_so() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let browser = Browser::start();
    browser.open(&server.admin_url());
    browser.wait_for("return document.querySelector('h1')?.textContent === 'Overview'");
    browser.run(
        "const Real = window.EventSource;
         window.EventSource = class extends Real { constructor(...all) { super(...all); window.source = this; } };",
    );
    browser.click("Live");
    browser.wait_for(
        "return document.querySelector('main [role=status]')?.textContent.startsWith('Watching')",
    );
    browser.run("window.source.dispatchEvent(new MessageEvent('skipped', { data: '50001' }))");
    browser.wait_for("return document.querySelector('main [role=status]').textContent.includes('50001 events are not shown')");
}
