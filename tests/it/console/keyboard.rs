//! The console without a mouse, and without a token.

use serde_json::json;

use crate::support::browser::{Browser, ENTER, TAB};
use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, TestServer, wait_for};

/// Waits until the element with this text has the focus, and checks that this is visible.
#[track_caller]
fn assert_at(browser: &Browser, text: &str) {
    let text = json!(text);
    browser.wait_for(&format!(
        "return document.activeElement.textContent === {text}"
    ));
    let outline = browser.run(
        "const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(document.activeElement); \
         return document.activeElement.matches(':focus-visible') && outlineStyle === 'solid' && parseFloat(outlineWidth) >= 2 \
         && outlineColor !== getComputedStyle(document.body).backgroundColor",
    );
    assert_eq!(outline, true, "{text} shows that it has the keyboard");
}

#[test]
fn the_keyboard_is_enough_and_focus_stays() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let browser = Browser::start();
    browser.open(&server.admin_url());
    browser.wait_for("return document.querySelector('h1')?.textContent === 'Overview'");
    assert_eq!(
        browser.run("return document.body.textContent.includes('Sign out')"),
        false,
        "nobody signed in"
    );
    for link in ["Overview", "Streams", "Live", "Rejected", "Handlers"] {
        browser.press(TAB);
        assert_at(&browser, link);
    }
    browser.press(ENTER);
    browser.wait_for("return document.querySelector('h1')?.textContent === 'Handlers'");
    browser.wait_for("return document.activeElement.id === 'main'");
    browser.wait_for("return document.body.textContent.includes('Pause file')");
    browser.press(TAB);
    assert_at(&browser, "Pause file");
    for (next, state) in [("Resume file", "paused"), ("Pause file", "running")] {
        browser.press(ENTER);
        wait_for(state, || {
            let page = server.get("/api/handlers").json();
            (page["items"][0]["state"] == state).then_some(())
        });
        assert_at(&browser, next);
        browser.wait_for("return !document.querySelector('[aria-disabled]')");
    }
    for button in ["Replay parked of file", "Discard parked of file"] {
        browser.press(TAB);
        assert_at(&browser, button);
    }
    assert_eq!(browser.errors_logged(), [""; 0]);
}
