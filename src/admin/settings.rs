//! `[admin]`: the operator's listener.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::settings::{self, Invalid, Secret, SecretFields, Surroundings};

/// `[admin]` as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Where the operator is answered.
    #[serde(deserialize_with = "settings::address")]
    pub listen: SocketAddr,
    /// What the operator must know.
    pub token: Option<String>,
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
    /// A variable that holds the token.
    pub token_env: Option<String>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9090).into(),
            token: None,
            token_file: None,
            token_env: None,
        }
    }
}

/// A validated `[admin]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminSettings {
    /// Where the operator is answered.
    pub listen: SocketAddr,
    /// What the operator must know; none only on loopback.
    pub token: Option<Secret>,
}

impl AdminConfig {
    /// Checks the section and reads the token it refers to.
    pub fn validate(&self, place: &str, around: &Surroundings) -> Result<AdminSettings, Invalid> {
        let token = SecretFields {
            name: "token",
            text: self.token.as_deref(),
            file: self.token_file.as_deref(),
            variable: self.token_env.as_deref(),
        }
        .resolve(place, around)?;
        if token.is_none() && !self.listen.ip().to_canonical().is_loopback() {
            let problem = format!(
                "`{}` can be reached from other machines, which needs a token; set `token`, `token_file` or \
                 `token_env`, or listen on 127.0.0.1",
                self.listen
            );
            return Err(Invalid::at(format!("{place}.listen"), problem));
        }
        Ok(AdminSettings {
            listen: self.listen,
            token,
        })
    }
}
