//! Heads of requests: too long, too many at once, and not what HTTP allows.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::time::Duration;

use super::{
    ask, assert_error, assert_stored, connect, connect_to, head, is_closed, push, server, waits,
    write,
};
use crate::support::client::read_answer;
use crate::support::{Answer, TestServer, signed_raw, wait_for};

fn long_head(length: usize) -> String {
    let begin = "GET /healthz HTTP/1.1\r\nhost: a\r\n";
    let end = "\r\n\r\n";
    let field = "x-fill: ";
    let fill = length - begin.len() - field.len() - end.len();
    format!("{begin}{field}{}{end}", "x".repeat(fill))
}

#[test]
fn a_head_over_max_head_is_answered_431() {
    const DEFAULT: usize = 16 << 10;
    for (lines, longest) in [
        ("", DEFAULT),
        ("max_head = \"2KiB\"", 2048),
        ("max_head = \"64KiB\"", 65_536),
    ] {
        let server = server(lines);
        for address in [server.addr, server.admin] {
            let mut whole = connect_to(address);
            write(&mut whole, long_head(longest));
            assert_stored(&read_answer(&mut whole).unwrap());
            let mut connection = connect_to(address);
            write(&mut connection, long_head(longest.min(4000)));
            assert_stored(&read_answer(&mut connection).unwrap());
            let longer = long_head(longest + 1);
            write(&mut connection, &longer[..longer.len() / 2]);
            write(&mut connection, &longer[longer.len() / 2..]);
            assert_error(&read_answer(&mut connection).unwrap(), 431, TOO_LONG);
            assert!(is_closed(&mut connection));
            for length in [longest + 1, 3 * longest, 200_000] {
                let mut connection = connect_to(address);
                write(&mut connection, long_head(length));
                assert_error(&read_answer(&mut connection).unwrap(), 431, TOO_LONG);
                assert!(is_closed(&mut connection));
            }
        }
    }
}

const TOO_LONG: &str = "the head of the request is too long";

fn set_patience(connection: &mut BufReader<TcpStream>, patience: Duration) {
    let stream = connection.get_mut();
    stream.set_read_timeout(Some(patience)).unwrap();
}

#[test]
fn heads_that_are_not_complete_count_as_in_flight() {
    let server = server(
        "max_body = \"64KiB\"\nmax_inflight = \"64KiB\"\nheader_timeout = \"60s\"\nmax_head = \"16KiB\"",
    );
    let begin = &long_head(8192)[..8000];
    let mut open: Vec<_> = (0..10).map(|_| connect(&server)).collect();
    for connection in &mut open {
        write(connection, begin);
        set_patience(connection, Duration::from_millis(10));
    }
    // Half of the budget is enough for four of them.
    let mut refused = Vec::new();
    wait_for("six to be refused", || {
        open.retain_mut(|connection| {
            if connection.fill_buf().is_err_and(|error| waits(&error)) {
                return true;
            }
            set_patience(connection, Duration::from_secs(30));
            refused.push(read_answer(connection).unwrap());
            false
        });
        (refused.len() >= 6).then_some(())
    });
    assert_eq!(open.len(), 4);
    for answer in &refused {
        assert_error(answer, 503, "too much at once");
    }
    assert_stored(&server.post("/css", push("a")));
    for connection in &mut open {
        write(connection, &long_head(8192)[8000..]);
        set_patience(connection, Duration::from_secs(30));
        assert_stored(&read_answer(connection).unwrap());
    }
    // Their part of the budget is free again.
    let mut more: Vec<_> = (0..4).map(|_| connect(&server)).collect();
    for connection in &mut more {
        write(connection, begin);
    }
    assert_eq!(ask(&mut connect(&server), "/healthz").status, 200);
    for connection in &mut more {
        write(connection, &long_head(8192)[8000..]);
        assert_stored(&read_answer(connection).unwrap());
    }
}

#[test]
fn an_idle_connection_holds_no_large_buffer() {
    let server = server("");
    let large = format!("{{\"fill\":\"{}\"}}", "x".repeat(100_000));
    let mut connection = connect(&server);
    write(&mut connection, head(large.len()) + &large);
    let answer = read_answer(&mut connection).unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (401, Some("close"))
    );
    assert!(is_closed(&mut connection));
    let fill = format!("\"fill\":\"{}\"", "x".repeat(100_000));
    let genuine = signed_raw(fill.as_bytes());
    let mut connection = connect(&server);
    for _ in 0..2 {
        write(&mut connection, head(genuine.len()));
        write(&mut connection, &genuine);
        let answer = read_answer(&mut connection).unwrap();
        assert_stored(&answer);
        assert_eq!(answer.header("connection"), None);
    }
}

/// The answer to a request with these lines in its head, and whether the connection is closed after
/// it.
fn answer_to(server: &TestServer, version: &str, lines: &str, body: &str) -> Answer {
    let mut connection = connect(server);
    write(
        &mut connection,
        format!("POST /css HTTP/{version}\r\n{lines}\r\n{body}"),
    );
    let answer = read_answer(&mut connection).unwrap();
    if answer.status != 200 {
        assert_eq!(answer.header("connection"), Some("close"), "{lines}");
        let mut rest = Vec::new();
        let _ = connection.read_to_end(&mut rest);
        assert!(
            rest.is_empty(),
            "{lines}: {}",
            String::from_utf8_lossy(&rest)
        );
    }
    answer
}

#[test]
fn what_is_no_http_is_refused() {
    let server = server("");
    let body = push("a");
    let length = format!("content-length: {}\r\n", body.len());
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let host = "the request must have one Host header";
    for lines in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nHost: b\r\n",
        "host: a b\r\n",
        "host: a, b\r\n",
        "host: user@a\r\n",
        "host: a/b\r\n",
        "host: \u{fc}\r\n",
    ] {
        let answer = answer_to(&server, "1.1", &format!("{lines}{length}"), &body);
        assert_error(&answer, 400, host);
    }
    let two = format!("host: a\r\nhost: a\r\n{length}");
    assert_error(&answer_to(&server, "1.0", &two, &body), 400, host);
    let coding = "the only transfer coding is chunked, once";
    for lines in [
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
    ] {
        let answer = answer_to(&server, "1.1", &format!("host: a\r\n{lines}"), &chunked);
        assert_error(&answer, 400, coding);
    }
    for expected in ["200-ok", "100-continue, x", "x\r\nexpect: 100-continue", ""] {
        let lines = format!("host: a\r\nexpect: {expected}\r\n{length}");
        let answer = answer_to(&server, "1.1", &lines, &body);
        assert_error(&answer, 417, "the only expectation is 100-continue");
    }
    assert!(server.events().is_empty());
    for (path, lines, status) in [
        ("/metrics", "", 400),
        ("/metrics", "host: localhost\r\nhost: localhost\r\n", 400),
        ("/metrics", "host: localhost\r\nexpect: x\r\n", 417),
        ("/healthz", "", 400),
    ] {
        let mut connection = connect_to(server.admin);
        write(
            &mut connection,
            format!("GET {path} HTTP/1.1\r\n{lines}\r\n"),
        );
        assert_eq!(read_answer(&mut connection).unwrap().status, status);
        assert!(is_closed(&mut connection));
    }
}

#[test]
fn what_is_http_is_taken() {
    let server = server("");
    let hosts = [
        "a",
        "a:8080",
        "[::1]:80",
        "",
        "A.example.com.",
        "127.0.0.1",
        "a_b",
    ];
    for (number, host) in hosts.into_iter().enumerate() {
        let body = push(&format!("host-{number}"));
        let mut connection = connect(&server);
        let length = body.len();
        write(
            &mut connection,
            format!("POST /css HTTP/1.1\r\nHOST: {host}\r\nContent-Length: {length}\r\n\r\n{body}"),
        );
        assert_stored(&read_answer(&mut connection).unwrap());
        write(&mut connection, head(body.len()) + &body);
        assert_stored(&read_answer(&mut connection).unwrap());
    }
    let body = push("chunked");
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let lines = "host: a\r\ntransfer-encoding: Chunked\r\n";
    assert_stored(&answer_to(&server, "1.1", lines, &chunked));
    let body = push("expected");
    let mut connection = connect(&server);
    write(
        &mut connection,
        format!(
            "POST /css HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ),
    );
    assert_eq!(read_answer(&mut connection).unwrap().status, 100);
    write(&mut connection, body);
    assert_stored(&read_answer(&mut connection).unwrap());
}
