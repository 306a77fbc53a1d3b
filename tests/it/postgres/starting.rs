//! Start-up with a database that does not answer, refuses the login, or is not durable enough.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{database, inbox, last_line};
use crate::support::postgres::{GUEST, OWNER, OWNER_PASSWORD, Postgres, shared};
use crate::support::server::FILE_HANDLER;
use crate::support::target::reserve;
use crate::support::{Client, Settings, TestServer, json_lines, signed, wait_for, wait_up_to};

/// A stopped server, and the URL of one of its databases.
fn stopped() -> (Postgres, String) {
    let postgres = Postgres::start();
    let database = postgres.create_database();
    let url = postgres.url_as(OWNER, OWNER_PASSWORD, &database);
    postgres.stop();
    (postgres, url)
}

/// A database where the role has this setting.
fn database_with(setting: &str) -> String {
    let url = database();
    let name = url.rsplit('/').next().unwrap();
    let sql = format!("ALTER ROLE postgres IN DATABASE {name} SET {setting}");
    shared().sql("postgres", &sql);
    url
}

fn launch(inbox: String) -> TestServer {
    let settings = Settings {
        inbox,
        ..Settings::with_handlers(FILE_HANDLER)
    };
    TestServer::launch(settings, reserve(), reserve())
}

/// Starts a receiver that must end by itself. Returns the exit code and the last log line.
fn ended(inbox: String) -> (Option<i32>, String) {
    let mut server = launch(inbox);
    let status = server.wait(Duration::from_secs(20));
    let log = server.log();
    for secret in [OWNER_PASSWORD, "%2F", "not-the-password"] {
        assert!(!log.contains(secret), "the log tells the password: {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
    (status.code(), last_line(server.path()))
}

#[test]
fn a_database_that_comes_later_is_waited_for() {
    let (postgres, url) = stopped();
    let mut server = launch(inbox(&url));
    let page = |path: &str| server.client().get(path).ok().map(|answer| answer.status);
    wait_for("the listener", || {
        page("/healthz").filter(|status| *status == 200)
    });
    assert_eq!(page("/readyz"), Some(503));
    let body = signed(json!({ "event_type": 1, "stream_id": "room-7" }));
    let answer = server.post("/css/stream-begin", &body);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    let address = format!("127.0.0.1:{}", postgres.port());
    wait_for("the reason", || {
        server.log().contains(&address).then_some(())
    });
    assert!(!server.log().contains("%2F"), "{}", server.log());

    postgres.start_again();
    wait_for("it to be ready", || {
        page("/readyz").filter(|status| *status == 200)
    });
    let answer = server.post("/css/stream-begin", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let file = server.path().join("events.jsonl");
    wait_up_to(Duration::from_secs(30), "the event", || {
        (json_lines(&file).len() == 1).then_some(())
    });
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(16)).code(), Some(0));
}

#[test]
fn a_database_that_does_not_come_ends_it_with_1() {
    let (postgres, url) = stopped();
    let began = Instant::now();
    let (code, message) = ended(format!("{}\nconnect_wait = \"2s\"", inbox(&url)));
    let took = began.elapsed();
    assert_eq!(code, Some(1), "{message}");
    assert!((2..10).contains(&took.as_secs()), "{took:?}");
    assert!(
        message.contains(&format!("127.0.0.1:{}", postgres.port())),
        "{message}"
    );
    assert!(message.contains("2s"), "{message}");
}

#[test]
fn a_receiver_that_waits_for_the_database_can_be_stopped() {
    let (_postgres, url) = stopped();
    let mut server = launch(inbox(&url));
    wait_for("the listener", || {
        Client::new(server.addr).get("/healthz").ok()
    });
    server.signal("TERM");
    assert_eq!(
        server.wait(Duration::from_secs(5)).code(),
        Some(0),
        "{}",
        server.log()
    );
}

#[test]
fn a_refused_login_ends_with_2_and_names_role_and_database() {
    let database = shared().create_database();
    let wrong_password = shared().url_as(OWNER, "not-the-password", &database);
    let no_database = shared().url_as(OWNER, OWNER_PASSWORD, "nowhere");
    for (what, url, named) in [
        ("a wrong password", wrong_password, [OWNER, &database]),
        (
            "no such role",
            shared().url_as("nobody_knows", "", &database),
            ["nobody_knows", &database],
        ),
        ("no such database", no_database, [OWNER, "nowhere"]),
        (
            "missing rights",
            shared().url_as(GUEST, "", &database),
            [GUEST, &database],
        ),
    ] {
        let (code, message) = ended(inbox(&url));
        assert_eq!(code, Some(2), "{what}: {message}");
        for name in named {
            assert!(
                message.contains(name),
                "{what} does not name {name}: {message}"
            );
        }
    }
}

#[test]
fn a_database_that_acknowledges_too_early_is_refused_unless_that_is_allowed() {
    let url = database_with("synchronous_commit = off");
    let (code, message) = ended(inbox(&url));
    assert_eq!(code, Some(2), "{message}");
    for part in ["synchronous_commit", "allow_async_commit"] {
        assert!(message.contains(part), "{message}");
    }
    let allowed = Settings {
        inbox: format!("{}\nallow_async_commit = true", inbox(&url)),
        ..Settings::default()
    };
    let server = TestServer::start(&allowed);
    let body = signed(json!({ "event_type": 1 }));
    assert_eq!(server.post("/css", body).status, 200);
    assert!(
        server.log().contains("synchronous_commit"),
        "{}",
        server.log()
    );
}

#[test]
fn a_database_whose_statements_do_not_see_what_they_waited_for_is_refused() {
    let url = database_with("default_transaction_isolation = 'repeatable read'");
    let (code, message) = ended(inbox(&url));
    assert_eq!(code, Some(2), "{message}");
    for part in ["repeatable read", "default_transaction_isolation"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_database_that_cannot_hold_every_text_is_refused() {
    shared().sql(
        "postgres",
        "CREATE DATABASE narrow ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    );
    let (code, message) = ended(inbox(&shared().url("narrow")));
    assert_eq!(code, Some(2), "{message}");
    for part in ["LATIN1", "--encoding=UTF8"] {
        assert!(message.contains(part), "{message}");
    }
}
