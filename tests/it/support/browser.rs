//! A real browser, Debian's chromium, told what to do by its chromedriver over WebDriver.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Client;
use super::wait_up_to;

/// What the keys are called on the wire.
pub const TAB: char = '\u{e004}';
pub const ENTER: char = '\u{e007}';

/// A starting browser takes its time on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(40);

/// A browser with a window of its own. Dropping it ends it.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The driver listens nowhere else.
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

    pub fn open(&self, url: &str) {
        self.ask("/url", &json!({ "url": url }));
    }

    pub fn resize(&self, width: u32, height: u32) {
        self.ask("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// What a piece of JavaScript returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs it until it returns something that counts as true.
    #[track_caller]
    pub fn wait_for(&self, script: &str) -> Value {
        wait_up_to(Duration::from_secs(20), script, || {
            let value = self.run(script);
            let is_there = !matches!(value, Value::Null | Value::Bool(false));
            is_there.then_some(value)
        })
    }

    /// Clicks on what shows this text, and agrees to whatever is asked.
    #[track_caller]
    pub fn click(&self, text: &str) {
        self.click_and_answer(text, true);
    }

    /// Clicks on what shows this text, says yes or no when asked, and waits until a button has done its work; what was asked
    /// or told.
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

    /// Presses a key as the keyboard does.
    pub fn press(&self, key: char) {
        let stroke = |kind: &str| json!({ "type": kind, "value": key.to_string() });
        let strokes = [stroke("keyDown"), stroke("keyUp")];
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.ask("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Has the page believe that its user prefers `light` or `dark`.
    pub fn set_color_scheme(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let params = json!({ "features": [feature] });
        self.ask(
            "/goog/cdp/execute",
            &json!({ "cmd": "Emulation.setEmulatedMedia", "params": params }),
        );
    }

    /// What the page, or the browser about it, complained of; hints are none.
    pub fn errors_logged(&self) -> Vec<String> {
        let log = self.ask("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().unwrap().iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].to_string()).collect()
    }

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
