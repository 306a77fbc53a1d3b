//! Attributes that are not members of the body itself, but stand in a list or a URL inside it.

use crate::callback::Callback;
use crate::json;
use crate::kind::Kind;

/// The latest time in a list inside the body, for kinds that have no other time.
pub(super) fn latest(kind: Kind, callback: &Callback) -> Option<i64> {
    match kind {
        Kind::Subtitle | Kind::SmartErase => in_data(callback, "subtitle_tmp_res", "end_unix_time"),
        Kind::AudioAudit => in_data(callback, "asr_tmp_full_results", "create_time"),
        Kind::Highlight => in_list(callback.value("items")?, "end_time"),
        _ => None,
    }
}

fn in_data(callback: &Callback, list: &str, name: &str) -> Option<i64> {
    let data = json::opened(callback.value("data")?);
    in_list(Callback::parse(&data).ok()?.value(list)?, name)
}

fn in_list(list: &[u8], name: &str) -> Option<i64> {
    let list = json::opened(list);
    let times = json::elements(&list)?.into_iter().filter_map(|element| {
        let element = json::opened(element);
        json::integer(Callback::parse(&element).ok()?.value(name)?)
    });
    times.max()
}

/// The domain and the appname that a relay task pushes to. The URL must be `scheme://domain[:port]/appname/streamid[?…]`.
pub(super) fn target(kind: Kind, callback: &Callback) -> Option<(String, String)> {
    if kind != Kind::Relay {
        return None;
    }
    let url = json::scalar_text(callback.value("to_url")?)?;
    let (scheme, rest) = url.trim().split_once("://")?;
    let (place, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = place.split_once('/')?;
    let (domain, port) = host.split_once(':').unwrap_or((host, "0"));
    let (appname, streamid) = path.split_once('/')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // In a URL of SRT the path, if there is one, means something else.
    let fits = is_scheme
        && !scheme.eq_ignore_ascii_case("srt")
        && !domain.is_empty()
        && !domain.contains(['@', '[', '#'])
        && port.parse::<u16>().is_ok()
        && !appname.is_empty()
        && !streamid.is_empty()
        && !path.contains('#')
        && !streamid.contains('/');
    fits.then(|| (domain.to_owned(), appname.to_owned()))
}
