//! The answers of the callback listener.

mod connection_limit;
mod connections;
mod draining;
mod heads;
mod idle;

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;

use crate::support::client::read_answer;
use crate::support::{Answer, Settings, TestServer, signed, signed_raw, wait_for};

/// A server with these lines in `[server]`.
fn server(lines: &str) -> TestServer {
    TestServer::start(&Settings {
        server: format!("drain_delay = \"0s\"\n{lines}"),
        ..Settings::default()
    })
}

fn connect(server: &TestServer) -> BufReader<TcpStream> {
    connect_to(server.addr)
}

fn connect_to(address: SocketAddr) -> BufReader<TcpStream> {
    patient(TcpStream::connect(address).unwrap())
}

fn patient(stream: TcpStream) -> BufReader<TcpStream> {
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    BufReader::new(stream)
}

fn write(connection: &mut BufReader<TcpStream>, bytes: impl AsRef<[u8]>) {
    connection.get_mut().write_all(bytes.as_ref()).unwrap();
}

/// Whether the server closed the connection. A reset counts, too.
fn is_closed(connection: &mut BufReader<TcpStream>) -> bool {
    match connection.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => !waits(&error),
    }
}

/// Whether no data has arrived yet.
fn waits(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Sends a request without a body and reads the answer.
#[track_caller]
fn ask(connection: &mut BufReader<TcpStream>, path: &str) -> Answer {
    write(
        connection,
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    );
    read_answer(connection).unwrap()
}

/// Sends a callback that is stored.
#[track_caller]
fn post_on(connection: &mut BufReader<TcpStream>, stream: &str) {
    let body = push(stream);
    write(connection, head(body.len()) + &body);
    assert_stored(&read_answer(connection).unwrap());
}

fn head(length: usize) -> String {
    format!("POST /css HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")
}

#[track_caller]
fn assert_error(answer: &Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.text(),
        format!("{{\"code\":{status},\"message\":\"{message}\"}}")
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let retry_after = answer
        .header("retry-after")
        .map(|seconds| seconds.parse::<u32>().unwrap());
    assert_eq!(retry_after.is_some(), status == 503, "{retry_after:?}");
}

#[track_caller]
fn assert_stored(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "{\"code\":0}")
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

fn push(stream: &str) -> String {
    signed(json!({ "event_type": 1, "stream_id": stream }))
}

#[test]
fn what_is_stored_is_answered_200_and_again_when_it_is_repeated() {
    let server = server("");
    let mut client = server.client();
    let body = push("room-7");
    assert_stored(&client.post("/css/stream-begin", &body).unwrap());
    assert_stored(&client.post("/css/stream-begin", &body).unwrap());
    assert_stored(
        &client
            .post("/css?action=streamBegin&a=b&=&%00", push("room-8"))
            .unwrap(),
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_stored(
        &client
            .request("POST", "/css", &form, Some(push("room-9").as_bytes()))
            .unwrap(),
    );
    assert_eq!(server.events().len(), 3);
}

#[test]
fn what_is_not_one_object_is_answered_400() {
    let server = server("");
    let mut client = server.client();
    let good = push("a");
    let bodies = [
        String::new(),
        " ".to_owned(),
        "null".to_owned(),
        "1".to_owned(),
        "\"a\"".to_owned(),
        "[]".to_owned(),
        format!("[{good}]"),
        format!("{good}{good}"),
        format!("{good},"),
        format!("{good}x"),
        format!("{good}\0"),
        format!("x{good}"),
        good[..good.len() - 1].to_owned(),
        good.replacen('{', "{,", 1),
        good.replacen('}', ",}", 1),
        good.replace('"', "'"),
        good.replacen("\"event_type\"", "event_type", 1),
        good.replacen("\"a\"", "\"a\n\"", 1),
        good.replacen("\"a\"", "\"\\x\"", 1),
        good.replacen("\"a\"", "\"\\u12\"", 1),
        good.replacen("\"a\"", "01", 1),
        good.replacen("\"a\"", "1.", 1),
        good.replacen("\"a\"", "+1", 1),
        good.replacen("\"a\"", "NaN", 1),
        good.replacen("\"a\"", "tru", 1),
        good.replacen("\"a\"", "[1,]", 1),
        good.replacen("\"a\"", "[1}", 1),
        "event_type=1&stream_id=a".to_owned(),
    ];
    for body in bodies {
        let answer = client.post("/css/stream-begin", &body).unwrap();
        assert_eq!(answer.status, 400, "{body:?}");
        assert_error(&answer, 400, "the body is not one JSON object");
    }
    let none = client.request("POST", "/css", &[], None).unwrap();
    assert_error(&none, 400, "the body is not one JSON object");
    assert!(server.events().is_empty());
    assert_eq!(
        server
            .metric("livehook_callbacks_total{source=\"css\",kind=\"unknown\",result=\"invalid\"}"),
        29.0
    );
}

#[test]
fn a_body_is_nested_128_deep_and_no_deeper() {
    let server = server("");
    let mut client = server.client();
    let nested = |open: &str, middle: &str, close: &str, depth: usize| {
        let (open, close) = (open.repeat(depth - 1), close.repeat(depth - 1));
        signed_raw(format!("\"deep\":{open}{middle}{close}").as_bytes())
    };
    for (open, middle, close) in [
        ("[", "", "]"),
        ("{\"a\":", "1", "}"),
        ("[{\"a\":", "[]", "}]"),
    ] {
        let levels = open.matches(['[', '{']).count();
        let depth = |total: usize| (total - 1 - middle.matches('[').count()) / levels + 1;
        let stored = client
            .post("/css", nested(open, middle, close, depth(128)))
            .unwrap();
        assert_stored(&stored);
        let refused = client
            .post(
                "/css",
                nested(open, middle, close, depth(129) + usize::from(levels > 1)),
            )
            .unwrap();
        assert_error(&refused, 400, "the body is not one JSON object");
    }
    let flood = "[".repeat(500_000);
    assert_eq!(
        client
            .post("/css", format!("{{\"a\":{flood}"))
            .unwrap()
            .status,
        400
    );
}

#[test]
fn other_methods_and_paths_are_answered_405_and_404() {
    let server = server("");
    let mut client = server.client();
    for path in ["/css", "/css/stream-end"] {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = client.request(method, path, &[], None).unwrap();
            assert_error(&answer, 405, "the method is not allowed here");
            assert_eq!(answer.header("allow"), Some("POST"), "{method} {path}");
        }
    }
    for path in [
        "/",
        "/nobody",
        "/nobody/stream-end",
        "/css/nothing",
        "/css/stream-end/x",
        "/%FF/stream-end",
        "/css%2Fstream-end",
    ] {
        let answer = client.post(path, push("a")).unwrap();
        assert_error(&answer, 404, "no such source or kind");
    }
    for path in ["/healthz", "/readyz"] {
        assert_stored(&client.get(path).unwrap());
    }
    for path in ["/metrics", "/api/events"] {
        assert_eq!(
            client.get(path).unwrap().status,
            if path == "/metrics" { 405 } else { 404 }
        );
    }
}

#[test]
fn a_body_that_stalls_is_answered_408_and_the_connection_closed() {
    let server = server("deadline = \"300ms\"");
    let body = push("room-7");
    let half = &body[..body.len() / 2];
    let mut plain = connect(&server);
    write(&mut plain, head(body.len()) + half);
    let mut chunked = connect(&server);
    write(
        &mut chunked,
        format!(
            "POST /css HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n",
            half.len()
        ),
    );
    for connection in [&mut plain, &mut chunked] {
        let answer = read_answer(connection).unwrap();
        assert_error(&answer, 408, "the body did not arrive in time");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(is_closed(connection));
    }
    assert!(server.events().is_empty());
    // A busy disk may be too slow for such a short deadline.
    wait_for("the whole body to be taken", || {
        Some(()).filter(|()| server.post("/css", &body).status == 200)
    });
}

#[test]
fn a_body_over_the_limit_is_answered_413() {
    let server = server("max_body = \"4KiB\"");
    let sized = |size: usize| {
        let empty = signed_raw(b"\"fill\":\"\"").len();
        signed_raw(format!("\"fill\":\"{}\"", "x".repeat(size - empty)).as_bytes())
    };
    let chunked = |body: &[u8], chunk: usize| {
        let mut request =
            b"POST /css HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in body.chunks(chunk) {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    };
    for size in [4097, 100_000, 3_000_000] {
        let answer = server.post("/css", sized(size));
        assert_error(&answer, 413, "the body is too long");
        for chunk in [7, 65_536].into_iter().filter(|chunk| size < 1000 * chunk) {
            let answer = server.client().send(&chunked(&sized(size), chunk)).unwrap();
            assert_error(&answer, 413, "the body is too long");
        }
    }
    assert!(server.events().is_empty());
    assert_stored(&server.post("/css", sized(4096)));
    let mut last = sized(4096);
    let at = last.len() - 60;
    last[at] ^= 1; // within `t` or `sign`: refused, but not for its length
    assert_ne!(server.post("/css", &last).status, 413);
    let body = signed_raw(format!("\"chunked\":\"{}\"", "x".repeat(3000)).as_bytes());
    assert_stored(&server.client().send(&chunked(&body, 11)).unwrap());
}

#[test]
fn more_in_flight_than_fits_is_answered_503_until_there_is_room() {
    let server = server("max_body = \"64KiB\"\nmax_inflight = \"64KiB\"\ndeadline = \"10s\"");
    let body = signed_raw(format!("\"fill\":\"{}\"", "x".repeat(60_000)).as_bytes());
    let (begin, end) = body.split_at(body.len() - 1);
    let mut number = 0;
    let mut other = || {
        number += 1;
        let fill = format!("\"fill\":\"{number}{}\"", "y".repeat(8000));
        server.post("/css", signed_raw(fill.as_bytes()))
    };
    // A body that is announced but not sent does not use up the budget.
    let mut announced = connect(&server);
    write(&mut announced, head(body.len()));
    assert_stored(&other());
    // The other request may be answered before bytes that were written earlier are read.
    let (mut first, refused) = wait_for("the body to arrive first", || {
        let mut first = connect(&server);
        write(&mut first, head(body.len()));
        write(&mut first, begin);
        let answer = other();
        (answer.status != 200).then_some((first, answer))
    });
    assert_error(&refused, 503, "too much at once");
    let overloaded =
        "livehook_callbacks_total{source=\"css\",kind=\"unknown\",result=\"overloaded\"}";
    assert!(server.metric(overloaded) >= 1.0);
    write(&mut first, end);
    assert_stored(&read_answer(&mut first).unwrap());
    assert_stored(&server.post("/css", push("a")));
}

#[test]
fn the_longest_body_fits_the_smallest_budget() {
    let server = server("max_body = \"64KiB\"\nmax_inflight = \"64KiB\"");
    let empty = signed_raw(b"\"fill\":\"\"").len();
    let body = signed_raw(format!("\"fill\":\"{}\"", "x".repeat(65_536 - empty)).as_bytes());
    assert_stored(&server.post("/css", body));
}

#[test]
fn without_room_on_the_disk_callbacks_are_answered_503() {
    let server = TestServer::start(&Settings {
        inbox: "min_free = \"1000PiB\"".into(),
        ..Settings::default()
    });
    let answer = server.post("/css", push("a"));
    assert_error(&answer, 503, "no room to store it");
    let ready = server.client().get("/readyz").unwrap();
    assert_eq!(
        ready.json(),
        json!({ "code": 503, "message": "the disk is nearly full" })
    );
    assert_eq!(ready.status, 503);
    assert_stored(&server.client().get("/healthz").unwrap());
    assert_eq!(
        server.metric(
            "livehook_callbacks_total{source=\"css\",kind=\"stream-begin\",result=\"failed\"}"
        ),
        1.0
    );
    assert!(
        server
            .get("/metrics")
            .text()
            .contains("livehook_retry_window_remaining_seconds{source=\"css\"}")
    );
}
