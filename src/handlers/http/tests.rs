#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use css_callbacks::Secret;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::event::{Event, PayloadForm};
use crate::handler::{Failure, Handler, Outcome};
use crate::handlers::tests::{NOW, env_of, event};
use crate::outbound::Clients;

/// The secret in the examples of the Standard Webhooks libraries.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn config(url: &str) -> Config {
    Config {
        url: url.to_owned(),
        secret: None,
        secret_file: None,
        secret_env: None,
        headers: BTreeMap::new(),
        mode: Mode::Structured,
        connection_lifetime: Duration::from_secs(60),
    }
}

fn validate(config: &Config) -> Result<HttpTarget, Invalid> {
    config.validate("handlers.a.to", &env_of(Path::new("/nowhere")))
}

fn post(config: &Config) -> post::Post {
    validate(config)
        .unwrap()
        .build(PayloadForm::Original, &Clock::manual(NOW))
        .unwrap()
}

/// A request as it arrived.
struct ReceivedRequest {
    head: String,
    body: Vec<u8>,
    connection: usize,
}

impl ReceivedRequest {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let (_, value) = lines.find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

/// An endpoint that receives requests one after the other and gives its answers in turn.
struct Endpoint {
    url: String,
    received: mpsc::UnboundedReceiver<ReceivedRequest>,
}

impl Endpoint {
    async fn new(answer: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").await.unwrap(), answer)
    }

    fn at(listener: TcpListener, answer: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut number = 0;
            let answer = Arc::new(answer);
            for connection in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                while let Some((head, body)) = receive(&mut stream).await {
                    let received = ReceivedRequest {
                        head,
                        body,
                        connection,
                    };
                    let _ = sender.send(received);
                    let answer = answer(number);
                    number += 1;
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if answer.is_empty() {
                        break;
                    }
                }
            }
        });
        Self { url, received }
    }

    async fn answering(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::new(move |_| answer.clone()).await
    }
}

async fn receive(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    Some((head, body))
}

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn received(config: impl FnOnce(&mut Config), event: &Event) -> ReceivedRequest {
    let mut endpoint = Endpoint::answering(GOOD).await;
    let mut chosen = self::config(&endpoint.url);
    config(&mut chosen);
    post(&chosen).handle(event).await.unwrap();
    endpoint.received.recv().await.unwrap()
}

async fn outcome(answer: &str) -> Outcome {
    let endpoint = Endpoint::answering(answer).await;
    post(&config(&endpoint.url)).handle(&event("{}")).await
}

#[tokio::test]
async fn structured_mode_sends_the_whole_event() {
    let event = event(r#"{"stream_id":"a"}"#);
    let received = received(
        |config| drop(config.headers.insert("X-Team".into(), "live".into())),
        &event,
    )
    .await;
    assert!(received.head.starts_with("POST /hook HTTP/1.1\r\n"));
    assert_eq!(
        received.header("content-type"),
        Some("application/cloudevents+json")
    );
    assert_eq!(
        received.header("user-agent"),
        Some(concat!("livehook/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(received.header("x-team"), Some("live"));
    assert_eq!(
        received.body,
        event.cloud_event(PayloadForm::Original).to_json()
    );
    assert!(!received.head.contains("webhook-"));
}

#[tokio::test]
async fn binary_mode_sends_the_body_and_encoded_headers() {
    let body = r#"{"app":"d","appname":"p","stream_id":"直播 7%\"é~","appid":1250000000,"event_time":1795420800}"#;
    let received = received(|config| config.mode = Mode::Binary, &event(body)).await;
    assert_eq!(received.body, body.as_bytes());
    assert_eq!(received.header("content-type"), Some("application/json"));
    let stream = "%E7%9B%B4%E6%92%AD%207%25%22%C3%A9~";
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &*"ab".repeat(16)),
        ("ce-source", "/css"),
        ("ce-type", "css.stream-begin"),
        ("ce-subject", &format!("d/p/{stream}")),
        ("ce-time", "2026-11-23T08:00:00Z"),
        ("ce-appid", "1250000000"),
        ("ce-domain", "d"),
        ("ce-appname", "p"),
        ("ce-streamid", stream),
        ("ce-receivedtime", "2026-11-23T08:00:00.000Z"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    assert_eq!(received.header("ce-datacontenttype"), None);
    assert_eq!(received.header("ce-pushsequence"), None);
}

#[tokio::test]
async fn a_body_that_is_no_utf8_is_sent_whole() {
    let event = event(b"{\"stream_id\":\"\xc4\xe3\"}");
    let structured = received(|_| {}, &event).await;
    let json: serde_json::Value = serde_json::from_slice(&structured.body).unwrap();
    assert_eq!(json["data_base64"], "eyJzdHJlYW1faWQiOiLE4yJ9");
    let binary = received(
        |config| {
            config.mode = Mode::Binary;
            config.secret = Some(SECRET.into());
        },
        &event,
    )
    .await;
    assert_eq!(binary.body, &**event.body());
    // Computed with the hmac module of Python.
    assert_eq!(
        binary.header("webhook-signature"),
        Some("v1,ubEunTwyhwaGKMBb8dPPDJlHDGpTH7U/m20gazeb0FM=")
    );
}

#[tokio::test]
async fn a_secret_signs_what_is_sent() {
    let event = event(r#"{"stream_id":"a"}"#);
    let received = received(|config| config.secret = Some(SECRET.into()), &event).await;
    let id = "ab".repeat(16);
    assert_eq!(received.header("webhook-id"), Some(&*id));
    assert_eq!(received.header("webhook-timestamp"), Some("1795420800"));
    let key = Key::parse(&Secret::new(SECRET)).unwrap_or_else(|problem| panic!("{problem}"));
    let expected = key.sign(&id, 1_795_420_800, &received.body);
    assert_eq!(received.header("webhook-signature"), Some(&*expected));
}

#[test]
fn signatures_are_those_of_standard_webhooks() {
    let key = Key::parse(&Secret::new(SECRET)).unwrap_or_else(|problem| panic!("{problem}"));
    let signature = key.sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        br#"{"test": 2432232314}"#,
    );
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[tokio::test]
async fn every_status_has_its_outcome_and_connections_are_reused() {
    let endpoint =
        Endpoint::new(|number| format!("HTTP/1.1 {} X\r\ncontent-length: 0\r\n\r\n", number + 200));
    let mut endpoint = endpoint.await;
    let post = post(&config(&endpoint.url));
    for code in 200..600 {
        let expected = match code {
            200..=299 => Ok(()),
            400 | 409 | 410 | 413 | 414 | 415 | 422 => Err("reject"),
            _ => Err("retry"),
        };
        let outcome = post.handle(&event("{}")).await.map_err(|failure| {
            assert!(failure.reason().contains(&code.to_string()), "{failure:?}");
            match failure {
                Failure::Reject { .. } => "reject",
                Failure::Retry { after, .. } => {
                    assert_eq!(after, None);
                    "retry"
                }
            }
        });
        assert_eq!(outcome, expected, "{code}");
        let received = endpoint.received.recv().await.unwrap();
        assert_eq!(received.connection, 0, "after {code}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mut other = Endpoint::answering(GOOD).await;
    for code in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {code} X\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            other.url
        );
        let failure = outcome(&answer).await.unwrap_err();
        let expected = format!("HTTP {code}, and redirects are not followed");
        assert_eq!(failure, Failure::retry(expected));
    }
    assert!(other.received.try_recv().is_err());
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    for (text, expected) in [
        ("120", Some(120)),
        ("0", Some(0)),
        ("Mon, 23 Nov 2026 08:01:00 GMT", Some(60)),
        ("Mon, 23 Nov 2026 07:59:00 GMT", Some(0)),
        ("18446744073709551616", Some(u64::MAX)),
        (&"9".repeat(400), Some(u64::MAX)),
        ("-1", None),
        ("soon", None),
    ] {
        let answer = format!("HTTP/1.1 503 X\r\nretry-after: {text}\r\ncontent-length: 0\r\n\r\n");
        let Err(Failure::Retry { after, .. }) = outcome(&answer).await else {
            panic!("503 is a reason to retry");
        };
        assert_eq!(after, expected.map(Duration::from_secs), "{text}");
    }
}

#[tokio::test]
async fn an_answer_without_end_does_not_change_its_sense() {
    let start = Instant::now();
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    assert_eq!(outcome(endless).await, Ok(()));
    let large = format!(
        "HTTP/1.1 422 X\r\ncontent-length: 1000000\r\n\r\n{}",
        "x".repeat(1_000_000)
    );
    let said = format!("HTTP 422, it said: {}", "x".repeat(500));
    assert_eq!(outcome(&large).await, Err(Failure::reject(said)));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_good_answer_may_have_many_headers() {
    let headers: String = (0..150).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let answer = |status| format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n");
    assert_eq!(outcome(&answer(200)).await, Ok(()));
    let rejected = Err(Failure::reject("HTTP 422"));
    assert_eq!(outcome(&answer(422)).await, rejected);
}

#[tokio::test]
async fn a_failure_reports_the_answer_of_the_target() {
    let body = "{\"errcode\":40058,\r\n\"errmsg\":\"no such room\"}";
    let answer = |status| {
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let said = r#", it said: {"errcode":40058,\r\n"errmsg":"no such room"}"#;
    let rejected = Failure::reject(format_args!("HTTP 400{said}"));
    assert_eq!(outcome(&answer(400)).await, Err(rejected));
    let retried = Failure::retry(format_args!("HTTP 500{said}"));
    assert_eq!(outcome(&answer(500)).await, Err(retried));
    assert_eq!(outcome(&answer(200)).await, Ok(()));
}

/// Two servers at the same port of two addresses, the address that a name currently has, and a
/// client that uses the name.
#[tokio::test]
async fn a_name_that_moves_is_followed_when_the_connection_is_old() {
    static MEANS: AtomicU8 = AtomicU8::new(1);
    struct Names;
    impl Resolve for Names {
        fn resolve(&self, _: Name) -> Resolving {
            let address = SocketAddr::from(([127, 0, 0, MEANS.load(Ordering::SeqCst)], 0));
            Box::pin(async move { Ok(Box::new(std::iter::once(address)) as Addrs) })
        }
    }
    let mut old = Endpoint::answering(GOOD).await;
    let port = Url::parse(&old.url).unwrap().port().unwrap();
    let new = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let mut new = Endpoint::at(new, |_| GOOD.to_owned());
    let url = Url::parse(&format!("http://moving.example:{port}/hook")).unwrap();
    let lifetime = Duration::from_secs(1);
    let clients = Clients::new(&url, lifetime, |client| client.dns_resolver(Names)).unwrap();
    let post = async || {
        let request = clients.current().post(url.clone()).body("{}");
        assert_eq!(request.send().await.unwrap().status(), 200);
    };
    post().await;
    assert_eq!(old.received.recv().await.unwrap().connection, 0);
    MEANS.store(2, Ordering::SeqCst);
    // The old server would still answer, but soon gets no more requests.
    let moved = async {
        while new.received.try_recv().is_err() {
            post().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), moved)
        .await
        .expect("the name is not followed");
}

#[tokio::test]
async fn failures_name_their_cause_and_no_secret() {
    let silent = Endpoint::answering("").await;
    // It closes the connection as soon as the TLS handshake begins.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let encrypted = format!("https://{}/hook", plain.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 X\r\n\r\n").await.unwrap();
        let _ = stream.read_u8().await;
    });
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/hook", unused.local_addr().unwrap());
    drop(unused);
    for (url, expected) in [
        (nobody, "cannot connect: Connection refused"),
        (silent.url, "no answer: "),
        (encrypted, "cannot connect: "),
    ] {
        let url = url
            .replace("://", "://user:pass@")
            .replace("/hook", "/path?hush");
        let call = post(&config(&url));
        let failure = call.handle(&event("{}")).await.unwrap_err();
        assert!(matches!(failure, Failure::Retry { .. }));
        assert!(failure.reason().starts_with(expected), "{failure:?}");
        for secret in ["user", "pass@", "path", "hush"] {
            assert!(!failure.reason().contains(secret), "{failure:?}");
        }
    }
}

#[test]
fn secrets_come_from_one_of_three_places() {
    let mut config = config("https://example.com/");
    config.secret_env = Some("SET".into());
    let target = validate(&config).unwrap();
    assert!(target.key.is_some());
    config.secret = Some(SECRET.into());
    assert!(validate(&config).unwrap_err().problem.contains("only one"));
    config.secret_env = None;
    for shown in [format!("{config:?}"), format!("{:?}", validate(&config))] {
        assert!(!shown.contains("whsec"), "{shown}");
    }
    for bad in ["hush", "whsec_", "whsec_!", "d2hzZWNf"] {
        config.secret = Some(bad.into());
        let invalid = validate(&config).unwrap_err();
        assert_eq!(invalid.place, "handlers.a.to.secret");
        assert!(!invalid.problem.contains("hush"), "{invalid}");
    }
}

#[test]
fn urls_and_headers_that_cannot_be_are_refused() {
    for bad in [
        "",
        "example.com",
        "ftp://example.com/",
        "http://",
        "http:///x y",
        "/hook",
    ] {
        let found = validate(&config(bad));
        assert_eq!(found.unwrap_err().place, "handlers.a.to.url", "{bad}");
    }
    for (name, value) in [
        ("Content-Type", "a"),
        ("Webhook-Id", "a"),
        ("CE-Type", "a"),
        ("Transfer-Encoding", "chunked"),
        ("a b", "c"),
        ("", "c"),
        ("X-A", "b\r\nc: d"),
    ] {
        let mut config = config("http://example.com/");
        config.headers.insert(name.into(), value.into());
        let invalid = validate(&config).unwrap_err();
        assert_eq!(invalid.place, "handlers.a.to.headers");
        assert!(
            invalid.problem.starts_with(&format!("`{name}`")),
            "{invalid}"
        );
    }
    let mut twice = config("http://example.com/");
    twice.headers = [("X-A", "1"), ("x-a", "2")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    assert!(validate(&twice).unwrap_err().problem.contains("twice"));
    let mut credentials = config("http://user@example.com/");
    let bearer = ("Authorization".to_owned(), "Bearer x".to_owned());
    credentials.headers = [bearer].into();
    assert!(validate(&credentials).is_err());
    credentials.url = "http://example.com/".into();
    assert!(validate(&credentials).is_ok());
}
