//! What handlers send: signed requests in both modes, and input of programs.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::target::{Hit, Reply, Target};
use crate::support::{Settings, TestServer, json_lines, now, signed, wait_for};

const SECRET: &[u8] = b"a secret of thirty-two bytes ...";

fn push(stream: &str) -> String {
    signed(
        json!({ "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "sequence": "6674468118806626493" }),
    )
}

/// The request that an `http` handler makes of this body.
fn request(mode: &str, body: &str) -> Hit {
    let target = Target::good();
    let handlers = format!(
        "[handlers.http]\nto = {{ type = \"http\", url = \"{}\", mode = \"{mode}\", secret = \"whsec_{}\", headers = {{ x-tenant = \"seven\" }} }}\n",
        target.url(),
        STANDARD.encode(SECRET)
    );
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    assert_eq!(server.post("/css/stream-begin", body).status, 200);
    wait_for("the request", || target.hits().first().cloned())
}

/// Checks the signature like a receiver, following the specification.
fn verify(hit: &Hit) {
    let id = hit.header("webhook-id").unwrap();
    let timestamp = hit.header("webhook-timestamp").unwrap();
    assert!((now() - timestamp.parse::<i64>().unwrap()).abs() < 60);
    let mut code = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    code.update(&[id.as_bytes(), b".", timestamp.as_bytes(), b".", &hit.body].concat());
    let expected = format!("v1,{}", STANDARD.encode(code.finalize().into_bytes()));
    assert_eq!(hit.header("webhook-signature"), Some(&*expected));
    assert_eq!(
        (
            hit.method.as_str(),
            hit.path.as_str(),
            hit.header("x-tenant")
        ),
        ("POST", "/hook", Some("seven"))
    );
}

#[test]
fn a_structured_request_is_an_event_with_a_standard_webhooks_signature() {
    let body = push("room-7");
    let hit = request("structured", &body);
    verify(&hit);
    assert!(
        hit.header("content-type")
            .unwrap()
            .starts_with("application/cloudevents+json")
    );
    let event = hit.json();
    assert_eq!(event["id"].as_str(), hit.header("webhook-id"));
    assert_eq!(event["data"], serde_json::from_str::<Value>(&body).unwrap());
}

#[test]
fn a_binary_request_is_the_body_as_it_came_with_the_attributes_as_headers() {
    let body = push("zimmer \u{fc}ber 100%");
    let hit = request("binary", &body);
    verify(&hit);
    assert_eq!(hit.body, body.as_bytes());
    let expected = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-source", "/css"),
        ("ce-type", "css.stream-begin"),
        ("ce-domain", "push.example.com"),
        ("ce-appname", "live"),
        ("ce-streamid", "zimmer%20%C3%BCber%20100%25"),
        ("ce-pushsequence", "6674468118806626493"),
    ];
    for (name, value) in expected {
        assert_eq!(hit.header(name), Some(value), "{name}");
    }
    assert_eq!(hit.header("ce-id"), hit.header("webhook-id"));
}

#[test]
fn a_retry_after_of_a_target_is_honoured() {
    let target = Target::start(|_| Reply::With(429, "Retry-After", "2".into()));
    let handlers = format!(
        "[handlers.http]\nretry = {{ initial = \"10ms\", max = \"20s\" }}\nto = {{ type = \"http\", url = \"{}\" }}\n",
        target.url()
    );
    let server = TestServer::start(&Settings::with_handlers(&handlers));
    // So many streams that the target counts as down: then probes obey the header, too.
    for stream in 0..6 {
        assert_eq!(
            server
                .post("/css/stream-begin", push(&format!("room-{stream}")))
                .status,
            200
        );
    }
    wait_for("the first attempts", || (target.count() >= 4).then_some(()));
    wait_for("the next", || (target.count() >= 7).then_some(()));
    let mut times: Vec<_> = target
        .hits()
        .iter()
        .map(|hit| (hit.json()["id"].to_string(), hit.began))
        .collect();
    times.sort();
    for two in times.windows(2).filter(|two| two[0].0 == two[1].0) {
        let pause = two[1].1 - two[0].1;
        assert!(
            pause >= Duration::from_millis(1900),
            "it came again after {pause:?}"
        );
    }
}

/// A program that writes its input. It exits with 65 for the stream `bad`; for `hang` it waits for
/// a child.
const PROGRAM: &str = r#"
case "$LIVEHOOK_STREAMID" in
bad) exit 65 ;;
hang) echo $$ >> "$1/pids"; sleep 600 & echo $! >> "$1/pids"; wait ;;
*) cat >> "$1/out.jsonl"; echo >> "$1/out.jsonl"; env >> "$1/env" ;;
esac
"#;

/// Whether a process has ended. It may be a zombie, if nobody waits for it.
fn is_dead(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| {
        stat.rsplit(')').next().unwrap().trim().starts_with('Z')
    })
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_program_gets_the_event_may_reject_it_and_is_killed_with_its_children_when_it_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program.sh");
    std::fs::write(&program, PROGRAM).unwrap();
    let handlers = format!(
        "[handlers.run]\ntimeout = \"700ms\"\nretry = {{ initial = \"100ms\", max = \"300ms\" }}\nto = {{ type = \"exec\", command = [\"sh\", {program:?}, {:?}] }}\n",
        directory.path()
    );
    let mut settings = Settings::with_handlers(&handlers);
    settings
        .env
        .push(("SECRET_OF_OURS".into(), "do-not-show".into()));
    let server = TestServer::start_in(directory.path(), &settings);
    let body = push("room-7");
    assert_eq!(server.post("/css/stream-begin", &body).status, 200);
    assert_eq!(server.post("/css/stream-begin", push("bad")).status, 200);
    assert_eq!(server.post("/css/stream-begin", push("hang")).status, 200);

    let out = directory.path().join("out.jsonl");
    let events = wait_for("the program", || {
        Some(json_lines(&out)).filter(|events| !events.is_empty())
    });
    assert_eq!(
        events[0]["data"],
        serde_json::from_str::<Value>(&body).unwrap()
    );
    let env = wait_for("its environment", || {
        Some(lines(&directory.path().join("env")))
            .filter(|env| env.iter().any(|line| line.starts_with("LIVEHOOK_ID=")))
    });
    assert!(env.contains(&"LIVEHOOK_TYPE=css.stream-begin".to_owned()));
    assert!(!env.iter().any(|line| line.contains("do-not-show")));

    let parked = wait_for("the reject", || {
        let items = server.get("/api/handlers/run/parked").json()["items"].clone();
        Some(items).filter(|items| items[0].is_object())
    });
    assert_eq!(
        (parked[0]["streamid"].as_str(), parked[0]["error"].as_str()),
        (Some("bad"), Some("exit code 65"))
    );

    let pids = directory.path().join("pids");
    let first = wait_for("two attempts that hang", || {
        Some(lines(&pids)).filter(|pids| pids.len() >= 4)
    });
    wait_for("the first to be killed whole", || {
        first[..2].iter().all(|pid| is_dead(pid)).then_some(())
    });
    server.stop();
    wait_for("the last to be killed whole", || {
        lines(&pids).iter().all(|pid| is_dead(pid)).then_some(())
    });
}
