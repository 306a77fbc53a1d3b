//! `type = "http"`: posts each event to an endpoint, as a CloudEvent in structured or binary mode.
//!
//! With a secret, requests are signed as [Standard Webhooks](https://www.standardwebhooks.com)
//! define. Any 2xx is success. Redirects are not followed, and proxies from the environment are not
//! used: an event goes only to the configured URL. URL and headers may hold secrets, so they appear
//! in no message.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use crate::outbound;
use crate::settings::{self, Env, Invalid, SecretFields, check_duration, duration};

mod post;
mod signature;

use signature::Key;

/// Headers that cannot be configured: the HTTP client or the event sets them.
const RESERVED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `to = { type = "http", … }` as it stands in the file.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The URL to post to.
    pub url: String,
    /// The signing secret: `whsec_` and base64.
    #[serde(default)]
    pub secret: Option<String>,
    /// A file that holds the secret.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// A variable that holds the secret.
    #[serde(default)]
    pub secret_env: Option<String>,
    /// Additional headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How the event becomes a request.
    #[serde(default)]
    pub mode: Mode,
    /// The longest time that a connection is used. A new connection looks up the name again.
    #[serde(default = "default_lifetime", deserialize_with = "duration")]
    pub connection_lifetime: Duration,
}

fn default_lifetime() -> Duration {
    Duration::from_secs(60)
}

/// How an event becomes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// The whole event as JSON in the body.
    #[default]
    Structured,
    /// The data in the body, the attributes in `ce-` headers.
    Binary,
}

/// Leaves out everything that may be secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Config {
    pub(super) fn validate(&self, place: &str, env: &Env) -> Result<HttpTarget, Invalid> {
        let url = outbound::url(&self.url, "\"https://example.com/hook\"")
            .map_err(|problem| Invalid::at(format!("{place}.url"), problem))?;
        let headers = self.checked_headers(&url).map_err(|(name, problem)| {
            Invalid::at(
                format!("{place}.headers"),
                format!("`{}` {problem}", name.escape_debug()),
            )
        })?;
        let secret = SecretFields {
            name: "secret",
            text: self.secret.as_deref(),
            file: self.secret_file.as_deref(),
            variable: self.secret_env.as_deref(),
        }
        .resolve(place, env)?;
        let key = secret.map(|secret| Key::parse(&secret)).transpose();
        let key =
            key.map_err(|problem| Invalid::at(format!("{place}.{}", self.secret_name()), problem))?;
        check_duration(
            format!("{place}.connection_lifetime"),
            self.connection_lifetime,
        )?;
        Ok(HttpTarget {
            url,
            key,
            headers,
            mode: self.mode,
            connection_lifetime: self.connection_lifetime,
        })
    }

    fn secret_name(&self) -> &'static str {
        match (&self.secret_file, &self.secret_env) {
            (Some(_), _) => "secret_file",
            (_, Some(_)) => "secret_env",
            _ => "secret",
        }
    }

    fn checked_headers(&self, url: &Url) -> Result<HeaderMap, (&str, &'static str)> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed: HeaderName = name
                .parse()
                .map_err(|_| (&**name, "is not a header name"))?;
            settings::check_no_placeholder(value).map_err(|problem| (&**name, problem))?;
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| (&**name, "has a value that is not allowed in a header"))?;
            value.set_sensitive(true);
            let problem = match parsed.as_str() {
                text if RESERVED.contains(&text) => "is set by livehook itself, remove it",
                text if text.starts_with("webhook-") => "belongs to the signature, remove it",
                text if text.starts_with("ce-") => "belongs to the event's attributes, remove it",
                _ if headers.contains_key(&parsed) => "is given twice",
                _ if parsed == AUTHORIZATION && has_credentials(url) => {
                    "is given twice: the URL holds a user or password, too"
                }
                _ => {
                    headers.insert(parsed, value);
                    continue;
                }
            };
            return Err((name, problem));
        }
        Ok(headers)
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[derive(Clone, PartialEq)]
pub(super) struct HttpTarget {
    url: Url,
    key: Option<Key>,
    headers: HeaderMap,
    mode: Mode,
    connection_lifetime: Duration,
}

/// Leaves out everything that may be secret.
impl fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTarget")
            .field("origin", &self.url.origin().ascii_serialization())
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
