//! `--verify` finds errors: the receiver imitates livehook, and loses, alters, doubles or invents
//! events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use css_callbacks::{Callback, EventId};
use serde_json::json;

use crate::support::simulation::{Ended, simulate};
use crate::support::target::{Hit, Reply, Target};
use crate::support::{Settings, TestServer};

/// What the receiver does with the tenth callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    Loses,
    Alters,
    Doubles,
    /// Stores it and answers 503, to every attempt.
    Denies,
    /// Stores what it refuses with 401, and never what is genuine.
    KeepsForgeries,
    /// Has an event of another sender.
    HasOthers,
}

type Stored = Arc<Mutex<Vec<(EventId, String)>>>;

fn receiver(flaw: Flaw) -> (Target, Stored) {
    let stored = Stored::default();
    let own = stored.clone();
    let target = Target::start(move |hit| {
        let mut stored = own.lock().unwrap();
        match hit
            .path
            .split('?')
            .next()
            .unwrap()
            .strip_prefix("/api/events")
        {
            Some("") => Reply::Page(list(&stored)),
            Some(id) => find(&stored, &id[1..]),
            None => take(&mut stored, hit, flaw),
        }
    });
    (target, stored)
}

fn list(stored: &[(EventId, String)]) -> String {
    let items: Vec<_> = stored
        .iter()
        .map(|(id, _)| json!({ "id": id.to_string(), "type": "css.stream-begin" }))
        .collect();
    json!({ "items": items, "next": null }).to_string()
}

fn find(stored: &[(EventId, String)], id: &str) -> Reply {
    match stored.iter().find(|(other, _)| other.to_string() == id) {
        Some((_, body)) => Reply::Page(format!("{{\"id\":\"{id}\",\"data\":{body}}}")),
        None => Reply::Status(404),
    }
}

fn take(stored: &mut Vec<(EventId, String)>, hit: &Hit, flaw: Flaw) -> Reply {
    let mut body = String::from_utf8(hit.body.clone()).unwrap();
    let Ok(callback) = Callback::parse(&hit.body) else {
        return Reply::Status(400);
    };
    let kind = callback.kind(None);
    let id = EventId::derive("css", kind, callback.members(), || [0; 16]);
    // Bad requests are pushes, genuine ones are recordings.
    if kind.slug().starts_with("stream") {
        if flaw == Flaw::KeepsForgeries {
            stored.push((id, body));
        }
        return Reply::Status(401);
    }
    if stored.iter().any(|(other, _)| *other == id) {
        return Reply::Status(if flaw == Flaw::Denies { 503 } else { 200 });
    }
    if stored.len() == 9 {
        match flaw {
            Flaw::None | Flaw::KeepsForgeries => {}
            Flaw::Loses => return Reply::Status(200),
            Flaw::Alters => body = body.replacen("record_file_id", "record_file_ID", 1),
            Flaw::Doubles => stored.push((id, body.clone())),
            Flaw::HasOthers => stored.push((EventId::from_bytes([7; 16]), "{}".to_owned())),
            Flaw::Denies => {
                stored.push((id, body));
                return Reply::Status(503);
            }
        }
    }
    stored.push((id, body));
    Reply::Status(200)
}

/// A simulation of twenty recordings against a receiver with this flaw.
fn with(flaw: Flaw) -> (Ended, usize) {
    let (target, stored) = receiver(flaw);
    let ended = simulate(
        &format!("{}/css", target.base()),
        &format!(
            "--events 20 --connections 1 --kinds record --bad 0.5 --seed 5 --time-scale 60000 --verify {}",
            target.base()
        ),
    );
    let stored = stored.lock().unwrap().len();
    (ended, stored)
}

#[test]
fn a_receiver_without_flaw_passes() {
    let (ended, stored) = with(Flaw::None);
    let report = ended.good();
    assert_eq!((&report["lost"], stored), (&0.into(), 20));
    let found = &report["verified"];
    for name in [
        "stored_unacknowledged",
        "wrong_content",
        "stored_twice",
        "forged_stored",
        "others",
    ] {
        assert_eq!(found[name], 0, "{name}");
    }
}

#[test]
fn every_flaw_is_reported_by_its_name() {
    // The receiver answers each callback that it loses. It loses all further callbacks, because the
    // tenth is never stored.
    let (ended, _) = with(Flaw::Loses);
    assert!(
        ended.stderr.contains("acknowledged and are not stored"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.bad()["lost"], 11);

    let (ended, _) = with(Flaw::Alters);
    assert!(ended.stderr.contains("another content"), "{}", ended.stderr);
    assert_eq!(ended.bad()["verified"]["wrong_content"], 1);

    let (ended, _) = with(Flaw::KeepsForgeries);
    assert!(
        ended.stderr.contains("forged events are stored"),
        "{}",
        ended.stderr
    );
    assert!(ended.bad()["verified"]["forged_stored"].as_u64().unwrap() > 0);

    let report = with(Flaw::Denies).0.bad();
    assert_eq!(
        (
            &report["given_up"],
            &report["verified"]["stored_unacknowledged"]
        ),
        (&1.into(), &1.into())
    );

    let report = with(Flaw::Doubles).0.good();
    assert_eq!(report["verified"]["stored_twice"], 1);

    let report = with(Flaw::HasOthers).0.good();
    assert_eq!(report["verified"]["others"], 1);
}

#[test]
fn an_admin_url_without_livehook_is_reported_before_sending() {
    let (receiver, stored) = receiver(Flaw::None);
    for (answer, problem) in [
        (Reply::Status(404), "it answers 404"),
        (Reply::Page("{}".to_owned()), "it answers 200"),
        (Reply::Page("hello".to_owned()), "it answers 200"),
        (Reply::Status(200), "it tells no date"),
        (
            Reply::Page("{\"items\":[],\"next\":\"0\"}".to_owned()),
            "its list does not end",
        ),
    ] {
        let other = Target::start(move |_| answer.clone());
        let more = format!("--events 5 --connections 1 --verify {}", other.base());
        let ended = simulate(&format!("{}/css", receiver.base()), &more);
        assert_eq!(ended.code, Some(1));
        let expected = "what answers at --verify is no admin listener of a livehook";
        assert!(
            ended.stderr.contains(expected) && ended.stderr.contains(problem),
            "{}",
            ended.stderr
        );
    }
    assert!(stored.lock().unwrap().is_empty());
}

#[test]
fn a_verification_that_fails_does_not_cost_the_report() {
    let sent = Arc::new(AtomicBool::new(false));
    let target = Target::start(move |hit| {
        if !hit.path.starts_with("/api/") {
            sent.store(true, Ordering::Relaxed);
            Reply::Status(200)
        } else if sent.load(Ordering::Relaxed) {
            Reply::Status(401)
        } else {
            Reply::Page("{\"items\":[],\"next\":null}".to_owned())
        }
    });
    let more = format!("--events 5 --connections 1 --verify {}", target.base());
    let ended = simulate(&format!("{}/css", target.base()), &more);
    assert!(
        ended.stderr.contains("what is stored could not be asked"),
        "{}",
        ended.stderr
    );
    let report = ended.bad();
    assert_eq!(
        (&report["acknowledged"], &report["lost"]),
        (&5.into(), &serde_json::Value::Null)
    );
    assert!(
        report["verification_failed"]
            .as_str()
            .unwrap()
            .contains("--admin-token-file")
    );
}

#[test]
fn a_source_may_have_another_name_than_its_url() {
    let server = TestServer::start(&Settings::default());
    let run = |source: &str| {
        let common = "--events 5 --connections 1 --kinds record";
        let more = format!("{common} --verify {} --source {source}", server.admin_url());
        simulate(&server.css(), &more)
    };
    assert_eq!(run("css").good()["lost"], 0);
    let ended = run("other");
    assert!(
        ended
            .stderr
            .contains("nothing at all of this source is there"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.bad()["lost"], 5);
}
