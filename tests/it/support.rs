//! What the tests share: a server process, a plain HTTP client, signed bodies, patience.

pub mod browser;
pub mod client;
pub mod clock;
pub mod load;
pub mod postgres;
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

/// Seconds since 1970.
#[allow(clippy::disallowed_methods)]
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

/// The body with a `t` of ten minutes from now and the signature of [`KEY`].
pub fn signed(body: Value) -> String {
    signed_with(KEY, now() + 600, body)
}

/// The body with this `t`, signed with this key.
pub fn signed_with(key: &str, t: i64, mut body: Value) -> String {
    body["t"] = t.into();
    body["sign"] = sign(key, &t.to_string()).into();
    body.to_string()
}

/// A signed body whose members are raw text, for what `serde_json` would not write. `members` is without braces.
pub fn signed_raw(members: &[u8]) -> Vec<u8> {
    let t = now() + 600;
    let mut body = b"{".to_vec();
    body.extend_from_slice(members);
    body.extend_from_slice(
        format!(",\"t\":{t},\"sign\":\"{}\"}}", sign(KEY, &t.to_string())).as_bytes(),
    );
    body
}

/// Looks until something is there; fails after two minutes, which a machine that is ten times slower may need.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_up_to(Duration::from_secs(120), what, look)
}

/// Looks until something is there; fails after `limit`.
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

/// The lines of a JSON-lines file, as far as they are complete; none if there is no file.
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
