//! What reaches a source around the body: address, token, URL and time.

use std::net::IpAddr;

use crate::auth::Presented;
use bytes::Bytes;
use css_callbacks::{Kind, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;

use super::bodies::Body;
use super::sites::{self, Networks, Site, TOKEN};

/// The `t` that times of arrival are reckoned from: seconds.
pub const T: i64 = 1_795_420_800;

/// A sender's address, and which lists it is in: in that of ten, in that of the documentation and one host.
#[derive(Debug, Clone, Copy)]
pub struct Client(Option<&'static str>, bool, bool);

const CLIENTS: [Client; 12] = [
    Client(None, false, false),
    Client(Some("10.0.0.0"), true, false),
    Client(Some("10.255.255.255"), true, false),
    Client(Some("::ffff:10.1.2.3"), true, false),
    Client(Some("9.255.255.255"), false, false),
    Client(Some("11.0.0.0"), false, false),
    Client(Some("::10.1.2.3"), false, false),
    Client(Some("203.0.113.7"), false, true),
    Client(Some("203.0.113.8"), false, false),
    Client(Some("2001:db8:ffff::1"), false, true),
    Client(Some("2001:db9::1"), false, false),
    Client(Some("::ffff:203.0.113.7"), false, true),
];

impl Client {
    pub fn is_inside(self, networks: Networks) -> bool {
        match networks {
            Networks::Anywhere => true,
            Networks::Ten => self.1,
            Networks::DocumentationAndOneHost => self.2,
        }
    }
}

/// A request to a source.
#[derive(Debug, Clone)]
pub struct Case {
    pub site: Site,
    pub url_kind: Option<Kind>,
    pub token: Option<&'static str>,
    pub client: Client,
    /// Milliseconds after a signature of [`T`] is over.
    pub lateness: i64,
    pub body: Body,
}

impl Case {
    /// Milliseconds since the epoch.
    pub fn received(&self) -> i64 {
        let grace = i64::try_from(self.site.grace.as_millis()).unwrap_or(i64::MAX);
        (T * 1000)
            .saturating_add(grace)
            .saturating_add(self.lateness)
    }

    pub fn presented(&self) -> Presented<'static> {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        Presented {
            url_kind: self.url_kind,
            token: self.token.map(str::as_bytes),
            client: self.client.0.map(address),
            received: Timestamp::from_millis(self.received()),
            body: Bytes::copy_from_slice(&self.body.0),
        }
    }
}

/// A body before a source, mostly so that address, token and time would do.
pub fn case(body: impl Strategy<Value = Body>) -> impl Strategy<Value = Case> {
    let url_kind = prop_oneof![Just(None), select(&Kind::ALL[..]).prop_map(Some)];
    let token = prop_oneof![
        4 => Just(Some(TOKEN)),
        1 => select(&[None, Some(""), Some("fuzz token/"), Some("fuzz token/é "), Some("Fuzz token/é")][..]),
    ];
    let client = prop_oneof![
        1 => Just(CLIENTS[1]),
        1 => Just(CLIENTS[9]),
        1 => select(&CLIENTS[..]),
    ];
    let lateness = prop_oneof![
        4 => Just(-600_000),
        4 => select(&[-1001, -1000, -1, 0, 1, 999, 1000, 1001][..]),
        1 => any::<i64>(),
    ];
    (sites::site(), url_kind, token, client, lateness, body).prop_map(
        |(site, url_kind, token, client, lateness, body)| Case {
            site,
            url_kind,
            token,
            client,
            lateness,
            body,
        },
    )
}
