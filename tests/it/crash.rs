//! Killed again and again under load, it loses nothing that it acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::target::{Hit, Target, place};
use crate::support::{Client, Settings, TestServer, signed, wait_up_to};

/// More with `LIVEHOOK_CRASHES=100`.
const CRASHES: u64 = 12;
const SENDERS: u64 = 24;
/// Each stream is one sender's, so that its numbers arrive in order.
const STREAMS_PER_SENDER: u64 = 2;
/// Between two events of a sender.
const PACE: Duration = Duration::from_millis(3);

/// How many of each stream's events were acknowledged: all below this number.
type Acknowledged = BTreeMap<String, u64>;

/// Where the senders find the server.
struct Load {
    address: Mutex<SocketAddr>,
    over: AtomicBool,
    retries: AtomicU64,
}

impl Load {
    /// Sends until it is over, each event again until it is acknowledged.
    fn send(&self, sender: u64) -> Acknowledged {
        let mut acknowledged = Acknowledged::new();
        let mut client = Client::new(*self.address.lock().unwrap());
        for number in 0.. {
            for stream in 0..STREAMS_PER_SENDER {
                if self.over.load(Ordering::Relaxed) {
                    return acknowledged;
                }
                let stream = format!("room-{}", sender * STREAMS_PER_SENDER + stream);
                self.send_one(&mut client, &stream, number);
                acknowledged.insert(stream, number + 1);
                std::thread::sleep(PACE);
            }
        }
        unreachable!("numbers do not end")
    }

    fn send_one(&self, client: &mut Client, stream: &str, number: u64) {
        let body = signed(json!({
            "event_type": 1, "app": "push.example.com", "appname": "live", "stream_id": stream, "number": number,
        }));
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match client.post("/css/stream-begin", &body) {
                Ok(answer) if answer.status == 200 => return,
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                Err(_) => *client = Client::new(*self.address.lock().unwrap()),
            }
            assert!(Instant::now() < until, "{stream} {number} is not taken");
            self.retries.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Ends the load however the test ends: the scope waits for the senders.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn kills_under_load_lose_double_or_reorder_nothing_that_was_acknowledged() {
    let crashes = std::env::var("LIVEHOOK_CRASHES").map_or(CRASHES, |crashes| {
        crashes.parse().expect("LIVEHOOK_CRASHES is a number")
    });
    let target = Target::good();
    let handlers = format!(
        "[handlers.file]\nconcurrency = 64\nto = {{ type = \"file\", path = \"events.jsonl\" }}\n\
         [handlers.http]\nconcurrency = 64\nretry = {{ initial = \"50ms\", max = \"1s\" }}\nto = {{ type = \"http\", url = \"{}\" }}\n",
        target.url()
    );
    let settings = Settings::with_handlers(&handlers);
    let directory = tempfile::tempdir().unwrap();
    let mut server = Some(TestServer::start_in(directory.path(), &settings));
    let load = Load {
        address: Mutex::new(server.as_ref().unwrap().addr),
        over: AtomicBool::new(false),
        retries: AtomicU64::new(0),
    };
    let acknowledged = std::thread::scope(|scope| {
        let load = &load;
        let ending = Ending(&load.over);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| scope.spawn(move || load.send(sender)))
            .collect();
        for crash in 0..crashes {
            std::thread::sleep(moment(crash));
            server.take().unwrap().kill();
            let started = server.insert(TestServer::start_in(directory.path(), &settings));
            *load.address.lock().unwrap() = started.addr;
        }
        drop(ending);
        let acknowledged = senders
            .into_iter()
            .flat_map(|sender| sender.join().unwrap());
        acknowledged.collect::<Acknowledged>()
    });
    let server = server.unwrap();
    let total: u64 = acknowledged.values().sum();
    assert!(
        load.retries.load(Ordering::Relaxed) >= crashes,
        "no kill hit a sender"
    );

    let file = directory.path().join("events.jsonl");
    let in_file = wait_up_to(
        Duration::from_secs(60),
        "the file to have everything",
        || {
            let (lines, torn) = whole_lines(&file);
            let complete = firsts(lines.iter().map(place)).values().sum::<u64>() >= total;
            complete.then_some((lines, torn))
        },
    );
    wait_up_to(
        Duration::from_secs(60),
        "the target to have everything",
        || {
            (target.delivered() as u64 >= total).then_some(())?;
            let hits = target.hits();
            (firsts(hits.iter().map(Hit::place)).values().sum::<u64>() >= total).then_some(())
        },
    );
    let (lines, torn) = in_file;
    let in_target = firsts(target.hits().iter().map(Hit::place));
    assert_eq!(firsts(lines.iter().map(place)), acknowledged, "the file");
    assert_eq!(in_target, acknowledged, "the target");
    assert!(torn <= crashes, "{torn} broken lines after {crashes} kills");

    let stored = server.events();
    let ids: BTreeSet<&str> = stored
        .iter()
        .map(|event| event["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        stored.len() as u64,
        total,
        "nothing is stored twice or missing"
    );
    let delivered: BTreeMap<&str, &Value> = lines
        .iter()
        .map(|line| (line["id"].as_str().unwrap(), line))
        .collect();
    assert_eq!(ids, delivered.keys().copied().collect(), "one id per event");
    let mut admin = Client::new(server.admin);
    for (id, line) in delivered.iter().step_by(7) {
        assert_eq!(
            &admin.get(&format!("/api/events/{id}")).unwrap().json(),
            *line
        );
    }
    println!(
        "{crashes} kills, {total} events acknowledged, {} retries, {} lines ({torn} torn), {} requests to the target",
        load.retries.load(Ordering::Relaxed),
        lines.len(),
        target.count(),
    );
}

/// Moments from 30 to 730 ms that look random and are the same every time.
fn moment(crash: u64) -> Duration {
    let mixed = (crash + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    Duration::from_millis(30 + mixed % 700)
}

/// How many numbers of each stream came, if each came for the first time right after the one before.
fn firsts(places: impl Iterator<Item = (String, u64)>) -> Acknowledged {
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

/// The lines, and how many are no event: torn by a kill and ended by the next start.
fn whole_lines(file: &Path) -> (Vec<Value>, u64) {
    let text = std::fs::read(file).unwrap();
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
