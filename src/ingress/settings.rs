//! `[server]`: the callback listener and its limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::http::Uri;
use ipnet::IpNet;
use serde::Deserialize;

use crate::budget::Budget;
use crate::listener::Limits;
use crate::settings::{self, Invalid};

/// `[server]`, in the file and validated.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerConfig {
    /// The address of the callback listener.
    #[serde(deserialize_with = "settings::address")]
    pub listen: SocketAddr,
    /// The URL under which the platform reaches the listener, without a slash at the end.
    pub public_url: Option<String>,
    /// The longest body that is accepted, in bytes.
    #[serde(deserialize_with = "settings::size")]
    pub max_body: u64,
    /// The most bytes of all bodies in flight together.
    #[serde(deserialize_with = "settings::size")]
    pub max_inflight: u64,
    /// The most connections at a time.
    pub max_connections: usize,
    /// The most time from a head's first byte to its last.
    #[serde(deserialize_with = "settings::duration")]
    pub header_timeout: Duration,
    /// The most time from an answer to the next request on the connection.
    #[serde(deserialize_with = "settings::duration")]
    pub idle_timeout: Duration,
    /// The most time that a client may leave an answer unread.
    #[serde(deserialize_with = "settings::duration")]
    pub write_timeout: Duration,
    /// The longest head of a request, in bytes.
    #[serde(deserialize_with = "settings::size")]
    pub max_head: u64,
    /// The most time from the complete head to the answer.
    #[serde(deserialize_with = "settings::duration")]
    pub deadline: Duration,
    /// How long callbacks are still accepted after SIGTERM.
    #[serde(deserialize_with = "settings::duration")]
    pub drain_delay: Duration,
    /// The proxies whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "settings::networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Whether a changed configuration file is reloaded without SIGHUP.
    pub watch: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 8080).into(),
            public_url: None,
            max_body: MIB,
            max_inflight: 24 * MIB,
            max_connections: 10_000,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(620),
            write_timeout: Duration::from_secs(10),
            max_head: 16 * 1024,
            deadline: Duration::from_secs(4),
            drain_delay: Duration::from_secs(3),
            trusted_proxies: Vec::new(),
            watch: false,
        }
    }
}

const MIB: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The platform ends a request after this time.
const SENDER_TIMEOUT: Duration = Duration::from_secs(20);

impl ServerConfig {
    /// Checks the section.
    pub(crate) fn validate(&self, place: &str) -> Result<Self, Invalid> {
        let check = |wrong: bool, key: &str, problem: &str| match wrong {
            true => Err(Invalid::at(format!("{place}.{key}"), problem)),
            false => Ok(()),
        };
        check(
            !(1024..=1024 * MIB).contains(&self.max_body),
            "max_body",
            "must be from 1KiB to 1GiB",
        )?;
        check(
            self.max_inflight < self.max_body,
            "max_inflight",
            "must be at least `max_body`, or the longest body could never come in",
        )?;
        check(
            self.max_inflight > 1024 * 1024 * MIB,
            "max_inflight",
            "must be at most 1TiB",
        )?;
        check(
            !(1..=1_000_000).contains(&self.max_connections),
            "max_connections",
            "must be from 1 to 1000000",
        )?;
        check(
            self.header_timeout.is_zero() || self.header_timeout > Duration::from_secs(60),
            "header_timeout",
            "must be more than 0s and at most 60s",
        )?;
        check(
            self.idle_timeout.is_zero() || self.idle_timeout > DAY,
            "idle_timeout",
            "must be more than 0s and at most 24h",
        )?;
        check(
            self.write_timeout.is_zero() || self.write_timeout > Duration::from_secs(60),
            "write_timeout",
            "must be more than 0s and at most 60s",
        )?;
        check(
            !(1024..=MIB).contains(&self.max_head),
            "max_head",
            "must be from 1KiB to 1MiB",
        )?;
        check(
            self.deadline.is_zero() || self.deadline >= SENDER_TIMEOUT,
            "deadline",
            "must be more than 0s and less than 20s, after which the sender gives up",
        )?;
        check(
            self.drain_delay > Duration::from_secs(8),
            "drain_delay",
            "must be at most 8s: the whole shutdown has to be over within 15s",
        )?;
        let public_url = match &self.public_url {
            Some(url) => Some(public_url(url, format!("{place}.public_url"))?),
            None => None,
        };
        Ok(Self {
            public_url,
            ..self.clone()
        })
    }
}

impl ServerConfig {
    /// The limits of a listener. Incomplete heads get half of the budget, so they never block
    /// bodies.
    pub(crate) fn limits(&self, max_connections: usize, inflight: &Budget) -> Limits {
        Limits {
            max_connections,
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            max_head: self.max_head,
            heads: inflight.sub_budget(self.max_inflight / 2),
        }
    }
}

/// Checks the URL, and removes slashes at its end.
fn public_url(text: &str, place: String) -> Result<String, Invalid> {
    if let Err(problem) = settings::check_no_placeholder(text) {
        return Err(Invalid::at(place, problem));
    }
    let trimmed = text.trim().trim_end_matches('/');
    let fits = trimmed.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
            && !trimmed.contains(['@', '#'])
    });
    if fits {
        return Ok(trimmed.to_owned());
    }
    let problem = format!(
        "`{text}` is not an address for callbacks, write one such as \"https://cb.example.com\""
    );
    Err(Invalid::at(place, problem))
}
