//! Controls a real browser, Debian's chromium, through chromedriver (WebDriver).

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Client;
use super::wait_up_to;

/// The Tab key, in the code of WebDriver.
pub const TAB: char = '\u{e004}';
/// The Enter key, in the code of WebDriver.
pub const ENTER: char = '\u{e007}';

/// The longest time for the start of the browser.
const TIMEOUT: Duration = Duration::from_secs(40);

/// A browser with its own window and profile. Dropping it ends the browser.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts chromedriver and a browser.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // chromedriver cannot choose a free port itself.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let driver = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut browser = Self {
            driver,
            address,
            session: String::new(),
            _profile: profile,
        };
        let data = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &data,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = wait_up_to(TIMEOUT, "the browser", || {
            let answer = browser.try_ask("POST", "/session", &wanted).ok()?;
            Some(answer["sessionId"].as_str()?.to_owned())
        });
        browser.session = format!("/session/{session}");
        browser
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let body = (method == "POST").then_some(body.as_bytes());
        let answer = Client::new(self.address)
            .request(method, path, &[("content-type", "application/json")], body)
            .map_err(|error| error.to_string())?;
        let value = answer.json()["value"].clone();
        match answer.status {
            200 => Ok(value),
            _ => Err(value.to_string()),
        }
    }

    #[track_caller]
    fn ask(&self, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        self.try_ask("POST", &path, body).unwrap()
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    /// Sets the size of the window in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        self.ask("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// Runs JavaScript in the page and returns its result.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs JavaScript until its result counts as true, and returns that.
    #[track_caller]
    pub fn wait_for(&self, script: &str) -> Value {
        wait_up_to(Duration::from_secs(20), script, || {
            let value = self.run(script);
            let is_there = !matches!(value, Value::Null | Value::Bool(false));
            is_there.then_some(value)
        })
    }

    /// Clicks the link or button with this text, and confirms every question.
    #[track_caller]
    pub fn click(&self, text: &str) {
        self.click_and_answer(text, true);
    }

    /// Clicks the link or button with this text, answers a question with yes or no, and waits until
    /// the button's work is done. Returns the text of the question or message.
    #[track_caller]
    pub fn click_and_answer(&self, text: &str, yes: bool) -> String {
        let text = json!(text);
        self.wait_for(&format!(
            "const it = [...document.querySelectorAll('a, button')].find((one) => one.textContent.trim() === {text}); \
             if (!it) return false; window.asked = ''; window.confirm = (what) => {{ window.asked = what; return {yes}; }}; \
             window.alert = (what) => {{ window.asked = what; }}; it.click(); return true;"
        ));
        self.wait_for("return !document.querySelector('button[aria-disabled]')");
        self.run("return window.asked").as_str().unwrap().to_owned()
    }

    /// Presses and releases a key.
    pub fn press(&self, key: char) {
        let stroke = |kind: &str| json!({ "type": kind, "value": key.to_string() });
        let strokes = [stroke("keyDown"), stroke("keyUp")];
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.ask("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Sets the colour scheme that the browser reports, `light` or `dark`.
    pub fn set_color_scheme(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let params = json!({ "features": [feature] });
        self.ask(
            "/goog/cdp/execute",
            &json!({ "cmd": "Emulation.setEmulatedMedia", "params": params }),
        );
    }

    /// The errors in the browser's log since the last call.
    pub fn errors_logged(&self) -> Vec<String> {
        let log = self.ask("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().unwrap().iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }

    /// Saves a picture of the page as PNG.
    pub fn screenshot(&self, file: &Path) {
        let path = format!("{}/screenshot", self.session);
        let shot = self.try_ask("GET", &path, &Value::Null).unwrap();
        let bytes = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD
                .decode(shot.as_str().unwrap())
                .unwrap()
        };
        std::fs::write(file, bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.try_ask("DELETE", &self.session, &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
