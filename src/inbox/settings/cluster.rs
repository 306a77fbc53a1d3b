//! The URL of the PostgreSQL servers. It is read strictly, so that `livehook check` finds its faults.
//!
//! Messages never repeat the URL, because it holds the password. Hosts, role and database may be in
//! messages. They cannot hold a part of the password, because the characters that divide a URL must
//! be percent-encoded in a password.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_postgres::Config;
use tokio_postgres::config::{Host as Address, SslMode, TargetSessionAttrs};

use crate::settings::{self, Env};

pub(super) const EXAMPLE: &str = "postgres://livehook@db.example.com/livehook";

/// A server that works answers within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// If sent bytes are not acknowledged within this time, the server is gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVES_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVES_RETRIES: u32 = 3;

/// The servers of one database. One of them is writable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cluster {
    pub(in crate::inbox) hosts: Vec<Host>,
    pub(in crate::inbox) encryption: Encryption,
    pub(in crate::inbox) role: String,
    pub(in crate::inbox) database: String,
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Host {
    /// The host as messages name it.
    pub(in crate::inbox) name: String,
    pub(in crate::inbox) config: Config,
}

/// How connections are encrypted. Those through a Unix socket never are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Encryption {
    Disable,
    /// Encrypted, with any server.
    Require,
    /// Encrypted, with a server whose certificate is valid for its name. The roots are these, or
    /// those of the system.
    VerifyFull(Option<Vec<CertificateDer<'static>>>),
}

impl Cluster {
    /// Reads a URL. An error is the rest of a sentence that begins with the name of the option.
    pub(super) fn parse(text: &str, env: &Env) -> Result<Self, String> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("postgres" | "postgresql")) {
            return Err(format!(
                "is not a URL of a PostgreSQL server, write one such as {EXAMPLE}"
            ));
        }
        check_credentials(text)?;
        let (head, query) = text.split_once('?').unwrap_or((text, ""));
        let options = Options::parse(query)?;
        let url = format!("{head}?{}", options.others.join("&"));
        let config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = error.source().map(ToString::to_string);
            format!(
                "cannot be read: {}",
                cause.unwrap_or_else(|| error.to_string())
            )
        })?;
        let Some(role) = config.get_user().filter(|role| !role.is_empty()) else {
            return Err(format!("names no role, write one such as {EXAMPLE}"));
        };
        let encryption = options.encryption(config.get_hosts(), env)?;
        let hosts = hosts(&config, &options, &encryption)?;
        Ok(Self {
            role: role.to_owned(),
            database: config.get_dbname().unwrap_or(role).to_owned(),
            hosts,
            encryption,
        })
    }
}

/// Refuses a URL that could be divided in two ways.
fn check_credentials(text: &str) -> Result<(), String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let in_doubt = match rest.split_once('@') {
        Some((credentials, rest)) => credentials.contains(['/', '?']) || rest.contains('@'),
        None => false,
    };
    if in_doubt {
        return Err(
            "cannot be read: in a role or password, write `@` as %40, `/` as %2F, `?` as %3F"
                .to_owned(),
        );
    }
    Ok(())
}

/// The options of the URL: those that livehook reads, and those for the PostgreSQL client.
#[derive(Default)]
struct Options<'a> {
    sslmode: Option<String>,
    sslrootcert: Option<String>,
    others: Vec<&'a str>,
    given: BTreeSet<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(query: &'a str) -> Result<Self, String> {
        let mut options = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err("has an option without a value".to_owned());
            };
            let value = || match percent_decode_str(value).decode_utf8() {
                Ok(value) => Ok(value.into_owned()),
                Err(_) => Err(format!("has a value of {key} that is no UTF-8")),
            };
            options.given.insert(key);
            match key {
                "sslmode" => options.sslmode = Some(value()?),
                "sslrootcert" => options.sslrootcert = Some(value()?),
                "target_session_attrs" => {
                    if !matches!(&*value()?, "any" | "primary" | "read-write") {
                        return Err(
                            "has a target_session_attrs that allows read-only servers, but livehook writes"
                                .to_owned(),
                        );
                    }
                }
                "hostaddr" => {
                    return Err("has a hostaddr; write the address as the host".to_owned());
                }
                _ => options.others.push(pair),
            }
        }
        Ok(options)
    }

    fn encryption(&self, hosts: &[Address], env: &Env) -> Result<Encryption, String> {
        match (self.sslmode.as_deref(), self.sslrootcert.as_deref()) {
            (None, None) if hosts.iter().all(is_on_this_machine) => Ok(Encryption::Disable),
            (None | Some("verify-full"), None | Some("system")) => Ok(Encryption::VerifyFull(None)),
            (None | Some("verify-full"), Some(file)) => {
                Ok(Encryption::VerifyFull(Some(roots(file, env)?)))
            }
            (Some("require" | "disable"), Some(_)) => {
                Err("has an sslrootcert, which only sslmode=verify-full uses".to_owned())
            }
            (Some("require"), None) => Ok(Encryption::Require),
            (Some("disable"), None) => Ok(Encryption::Disable),
            (Some(_), _) => {
                Err("has an sslmode other than verify-full, require and disable".to_owned())
            }
        }
    }
}

fn is_on_this_machine(host: &Address) -> bool {
    match host {
        Address::Tcp(name) => {
            name == "localhost"
                || name
                    .parse()
                    .is_ok_and(|address: IpAddr| address.is_loopback())
        }
        Address::Unix(_) => true,
    }
}

/// The certificates in this file.
fn roots(file: &str, env: &Env) -> Result<Vec<CertificateDer<'static>>, String> {
    let path = env.path(Path::new(file));
    let problem = |problem: &dyn std::fmt::Display| {
        format!("cannot use its sslrootcert {}: {problem}", path.display())
    };
    let text = settings::read_in_time(&path).map_err(|error| problem(&error))?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| problem(&error))?;
    if roots.is_empty() {
        return Err(problem(&"there is no certificate in it"));
    }
    for root in &roots {
        let tried = RootCertStore::empty().add(root.clone());
        tried.map_err(|error| problem(&error))?;
    }
    Ok(roots)
}

/// Each host gets its own configuration: with one for all, the client reports only the last error.
fn hosts(config: &Config, options: &Options, encryption: &Encryption) -> Result<Vec<Host>, String> {
    let (hosts, ports) = (config.get_hosts(), config.get_ports());
    if hosts.is_empty() {
        return Err(format!("names no host, write one such as {EXAMPLE}"));
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err("has a different number of ports than hosts".to_owned());
    }
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let indexed = hosts.iter().enumerate();
    indexed
        .map(|(index, host)| {
            check_host(host, encryption)?;
            Ok(with_host(config, options, host, port(index), encryption))
        })
        .collect()
}

fn check_host(host: &Address, encryption: &Encryption) -> Result<(), String> {
    let Address::Tcp(name) = host else {
        return Ok(());
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if name.is_empty() || !name.bytes().all(fits) {
        return Err("has a host that is neither a name nor an address".to_owned());
    }
    if *encryption != Encryption::Disable && ServerName::try_from(name.as_str()).is_err() {
        return Err(format!(
            "has the host {name}, which is no valid name for TLS; only sslmode=disable accepts it"
        ));
    }
    Ok(())
}

/// The configuration for one of the hosts, with livehook's defaults where the URL has no option.
fn with_host(
    from: &Config,
    options: &Options,
    host: &Address,
    port: u16,
    encryption: &Encryption,
) -> Host {
    let mut config = Config::new();
    let name = match host {
        Address::Tcp(name) => {
            config.host(name);
            match name.contains(':') {
                true => format!("[{name}]:{port}"),
                false => format!("{name}:{port}"),
            }
        }
        Address::Unix(folder) => {
            config.host_path(folder);
            folder
                .join(format!(".s.PGSQL.{port}"))
                .display()
                .to_string()
        }
    };
    config.port(port);
    config.ssl_mode(match (host, encryption) {
        (Address::Unix(_), _) | (_, Encryption::Disable) => SslMode::Disable,
        (_, Encryption::Require | Encryption::VerifyFull(_)) => SslMode::Require,
    });
    // A host may have several addresses, and only one may be writable.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    if let Some(user) = from.get_user() {
        config.user(user);
    }
    if let Some(password) = from.get_password() {
        config.password(password);
    }
    if let Some(database) = from.get_dbname() {
        config.dbname(database);
    }
    if let Some(options) = from.get_options() {
        config.options(options);
    }
    config.application_name(from.get_application_name().unwrap_or("livehook"));
    config.ssl_negotiation(from.get_ssl_negotiation());
    config.channel_binding(from.get_channel_binding());
    config.load_balance_hosts(from.get_load_balance_hosts());
    let connect_timeout = from.get_connect_timeout().copied();
    config.connect_timeout(connect_timeout.unwrap_or(CONNECT_TIMEOUT));
    let user_timeout = from.get_tcp_user_timeout().copied();
    config.tcp_user_timeout(user_timeout.unwrap_or(TCP_USER_TIMEOUT));
    config.keepalives(from.get_keepalives());
    config.keepalives_idle(match options.given.contains("keepalives_idle") {
        true => from.get_keepalives_idle(),
        false => KEEPALIVES_IDLE,
    });
    let interval = from.get_keepalives_interval();
    config.keepalives_interval(interval.unwrap_or(KEEPALIVES_INTERVAL));
    config.keepalives_retries(from.get_keepalives_retries().unwrap_or(KEEPALIVES_RETRIES));
    Host { name, config }
}

#[cfg(test)]
mod tests;
