//! `[admin]`: the operator's listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use css_callbacks::Secret;
use serde::Deserialize;

use crate::settings::{self, Env, Invalid, SecretFields};

/// `[admin]` as it stands in the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AdminConfig {
    /// The address of the admin listener.
    #[serde(deserialize_with = "settings::address")]
    pub listen: SocketAddr,
    /// The token that requests must carry.
    pub token: Option<String>,
    /// A file that holds the token.
    pub token_file: Option<PathBuf>,
    /// An environment variable that holds the token. With a `?` after its name it may be unset:
    /// then the listener listens on loopback only.
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
    /// The address of the admin listener.
    pub listen: SocketAddr,
    /// The token that requests must carry. None is possible only on loopback.
    pub token: Option<Secret>,
    /// The name of the token's variable if that is unset. Then `listen` is loopback, whatever the
    /// file says.
    pub unset: Option<String>,
}

impl AdminConfig {
    /// Checks the section and reads the token it refers to.
    pub(crate) fn validate(&self, place: &str, env: &Env) -> Result<AdminSettings, Invalid> {
        let token = SecretFields {
            name: "token",
            text: self.token.as_deref(),
            file: self.token_file.as_deref(),
            variable: self.token_env.as_deref(),
        }
        .resolve(place, env)?;
        let everywhere = !self.listen.ip().to_canonical().is_loopback();
        let mut listen = self.listen;
        let mut unset = None;
        if token.is_none() && everywhere {
            let Some(variable) = self
                .token_env
                .as_deref()
                .and_then(|it| it.strip_suffix('?'))
            else {
                let problem = format!(
                    "`{listen}` can be reached from other machines, which needs a token; set `token`, `token_file` or \
                     `token_env`, or listen on 127.0.0.1",
                );
                return Err(Invalid::at(format!("{place}.listen"), problem));
            };
            listen.set_ip(match listen {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
            unset = Some(variable.to_owned());
        }
        Ok(AdminSettings {
            listen,
            token,
            unset,
        })
    }
}

impl AdminSettings {
    /// Explains why this listener cannot run beside one at `other`; none if it can.
    pub(crate) fn collides_with(&self, other: SocketAddr) -> Option<String> {
        let [one, two] = [self.listen, other].map(|address| address.ip().to_canonical());
        // `[::]` also accepts IPv4.
        let covers =
            |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
        let same = self.listen.port() == other.port() && other.port() != 0;
        (same && (one == two || covers(one, two) || covers(two, one))).then(|| {
            format!(
                "`{}` is taken by server.listen (`{other}`), give it another port",
                self.listen
            )
        })
    }
}
