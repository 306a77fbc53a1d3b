//! Idle connections, and clients that never read.

use std::io::Write;
use std::time::Duration;

use super::{ask, connect, connect_to, head, is_closed, post_on, push, server, waits, write};
use crate::support::client::read_answer;
use crate::support::wait_up_to;

const PROBE: &str = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn an_idle_connection_is_closed_whatever_was_read() {
    let server = server("idle_timeout = \"1s\"\nheader_timeout = \"60s\"");
    let mut plain = connect(&server);
    post_on(&mut plain, "a");
    let body = push("b");
    let mut in_two = connect(&server);
    write(&mut in_two, head(body.len()));
    // The head is read when another request behind it was answered.
    assert_eq!(ask(&mut connect(&server), "/healthz").status, 200);
    write(&mut in_two, &body);
    assert_eq!(read_answer(&mut in_two).unwrap().status, 200);
    let mut line_breaks = connect(&server);
    post_on(&mut line_breaks, "c");
    write(&mut line_breaks, "\r\n");
    let mut unread = connect(&server);
    assert_eq!(ask(&mut unread, "/nowhere").status, 405);
    let mut admin = connect_to(server.admin);
    assert_eq!(ask(&mut admin, "/healthz").status, 200);
    for connection in [plain, in_two, line_breaks, unread, admin] {
        assert!(is_closed(&mut { connection }));
    }
}

#[test]
fn line_breaks_before_a_request_do_not_begin_its_head() {
    let server = server("header_timeout = \"300ms\"");
    let mut connection = connect(&server);
    post_on(&mut connection, "a");
    write(&mut connection, "\r\n");
    std::thread::sleep(Duration::from_millis(700)); // the time itself is what is tested
    post_on(&mut connection, "b");
}

#[test]
fn the_idle_time_counts_from_the_last_answer() {
    let server = server("idle_timeout = \"3s\"");
    let mut used = connect(&server);
    let mut idle = connect(&server);
    post_on(&mut used, "a");
    post_on(&mut idle, "b");
    let short = Duration::from_millis(50);
    idle.get_mut().set_read_timeout(Some(short)).unwrap();
    wait_up_to(Duration::from_secs(60), "the idle one to be closed", || {
        assert_eq!(ask(&mut used, "/healthz").status, 200);
        is_closed(&mut idle).then_some(())
    });
    assert_eq!(ask(&mut used, "/healthz").status, 200);
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let server = server("write_timeout = \"1s\"\nmax_connections = 1");
    let mut greedy = connect(&server);
    let stream = greedy.get_mut();
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let many = PROBE.repeat(1000);
    wait_up_to(
        Duration::from_secs(120),
        "the end of the connection",
        || match stream.write(many.as_bytes()) {
            Err(error) if !waits(&error) => Some(()),
            _ => None,
        },
    );
    assert_eq!(server.post("/css", push("a")).status, 200);
}

#[test]
fn a_client_that_never_reads_does_not_delay_the_stop() {
    let mut server = server("write_timeout = \"60s\"");
    let mut greedy = connect(&server);
    let stream = greedy.get_mut();
    stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let many = PROBE.repeat(1000);
    while stream.write(many.as_bytes()).is_ok() {}
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(15)).code(), Some(0));
    assert!(!server.log().contains("cut off"), "{}", server.log());
}
