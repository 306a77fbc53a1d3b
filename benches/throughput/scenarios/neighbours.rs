//! Measures whether failing handlers delay the acknowledgement.

use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;

use super::{Extent, Findings, dead_handler};
use crate::measure::{OPEN_CONNECTIONS, folder};
use crate::subject::{livehook, program};
use crate::table::percentile;

/// Handlers that succeed at once, as the baseline.
const HEALTHY: &str = "[log]\nlevel = \"warn\"\n[handlers.one]\nto = { type = \"log\" }\n[handlers.two]\nto = { type = \"log\" }\n";
/// The time of the slow handler for an event.
const SLOW: Duration = Duration::from_secs(2);

/// Measures pairs of new servers at half the rate that the healthy one reaches in a closed loop.
pub fn run(extent: &Extent) -> anyhow::Result<Findings> {
    let slow = answer_slowly()?;
    // Failed attempts must not be logged, as with the healthy handlers.
    let troubled = format!(
        "[log]\nlevel = \"error\"\n{}[handlers.slow]\nto = {{ type = \"http\", url = \"http://127.0.0.1:{slow}/\" }}\n",
        dead_handler("dead")?
    );
    let start = |handlers: &str| {
        let dir = folder(extent.dir)?;
        let log = dir.path().join("log.txt");
        let server = livehook(program(), handlers, dir.path(), &log)?;
        anyhow::Ok((server, dir))
    };
    let rate = {
        let (server, _dir) = start(HEALTHY)?;
        let sample = extent.effort.closed_loop(&server, OPEN_CONNECTIONS, 0)?;
        (sample.rate / 2.0).min(extent.effort.highest_rate)
    };
    let p99 = |handlers: &str| {
        let (server, _dir) = start(handlers)?;
        let answers = extent.effort.open_loop(&server, rate)?;
        if !answers.kept_up {
            eprintln!("the GENERATOR did not keep up");
        }
        anyhow::Ok(answers.p99)
    };
    let (mut well, mut ill, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=extent.pairs {
        let (healthy, troubled) = (p99(HEALTHY)?, p99(&troubled)?);
        eprintln!("pair {pair}: p99 {healthy:.2} ms, in trouble {troubled:.2} ms");
        well.push(healthy);
        ill.push(troubled);
        ratios.push(troubled / healthy);
    }
    let mut findings = Findings::new(format!("neighbours: p99 at {rate:.0}/s, open loop"));
    let mut add = |what: &str, values: &mut [f64]| {
        findings.add(what, format!("{:.2} ms", percentile(values, 0.5)), "");
    };
    add("two healthy handlers", &mut well);
    add("one dead and one slow", &mut ill);
    let ratio = percentile(&mut ratios, 0.5);
    findings.add(
        format!("median ratio of {} pairs", extent.pairs),
        format!("{ratio:.2}"),
        "≤ 1.25",
    );
    Ok(findings)
}

/// Starts a slow server that runs until the program ends, and returns its port.
fn answer_slowly() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serve = async move {
        let answer = post(async || {
            tokio::time::sleep(SLOW).await;
            StatusCode::NO_CONTENT
        });
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, Router::new().route("/", answer)).await
    };
    std::thread::Builder::new()
        .spawn(move || runtime.block_on(serve))
        .context("cannot start a thread")?;
    Ok(port)
}
