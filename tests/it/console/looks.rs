//! The colours of the console in dark and light mode.

use crate::support::browser::Browser;
use crate::support::server::FILE_HANDLER;
use crate::support::{KEY, Settings, TestServer, now, signed_with};
use serde_json::json;

/// The luminance of the page's background and text, and the text with the worst contrast.
const COLOURS: &str = "
    const luminance = (colour) => {
      const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
        const one = part / 255;
        return one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
      const colour = getComputedStyle(node).backgroundColor;
      return colour === 'rgba(0, 0, 0, 0)' ? behind(node.parentElement) : colour;
    };
    const contrast = (node) => {
      const [text, back] = [getComputedStyle(node).color, behind(node)].map(luminance);
      return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
    };
    const written = [...document.body.querySelectorAll('*')].filter((node) => node.checkVisibility()
      && (node.matches('input') || [...node.childNodes].some((part) => part.nodeType === 3 && part.data.trim())));
    const worst = written.sort((a, b) => contrast(a) - contrast(b))[0];
    const body = getComputedStyle(document.body);
    return [luminance(body.backgroundColor), luminance(body.color), contrast(worst), worst.outerHTML, written.length];
";

#[test]
fn every_page_can_be_read_in_the_dark_and_in_the_light() {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    // This comes first: an accepted callback ends the warning about refused ones.
    super::stream::post_history(&server, "room-7");
    let late = signed_with(
        KEY,
        now() - 3600,
        json!({ "event_type": 1, "stream_id": "late" }),
    );
    assert_eq!(server.post("/css/stream-begin", late).status, 401);
    let browser = Browser::start();
    for scheme in ["dark", "light"] {
        browser.set_color_scheme(scheme);
        browser.open(&server.admin_url());
        browser.wait_for("return document.body.textContent.includes('refused since')");
        for (page, shows) in [
            ("Overview", "refused since"),
            ("Streams", "1 stream shown."),
            ("push.example.com/live/room-7", "Snapshots"),
            ("Live", "Watching."),
            ("Rejected", "expired"),
            ("Handlers", "Pause file"),
        ] {
            browser.click(page);
            browser.wait_for(&format!(
                "return document.querySelector('main').textContent.includes('{shows}')"
            ));
            let colours = browser.run(COLOURS);
            let number = |at: usize| colours[at].as_f64().unwrap();
            let (back, text) = (number(0), number(1));
            match scheme {
                "dark" => assert!(back < 0.05 && text > 0.6, "{page}: {colours}"),
                _ => assert!(back > 0.9 && text < 0.05, "{page}: {colours}"),
            }
            assert!(number(2) >= 4.5, "{page} in {scheme}: {colours}");
            assert!(number(4) > 5.0, "{colours}");
        }
    }
}
