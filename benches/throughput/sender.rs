//! A load generator that uses little processor time: one thread, prepared requests, and only the
//! system calls that a request needs. It never spins.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};

use crate::callback::{Kinds, Template};

/// The beginning and the end of every answer.
const OK: &[u8] = b"HTTP/1.1 200 ";
const ACCEPTED: &[u8] = b"\r\n\r\n{\"code\":0}";
/// The time-out of the platform.
const TIMEOUT: Duration = Duration::from_secs(20);
/// A request that is sent later than this, though a connection was free, is late by the generator's
/// fault.
const LATE: Duration = Duration::from_millis(1);
/// The share of requests that may be late.
const TOLERATED: f64 = 0.01;

/// A load on a server.
pub struct Load {
    pub port: u16,
    pub connections: usize,
    pub pace: Pace,
    /// As in [`Template::new`].
    pub seed: u32,
    pub kinds: Kinds,
}

/// When requests are sent.
#[derive(Clone, Copy)]
pub enum Pace {
    /// At a fixed rate per second, evenly spaced, without waiting for earlier answers.
    Open { rate: f64, seconds: u32 },
    /// This many in all; each connection sends the next one after an answer.
    Closed { number: u64 },
}

/// The result of a load. Times are milliseconds from when a request was due to its answer.
#[derive(Debug, Clone, Copy)]
pub struct Answers {
    /// Per second.
    pub rate: f64,
    /// Whether the generator sent the requests in time.
    pub kept_up: bool,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// The generator's own processor time per event, in seconds.
    pub cpu: f64,
}

struct Connection {
    stream: TcpStream,
    /// When the open request was due; none if no request is open.
    due: Option<Instant>,
    free_since: Instant,
    answer: Vec<u8>,
}

impl Load {
    /// Fails unless everything was answered 200 with `{"code":0}`.
    pub fn send(&self) -> anyhow::Result<Answers> {
        // A separate thread, because processes started from this one would inherit the timer slack.
        let sender = std::thread::scope(|scope| scope.spawn(|| self.run()).join());
        sender.map_err(|_| anyhow::anyhow!("the generator panicked"))?
    }

    fn run(&self) -> anyhow::Result<Answers> {
        // The default of 50 µs is as long as the pause between two requests.
        set_current_timer_slack(NonZeroU64::new(1))?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = (0..self.connections)
            .map(|number| Connection::open(self.port, number, &poll))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut free: VecDeque<usize> = (0..self.connections).collect();
        let mut template = Template::new(self.port, self.seed, self.kinds);
        let (spacing, number) = match self.pace {
            Pace::Open { rate, seconds } => (1.0 / rate, (rate * f64::from(seconds)) as u64),
            Pace::Closed { number } => (0.0, number),
        };
        ensure!(number > 0, "nothing is to be sent");
        let mut times = Histogram::<u64>::new(3)?;
        let mut events = Vec::with_capacity(self.connections);
        let (mut sent, mut late) = (0, 0);
        let cpu = own_time();
        let begin = Instant::now();
        let mut last_answer = begin;
        let due = |number: u64| begin + Duration::from_secs_f64(spacing * number as f64);
        while times.len() < number {
            let mut now = Instant::now();
            while sent < number
                && due(sent) <= now
                && let Some(at) = free.pop_front()
            {
                let connection = &mut connections[at];
                let could = due(sent).max(connection.free_since);
                late += u64::from(now.duration_since(could) > LATE);
                connection.send(template.request(sent))?;
                connection.due = Some(match self.pace {
                    Pace::Open { .. } => due(sent),
                    Pace::Closed { .. } => now,
                });
                sent += 1;
                now = Instant::now();
            }
            let wait = if sent < number && !free.is_empty() {
                due(sent).saturating_duration_since(now)
            } else {
                TIMEOUT
            };
            wait_for(&poll, &mut events, wait)?;
            let now = Instant::now();
            for event in events.drain(..) {
                let at = event.data.u64() as usize;
                if let Some(due) = connections[at].receive(now)? {
                    times.record(now.duration_since(due).as_nanos() as u64)?;
                    free.push_back(at);
                    last_answer = now;
                }
            }
            let waiting = free.len() < connections.len();
            ensure!(
                !waiting || last_answer.elapsed() < TIMEOUT,
                "no answer for {} s",
                TIMEOUT.as_secs()
            );
        }
        let took = match self.pace {
            Pace::Open { seconds, .. } => Duration::from_secs(seconds.into()),
            Pace::Closed { .. } => Duration::ZERO,
        };
        let took = took.max(last_answer - begin);
        let milliseconds = |share| times.value_at_quantile(share) as f64 / 1e6;
        Ok(Answers {
            rate: number as f64 / took.as_secs_f64(),
            kept_up: late as f64 <= number as f64 * TOLERATED,
            p50: milliseconds(0.5),
            p99: milliseconds(0.99),
            p999: milliseconds(0.999),
            max: times.max() as f64 / 1e6,
            cpu: (own_time() - cpu).as_secs_f64() / number as f64,
        })
    }
}

impl Connection {
    fn open(port: u16, number: usize, poll: &rustix::fd::OwnedFd) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(poll, &stream, data, epoll::EventFlags::IN)?;
        Ok(Self {
            stream,
            due: None,
            free_since: Instant::now(),
            answer: Vec::with_capacity(1024),
        })
    }

    fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        // No other request is open on this connection, so the socket buffer has room for all of it.
        let sent = self.stream.write(request).context("cannot send")?;
        ensure!(sent == request.len(), "only {sent} bytes could be sent");
        Ok(())
    }

    /// Reads what has arrived. If that completes the answer, returns when its request was due.
    fn receive(&mut self, now: Instant) -> anyhow::Result<Option<Instant>> {
        let mut part = [0; 1024];
        match self.stream.read(&mut part) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(length) => self.answer.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("cannot receive"),
        }
        let ok = self.answer.starts_with(OK) || OK.starts_with(&self.answer);
        if ok && self.answer.ends_with(ACCEPTED) {
            self.answer.clear();
            self.free_since = now;
            return self.due.take().context("an answer to nothing").map(Some);
        }
        let head = self.answer.windows(4).position(|end| end == b"\r\n\r\n");
        ensure!(
            ok && head.is_none_or(|at| ACCEPTED.starts_with(&self.answer[at..])),
            "a request was NOT answered 200 with {{\"code\":0}}: {}",
            String::from_utf8_lossy(&self.answer)
        );
        Ok(None)
    }
}

/// Sleeps until data has arrived, or until the time is over.
fn wait_for(
    poll: &rustix::fd::OwnedFd,
    events: &mut Vec<epoll::Event>,
    wait: Duration,
) -> anyhow::Result<()> {
    let wait = Timespec {
        tv_sec: wait.as_secs().cast_signed(),
        tv_nsec: wait.subsec_nanos().into(),
    };
    match epoll::wait(poll, spare_capacity(events), Some(&wait)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The processor time of this thread.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
