#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::inbox::settings::{EngineName, InboxConfig, StoreSettings};
use crate::settings::Env;

mod server;

use self::server::Server;

fn settings(base: &Path, url: &str) -> PostgresSettings {
    let config = InboxConfig {
        engine: EngineName::Postgres,
        url: Some(url.to_owned()),
        connections: Some(2),
        ..InboxConfig::default()
    };
    let env = Env {
        base,
        variable: &|_| None,
    };
    let settings = config.validate("inbox", &env, Duration::from_secs(600));
    match settings.unwrap().store {
        StoreSettings::Postgres(settings) => settings,
        StoreSettings::Sqlite(_) => panic!("it is shared"),
    }
}

fn pool(server: &Server, url: &str) -> Pool {
    Pool::new(&settings(&server.path(""), url)).unwrap()
}

async fn refusal(server: &Server, url: &str) -> ConnectError {
    let refusal = pool(server, url).get().await.err().unwrap();
    let (ConnectError::Setup(message) | ConnectError::Away(message)) = &refusal;
    assert!(!message.contains("hush"), "{message}");
    refusal
}

async fn setup(server: &Server, url: &str) -> String {
    match refusal(server, url).await {
        ConnectError::Setup(message) => message,
        away => panic!("{url}: {away:?}"),
    }
}

async fn away(server: &Server, url: &str) -> String {
    match refusal(server, url).await {
        ConnectError::Away(message) => message,
        setup => panic!("{url}: {setup:?}"),
    }
}

async fn pid(connection: &Connection) -> i32 {
    let row = connection.query_typed_one("SELECT pg_backend_pid()", &[]);
    row.await.unwrap().get(0)
}

#[tokio::test]
async fn errors_of_the_setup_differ_from_errors_that_pass() {
    let mut server = Server::start();
    let port = server.port;
    let url = server.url();
    assert_eq!(
        setup(&server, &url.replace(":hush", ":hushhush")).await,
        format!(
            "cannot use database `inbox` as role `livehook`: 127.0.0.1:{port}: password authentication failed for user \
             \"livehook\""
        )
    );
    let message = setup(&server, &url.replace("livehook", "nobody")).await;
    assert!(message.contains("authentication failed"), "{message}");
    let message = setup(&server, &url.replace("livehook", "stranger")).await;
    assert!(message.contains("pg_hba.conf rejects"), "{message}");
    let message = setup(&server, &url.replace("/inbox", "/outbox")).await;
    assert!(message.contains("\"outbox\" does not exist"), "{message}");
    let message = setup(&server, &url.replace(":hush", "")).await;
    assert!(message.ends_with("password missing"), "{message}");
    let message = setup(&server, &format!("{url}?options=-c%20nonsense=1")).await;
    assert!(message.contains("nonsense"), "{message}");

    server.sql("ALTER ROLE livehook SET synchronous_commit = off");
    let message = setup(&server, &url).await;
    assert!(
        message.contains("inbox.allow_async_commit = true"),
        "{message}"
    );
    let mut hasty = settings(Path::new("/"), &url);
    hasty.allow_async_commit = true;
    let hasty = Pool::new(&hasty).unwrap();
    hasty.get().await.unwrap();
    server.sql("ALTER ROLE livehook RESET synchronous_commit");

    server.sql("ALTER ROLE livehook SET default_transaction_read_only = on");
    let message = away(&server, &url).await;
    assert!(message.contains("does not allow writes"), "{message}");
    server.sql("ALTER ROLE livehook RESET ALL; ALTER ROLE livehook CONNECTION LIMIT 0");
    let message = away(&server, &url).await;
    assert!(message.contains("too many connections"), "{message}");
    server.sql("ALTER ROLE livehook CONNECTION LIMIT 20");

    // The host that is away may be the writable one, so it helps to wait.
    let closed = format!("postgres://livehook:no@127.0.0.1:1,127.0.0.1:{port}/inbox");
    let message = away(&server, &closed).await;
    assert!(message.contains("127.0.0.1:1: Connection refused"));
    assert!(message.contains(&format!("127.0.0.1:{port}: password")));
    let several = pool(&server, &closed.replace(":no", ":hush"));
    several.get().await.unwrap();
    assert_eq!(
        several
            .0
            .preferred
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
    server.stop();
    away(&server, &url).await;
}

#[tokio::test]
async fn connections_are_bounded_and_return_unless_they_are_useless() {
    let mut server = Server::start();
    let pool = pool(&server, &server.url());
    let first = pool.get().await.unwrap();
    let second = pool.get().await.unwrap();
    let (first_pid, second_pid) = (pid(&first).await, pid(&second).await);
    assert!(
        timeout(Duration::from_millis(50), pool.get())
            .await
            .is_err()
    );
    first.give_back();
    let first = pool.get().await.unwrap();
    assert_eq!(pid(&first).await, first_pid);
    drop(first);
    let first = pool.get().await.unwrap();
    assert_eq!(pid(&first).await, first_pid);

    // A statement that nobody waits for ends before its connection is used again.
    let sleep = first.query_typed("SELECT pg_sleep(0.3)", &[]);
    assert!(timeout(Duration::from_millis(20), sleep).await.is_err());
    drop(first);
    assert!(
        timeout(Duration::from_millis(100), pool.get())
            .await
            .is_err()
    );
    let first = pool.get().await.unwrap();
    assert_eq!(pid(&first).await, first_pid);

    // One error says that the server accepts no writes: the idle connections are dropped, too.
    second.give_back();
    first
        .batch_execute("SET default_transaction_read_only = on")
        .await
        .unwrap();
    let refused = first.batch_execute("CREATE TABLE t ()").await.unwrap_err();
    assert!(matches!(first.classify(&refused), ConnectError::Away(_)));
    first.give_back();
    let first = pool.get().await.unwrap();
    let pid_now = pid(&first).await;
    assert!(pid_now != first_pid && pid_now != second_pid);
    let refused = first
        .batch_execute("CREATE TABLE pg_catalog.t ()")
        .await
        .unwrap_err();
    assert!(matches!(first.classify(&refused), ConnectError::Setup(_)));

    // Idle connections end with the server.
    first.give_back();
    server.stop();
    while !pool.0.idle().clients.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(pool.get().await, Err(ConnectError::Away(_))));
    server.go();
    pid(&pool.get().await.unwrap()).await;
}

#[tokio::test]
async fn notifications_arrive_as_long_as_the_connection_lasts() {
    let mut server = Server::start();
    let pool = pool(&server, &server.url());
    let mut notifications = pool.listen("new \"events\"").await.unwrap().unwrap();
    let connection = pool.get().await.unwrap();
    for payload in ["1", "2"] {
        let notify = format!("NOTIFY \"new \"\"events\"\"\", '{payload}'");
        connection.batch_execute(&notify).await.unwrap();
        assert_eq!(notifications.recv().await.unwrap(), payload);
    }
    let listeners = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    let other = pool.listen("other").await.unwrap().unwrap();
    let count = async || -> i64 {
        let row = connection.query_typed_one(listeners, &[]);
        row.await.unwrap().get(0)
    };
    assert_eq!(count().await, 2);
    drop(other);
    while count().await != 1 {}
    server.stop();
    assert_eq!(notifications.recv().await, None);
}

#[tokio::test]
async fn certificates_are_verified_as_the_url_says() {
    let server = Server::start();
    let at = |host: &str, options: &str| {
        let url = server.url().replace("127.0.0.1", host);
        format!("{url}?{options}")
    };
    let encrypted = async |url: &str| -> bool {
        let pool = pool(&server, url);
        let connection = pool.get().await.unwrap();
        let question = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = connection.query_typed_one(question, &[]).await.unwrap();
        row.get(0)
    };
    let full = "sslmode=verify-full&sslrootcert=ca.pem";
    assert!(encrypted(&at("localhost", full)).await);
    for host in ["localhost", "127.0.0.1"] {
        assert!(encrypted(&at(host, "sslmode=require")).await);
        assert!(!encrypted(&at(host, "sslmode=disable")).await);
        assert!(!encrypted(&at(host, "")).await);
    }
    let message = setup(&server, &at("127.0.0.1", full)).await;
    assert!(
        message.contains("certificate not valid for name"),
        "{message}"
    );
    let message = setup(&server, &at("localhost", "sslmode=verify-full")).await;
    assert!(message.contains("UnknownIssuer"), "{message}");

    server.sql("ALTER SYSTEM SET ssl = off; SELECT pg_reload_conf()");
    let pool = pool(&server, &at("localhost", full));
    let refusal = loop {
        if let Err(refusal) = pool.get().await.map(Connection::give_back) {
            break refusal;
        }
        let generation = pool.0.idle().generation;
        pool.0.invalidate(generation);
    };
    assert!(refusal.to_string().contains("does not do TLS"), "{refusal}");
}
