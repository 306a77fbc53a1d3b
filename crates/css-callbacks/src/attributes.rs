//! When something happened and to which stream, whatever the kind calls these members.

use crate::callback::Callback;
use crate::json;
use crate::kind::Kind;
use crate::time::Timestamp;

mod inside;

/// When something happened and to which stream: what most kinds have, under various names.
///
/// What the body does not have, or has empty, is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// When it happened, by the platform's clock: `event_time`, `timestamp`, `data_time`, `create_time`, `screenshotTime`,
    /// `end_time`, or the latest time of a list inside.
    pub time: Option<Timestamp>,
    /// The id of the account: `appid` or `appId`.
    pub appid: Option<String>,
    /// The push domain: `domain` or `app`; for a relay task the host that it pushes to.
    pub domain: Option<String>,
    /// The push path, also called AppName: `appname` or `path`; for a relay task the first part of the path that it pushes to.
    pub appname: Option<String>,
    /// The name of the stream: `stream_id` or `streamId`.
    pub streamid: Option<String>,
    /// The id of the push, which its begin, its end and its exceptions share: `sequence`.
    pub pushsequence: Option<String>,
}

impl Attributes {
    /// How long an attribute can be, bytes. A longer text counts as none, because it does not fit into an HTTP header or an
    /// environment variable.
    pub const MAX_LENGTH: usize = 1024;

    /// Reads the attributes from the members of a callback. The kind decides which members are looked at.
    ///
    /// ```
    /// use css_callbacks::{Attributes, Callback, Kind};
    ///
    /// let body = br#"{"event_type":315,"domain":"push.example.com","path":"live","stream_id":"room-7"}"#;
    /// let attributes = Attributes::read(Kind::AudioAudit, &Callback::parse(body)?);
    /// assert_eq!(attributes.appname.as_deref(), Some("live"));
    /// # Ok::<(), css_callbacks::NotOneObject>(())
    /// ```
    pub fn read(kind: Kind, callback: &Callback) -> Self {
        let text = |name: &str| {
            let text = json::scalar_text(callback.value(name)?)?;
            (!text.is_empty() && text.len() <= Self::MAX_LENGTH).then(|| text.into_owned())
        };
        let either = |first: &str, second: &str| text(first).or_else(|| text(second));
        let domain = match kind {
            Kind::StreamEnd
            | Kind::StreamBegin
            | Kind::Record
            | Kind::Snapshot
            | Kind::ImageAudit => ("app", "domain"),
            _ => ("domain", "app"),
        };
        let relayed = inside::target(kind, callback).filter(|(domain, appname)| {
            domain.len() <= Self::MAX_LENGTH && appname.len() <= Self::MAX_LENGTH
        });
        let (to_domain, to_appname) = relayed.unzip();
        Self {
            time: time(kind, callback),
            appid: either("appid", "appId"),
            domain: either(domain.0, domain.1).or(to_domain),
            appname: either("appname", "path").or(to_appname),
            streamid: either("stream_id", "streamId"),
            pushsequence: text("sequence"),
        }
    }
}

/// When it happened: the first of these members that has a time, else the latest time of a list inside.
fn time(kind: Kind, callback: &Callback) -> Option<Timestamp> {
    /// Some kinds send seconds, some milliseconds, and for unknown kinds nobody knows. As seconds this number is in the year
    /// 5138, as milliseconds in 1973. So each number that can come has only one possible unit.
    const FIRST_OF_MILLISECONDS: i64 = 100_000_000_000;
    let everywhere = [
        "event_time",
        "timestamp",
        "data_time",
        "create_time",
        "screenshotTime",
    ];
    let at_end = matches!(kind, Kind::Record | Kind::Summary).then_some("end_time");
    let value = everywhere
        .into_iter()
        .chain(at_end)
        .find_map(|name| json::integer(callback.value(name)?))
        .or_else(|| inside::latest(kind, callback))?;
    let time = match value {
        FIRST_OF_MILLISECONDS.. => Timestamp::from_millis(value),
        _ => Timestamp::from_seconds(value),
    };
    time.in_rfc3339().map(|_| time)
}
