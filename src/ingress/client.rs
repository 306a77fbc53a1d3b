//! What the head of a request says about its sender: address and token.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::HeaderMap;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use crate::listener::Arrival;

/// The parts of a request's head that are used.
pub(super) struct RequestHead {
    /// When the head was complete.
    pub(super) at: Instant,
    pub(super) client: Option<IpAddr>,
    pub(super) token: Option<Vec<u8>>,
    arrival: Option<Arrival>,
}

impl RequestHead {
    pub(super) fn of(request: &mut Request, trusted: &[IpNet]) -> Self {
        let arrival = request.extensions_mut().remove::<Arrival>();
        let address = |arrival: &Arrival| address(arrival.peer, request.headers(), trusted);
        Self {
            at: arrival
                .as_ref()
                .map_or_else(Instant::now, |arrival| arrival.head_at),
            client: arrival.as_ref().and_then(address),
            token: token(request),
            arrival,
        }
    }

    /// The length of a long head in bytes; 0 for all others.
    pub(super) fn long_head(&self) -> u64 {
        self.arrival.as_ref().map_or(0, |arrival| arrival.long_head)
    }

    /// Notes that this request was authentic.
    pub(super) fn mark_authentic(&self) {
        if let Some(arrival) = &self.arrival {
            arrival.mark_authentic();
        }
    }
}

/// The client's address: the peer, or behind a trusted proxy the right-most address in
/// `X-Forwarded-For` that is not a trusted proxy. The client itself could have written anything to
/// the left of it. None if that address cannot be parsed.
fn address(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let peer = peer.ip().to_canonical();
    if !is_trusted(peer) {
        return Some(peer);
    }
    let headers = headers.get_all("x-forwarded-for").iter();
    let lines: Option<Vec<&str>> = headers.map(|line| line.to_str().ok()).collect();
    let mut nearest = peer;
    for entry in lines?.iter().rev().flat_map(|line| line.rsplit(',')) {
        nearest = parse(entry.trim())?.to_canonical();
        if !is_trusted(nearest) {
            break;
        }
    }
    Some(nearest)
}

/// Parses an address with or without a port and brackets.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The `token` of the query, percent-decoded.
fn token(request: &Request) -> Option<Vec<u8>> {
    let pairs = request.uri().query()?.split('&');
    let value = pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(name, _)| *name == "token")?
        .1;
    Some(Cow::from(percent_decode_str(value)).into_owned())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(forwarded: &[&str]) -> Request {
        let mut request = Request::builder().uri("/css?action=x&token=a%2Bb%2f+");
        for line in forwarded {
            request = request.header("x-forwarded-for", *line);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let from = |peer: &str, forwarded: &[&str]| {
            let peer = format!("{peer}:1").parse().unwrap();
            let request = request(forwarded);
            address(peer, request.headers(), &trusted).map(|ip| ip.to_string())
        };
        let is = |address: &str| Some(address.to_owned());
        assert_eq!(from("1.1.1.1", &["2.2.2.2"]), is("1.1.1.1"));
        assert_eq!(from("10.0.0.1", &[]), is("10.0.0.1"));
        assert_eq!(from("10.0.0.1", &["9.9.9.9, 2.2.2.2"]), is("2.2.2.2"));
        assert_eq!(
            from("10.0.0.1", &["9.9.9.9, 2.2.2.2, 10.3.3.3"]),
            is("2.2.2.2")
        );
        assert_eq!(
            from("10.0.0.1", &["9.9.9.9", "2.2.2.2:443", "10.3.3.3"]),
            is("2.2.2.2")
        );
        assert_eq!(
            from("[::ffff:10.0.0.1]", &["[fd00::1]:80", "[2001:db8::1]"]),
            is("2001:db8::1")
        );
        assert_eq!(from("10.0.0.1", &["2.2.2.2, nonsense"]), None);
        assert_eq!(from("10.0.0.1", &["10.0.0.9, 10.0.0.8"]), is("10.0.0.9"));
    }

    #[test]
    fn the_token_is_decoded_and_a_plus_is_a_plus() {
        assert_eq!(token(&request(&[])).as_deref(), Some(&b"a+b/+"[..]));
    }
}
