//! More connections than the limit.

use std::io::{BufReader, Read};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};

use rustix::net::{AddressFamily, SocketType, bind, connect as connect_socket, socket};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{
    ask, assert_error, assert_stored, connect, connect_to, head, is_closed, patient, post_on, push,
    server, write,
};
use crate::support::client::read_answer;
use crate::support::{Settings, TestServer, wait_for};

type Connection = BufReader<TcpStream>;

/// Connects from another address of this machine.
fn connect_from(address: [u8; 4], to: SocketAddr) -> Connection {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new(address.into(), 0)).unwrap();
    connect_socket(&socket, &to).unwrap();
    patient(TcpStream::from(socket))
}

/// A connection that got an answer, but sent no callback.
fn idle_connection(to: SocketAddr) -> Connection {
    let mut connection = connect_to(to);
    assert_eq!(ask(&mut connection, "/healthz").status, 200);
    connection
}

/// A request whose body is not complete.
fn incomplete_request(server: &TestServer, body: &str) -> Connection {
    let mut connection = connect(server);
    write(&mut connection, head(body.len()) + &body[..20]);
    connection
}

/// Fills all connections with requests. One that came too early may have been closed, so this is
/// retried.
fn occupied<T>(server: &TestServer, occupy: impl Fn() -> T) -> T {
    wait_for("all places to be taken", || {
        let taken = occupy();
        let answer = server.post("/css", push("one too many"));
        (answer.status == 503).then_some(taken)
    })
}

#[test]
fn idle_connections_make_room_the_longest_idle_first() {
    let server = server("max_connections = 20");
    let mut genuine = connect(&server);
    post_on(&mut genuine, "genuine");
    let mut silent: Vec<_> = (0..19).map(|_| idle_connection(server.addr)).collect();
    let mut newcomers: Vec<_> = (0..5)
        .map(|number| {
            let mut newcomer = connect(&server);
            post_on(&mut newcomer, &format!("new-{number}"));
            newcomer
        })
        .collect();
    for mut gone in silent.drain(..5) {
        assert!(is_closed(&mut gone));
    }
    for connection in &mut silent {
        assert_eq!(ask(connection, "/healthz").status, 200);
    }
    post_on(&mut genuine, "genuine again");
    for (number, newcomer) in newcomers.iter_mut().enumerate() {
        post_on(newcomer, &format!("new-{number} again"));
    }
    let log = server.log();
    assert_eq!(
        log.matches("too many connections: idle ones").count(),
        1,
        "{log}"
    );
}

#[test]
fn a_flood_of_silent_connections_shuts_nobody_out() {
    let server = server("max_connections = 20");
    let mut genuine = connect(&server);
    post_on(&mut genuine, "genuine");
    let _silent: Vec<_> = (0..300).map(|_| connect(&server)).collect();
    assert_stored(&server.post("/css", push("a")));
    assert_eq!(ask(&mut connect(&server), "/healthz").status, 200);
    assert_eq!(ask(&mut connect(&server), "/readyz").status, 200);
    post_on(&mut genuine, "genuine again");
}

#[test]
fn a_connection_with_a_request_under_way_stays() {
    let server = server("max_connections = 4\ndeadline = \"19s\"\nheader_timeout = \"60s\"");
    let body = push("in two");
    let mut busy = incomplete_request(&server, &body);
    let mut beginning = connect(&server);
    write(&mut beginning, "GET /hea");
    let mut between = connect(&server);
    let first = push("between");
    write(&mut between, head(first.len()) + &first + "GET /hea");
    assert_stored(&read_answer(&mut between).unwrap());
    let mut last = idle_connection(server.addr);
    // When this is answered, the server has read what was written before.
    assert_eq!(ask(&mut last, "/healthz").status, 200);
    let mut newest = last;
    for number in 0..10 {
        let mut newcomer = connect(&server);
        post_on(&mut newcomer, &format!("new-{number}"));
        assert!(is_closed(&mut newest), "{number}");
        newest = newcomer;
    }
    write(&mut busy, &body[20..]);
    assert_stored(&read_answer(&mut busy).unwrap());
    for connection in [&mut beginning, &mut between] {
        write(connection, "lthz HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_stored(&read_answer(connection).unwrap());
    }
}

#[test]
fn if_all_sent_callbacks_the_peer_with_the_most_makes_room() {
    let server = server("max_connections = 5");
    let few = |number: usize| (connect_from([127, 0, 0, 2], server.addr), number);
    let many = |number: usize| (connect_from([127, 0, 0, 3], server.addr), number);
    let mut all = [few(0), many(1), many(2), few(3), many(4)];
    for (connection, number) in &mut all {
        post_on(connection, &format!("room-{number}"));
    }
    let mut newcomer = connect_from([127, 0, 0, 4], server.addr);
    post_on(&mut newcomer, "new");
    assert!(is_closed(&mut all[1].0));
    for at in [0, 2, 3, 4] {
        post_on(&mut all[at].0, "again");
    }
}

#[test]
fn if_no_connection_can_be_closed_probes_are_answered_and_the_rest_503() {
    let server = server("max_connections = 2\ndeadline = \"19s\"");
    let bodies = [push("a"), push("b")];
    let mut busy = occupied(&server, || {
        bodies
            .each_ref()
            .map(|body| incomplete_request(&server, body))
    });
    assert!(server.log().contains("too many connections: idle ones"));
    for path in ["/healthz", "/readyz"] {
        let mut probe = connect(&server);
        let answer = ask(&mut probe, path);
        assert_stored(&answer);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(is_closed(&mut probe));
        let mut probe = connect(&server);
        write(
            &mut probe,
            format!("HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\n"),
        );
        let mut answer = String::new();
        probe.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    // More than the spare connections.
    let _silent: Vec<_> = (0..200).map(|_| connect(&server)).collect();
    assert_stored(&ask(&mut connect(&server), "/healthz"));
    let mut refused = connect(&server);
    let body = push("d");
    write(&mut refused, head(body.len()) + &body);
    let answer = read_answer(&mut refused).unwrap();
    assert_error(&answer, 503, "too many connections");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(is_closed(&mut refused));
    for (connection, body) in busy.iter_mut().zip(&bodies) {
        write(connection, &body[20..]);
        assert_stored(&read_answer(connection).unwrap());
    }
    wait_for("a place", || {
        Some(()).filter(|()| server.post("/css", push("e")).status == 200)
    });
}

#[test]
fn a_silent_connection_over_the_limit_is_answered_503() {
    let server = server("max_connections = 1\ndeadline = \"19s\"\nheader_timeout = \"2s\"");
    let _busy = occupied(&server, || incomplete_request(&server, &push("a")));
    let mut silent = connect(&server);
    let answer = read_answer(&mut silent).unwrap();
    assert_error(&answer, 503, "too many connections");
    assert!(is_closed(&mut silent));
}

#[test]
fn idle_connections_do_not_lock_the_operator_out() {
    let server = server("");
    let mut operator = connect_to(server.admin);
    assert_eq!(ask(&mut operator, "/metrics").status, 200);
    let _silent: Vec<_> = (0..200).map(|_| connect_to(server.admin)).collect();
    assert_eq!(server.get("/metrics").status, 200);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(ask(&mut operator, "/metrics").status, 200);
}

#[test]
fn max_connections_is_what_the_descriptors_allow() {
    let limited = "ulimit -n 128; exec \"$0\" \"$@\"";
    let server = TestServer::start(&Settings {
        under: ["/bin/sh", "-c", limited].map(str::to_owned).into(),
        ..Settings::default()
    });
    let mut genuine = connect(&server);
    post_on(&mut genuine, "genuine");
    let mut silent: Vec<_> = (0..300).map(|_| connect(&server)).collect();
    assert_stored(&server.post("/css", push("a")));
    assert_eq!(ask(&mut connect(&server), "/readyz").status, 200);
    post_on(&mut genuine, "genuine again");
    assert!(is_closed(&mut silent[0]));
    let log = server.log();
    assert_eq!(log.matches("fewer connections are accepted").count(), 1);
    assert!(log.contains("possible=64"), "{log}");
    assert!(!log.contains("cannot accept connections"), "{log}");
}

#[test]
fn without_descriptors_idle_connections_make_room_and_the_log_stays_short() {
    let server = server("");
    let mut open: Vec<_> = (0..10).map(|_| idle_connection(server.addr)).collect();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .unwrap()
        .count() as u64;
    let limit = Rlimit {
        current: Some(descriptors),
        maximum: Some(descriptors),
    };
    let pid = Pid::from_raw(server.pid().try_into().unwrap());
    prlimit(pid, Resource::Nofile, limit).unwrap();
    open.extend((0..30).map(|_| idle_connection(server.addr)));
    assert!(is_closed(&mut open[0]));
    let log = server.log();
    let lines = log.matches("cannot accept connections").count();
    assert_eq!(lines, 1, "{log}");
    assert!(log.lines().count() < 30, "{log}");
}
