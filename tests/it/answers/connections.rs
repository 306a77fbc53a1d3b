//! Connections rather than requests: slow, many, pipelined, old, broken.

use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use super::{assert_stored, connect, head, is_closed, push, server, write};
use crate::support::Client;
use crate::support::client::read_answer;

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    let server = server("header_timeout = \"400ms\"");
    let began = Instant::now();
    let silent = connect(&server);
    let mut trickling = connect(&server);
    let mut after_a_request = connect(&server);
    let body = push("a");
    write(&mut after_a_request, head(body.len()) + &body);
    assert_stored(&read_answer(&mut after_a_request).unwrap());
    write(&mut after_a_request, "POST /css HT");
    let mut with_a_request = connect(&server);
    write(
        &mut with_a_request,
        head(body.len()) + &body + "POST /css HT",
    );
    assert_stored(&read_answer(&mut with_a_request).unwrap());
    write(&mut trickling, "P");
    for byte in "OST /css HTTP/1.1\r\nx: ".bytes().chain([b'x'; 200]) {
        thread::sleep(Duration::from_millis(20));
        if trickling.get_mut().write_all(&[byte]).is_err() {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "it was never cut off"
        );
    }
    for mut connection in [silent, trickling, after_a_request, with_a_request] {
        assert!(is_closed(&mut connection));
    }
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[test]
fn an_idle_connection_outlives_the_header_timeout() {
    let server = server("header_timeout = \"200ms\"");
    let mut connection = connect(&server);
    for name in ["a", "b", "c"] {
        let body = push(name);
        write(&mut connection, head(body.len()) + &body);
        assert_stored(&read_answer(&mut connection).unwrap());
        thread::sleep(Duration::from_millis(350)); // the time itself is what is tested
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = server("");
    let mut connection = connect(&server);
    let bad = "{".to_owned();
    let mut all = String::new();
    for body in [push("a"), bad, push("b"), push("a")] {
        all += &(head(body.len()) + &body);
    }
    all += "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
    write(&mut connection, all);
    let statuses: Vec<u16> = (0..5)
        .map(|_| read_answer(&mut connection).unwrap().status)
        .collect();
    assert_eq!(statuses, [200, 400, 200, 200, 200]);
    assert_eq!(server.events().len(), 2);
}

#[test]
fn http_1_0_and_expect_continue_work() {
    let server = server("");
    let body = push("a");
    let mut old = connect(&server);
    write(
        &mut old,
        format!(
            "POST /css HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    assert_stored(&read_answer(&mut old).unwrap());
    assert!(is_closed(&mut old));
    let body = push("b");
    let mut polite = connect(&server);
    write(
        &mut polite,
        format!(
            "POST /css HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ),
    );
    assert_eq!(read_answer(&mut polite).unwrap().status, 100);
    write(&mut polite, body);
    assert_stored(&read_answer(&mut polite).unwrap());
    assert_eq!(server.events().len(), 2);
}

#[test]
fn a_client_that_leaves_within_its_body_stores_nothing() {
    let server = server("");
    let body = push("a");
    let mut leaving = connect(&server);
    write(&mut leaving, head(body.len()) + &body[..body.len() - 1]);
    drop(leaving);
    let mut half_closed = connect(&server);
    write(&mut half_closed, head(body.len()) + &body[..body.len() - 1]);
    half_closed.get_ref().shutdown(Shutdown::Write).unwrap();
    assert!(read_answer(&mut half_closed).map_or(true, |answer| answer.status == 400));
    let mut chunked = connect(&server);
    write(
        &mut chunked,
        format!(
            "POST /css HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
            body.len()
        ),
    );
    drop(chunked);
    assert_stored(&server.post("/css", push("b")));
    assert_eq!(server.events().len(), 1);
}

#[test]
fn a_client_that_leaves_after_its_body_gets_one_event_by_its_retry() {
    let server = server("");
    for round in 0..20 {
        let body = push(&format!("room-{round}"));
        let mut leaving = connect(&server);
        write(&mut leaving, head(body.len()) + &body);
        drop(leaving);
        assert_stored(&server.post("/css", &body));
    }
    assert_eq!(server.events().len(), 20);
}

#[test]
fn both_lengths_at_once_are_no_request() {
    let server = server("");
    let body = push("a");
    let smuggled = format!(
        "POST /css HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\ncontent-length: 3\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(
        Client::new(server.addr)
            .send(smuggled.as_bytes())
            .unwrap()
            .status,
        400
    );
    assert!(server.events().is_empty());
}
