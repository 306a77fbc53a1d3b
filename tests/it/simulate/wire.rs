//! The requests of the simulator.

use std::collections::BTreeMap;

use css_callbacks::{Callback, Kind};

use crate::support::KEY;
use crate::support::simulation::{Simulation, simulate};
use crate::support::target::{Hit, Reply, Target};

#[test]
fn every_kind_goes_to_its_url_with_the_token_as_json() {
    let target = Target::good();
    simulate(
        &format!("{}?action=x", target.url()),
        "--token a+b --events 600 --connections 8",
    )
    .good();
    let mut kinds: BTreeMap<Kind, usize> = BTreeMap::new();
    for hit in target.hits() {
        assert_eq!(hit.method, "POST");
        assert_eq!(hit.header("content-type"), Some("application/json"));
        let (path, query) = hit.path.split_once('?').unwrap();
        assert_eq!(query, "action=x&token=a%2Bb");
        let kind = Kind::from_slug(path.strip_prefix("/hook/").unwrap()).unwrap();
        assert_eq!(Callback::parse(&hit.body).unwrap().kind(None), kind);
        *kinds.entry(kind).or_default() += 1;
    }
    assert_eq!(kinds.len(), Kind::ALL.len(), "{kinds:?}");
}

#[test]
fn a_single_url_gets_everything() {
    let target = Target::good();
    simulate(
        &target.url(),
        "--single-url --events 50 --connections 4 --kinds record,unknown",
    )
    .good();
    assert!(target.hits().iter().all(|hit| hit.path == "/hook"));
    let unknown = |hit: &Hit| hit.json()["event_type"] == 399;
    assert!(target.hits().iter().any(unknown));
}

#[test]
fn unsigned_means_only_those_that_may_be() {
    let target = Target::good();
    simulate(&target.url(), "--unsigned --events 300 --connections 8").good();
    for hit in target.hits() {
        let body = hit.json();
        let kind = Callback::parse(&hit.body).unwrap().kind(None);
        assert_eq!(body.get("sign").is_none(), kind.may_be_unsigned(), "{kind}");
        assert_eq!(body.get("sign").is_none(), body.get("t").is_none());
    }
}

#[test]
fn without_a_key_everything_is_signed_with_the_empty_one_or_unsigned() {
    let target = Target::good();
    let run = |more: &str| {
        let base = target.url();
        let mut arguments = vec!["--url", &base, "--events", "20", "--connections", "4"];
        arguments.extend(more.split_whitespace());
        assert_eq!(Simulation::start(&arguments).wait().code, Some(0));
    };
    run("--token hush");
    for hit in target.hits() {
        let body = hit.json();
        let t = body["t"]
            .as_i64()
            .map_or_else(|| body["t"].as_str().unwrap().to_owned(), |t| t.to_string());
        assert_eq!(body["sign"], css_callbacks::sign("", &t));
    }
    let before = target.count();
    run("--unsigned");
    assert!(
        target.hits()[before..]
            .iter()
            .all(|hit| hit.json().get("sign").is_none())
    );
}

/// The bodies without the parts that depend on the time.
fn timeless(target: &Target) -> Vec<String> {
    let mut bodies: Vec<String> = target
        .hits()
        .iter()
        .map(|hit| {
            let body = hit.json();
            let kept = [
                "event_type",
                "stream_id",
                "stream_param",
                "sequence",
                "errcode",
                "user_ip",
            ];
            kept.map(|name| body[name].to_string()).join(" ")
        })
        .collect();
    bodies.sort();
    bodies
}

#[test]
fn a_seed_makes_the_same_traffic_again() {
    let of = |seed: u32| {
        let target = Target::good();
        let more = format!(
            "--seed {seed} --events 60 --connections 4 --kinds stream-begin,stream-end --reorder"
        );
        let report = simulate(&target.url(), &more).good();
        assert_eq!(report["seed"], seed);
        timeless(&target)
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn reordered_means_that_some_ends_come_before_their_begins() {
    let ends_first = |more: &str| {
        let target = Target::good();
        simulate(
            &target.url(),
            &format!("--events 400 --connections 1 --kinds stream-begin,stream-end {more}"),
        )
        .good();
        let mut begun = std::collections::HashSet::new();
        let mut ends_first = 0;
        for hit in target.hits() {
            let body = hit.json();
            let sequence = body["sequence"].to_string();
            if body["event_type"] == 1 {
                begun.insert(sequence);
            } else if !begun.contains(&sequence) {
                ends_first += 1;
            }
        }
        assert_eq!(target.count(), 400);
        ends_first
    };
    assert_eq!(ends_first(""), 0);
    assert!(ends_first("--reorder") > 3);
}

#[test]
fn duplicates_are_the_same_bytes_but_for_t_and_sign() {
    let target = Target::good();
    let report = simulate(
        &target.url(),
        "--events 100 --connections 4 --duplicates 1 --time-scale 6000",
    )
    .good();
    assert_eq!(report["duplicates"], 100);
    assert_eq!(
        (&report["sent"], &report["acknowledged"]),
        (&100.into(), &100.into())
    );
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for hit in target.hits() {
        let mut body = hit.json();
        body["t"].take();
        body["sign"].take();
        *times.entry(body.to_string()).or_default() += 1;
    }
    assert!(
        times.len() == 100 && times.values().all(|times| *times == 2),
        "{times:?}"
    );
}

#[test]
fn bad_requests_are_never_genuine() {
    // The receiver refuses everything, so genuine callbacks are repeated. Requests that come only
    // once are the bad ones.
    let target = Target::start(|_| Reply::Status(401));
    let report = simulate(
        &target.url(),
        "--token hush --events 60 --connections 8 --bad 1 --time-scale 60000 --kinds subtitle",
    )
    .bad();
    assert_eq!(
        (&report["bad"], &report["refused"], &report["accepted_bad"]),
        (&60.into(), &60.into(), &0.into())
    );
    let genuine = |hit: &Hit| {
        let Ok(callback) = Callback::parse(&hit.body) else {
            return false;
        };
        let css_callbacks::Signed::Both { sign, t } = callback.signed() else {
            return false;
        };
        let fresh = t.parse::<i64>().unwrap() > crate::support::now() - 600;
        sign == css_callbacks::sign(KEY, t).as_bytes() && fresh && hit.path.ends_with("token=hush")
    };
    let bad: Vec<Hit> = target
        .hits()
        .into_iter()
        .filter(|hit| !hit.path.contains("subtitle"))
        .collect();
    assert_eq!(bad.len(), 60);
    assert!(!bad.iter().any(genuine));
    let tokens = bad
        .iter()
        .filter(|hit| !hit.path.ends_with("token=hush"))
        .count();
    assert!(tokens > 0, "some lack the token");
}
