//! Retention on PostgreSQL.

use std::time::Duration;

use serde_json::json;

use super::{Receiver, database, inbox};
use crate::support::server::FILE_HANDLER;
use crate::support::{Settings, json_lines, signed, wait_for, wait_up_to};

#[test]
fn retention_removes_done_events_and_keeps_parked_ones() {
    let picky = "[handlers.picky]\nkinds = [\"relay\"]\nto = { type = \"exec\", command = [\"sh\", \"-c\", \"exit 65\"] }\n";
    let inbox = format!("{}\nretention = \"2s\"", inbox(&database()));
    let settings = || Settings {
        inbox: inbox.clone(),
        ..Settings::with_handlers(&format!("{FILE_HANDLER}{picky}"))
    };
    let receivers = [(); 2].map(|()| Receiver::start_with(settings()));
    let [first, second] = &receivers;
    for number in 0..300 {
        let receiver = &receivers[number % 2];
        let body = json!({ "event_type": 200, "stream_id": format!("room-{}", number % 7), "number": number });
        assert_eq!(receiver.server().post("/css", signed(body)).status, 200);
    }
    let body = json!({ "event_type": 314, "stream_id": "kept", "event_time": 1 });
    assert_eq!(first.server().post("/css", signed(body)).status, 200);
    let lines =
        |receiver: &Receiver| json_lines(&receiver.server().path().join("events.jsonl")).len();
    wait_for("the file", || {
        (lines(first) + lines(second) >= 301).then_some(())
    });
    wait_up_to(Duration::from_secs(60), "what is done to be gone", || {
        let events = second.server().events();
        (events.len() == 1 && events[0]["streamid"] == "kept").then_some(())
    });
    for receiver in &receivers {
        let page = receiver.server().get("/api/handlers/picky/parked").json();
        assert_eq!(page["items"][0]["streamid"], "kept");
        let id = page["items"][0]["id"].as_str().unwrap();
        assert_eq!(
            receiver.server().get(&format!("/api/events/{id}")).status,
            200
        );
    }
}
