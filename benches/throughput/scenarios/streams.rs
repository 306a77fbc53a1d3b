//! Measures the board with many live streams.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Extent, Findings};
use crate::fill::fill_streams;
use crate::subject::{livehook, program};
use crate::table::percentile;

const STREAMS: u64 = 100_000;
const PAGES: usize = 50;
/// How often it is asked whether all are on the board.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Builds the board from the store, then times requests: pages of the list, a search, one stream,
/// the metrics.
pub fn run(dir: &Path, extent: &Extent) -> anyhow::Result<Findings> {
    let streams = STREAMS.min(extent.events);
    fill_streams(dir, streams)?;
    let began = Instant::now();
    let server = livehook(program(), "", dir, &dir.join("log.txt"))?;
    server.wait_until_ready()?;
    server.wait_for_board(ASK_EVERY)?;
    let made = began.elapsed();
    let mut findings = Findings::new(format!("streams: {streams} are live, none ends"));
    let rate = streams as f64 / made.as_secs_f64();
    findings.add(
        "put on the board, from the start",
        format!("{rate:.0}/s"),
        "",
    );
    let last = streams - 1;
    for (what, path, goal) in [
        (
            "a page of 100",
            "/api/streams?live=true".to_owned(),
            "< 50 ms",
        ),
        (
            "a page of 1000",
            "/api/streams?live=true&limit=1000".to_owned(),
            "< 50 ms",
        ),
        (
            "the last page",
            format!(
                "/api/streams?live=true&after={}",
                streams.saturating_sub(50)
            ),
            "< 50 ms",
        ),
        (
            "one among all, by search",
            format!("/api/streams?search=room-{last}"),
            "",
        ),
        (
            "one with its story",
            format!(
                "/api/streams/css/push-{}.example.com/live/room-{last}",
                last % 7
            ),
            "",
        ),
        ("the metrics", "/metrics".to_owned(), ""),
    ] {
        let mut times = Vec::with_capacity(PAGES);
        for _ in 0..PAGES {
            let began = Instant::now();
            let answer = server.ask_admin(&path)?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            ensure!(
                answer.contains("room-") || path == "/metrics",
                "{path}: {answer}"
            );
        }
        findings.add(
            format!("{what}, median of {PAGES}"),
            format!("{:.1} ms", percentile(&mut times, 0.5)),
            goal,
        );
    }
    let (now, peak) = server.process.memory()?;
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    findings.add("resident, now", mebibytes(now), "< 64 MiB");
    findings.add("resident, at most", mebibytes(peak), "< 64 MiB");
    Ok(findings)
}
