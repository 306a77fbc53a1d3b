//! Senders that repeat each event until it is acknowledged, and what has to come of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Client, signed};

const SENDERS: u64 = 24;
/// Each stream is one sender's, so that its numbers arrive in order.
const STREAMS_PER_SENDER: u64 = 2;
/// How long an event may be refused.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How many of each stream's events were acknowledged: all below this number.
pub type Acknowledged = BTreeMap<String, u64>;

/// What the senders do, and what they met.
pub struct Load {
    /// An event goes to the next one than the event before it, and so does its repeat.
    receivers: Vec<SocketAddr>,
    /// Between two events of a sender.
    pace: Duration,
    over: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    slowest: Mutex<Duration>,
}

impl Load {
    pub fn on(receivers: &[SocketAddr], pace: Duration) -> Self {
        Self {
            receivers: receivers.to_vec(),
            pace,
            over: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            slowest: Mutex::default(),
        }
    }

    /// Sends as long as `during` runs.
    pub fn run<T>(&self, during: impl FnOnce() -> T) -> (Acknowledged, T) {
        std::thread::scope(|scope| {
            let ending = StopOnDrop(&self.over);
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| scope.spawn(move || self.send(sender)))
                .collect();
            let result = during();
            drop(ending);
            let acknowledged = senders
                .into_iter()
                .flat_map(|sender| sender.join().unwrap());
            (acknowledged.collect(), result)
        })
    }

    /// How many were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// How many times the answer was 503.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many times there was no answer.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// The longest that an answer took.
    pub fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }

    /// Sends until it is over, each event again until it is acknowledged.
    fn send(&self, sender: u64) -> Acknowledged {
        let mut acknowledged = Acknowledged::new();
        // More than the time that a receiver has for an answer.
        let timeout = Duration::from_secs(6);
        let clients = self.receivers.iter();
        let mut clients: Vec<_> = clients
            .map(|receiver| Client::with_timeout(*receiver, timeout))
            .collect();
        for number in 0.. {
            for stream in 0..STREAMS_PER_SENDER {
                if self.over.load(Ordering::Relaxed) {
                    return acknowledged;
                }
                let stream = format!("room-{}", sender * STREAMS_PER_SENDER + stream);
                self.send_one(&mut clients, &stream, number);
                acknowledged.insert(stream, number + 1);
                std::thread::sleep(self.pace);
            }
        }
        unreachable!("numbers do not end")
    }

    fn send_one(&self, clients: &mut [Client], stream: &str, number: u64) {
        let body = signed(json!({
            "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "number": number,
        }));
        let until = Instant::now() + TIMEOUT;
        loop {
            clients.rotate_left(1);
            let began = Instant::now();
            match clients[0].post("/css/stream-begin", &body) {
                Ok(answer) => {
                    let mut slowest = self.slowest.lock().unwrap();
                    *slowest = began.elapsed().max(*slowest);
                    if answer.status == 200 {
                        self.acknowledged.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    assert_eq!(answer.status, 503, "{}", answer.text());
                    assert!(answer.header("retry-after").is_some());
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                }
            }
            assert!(Instant::now() < until, "{stream} {number} is not taken");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Ends what runs beside a test however the test ends: its scope waits for it.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many numbers of each stream came, if each came for the first time right after the one before.
pub fn counts_in_order(places: impl Iterator<Item = (String, u64)>) -> Acknowledged {
    let mut next = Acknowledged::new();
    for (stream, number) in places {
        let expected = next.entry(stream.clone()).or_default();
        assert!(
            number <= *expected,
            "{stream}: {number} came before {expected}"
        );
        *expected = (*expected).max(number + 1);
    }
    next
}

/// The lines of a file handler, and how many are no event: torn by a kill and ended by the next start.
pub fn whole_lines(file: &Path) -> (Vec<Value>, u64) {
    let text = std::fs::read(file).unwrap_or_default();
    let end = text
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let mut torn = 0;
    let lines = text[..end]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let lines = lines
        .filter_map(|line| serde_json::from_slice(line).inspect_err(|_| torn += 1).ok())
        .collect();
    (lines, torn)
}
