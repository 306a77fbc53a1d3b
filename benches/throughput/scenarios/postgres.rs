//! Compares `engine = "postgres"` with the embedded store, and with plain inserts of the same rows.

mod bare;
#[allow(unused)]
#[path = "../../../tests/it/support/postgres.rs"]
mod server;

use std::os::unix::fs::MetadataExt;
use std::thread;

use anyhow::{Context, ensure};

use self::server::Postgres;
use super::{Extent, Findings};
use crate::measure::folder;
use crate::subject::{Server, Subject, livehook, program};
use crate::table::percentile;

const CONNECTIONS: [u32; 2] = [64, 256];

/// Settings as on a machine for PostgreSQL alone.
const SETTINGS: &[(&str, &str)] = &[("shared_buffers", "256MB"), ("max_wal_size", "4GB")];

/// What stores the events.
#[derive(Debug, Clone, Copy)]
enum Setup {
    Sqlite,
    Bare,
    /// With this many receivers.
    Postgres(u32),
}

impl Setup {
    const EACH: [Self; 4] = [
        Self::Sqlite,
        Self::Bare,
        Self::Postgres(1),
        Self::Postgres(2),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Bare => "PostgreSQL, bare inserts",
            Self::Postgres(1) => "PostgreSQL, one receiver",
            Self::Postgres(_) => "PostgreSQL, two receivers",
        }
    }
}

/// Measures the set-ups in turns, each with a new store.
pub fn run(extent: &Extent) -> anyhow::Result<Findings> {
    let tmp = std::env::temp_dir();
    if std::fs::metadata(&tmp)?.dev() != std::fs::metadata(extent.dir)?.dev() {
        eprintln!(
            "PostgreSQL is in {}, another disk than the other stores: TMPDIR says where",
            tmp.display()
        );
    }
    let database = Postgres::start_with(SETTINGS);
    let mut findings = Findings::new("postgres: answers/s, no handler");
    for connections in CONNECTIONS {
        let mut rounds = Vec::new();
        for round in 1..=extent.rounds {
            let mut rates = Vec::new();
            for way in Setup::EACH {
                let rate = rate(way, connections, &database, extent)
                    .with_context(|| format!("{}, {connections} connections", way.name()))?;
                eprintln!(
                    "round {round}: {}, {connections} connections: {rate:.0}/s",
                    way.name()
                );
                rates.push(rate);
            }
            rounds.push(rates);
        }
        for (at, way) in Setup::EACH.into_iter().enumerate() {
            let median = |of: &dyn Fn(&Vec<f64>) -> f64| {
                percentile(&mut rounds.iter().map(of).collect::<Vec<_>>(), 0.5)
            };
            let figure = format!(
                "{:.0}, {:.2} × SQLite, {:.2} × bare",
                median(&|rates| rates[at]),
                median(&|rates| rates[at] / rates[0]),
                median(&|rates| rates[at] / rates[1]),
            );
            findings.add(
                format!("{}, {connections} connections", way.name()),
                figure,
                "",
            );
        }
    }
    Ok(findings)
}

fn rate(way: Setup, connections: u32, database: &Postgres, extent: &Extent) -> anyhow::Result<f64> {
    let dir = folder(extent.dir)?;
    let receivers = match way {
        Setup::Sqlite => {
            let server = Subject::Livehook.start(dir.path())?;
            let sample = extent.effort.closed_loop(&server, connections, 0)?;
            return Ok(sample.rate);
        }
        Setup::Bare => {
            let url = database.url(&database.create_database());
            return bare::rate(&url, connections, extent.effort);
        }
        Setup::Postgres(receivers) => receivers,
    };
    let url = database.url(&database.create_database());
    let inbox = format!("[inbox]\nengine = \"postgres\"\nurl = \"{url}\"\n");
    let mut servers = Vec::new();
    for _ in 0..receivers {
        let own = folder(dir.path())?;
        let log = own.path().join("log.txt");
        servers.push((livehook(program(), &inbox, own.path(), &log)?, own));
    }
    let before = stored(&servers)?;
    let rate = thread::scope(|scope| {
        let loads: Vec<_> = (0..)
            .step_by(2)
            .zip(&servers)
            .map(|(seed, (server, _))| {
                let load = move || {
                    let sample =
                        extent
                            .effort
                            .closed_loop(server, connections / receivers, seed)?;
                    anyhow::Ok(sample.rate)
                };
                scope.spawn(load)
            })
            .collect();
        let rates = loads.into_iter().map(|load| match load.join() {
            Ok(rate) => rate,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        rates.sum::<anyhow::Result<f64>>()
    })?;
    let name = url.rsplit('/').next().unwrap_or_default();
    let rows: u64 = database
        .sql(name, "SELECT count(*) FROM livehook.events")
        .parse()?;
    // Events whose sender has disconnected are stored, too.
    let accepted = stored(&servers)? - before;
    ensure!(
        rows >= accepted,
        "{accepted} events were accepted, but only {rows} are stored"
    );
    Ok(rate)
}

fn stored(servers: &[(Server, tempfile::TempDir)]) -> anyhow::Result<u64> {
    let each = servers.iter().map(|(server, _)| server.stored());
    each.map(|stored| Ok(stored?.unwrap_or_default())).sum()
}
