//! Asks a receiver how often it acted.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::CONNECTION;
use tokio::time::{Instant, sleep};

use crate::HttpEndpoint;

/// The longest time for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest time from the answer to the receiver's effect.
const EFFECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A count is final if it has not changed for this time.
const QUIET_TIME: Duration = Duration::from_millis(500);
/// The longest wait for a count that does not change.
const QUIET_TIMEOUT: Duration = Duration::from_secs(10);

/// A URL that returns how often the receiver acted.
pub struct Counter {
    endpoint: HttpEndpoint,
    /// The last final count, if nothing was sent since.
    last_quiet: Mutex<Option<i64>>,
}

impl Counter {
    /// Uses a URL whose answer is a number, or JSON whose first integer is the number.
    pub fn new(endpoint: HttpEndpoint) -> Self {
        Self {
            endpoint,
            last_quiet: Mutex::default(),
        }
    }

    /// Returns the count, or what is wrong with the answer.
    pub(super) async fn read(&self) -> Result<i64, String> {
        let asked = self
            .endpoint
            .client
            .get(self.endpoint.url.clone())
            .header(CONNECTION, "close")
            .timeout(REQUEST_TIMEOUT)
            .send()
            .await;
        let answer = asked.map_err(|_| "the count URL does not answer".to_owned())?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(format!("the count URL answers {status}"));
        }
        let text = answer.text().await;
        text.ok()
            .and_then(|text| first_integer(&text))
            .ok_or_else(|| "there is no number in the answer of the count URL".to_owned())
    }

    /// Returns the count once it has stopped changing: effects of earlier requests may still come.
    pub(super) async fn at_rest(&self) -> Result<i64, String> {
        if let Some(count) = self.last_quiet().take() {
            return Ok(count);
        }
        let until = Instant::now() + QUIET_TIMEOUT;
        let mut count = self.read().await?;
        let mut since = Instant::now();
        while since.elapsed() < QUIET_TIME {
            if Instant::now() > until {
                return Err(format!(
                    "the count still grew {} s after the last request",
                    QUIET_TIMEOUT.as_secs()
                ));
            }
            sleep(PAUSE).await;
            let now = self.read().await?;
            if now != count {
                (count, since) = (now, Instant::now());
            }
        }
        Ok(count)
    }

    /// Waits until the count has grown by `expected`, then a little longer for more. Returns the
    /// growth.
    pub(super) async fn growth(&self, before: i64, expected: i64) -> Result<i64, String> {
        let until = Instant::now() + EFFECT_TIMEOUT;
        while self.read().await? - before < expected && Instant::now() < until {
            sleep(PAUSE).await;
        }
        sleep(QUIET_TIME).await;
        let count = self.read().await?;
        if count == before + expected {
            *self.last_quiet() = Some(count);
        }
        Ok(count - before)
    }

    fn last_quiet(&self) -> MutexGuard<'_, Option<i64>> {
        self.last_quiet
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query of the URL may be a secret, so it is not shown.
        f.write_str("Counter")
    }
}

/// The first integer outside of names and strings; else the first integer at all.
fn first_integer(text: &str) -> Option<i64> {
    let mut outside = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        outside.push(character);
        if character == '"' {
            while let Some(inside) = rest.next()
                && inside != '"'
            {
                if inside == '\\' {
                    rest.next();
                }
            }
        }
    }
    first_number(&outside).or_else(|| first_number(text))
}

fn first_number(text: &str) -> Option<i64> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-')));
    words
        .filter(|word| word.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
        .find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_integer_is_the_count() {
        for (text, count) in [
            ("5", Some(5)),
            (" 12\n", Some(12)),
            ("\"7\"", Some(7)),
            ("events: 3 of 4", Some(3)),
            ("v2 has seen 3", Some(3)),
            (r#"{"count":8,"other":9}"#, Some(8)),
            (r#"{"a 1":{"b\"2":"3","count": 17}}"#, Some(17)),
            ("[6, 1]", Some(6)),
            ("-1", Some(-1)),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(first_integer(text), count, "{text}");
        }
    }
}
