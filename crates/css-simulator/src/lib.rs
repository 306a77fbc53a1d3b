//! Sends callbacks like Tencent Cloud CSS to a receiver, for operators, tests and measurements.
//!
//! The sender is never more lenient than the platform. A `Scenario` makes the callbacks, a planner
//! says when each is sent, and a sender repeats each on the schedule of its kind until it is
//! answered 200. An `AckLog` records the answers. An event counts as acknowledged only if a 200 was
//! received, and as given up only if the platform would drop it. At the end, [`verify`] compares
//! the events with those in the store of a livehook, and [`board`] compares the state of each
//! stream. [`run`] does all this. [`conformance`] instead tests a receiver case by case.

// Modules in reading order. Blank lines keep rustfmt from sorting them.

pub mod content;

pub mod template;

pub mod bad;

mod scenario;

mod bodies;

mod connections;

pub mod oracle;

mod ack_log;

mod sender;

mod plan;

mod slow;

mod admin;

pub mod verify;

pub mod board;

pub mod report;

pub mod conformance;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use css_callbacks::{Kind, Secret, Timestamp};
use reqwest::{Client, Url};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, interval, timeout};

use self::board::LiveBoard;
pub use self::connections::RequestEnd;
use self::plan::PlannedRequest;
use self::report::Report;
use self::sender::{Sender, SenderConfig};
use self::template::Template;
use self::verify::Verifier;

/// The longest time until the receiver accepts the first connection.
const CONNECT: Duration = Duration::from_secs(5);
/// An event that starts later than this after it was due is late because of the sender, and the
/// report says so.
const LATE: Duration = Duration::from_millis(50);
/// The most events that wait for an answer or a retry. At this number, no new event starts.
const UNDER_WAY: usize = 200_000;
/// The same limit with [`Pace::Closed`], which could otherwise run far ahead of a receiver that is
/// down.
const UNDER_WAY_CLOSED: usize = 10_000;

/// Returns the time of day.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A URL, and the client with which it is requested.
#[derive(Debug, Clone)]
pub struct HttpEndpoint {
    /// The caller decides whether it follows redirects and uses proxies.
    pub client: Client,
    /// The URL.
    pub url: Url,
}

/// The settings of a simulation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URLs to post to.
    pub template: Template,
    /// The CallbackKey. Without one, callbacks are signed with the empty key.
    pub key: Option<Secret>,
    /// When events are sent.
    pub pace: Pace,
    /// The most requests at a time.
    pub connections: usize,
    /// The number of events; none means no limit.
    pub events: Option<u64>,
    /// The time in which new events are sent; none means no limit.
    pub duration: Option<Duration>,
    /// The number of streams.
    pub streams: usize,
    /// The kinds to send.
    pub kinds: Vec<Kind>,
    /// The share of events that are sent twice, from 0 to 1.
    pub duplicates: f64,
    /// Bad requests per event. A receiver must refuse them.
    pub bad: f64,
    /// Whether some events are sent after later ones of their stream, or as late retries.
    pub reorder: bool,
    /// Whether kinds that may come without a signature are sent without one.
    pub unsigned: bool,
    /// The factor by which the pauses between retries are divided.
    pub time_scale: f64,
    /// Seconds by which the sender's clock is ahead of the real time.
    pub clock_offset: i64,
    /// The number of connections that stay open and send almost nothing.
    pub slow_connections: usize,
    /// The same seed makes the same traffic, with new times.
    pub seed: u64,
}

/// When the next event is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// At fixed times, whether or not earlier events were answered.
    Open {
        /// Events per second.
        rate: f64,
    },
    /// When a connection is free, after an earlier answer.
    Closed,
}

/// How a run is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It is not stopped.
    Not,
    /// Send nothing new, but wait for open answers and run the checks.
    Soon,
    /// Report at once.
    Now,
}

/// The checks at the end of a simulation.
#[derive(Default)]
pub struct Checks {
    /// Compares the stored events.
    pub stored: Option<Verifier>,
    /// Compares the states of the streams.
    pub streams: Option<LiveBoard>,
}

/// The progress of a simulation.
#[derive(Debug, Clone)]
pub struct SendProgress {
    /// Events that were sent.
    pub sent: u64,
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Events that were neither acknowledged nor given up.
    pub under_way: u64,
    /// Events that were given up.
    pub given_up: u64,
    /// The time since the start.
    pub elapsed: Duration,
    /// The result of the last genuine request that was not answered 200.
    pub last_trouble: Option<RequestEnd>,
}

/// Sends until all events are acknowledged or given up, or until `stop`. Then runs the checks.
/// Calls `watch` once a second.
///
/// # Errors
///
/// Fails if the receiver, or an admin listener that a check needs, cannot be reached at the start.
pub async fn run(
    settings: Settings,
    checks: Checks,
    now: Now,
    stop: watch::Receiver<Stop>,
    mut watch: impl FnMut(SendProgress),
) -> anyhow::Result<Report> {
    check_reachable(&settings.template).await?;
    let baseline = match &checks.stored {
        Some(verifier) => Some(verifier.begin().await?),
        None => None,
    };
    let before = match &checks.streams {
        Some(board) => Some(board.begin().await?),
        None => None,
    };
    let seed = settings.seed;
    let sender = Arc::new(Sender::new(SenderConfig {
        template: settings.template.clone(),
        key: settings.key.clone(),
        now: now.clone(),
        clock_offset: settings.clock_offset,
        time_scale: settings.time_scale,
        connections: settings.connections,
        stop: stop.clone(),
    })?);
    let slow = slow::start(&settings.template, settings.slow_connections);
    let kept_up = send(&settings, &sender, &now, stop.clone(), &mut watch).await?;
    let slow = slow.end().await;
    let oracle = sender.ack_log().oracle();
    let mut report = Report::new(&sender.ack_log(), oracle.streams(), seed, kept_up, slow);
    if let (Some(board), Some(before)) = (checks.streams, before) {
        report.compared(tokio::select! {
            compared = board.compare(&before, &oracle) => compared,
            () = stopped(stop.clone(), Stop::Now) => Err(anyhow!("interrupted")),
        });
    }
    if let (Some(verifier), Some(baseline)) = (checks.stored, baseline) {
        let (entries, forged) = sender.ack_log().take_sent();
        report.verified(tokio::select! {
            found = verifier.compare(&baseline, &entries, &forged) => found,
            () = stopped(stop, Stop::Now) => Err(anyhow!("interrupted")),
        });
    }
    Ok(report)
}

/// Waits until `stop` is at least `how`.
async fn stopped(mut stop: watch::Receiver<Stop>, how: Stop) {
    if stop.wait_for(|stop| *stop >= how).await.is_err() {
        // The other side is gone, so it will never ask to stop.
        std::future::pending().await
    }
}

/// The time of a clock that is this many seconds ahead.
fn time_ahead(now: &Now, seconds: i64) -> Timestamp {
    let ahead = seconds.saturating_mul(1000);
    Timestamp::from_millis(now().millis().saturating_add(ahead))
}

/// Fails if nobody listens at the address of the template.
async fn check_reachable(template: &Template) -> anyhow::Result<()> {
    let (host, port) = template.address();
    match timeout(CONNECT, TcpStream::connect((host, port))).await {
        Ok(connected) => {
            drop(connected.with_context(|| format!("nobody listens at {host}:{port}"))?)
        }
        Err(_) => bail!(
            "nobody listens at {host}:{port}: no connection within {} s",
            CONNECT.as_secs()
        ),
    }
    Ok(())
}

/// Sends everything. Returns whether every event started when it was due.
async fn send(
    settings: &Settings,
    sender: &Arc<Sender>,
    now: &Now,
    stop: watch::Receiver<Stop>,
    watch: &mut impl FnMut(SendProgress),
) -> anyhow::Result<bool> {
    let began = Instant::now();
    let enough = Arc::new(AtomicBool::new(false));
    let (mut steps, planner) =
        plan::start(settings, now, enough.clone()).context("cannot start a thread")?;
    let (capacity, lanes) = match settings.pace {
        Pace::Open { .. } => (UNDER_WAY, Semaphore::MAX_PERMITS),
        Pace::Closed => (UNDER_WAY_CLOSED, settings.connections),
    };
    let under_way = Arc::new(Semaphore::new(capacity));
    let lanes = Arc::new(Semaphore::new(lanes));
    let mut kept_up = true;
    let mut seconds = interval(Duration::from_secs(1));
    seconds.tick().await;
    loop {
        let step = async {
            let lane = lanes.clone().acquire_owned().await.ok()?;
            let place = under_way.clone().acquire_owned().await.ok()?;
            Some((steps.recv().await?, lane, place))
        };
        tokio::select! {
            step = step => {
                let Some((step, lane, place)) = step else { break };
                if let PlannedRequest::Genuine(planned) = &step {
                    kept_up &= planned.due.is_none_or(|due| due.elapsed() <= LATE);
                }
                tokio::spawn(send_one(sender.clone(), step, lane, place));
            }
            _ = seconds.tick() => watch(sender.progress(began)),
            () = stopped(stop.clone(), Stop::Soon) => break,
        }
    }
    enough.store(true, Ordering::Relaxed);
    drop(steps);
    if planner.join().is_err() {
        bail!("the simulation broke off; this is a fault of livehook");
    }
    let all = under_way.acquire_many(capacity as u32);
    tokio::pin!(all);
    loop {
        tokio::select! {
            _ = &mut all => break,
            _ = seconds.tick() => watch(sender.progress(began)),
        }
    }
    watch(sender.progress(began));
    Ok(kept_up)
}

/// Sends one request. Frees `lane` after the first attempt, and `place` after the last.
async fn send_one(
    sender: Arc<Sender>,
    step: PlannedRequest,
    lane: OwnedSemaphorePermit,
    place: OwnedSemaphorePermit,
) {
    match step {
        PlannedRequest::Genuine(planned) => {
            let delivery = sender.begin(*planned).await;
            drop(lane);
            sender.finish(delivery).await;
        }
        PlannedRequest::Bad(bad, content) => sender.send_bad(bad, &content).await,
    }
    drop(place);
}
