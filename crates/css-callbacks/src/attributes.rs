//! What a callback says of itself: when it happened, and to which stream.

use crate::callback::Callback;
use crate::json;
use crate::kind::Kind;
use crate::time::Timestamp;

mod inside;

/// What the body says of itself. Absent and empty are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// When it happened, by the platform's clock.
    pub time: Option<Timestamp>,
    /// The account.
    pub appid: Option<String>,
    /// The push domain.
    pub domain: Option<String>,
    /// The push path.
    pub appname: Option<String>,
    /// The stream's name.
    pub streamid: Option<String>,
    /// Links a push, its interrupt and its exceptions.
    pub pushsequence: Option<String>,
}

impl Attributes {
    /// Bytes. A longer text is no name of anything: it would not fit the headers and variables that carry attributes.
    pub const MAX_LENGTH: usize = 1024;

    /// Reads them, as the kind has them.
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

/// The event's own time: from the first member that has one, or the latest that stands further inside.
fn time(kind: Kind, callback: &Callback) -> Option<Timestamp> {
    /// Read as seconds this is the year 5138, read as milliseconds 1973, so the unit of a time is never in doubt: some kinds
    /// send milliseconds, and for unknown ones nobody says.
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
    time.rfc3339().is_some().then_some(time)
}
