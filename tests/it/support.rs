//! Helpers of the tests: server processes, an HTTP client, targets, signed bodies, and waiting.

pub mod browser;
pub mod client;
pub mod clock;
pub mod load;
pub mod postgres;
pub mod receiver;
pub mod server;
pub mod simulation;
pub mod target;

use std::time::{Duration, Instant};

use css_callbacks::sign;
use serde_json::Value;

pub use self::client::{Answer, Client};
pub use self::server::{Settings, TestServer};

/// The key of the source `css` in the tests.
pub const KEY: &str = "TestKeyTestKeyTestKeyTestKey1234";

/// The time as UNIX seconds.
#[allow(clippy::disallowed_methods)]
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

/// Signs a body with [`KEY`] and a `t` ten minutes from now.
pub fn signed(body: Value) -> String {
    signed_with(KEY, now() + 600, body)
}

/// Signs a body with a given key and `t`.
pub fn signed_with(key: &str, t: i64, mut body: Value) -> String {
    body["t"] = t.into();
    body["sign"] = sign(key, &t.to_string()).into();
    body.to_string()
}

/// Signs a body of raw text, for JSON that `serde_json` would not write. `members` has no braces.
pub fn signed_raw(members: &[u8]) -> Vec<u8> {
    let t = now() + 600;
    let mut body = b"{".to_vec();
    body.extend_from_slice(members);
    body.extend_from_slice(
        format!(",\"t\":{t},\"sign\":\"{}\"}}", sign(KEY, &t.to_string())).as_bytes(),
    );
    body
}

/// Calls `look` until it returns something. Fails after two minutes, enough for a slow machine.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_up_to(Duration::from_secs(120), what, look)
}

/// Calls `look` until it returns something. Fails after `limit`.
pub fn wait_up_to<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads the complete lines of a JSON-lines file. A missing file has no lines.
pub fn json_lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    let complete = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let lines = text[..complete]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}
