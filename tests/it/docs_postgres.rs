//! What postgres.md, backup.md and upgrade.md say of PostgreSQL: the statements, the pooler, the dump, the numbers.

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::docs::page::{blocks, table};
use crate::support::postgres::pooler::Pooler;
use crate::support::postgres::programs::free_port;
use crate::support::postgres::{Postgres, shared};
use crate::support::server::both_engines;
use crate::support::{Settings, TestServer, signed, wait_for};
use crate::validators;

/// In place of a word that livehook takes for a placeholder.
const PASSWORD: &str = "secret";

/// The statements of the page: a database of its own, a schema in another one's, a synchronous standby.
fn statements() -> [String; 3] {
    let blocks = blocks("docs/postgres.md", "sql");
    blocks
        .iter()
        .map(|block| block.replace("replace-me", PASSWORD))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

fn receiver(port: u16, database: &str) -> TestServer {
    let url = format!("postgres://livehook:{PASSWORD}@127.0.0.1:{port}/{database}");
    TestServer::start(&Settings {
        inbox: format!("engine = \"postgres\"\nurl = \"{url}\""),
        ..Settings::default()
    })
}

fn push(server: &TestServer, stream: &str) -> u16 {
    let body = signed(json!({ "event_type": 1, "stream_id": stream }));
    server.post("/css", body).status
}

fn streams(server: &TestServer) -> Vec<String> {
    let events = server.events();
    let streams = events
        .iter()
        .map(|event| event["streamid"].as_str().unwrap());
    streams.map(str::to_owned).collect()
}

/// The pooler of the page in front of this server.
fn pooler(postgres: &Postgres) -> (Pooler, u16) {
    let blocks = blocks("docs/postgres.md", "ini");
    let [settings] = &blocks[..] else {
        panic!("{} blocks", blocks.len());
    };
    let users = format!("\"livehook\" \"{PASSWORD}\"\n");
    let users = postgres.install("users.txt", users.as_bytes());
    let port = free_port();
    let mut settings = settings.clone();
    for (shown, here) in [
        (
            "host=db.example.com port=5432",
            format!("host=127.0.0.1 port={}", postgres.port()),
        ),
        ("listen_port = 6432", format!("listen_port = {port}")),
        ("/etc/pgbouncer/users.txt", users.display().to_string()),
    ] {
        assert!(settings.contains(shown), "{shown}");
        settings = settings.replace(shown, &here);
    }
    (Pooler::start(postgres, port, &settings), port)
}

/// backup.md: runs what is PostgreSQL's, in the server's folder; the rest has to be known to its programs.
fn back_up_and_restore(postgres: &Postgres) {
    let mut run = 0;
    for command in blocks("docs/operate/backup.md", "console")
        .iter()
        .flat_map(|block| validators::commands(block))
    {
        if !command.starts_with("pg_") {
            validators::command_line(&command).unwrap();
            continue;
        }
        let (shown, here) = (
            "livehook@db.example.com/",
            format!("livehook:{PASSWORD}@127.0.0.1:{}/", postgres.port()),
        );
        assert!(command.contains(shown), "{command}");
        let words = validators::words(&command.replace(shown, &here)).unwrap();
        let output = postgres.command(&words[0]).args(&words[1..]).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}");
        run += 1;
    }
    assert_eq!(run, 2);
}

#[test]
fn a_database_is_set_up_pooled_copied_and_followed_as_the_page_says() {
    let postgres = Postgres::start();
    let [own, _, standby] = statements();
    postgres.sql("postgres", &own);
    let server = receiver(postgres.port(), "livehook");
    assert_eq!(push(&server, "direct"), 200);

    let (_pooler, port) = pooler(&postgres);
    let pooled = receiver(port, "livehook");
    assert_eq!(push(&pooled, "pooled"), 200);
    assert_eq!(streams(&server), ["direct", "pooled"]);

    postgres.sql("postgres", "CREATE DATABASE restored OWNER livehook");
    back_up_and_restore(&postgres);
    let restored = receiver(postgres.port(), "restored");
    assert_eq!(streams(&restored), ["direct", "pooled"]);
    assert_eq!(push(&restored, "after"), 200);

    // Nobody has that name, so no commit is answered any more.
    postgres.sql("postgres", &standby);
    wait_for("the setting", || {
        let set = postgres.sql("postgres", "SHOW synchronous_standby_names");
        (set == "standby").then_some(())
    });
    assert_eq!(push(&server, "waits"), 503);
    postgres.sql(
        "postgres",
        "ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()",
    );
}

#[test]
fn a_schema_of_its_own_is_enough() {
    let postgres = Postgres::start();
    postgres.sql("postgres", "CREATE DATABASE others");
    let [_, schema, _] = statements();
    postgres.sql("others", &schema);
    let server = receiver(postgres.port(), "others");
    assert_eq!(push(&server, "room-7"), 200);
}

/// upgrade.md: the counts of changes that a new store has.
#[test]
fn the_page_of_upgrades_counts_the_changes() {
    let [sqlite, postgres] = both_engines();
    let start = |inbox: &str| {
        TestServer::start(&Settings {
            inbox: inbox.into(),
            ..Settings::default()
        })
    };
    let embedded = start(&sqlite);
    let version = |file: &str| -> i64 {
        let file = embedded.path().join("data").join(file);
        let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        file.pragma_query_value(None, "user_version", |row| row.get(0))
            .unwrap()
    };
    let _receiver = start(&postgres);
    let database = postgres.rsplit('/').next().unwrap().trim_end_matches('"');
    let sql = "SELECT value FROM livehook.meta WHERE name = 'version'";
    let counts = [
        version("state.db").to_string(),
        version("streams.db").to_string(),
        shared().sql(database, sql),
    ];
    let rows = table("docs/operate/upgrade.md", "| where");
    let said: Vec<&str> = rows.iter().map(|row| row[2].as_str()).collect();
    assert_eq!(said, counts);
}
