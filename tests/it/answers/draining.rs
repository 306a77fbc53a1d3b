//! The end of connections: while the server drains, and when a client closes its sending side.

use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use super::{
    ask, assert_stored, connect, connect_to, head, is_closed, post_on, push, server, write,
};
use crate::support::client::read_answer;
use crate::support::{Settings, TestServer, wait_for};

fn draining() -> TestServer {
    TestServer::start(&Settings {
        server: "drain_delay = \"4s\"".into(),
        ..Settings::default()
    })
}

#[test]
fn during_the_drain_each_answer_is_the_last_of_its_connection() {
    let mut server = draining();
    let mut open: Vec<_> = (0..24).map(|_| connect(&server)).collect();
    for (number, connection) in open.iter_mut().enumerate() {
        post_on(connection, &format!("room-{number}"));
    }
    let mut admin = connect_to(server.admin);
    assert_eq!(ask(&mut admin, "/metrics").header("connection"), None);
    server.signal("TERM");
    wait_for("it to be unready", || {
        Some(()).filter(|()| server.get("/readyz").status == 503)
    });
    for (number, connection) in open.iter_mut().enumerate() {
        let body = push(&format!("room-{number} again"));
        // A pipelined second request is not answered, but the first answer still arrives.
        write(
            connection,
            head(body.len()) + &body + &head(10) + "0123456789",
        );
        let answer = read_answer(connection).unwrap();
        assert_stored(&answer);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(is_closed(connection));
    }
    let mut new = connect(&server);
    let answer = ask(&mut new, "/readyz");
    assert_eq!(
        (answer.status, answer.header("connection")),
        (503, Some("close"))
    );
    let answer = ask(&mut admin, "/metrics");
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(server.wait(Duration::from_secs(16)).code(), Some(0));
}

#[test]
fn clients_that_go_on_until_connection_close_are_all_answered() {
    let mut server = draining();
    let address = server.addr;
    let clients: Vec<_> = (0..8)
        .map(|client| {
            thread::spawn(move || {
                let mut connection = connect_to(address);
                for number in 0.. {
                    let body = push(&format!("room-{client}-{number}"));
                    write(&mut connection, head(body.len()) + &body);
                    let answer = read_answer(&mut connection).unwrap();
                    assert_stored(&answer);
                    if answer.header("connection") == Some("close") {
                        assert!(is_closed(&mut connection));
                        return number;
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                unreachable!()
            })
        })
        .collect();
    wait_for("callbacks", || {
        Some(()).filter(|()| server.events().len() > 16)
    });
    server.signal("TERM");
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    assert_eq!(server.wait(Duration::from_secs(16)).code(), Some(0));
}

#[test]
fn a_client_that_closes_its_sending_side_is_answered() {
    let server = server("");
    for number in 0..20 {
        let body = push(&format!("room-{number}"));
        let mut connection = connect(&server);
        write(&mut connection, head(body.len()) + &body);
        connection.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_stored(&read_answer(&mut connection).unwrap());
        assert!(is_closed(&mut connection));
    }
    assert_eq!(server.events().len(), 20);
    for path in ["/metrics", "/api/events?limit=1000"] {
        let mut connection = connect_to(server.admin);
        write(
            &mut connection,
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        );
        connection.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_answer(&mut connection).unwrap().status, 200);
        assert!(is_closed(&mut connection));
    }
}
