//! Senders that repeat each event until it is acknowledged, and checks of what is delivered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Client, signed};

const SENDERS: u64 = 24;
/// Each stream belongs to one sender, so that its numbers arrive in order.
const STREAMS_PER_SENDER: u64 = 2;
/// The longest time until an event must be acknowledged.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The number of acknowledged events of each stream: those with numbers below it.
pub type Acknowledged = BTreeMap<String, u64>;

/// A group of senders, with counts of their answers.
pub struct Load {
    /// Each event, and each repeat, goes to the next receiver in turn.
    receivers: Vec<SocketAddr>,
    /// The pause between two events of a sender.
    pace: Duration,
    over: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    slowest: Mutex<Duration>,
}

impl Load {
    /// A load on these receivers. `pace` is the pause between two events of a sender.
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

    /// Sends events while `during` runs. Returns what was acknowledged, and the result of `during`.
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

    /// The number of acknowledged events so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// The number of answers with 503.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The number of requests without an answer.
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// The longest time to an answer.
    pub fn slowest(&self) -> Duration {
        *self.slowest.lock().unwrap()
    }

    /// Sends events until the load ends, and repeats each one until it is acknowledged.
    fn send(&self, sender: u64) -> Acknowledged {
        let mut acknowledged = Acknowledged::new();
        // Longer than the deadline of a receiver.
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

/// Sets a flag when dropped, so that threads of a scope end even if the test panics.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Counts the numbers of each stream. Fails if a number is missing or out of order. Repeats are
/// allowed.
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

/// The events in the file of a file handler, and the number of lines that a kill left incomplete.
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
