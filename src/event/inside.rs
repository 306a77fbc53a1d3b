//! What events tell that is not a member of its own: it stands further inside.

use crate::callback::Callback;
use crate::json;
use crate::kind::Kind;

/// The latest time of what a list inside the body holds, for kinds that tell no other.
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
