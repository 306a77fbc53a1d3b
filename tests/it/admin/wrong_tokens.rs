//! Wrong tokens are slowed down, and do not disturb the operator.

use std::time::{Duration, Instant};

use super::assert_error;
use crate::support::server::FILE_HANDLER;
use crate::support::{Client, Settings, TestServer, wait_for};

#[test]
fn wrong_tokens_are_answered_slowly_and_hold_up_nobody_else() {
    let server = TestServer::start(&Settings {
        admin: "token = \"AdminTokenItself\"".into(),
        ..Settings::with_handlers(FILE_HANDLER)
    });
    let began = Instant::now();
    let timed = |name: &str, value: &str| {
        let headers = [(name, value)];
        let answer = Client::new(server.admin).request("GET", "/api/handlers", &headers, None);
        (answer.unwrap(), began.elapsed())
    };
    let forged = format!("livehook_session=9900000000.1.{}", "0".repeat(64));
    let pause = Duration::from_secs(1);
    std::thread::scope(|scope| {
        // Answers come one at a time, in whatever way the tokens arrive.
        let wrong = [
            scope.spawn(|| timed("authorization", "Bearer AdminTokenItsel")),
            scope.spawn(|| timed("authorization", "bearer x")),
            scope.spawn(|| timed("cookie", &forged)),
        ];
        wait_for("the first", || {
            server.log().contains("a wrong token").then_some(())
        });
        let (answer, took) = timed("authorization", "Bearer AdminTokenItself");
        assert_eq!(answer.status, 200);
        assert!(!wrong.iter().all(|wrong| wrong.is_finished()), "{took:?}");
        let mut ends: Vec<Duration> = wrong
            .into_iter()
            .map(|wrong| {
                let (answer, took) = wrong.join().unwrap();
                assert_error(&answer, 401, "token");
                took
            })
            .collect();
        ends.sort();
        for (n, took) in (1..).zip(ends) {
            assert!(took >= pause * n, "{n}: {took:?}");
        }
    });
    assert!(!server.log().contains("AdminTokenItsel"));
}

#[test]
fn many_wrong_tokens_leave_a_connection_for_the_right_one() {
    // As many as the listener has connections.
    const WRONG_CLIENTS: usize = 64;
    let server = TestServer::start(&Settings {
        admin: "token = \"AdminTokenItself\"".into(),
        ..Settings::with_handlers(FILE_HANDLER)
    });
    let address = server.admin;
    let answered = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..WRONG_CLIENTS {
            let answered = answered.0.clone();
            scope.spawn(move || {
                let mut client = Client::with_timeout(address, Duration::from_secs(5));
                let headers = [("authorization", "Bearer x")];
                // Some wait for longer than that.
                if let Ok(answer) = client.request("GET", "/api/handlers", &headers, None) {
                    assert_eq!(answer.status, 401);
                    answered.send(()).unwrap();
                }
            });
        }
        // All others were answered.
        for _ in 0..WRONG_CLIENTS - 16 {
            answered.1.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        let headers = [("authorization", "Bearer AdminTokenItself")];
        let mut client = Client::new(server.admin);
        let answer = client.request("GET", "/api/handlers", &headers, None);
        assert_eq!(answer.unwrap().status, 200);
    });
}
