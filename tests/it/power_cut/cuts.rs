//! Cuts the power at many moments of a recorded run, and starts a server on what is left.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::disk::{Chance, Disk};
use super::recording::{Op, Record, read};
use super::run::{DELETION, DOOMED, Run, SECRET};
use crate::support::server::FILE_HANDLER;
use crate::support::{Client, Settings, TestServer, json_lines, signed, wait_for};

/// The number of power cuts in a run. `LIVEHOOK_POWER_CUTS=500` makes more.
const CUTS: u64 = 8;

/// What is known when the power fails.
#[derive(Default)]
struct Known<'a> {
    /// The markers of requests that are not answered, by connection.
    asked: BTreeMap<u64, &'a str>,
    /// When each marker came first.
    first: BTreeMap<&'a str, u64>,
    acknowledged: Vec<&'a str>,
    /// A stream was being deleted, or was deleted.
    deleting: bool,
    deleted: bool,
    /// In milliseconds.
    now: u64,
}

impl<'a> Known<'a> {
    fn take(&mut self, record: &Record<'a>) {
        self.now = self.now.max(record.at);
        match &record.op {
            Op::Request { connection, marker } => {
                self.asked.insert(*connection, marker);
                self.first.entry(marker).or_insert(record.at);
                self.deleting |= *marker == DELETION;
            }
            Op::Answer { connection } => match self.asked.remove(connection) {
                Some(DELETION) => self.deleted = true,
                Some(marker) => self.acknowledged.push(marker),
                None => {}
            },
            // A killed process answers nobody.
            Op::Start => self.asked.clear(),
            _ => {}
        }
    }

    /// Whether retention may have removed an event.
    fn is_expired(&self, marker: &str, run: &Run) -> bool {
        let retention = run.beside.retention.map(|seconds| seconds * 1000);
        retention.is_some_and(|retention| self.first[marker] + retention <= self.now)
    }
}

/// The records after which the power fails: some of them anywhere, some where a sync, a name or a
/// length has just changed, and some soon after what the run is about.
fn moments(records: &[Record], cuts: u64, chance: &mut Chance) -> Vec<u64> {
    let mut turns = Vec::new();
    let mut focus: Option<u64> = None;
    for (n, record) in (0..).zip(records) {
        match &record.op {
            Op::Failed => focus = focus.or(Some(n)),
            Op::Request { marker, .. } if *marker == DELETION => focus = Some(n),
            // Retention begins.
            Op::Unlink { path } if path.extension().is_some_and(|end| end == "log") => {
                focus = focus.or(Some(n));
                turns.push(n);
            }
            Op::SyncBegin { .. } | Op::SyncEnd { .. } | Op::Truncate { .. } => turns.push(n),
            Op::Unlink { .. } | Op::Rename { .. } => turns.push(n),
            _ => {}
        }
    }
    let last = records.len() as u64 - 1;
    let moment = |cut| match (cut % 3, focus) {
        (0, _) => chance.below(last),
        (1, Some(focus)) => last.min(focus.saturating_sub(50) + chance.below(500)),
        _ => turns[chance.below(turns.len() as u64) as usize],
    };
    let mut moments: Vec<u64> = (0..cuts).map(moment).collect();
    moments.sort_unstable();
    moments
}

/// Cuts the power at many moments of a run.
pub(super) fn cut(name: &str, run: &Run) {
    let cuts = std::env::var("LIVEHOOK_POWER_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let recording = run.recording();
    let records = read(&recording);
    let count = |wanted: fn(&Op) -> bool| records.iter().filter(|one| wanted(&one.op)).count();
    let failed = count(|op| matches!(op, Op::Failed));
    assert_eq!(failed > 0, run.beside.fail.is_some(), "{name}: it failed");
    let removed =
        count(|op| matches!(op, Op::Unlink { path } if path.to_str().unwrap().ends_with(".log")));
    assert!(removed > 0 || run.beside.retention.is_none(), "{name}");
    let acknowledged = cut_in(&records, cuts, run).unwrap_or_else(|lost| panic!("{name}: {lost}"));
    assert!(acknowledged >= run.sent.answered.load(Ordering::Relaxed));
    let named = |ending: &str| {
        let is_named = |one: &&Record| match &one.op {
            Op::Rename { to, .. } => to.to_str().unwrap().ends_with(ending),
            _ => false,
        };
        records.iter().filter(is_named).count()
    };
    println!(
        "{name}: {cuts} power cuts, {acknowledged} acknowledged, {} records, {} segments, {} indexes, {} spares, {removed} removed",
        records.len(),
        named(".log"),
        named(".idx"),
        named("/spare"),
    );
}

/// The number of acknowledged events, or an error that names a loss.
pub(super) fn cut_in(records: &[Record], cuts: u64, run: &Run) -> Result<u64, String> {
    let mut chance = Chance(cuts);
    let mut disk = Disk::default();
    let mut known = Known::default();
    let mut moments = moments(records, cuts, &mut chance).into_iter().peekable();
    for (n, record) in (0..).zip(records) {
        disk.apply(n, &record.op, &mut chance);
        known.take(record);
        while moments.next_if_eq(&n).is_some() {
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().join("data");
            std::fs::create_dir(&data).unwrap();
            disk.cut(&run.data(), &data, &mut chance);
            check(directory.path(), &known, run)
                .map_err(|lost| format!("after record {n} {lost}"))?;
        }
    }
    Ok(known.acknowledged.len() as u64)
}

/// Starts the server on the remaining files and checks every acknowledged event.
fn check(directory: &Path, known: &Known, run: &Run) -> Result<(), String> {
    if known.deleted {
        assert_erased(&directory.join("data"));
    }
    let settings = Settings {
        inbox: "segment_size = \"1MiB\"".into(),
        ..Settings::with_handlers(FILE_HANDLER)
    };
    let server = TestServer::start_in(directory, &settings);
    let bodies = run.sent.bodies.lock().unwrap();
    let mut found = BTreeMap::new();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for event in server.events() {
        let text = |name: &str| event[name].as_str().unwrap().to_owned();
        let marker = text("pushsequence");
        let before = last.insert(text("streamid"), marker.clone());
        assert!(
            before.as_ref().is_none_or(|before| *before < marker),
            "{marker} came before {before:?}"
        );
        assert!(bodies.contains_key(&marker), "{marker} is forged");
        assert!(
            !known.deleted || text("streamid") != DOOMED,
            "{marker} came back"
        );
        assert_eq!(
            found.insert(marker, text("id")),
            None,
            "something is stored twice"
        );
    }
    // The last ones, and some of all.
    let mut admin = Client::new(server.admin);
    let step = found.len() / 20 + 1;
    let newest = found.iter().rev().take(20);
    for (marker, id) in newest.chain(found.iter().step_by(step)) {
        let event = admin.get(&format!("/api/events/{id}")).unwrap().json();
        assert_eq!(event["data"], bodies[marker], "another body");
    }
    let may_be_missing = |marker: &str| {
        known.deleting && bodies[marker]["stream_id"] == DOOMED || known.is_expired(marker, run)
    };
    let lost: Vec<_> = known
        .acknowledged
        .iter()
        .filter(|marker| !found.contains_key(**marker) && !may_be_missing(marker))
        .collect();
    if !lost.is_empty() {
        let all = known.acknowledged.len();
        let log = server.log();
        return Err(format!("{} of {all} are lost: {lost:?}\n{log}", lost.len()));
    }
    // A repeated event is a duplicate. A new one is accepted and delivered.
    let newest = known.acknowledged.last();
    if let Some(marker) = newest.filter(|marker| !may_be_missing(marker)) {
        let again = server.post("/css/stream-begin", bodies[*marker].to_string());
        assert_eq!(again.status, 200);
    }
    let new = signed(json!({ "event_type": 0, "stream_id": "new" }));
    assert_eq!(server.post("/css/stream-end", new).status, 200);
    assert_eq!(server.events().len(), found.len() + 1);
    wait_for("the new event", || {
        let lines = json_lines(&directory.join("events.jsonl"));
        lines
            .iter()
            .any(|line| line["streamid"] == "new")
            .then_some(())
    });
    Ok(())
}

/// No file of the store has a part of what was deleted.
fn assert_erased(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_erased(&path);
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        let mut parts = content.windows(SECRET.len());
        let found = parts.any(|part| part == SECRET.as_bytes());
        assert!(!found, "{} has what was deleted", path.display());
    }
}
