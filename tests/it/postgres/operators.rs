//! Commands work at every receiver, also at one that does not run the handler.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Receiver, database};
use crate::support::postgres::shared;
use crate::support::{json_lines, signed, wait_for, wait_up_to};

/// A handler that rejects everything until a file `mended` exists. Then it writes its standard
/// input to `out`, each line in one write, because attempts may run at the same time.
fn mendable(directory: &Path) -> String {
    let path = directory.display();
    format!(
        "[handlers.picky]\nto = {{ type = \"exec\", command = [\"sh\", \"-c\", \"test -e {path}/mended || exit 65; body=$(cat); printf '%s\\n' \\\"$body\\\" >> {path}/out\"] }}\n"
    )
}

/// The streams of the parked deliveries, sorted.
fn parked(receiver: &Receiver) -> Vec<String> {
    let page = receiver.server().get("/api/handlers/picky/parked").json();
    let items = page["items"].as_array().unwrap().iter();
    let mut streams: Vec<_> = items
        .map(|item| item["streamid"].as_str().unwrap().to_owned())
        .collect();
    streams.sort();
    streams
}

#[test]
fn replay_and_discard_work_at_a_receiver_that_does_not_run_the_handler() {
    let directory = tempfile::tempdir().unwrap();
    let url = database();
    let receivers = [(); 2].map(|()| Receiver::start(&url, &mendable(directory.path())));
    let [first, second] = &receivers;
    wait_up_to(super::TAKE_OVER, "one of them to run it", || {
        (first.handlers().len() + second.handlers().len() == 1).then_some(())
    });
    let (here, elsewhere) = if second.handlers().is_empty() {
        (first, second)
    } else {
        (second, first)
    };
    let state = |receiver: &Receiver, state: &str| {
        let page = receiver
            .server()
            .get(&format!("/api/handlers?state={state}"))
            .json();
        page["items"].as_array().unwrap().len()
    };
    assert_eq!(
        (state(elsewhere, "elsewhere"), state(here, "elsewhere")),
        (1, 0)
    );

    for stream in ["a", "b", "c"] {
        let body = signed(json!({ "event_type": 1, "appname": "live", "stream_id": stream }));
        assert_eq!(elsewhere.server().post("/css", body).status, 200);
    }
    for receiver in [here, elsewhere] {
        wait_for("the parked list", || {
            (parked(receiver) == ["a", "b", "c"]).then_some(())
        });
    }
    let events = elsewhere.server().events();
    let id = |stream: &str| {
        let event = events
            .iter()
            .find(|event| event["streamid"] == stream)
            .unwrap();
        event["id"].clone()
    };
    let command = |what: &str, body: Value| {
        let answer = elsewhere
            .server()
            .command(&format!("/api/handlers/picky/{what}"), &body);
        (answer.status, answer.json())
    };
    assert_eq!(
        command("discard", json!({ "event": id("b") })),
        (202, json!({ "count": 1 }))
    );
    for receiver in [here, elsewhere] {
        wait_for("it to be gone", || {
            (parked(receiver) == ["a", "c"]).then_some(())
        });
    }
    std::fs::write(directory.path().join("mended"), "").unwrap();
    assert_eq!(
        command("replay", json!({ "event": id("c") })),
        (202, json!({ "count": 1 }))
    );
    let handled = |count: usize| {
        // Only the slow poll may notice it.
        let lines = wait_up_to(Duration::from_secs(20), "the replay", || {
            Some(json_lines(&directory.path().join("out"))).filter(|lines| lines.len() >= count)
        });
        lines
            .iter()
            .map(|line| line["streamid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(handled(1), ["c"]);
    wait_for("it to be gone", || {
        (parked(elsewhere) == ["a"]).then_some(())
    });
    assert_eq!(
        command("replay", json!({ "parked": true })),
        (202, json!({ "count": 1 }))
    );
    assert_eq!(handled(2), ["c", "a"]);
    for receiver in [here, elsewhere] {
        wait_for("nothing to be parked", || {
            parked(receiver).is_empty().then_some(())
        });
    }
    let range = json!({ "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
    let first = &elsewhere.server().events()[0]["receivedtime"];
    let answer = json!({ "count": 3, "oldest": first });
    assert_eq!(command("replay", range), (202, answer));
    let mut all = handled(5);
    all[2..].sort();
    assert_eq!(all[2..], ["a", "b", "c"]);
}

#[test]
fn a_pause_asked_of_any_receiver_holds_at_whichever_delivers() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("mended"), "").unwrap();
    let url = database();
    let mut receivers = [(); 2].map(|()| Receiver::start(&url, &mendable(directory.path())));
    wait_up_to(super::TAKE_OVER, "one of them to run it", || {
        receivers.iter().position(|one| one.handlers().len() == 1)
    });
    if receivers[0].handlers().is_empty() {
        receivers.swap(0, 1);
    }
    let [here, elsewhere] = &mut receivers;
    let ask = |receiver: &Receiver, what: &str| {
        let path = format!("/api/handlers/picky/{what}");
        let answer = receiver.server().command(&path, &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let state = |receiver: &Receiver| {
        let page = receiver.server().get("/api/handlers").json();
        page["items"][0]["state"].as_str().unwrap().to_owned()
    };
    ask(elsewhere, "pause");
    assert_eq!(state(here), "paused");
    let body = signed(json!({ "event_type": 1, "stream_id": "a" }));
    assert_eq!(elsewhere.server().post("/css", body).status, 200);
    here.kill();
    wait_up_to(super::TAKE_OVER, "the other to have it", || {
        (state(elsewhere) == "paused").then_some(())
    });
    assert!(!directory.path().join("out").exists());
    ask(elsewhere, "resume");
    wait_for("the event", || {
        (json_lines(&directory.path().join("out")).len() == 1).then_some(())
    });
}

#[test]
fn a_stream_is_deleted_at_a_receiver_that_does_not_run_the_handler() {
    let directory = tempfile::tempdir().unwrap();
    let url = database();
    let handler = mendable(directory.path()).replace("exit 65", "exit 1")
        + "retry = { initial = \"1h\", max = \"1h\" }\n";
    let receivers = [(); 2].map(|()| Receiver::start(&url, &handler));
    let at = wait_up_to(super::TAKE_OVER, "one of them to run it", || {
        receivers.iter().position(|one| one.handlers().len() == 1)
    });
    let (here, elsewhere) = (receivers[at].server(), receivers[1 - at].server());
    let post = |stream: &str, sequence: u32| {
        let body = signed(
            json!({ "event_type": 1, "appname": "live", "stream_id": stream, "sequence": sequence }),
        );
        assert_eq!(elsewhere.post("/css", body).status, 200);
    };
    for (stream, sequence) in [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3)] {
        post(stream, sequence);
    }
    let rows = || {
        let item = here.get("/api/handlers").json()["items"][0].clone();
        ["retrying", "waiting"].map(|name| item[name].as_u64().unwrap())
    };
    wait_for("the rows", || (rows() == [2, 3]).then_some(()));
    let mut admin = crate::support::Client::new(elsewhere.admin);
    let answer = admin
        .request("DELETE", "/api/events?stream=a", &[], None)
        .unwrap();
    assert_eq!((answer.status, answer.json()), (202, json!({ "count": 3 })));
    assert_eq!(rows(), [1, 1]);
    for server in [here, elsewhere] {
        assert_eq!(server.events().len(), 2);
    }
    let (_, database) = url.rsplit_once('/').unwrap();
    let answers = "SELECT sum(answer) FROM livehook.orders WHERE what LIKE '%forget%'";
    assert_eq!(
        shared().sql(database, answers),
        "3",
        "rows that were forgotten"
    );
    // It is the first of its stream again.
    std::fs::write(directory.path().join("mended"), "").unwrap();
    post("a", 1);
    let lines = wait_for("it to be delivered", || {
        Some(json_lines(&directory.path().join("out"))).filter(|lines| !lines.is_empty())
    });
    assert_eq!(lines[0]["streamid"], "a");
    assert_eq!(rows(), [1, 1]);
}
