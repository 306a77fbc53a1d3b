//! What a commit of a server guarantees. Each new connection asks.

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::error::HostError;

const OLDEST_VERSION: u32 = 13;

const QUESTION: &str = "SELECT current_setting('server_version_num'), current_setting('transaction_read_only'), \
    pg_is_in_recovery()::text, current_setting('synchronous_commit'), current_setting('fsync'), \
    current_setting('synchronous_standby_names'), current_setting('transaction_isolation'), \
    current_setting('server_encoding')";

/// What an acknowledgement means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Durability {
    pub(super) meaning: String,
    is_weak: bool,
}

/// Asks a server for its settings. Refuses one that is too old, is read-only, or answers before it has
/// written; the last only unless `allow_async_commit`.
pub(super) async fn ask_server(
    client: &Client,
    allow_async_commit: bool,
) -> Result<Durability, HostError> {
    let answer = client.simple_query(QUESTION).await;
    let answer = answer.map_err(|error| HostError::from_statement(&error))?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(|| HostError::setup("it does not answer as PostgreSQL does"))?;
    judge(&ServerSettings::read(row), allow_async_commit)
}

struct ServerSettings<'a> {
    version: u32,
    writes: bool,
    synchronous_commit: &'a str,
    fsync: &'a str,
    standbys: &'a str,
    isolation: &'a str,
    encoding: &'a str,
}

impl<'a> ServerSettings<'a> {
    fn read(row: &'a SimpleQueryRow) -> Self {
        let text = |index| row.try_get(index).ok().flatten().unwrap_or_default();
        Self {
            version: text(0).parse().unwrap_or_default(),
            writes: text(1) == "off" && text(2) == "false",
            synchronous_commit: text(3),
            fsync: text(4),
            standbys: text(5),
            isolation: text(6),
            encoding: text(7),
        }
    }
}

fn judge(server: &ServerSettings, allow_async_commit: bool) -> Result<Durability, HostError> {
    let version = server.version / 10_000;
    if version < OLDEST_VERSION {
        return Err(HostError::setup(format!(
            "the server is PostgreSQL {version}, but {OLDEST_VERSION} or newer is needed"
        )));
    }
    if !server.writes {
        return Err(HostError::away("the server is read-only"));
    }
    // In other modes, a statement that waited for another receiver's batch would not see that batch,
    // and would store the same callbacks again.
    if server.isolation != "read committed" {
        return Err(HostError::setup(format!(
            "transactions are `{}` by default, but livehook needs `read committed`; \
             set default_transaction_isolation so for this role",
            server.isolation
        )));
    }
    // Names and errors can hold any character. SQL_ASCII stores them as bytes.
    if !["UTF8", "SQL_ASCII"].contains(&server.encoding) {
        return Err(HostError::setup(format!(
            "the database is encoded in {}, but livehook needs UTF8; \
             create one with `createdb --encoding=UTF8 --template=template0`",
            server.encoding
        )));
    }
    let off = [
        ("synchronous_commit", server.synchronous_commit),
        ("fsync", server.fsync),
    ];
    if let Some((name, _)) = off.iter().find(|(_, value)| *value == "off") {
        if allow_async_commit {
            return Ok(Durability {
                meaning: format!("not yet on any disk, because {name} is off"),
                is_weak: true,
            });
        }
        return Err(HostError::setup(format!(
            "{name} is off, so a crash of the server would lose what was acknowledged; \
             turn it on for this role, or accept that with inbox.allow_async_commit = true"
        )));
    }
    let standbys = match standbys(server.standbys) {
        0 => None,
        1 => Some("1 standby".to_owned()),
        number => Some(format!("{number} standbys")),
    };
    let meaning = match (standbys, server.synchronous_commit) {
        (None, _) | (Some(_), "local") => "on one disk, that of the primary".to_owned(),
        (Some(standbys), "remote_write") => {
            format!("on the disk of the primary and in the memory of {standbys}")
        }
        (Some(standbys), "remote_apply") => {
            format!("on the disk of the primary and of {standbys}, where it can be read too")
        }
        (Some(standbys), _) => format!("on the disk of the primary and of {standbys}"),
    };
    Ok(Durability {
        meaning,
        is_weak: false,
    })
}

/// How many standbys a commit waits for: one with `a, b`; two with `2 (a, b)`, `FIRST 2 (a, b)` and
/// `ANY 2 (a, b)`.
fn standbys(names: &str) -> u32 {
    let names = names.trim();
    if names.is_empty() {
        return 0;
    }
    let number = names.split_once('(').and_then(|(before, _)| {
        let number = before.split_whitespace().last()?;
        number.parse().ok()
    });
    number.unwrap_or(1)
}

impl Durability {
    pub(super) fn log(&self, host: &str) {
        let meaning = &*self.meaning;
        if self.is_weak {
            tracing::warn!(
                postgres.host = host,
                meaning,
                "a crash of the server can lose what was acknowledged"
            );
        } else {
            tracing::info!(
                postgres.host = host,
                meaning,
                "where an acknowledged event is"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GOOD: ServerSettings = ServerSettings {
        version: 150_004,
        writes: true,
        synchronous_commit: "on",
        fsync: "on",
        standbys: "",
        isolation: "read committed",
        encoding: "UTF8",
    };

    #[test]
    fn the_meaning_of_an_acknowledgement_is_in_words() {
        for (synchronous_commit, standbys, expected) in [
            ("on", "", "on one disk, that of the primary"),
            ("local", "*", "on one disk, that of the primary"),
            ("on", "a, b", "on the disk of the primary and of 1 standby"),
            (
                "on",
                "ANY 2 (a, b, c)",
                "on the disk of the primary and of 2 standbys",
            ),
            (
                "remote_write",
                "first 1 (a)",
                "on the disk of the primary and in the memory of 1 standby",
            ),
            (
                "remote_apply",
                "3(a,b,c)",
                "on the disk of the primary and of 3 standbys, where it can be read too",
            ),
        ] {
            let server = ServerSettings {
                synchronous_commit,
                standbys,
                ..GOOD
            };
            assert_eq!(judge(&server, false).unwrap().meaning, expected);
        }
    }

    #[test]
    fn a_server_that_promises_too_little_is_refused() {
        let old = ServerSettings {
            version: 120_012,
            ..GOOD
        };
        let refused = judge(&old, true).unwrap_err();
        assert!(refused.is_setup && refused.problem.contains("is PostgreSQL 12, but 13"));
        let standby = ServerSettings {
            writes: false,
            ..GOOD
        };
        assert!(!judge(&standby, false).unwrap_err().is_setup);
        let stuck = ServerSettings {
            isolation: "repeatable read",
            ..GOOD
        };
        let refused = judge(&stuck, true).unwrap_err();
        assert!(refused.is_setup && refused.problem.contains("default_transaction_isolation"));
        let narrow = ServerSettings {
            encoding: "LATIN1",
            ..GOOD
        };
        let refused = judge(&narrow, true).unwrap_err();
        assert!(refused.is_setup && refused.problem.contains("--encoding=UTF8"));
        let hasty = ServerSettings {
            synchronous_commit: "off",
            ..GOOD
        };
        let careless = ServerSettings {
            fsync: "off",
            ..GOOD
        };
        for server in [hasty, careless] {
            assert!(judge(&server, false).unwrap_err().is_setup);
            assert!(judge(&server, true).unwrap().is_weak);
        }
    }
}
