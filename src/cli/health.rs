//! `livehook health`: one small request without an HTTP client, so that a probe costs little.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum::http::Uri;

/// The longest time from the first step to the answer.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct HealthArgs {
    /// Ask whether it accepts callbacks (/readyz), not only whether it runs (/healthz)
    #[arg(long)]
    ready: bool,
    /// The server, such as http://127.0.0.1:8080 [default: `listen` of the configuration]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl HealthArgs {
    /// The URL of the server, if it is given.
    pub(super) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The path of the health page.
    pub(super) fn path(&self) -> &'static str {
        if self.ready { "/readyz" } else { "/healthz" }
    }
}

/// The address at which a listener is reached from its own machine.
pub(super) fn local(listen: SocketAddr) -> String {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        match listen {
            SocketAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
    }
    address.to_string()
}

/// Host and port of the URL of `--url`.
pub(super) fn address_of(url: &str) -> anyhow::Result<String> {
    let uri: Uri = url
        .parse()
        .with_context(|| format!("--url: `{url}` is not a URL"))?;
    if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
        bail!("--url: `{url}` must be like http://127.0.0.1:8080");
    }
    let host = uri.host().unwrap_or_default();
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

/// Asks the server for a page. Fails unless it answers 200 in time.
pub(super) fn probe(address: &str, path: &str) -> anyhow::Result<()> {
    let end = Instant::now() + TIMEOUT;
    let line =
        status_line(address, path, end).with_context(|| format!("http://{address}{path}"))?;
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some(status) => bail!("http://{address}{path} answers {status}"),
        None => bail!("http://{address}{path}: the answer is not HTTP"),
    }
}

/// The first line of the answer.
fn status_line(address: &str, path: &str, end: Instant) -> anyhow::Result<String> {
    let mut stream = connect(address, end)?;
    stream.set_write_timeout(Some(remaining(end)?))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut start = Vec::new();
    let mut chunk = [0; 256];
    while !start.contains(&b'\n') && start.len() < 4096 {
        stream.set_read_timeout(Some(remaining(end)?))?;
        match stream.read(&mut chunk).context("no answer")? {
            0 => break,
            count => start.extend_from_slice(&chunk[..count]),
        }
    }
    let line = start.split(|byte| *byte == b'\r' || *byte == b'\n').next();
    Ok(String::from_utf8_lossy(line.unwrap_or_default()).into_owned())
}

fn connect(address: &str, end: Instant) -> anyhow::Result<TcpStream> {
    let mut last = None;
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, remaining(end)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(error.into()),
        None => bail!("the name has no address"),
    }
}

fn remaining(end: Instant) -> anyhow::Result<Duration> {
    let remaining = end.saturating_duration_since(Instant::now());
    if remaining.is_zero() {
        bail!("no answer within {} s", TIMEOUT.as_secs());
    }
    Ok(remaining)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_unspecified_address_is_asked_on_loopback() {
        assert_eq!(local("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80");
        assert_eq!(local("[::]:80".parse().unwrap()), "[::1]:80");
        assert_eq!(local("10.1.2.3:80".parse().unwrap()), "10.1.2.3:80");
    }

    #[test]
    fn a_url_is_host_and_port() {
        assert_eq!(address_of("http://a:81").unwrap(), "a:81");
        assert_eq!(address_of("http://[::1]/").unwrap(), "[::1]:80");
        for bad in ["a:81", "https://a", "http://a/x", ""] {
            assert!(address_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_200_is_success() {
        for (answer, good) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
            ("", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            assert_eq!(probe(&address, "/readyz").is_ok(), good, "{answer}");
            assert!(
                server
                    .join()
                    .unwrap()
                    .starts_with("GET /readyz HTTP/1.1\r\n")
            );
        }
    }
}
