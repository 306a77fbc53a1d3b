//! The sender as a program: what the platform does to a receiver, for operators, tests and measurements.
//!
//! It is never more lenient than the platform. A `Scenario` makes up what happens, a planner says when it is sent, a sender
//! repeats it by the schedule of its kind until it is answered 200, and an `AckLog` remembers what was acknowledged.
//! [`verify`] then asks the receiver what it has stored, and [`board`] which streams are live. An event counts as acknowledged
//! only if a 200 for it was received, and as given up only if the platform would have dropped it. [`conformance`] instead
//! tries a receiver case by case.

// The modules in reading order, one by one, so that it stays.

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
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, interval, timeout};

use self::board::LiveBoard;
pub use self::connections::RequestEnd;
use self::plan::PlannedRequest;
use self::report::Report;
use self::sender::{Sender, SenderConfig};
use self::template::Template;
use self::verify::Verifier;

/// How long the receiver has to take the first connection.
const CONNECT: Duration = Duration::from_secs(5);
/// What starts later than this after it was due is not the receiver's fault, which a report tells.
const LATE: Duration = Duration::from_millis(50);
/// Events that wait for a retry or an answer at a time. Beyond it nothing new begins.
const UNDER_WAY: usize = 200_000;
/// The same for a closed loop, which would otherwise run far ahead of a receiver that is down.
const UNDER_WAY_CLOSED: usize = 10_000;

/// Tells the time of day.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// An address to ask by HTTP, and the client to ask it with.
#[derive(Debug, Clone)]
pub struct HttpEndpoint {
    /// Follows redirects and uses proxies as whoever made it likes.
    pub client: Client,
    /// The address.
    pub url: Url,
}

/// What to send, where, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URLs.
    pub template: Template,
    /// The CallbackKey; without one everything is signed with the empty key.
    pub key: Option<Secret>,
    /// When events are sent.
    pub pace: Pace,
    /// Requests at a time.
    pub connections: usize,
    /// How many events; none: no end.
    pub events: Option<u64>,
    /// How long new events are sent; none: no end.
    pub duration: Option<Duration>,
    /// How many streams there are.
    pub streams: usize,
    /// Which kinds are sent.
    pub kinds: Vec<Kind>,
    /// The share of events that are sent twice.
    pub duplicates: f64,
    /// Requests that must be refused, for each event.
    pub bad: f64,
    /// Whether some events come after later ones of their stream, or as late retries.
    pub reorder: bool,
    /// Whether kinds that may come without a signature do.
    pub unsigned: bool,
    /// By how much the pauses between retries are shortened.
    pub time_scale: f64,
    /// What is added to the sender's clock, seconds.
    pub clock_offset: i64,
    /// Connections that send next to nothing, meanwhile.
    pub slow_connections: usize,
    /// What makes the same traffic again.
    pub seed: u64,
}

/// When events are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// When they are due, whether earlier ones were answered or not.
    Open {
        /// Events per second.
        rate: f64,
    },
    /// When earlier ones were answered.
    Closed,
}

/// What somebody who interrupts wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Nothing.
    Not,
    /// No new request; those that are open get their answers, and the verification is made.
    Soon,
    /// The report, whatever is open.
    Now,
}

/// Whom to ask at the end.
#[derive(Default)]
pub struct Checks {
    /// What is stored.
    pub stored: Option<Verifier>,
    /// Which streams are live.
    pub streams: Option<LiveBoard>,
}

/// How far it is.
#[derive(Debug, Clone)]
pub struct SendProgress {
    /// Events that were sent.
    pub sent: u64,
    /// Those that were acknowledged.
    pub acknowledged: u64,
    /// Those that were neither acknowledged nor given up.
    pub under_way: u64,
    /// Those that were given up.
    pub given_up: u64,
    /// Since the beginning.
    pub elapsed: Duration,
    /// What the last genuine request came to that was not answered 200.
    pub last_trouble: Option<RequestEnd>,
}

/// Sends until the events or the time are over and everything has its fate, or until it shall `stop`; then makes the
/// checks. `watch` is told once a second how far it is.
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

/// Waits until somebody wants it to stop at least like this.
async fn stopped(mut stop: watch::Receiver<Stop>, how: Stop) {
    if stop.wait_for(|stop| *stop >= how).await.is_err() {
        // Nobody is left who could say it.
        std::future::pending().await
    }
}

/// The time by a sender's clock that is so many seconds ahead.
fn time_ahead(now: &Now, seconds: i64) -> Timestamp {
    let ahead = seconds.saturating_mul(1000);
    Timestamp::from_millis(now().millis().saturating_add(ahead))
}

/// Whether somebody listens where callbacks go.
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

/// Whether everything could be sent when it was due.
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
    let mut report = |sender: &Sender| {
        let ack_log = sender.ack_log();
        let sent = ack_log.entries.len() as u64;
        watch(SendProgress {
            sent,
            acknowledged: ack_log.acknowledged,
            under_way: sent - ack_log.acknowledged - ack_log.given_up - ack_log.pending,
            given_up: ack_log.given_up,
            elapsed: began.elapsed(),
            last_trouble: ack_log.last_trouble.clone(),
        });
    };
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
                let sender = sender.clone();
                tokio::spawn(async move {
                    match step {
                        PlannedRequest::Genuine(planned) => {
                            let delivery = sender.begin(*planned).await;
                            drop(lane);
                            sender.finish(delivery).await;
                        }
                        PlannedRequest::Bad(bad, content) => sender.send_bad(bad, &content).await,
                    }
                    drop(place);
                });
            }
            _ = seconds.tick() => report(sender),
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
            _ = seconds.tick() => report(sender),
        }
    }
    report(sender);
    Ok(kept_up)
}
