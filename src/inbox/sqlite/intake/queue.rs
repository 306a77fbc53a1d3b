//! What waits to be accepted, and how much of it makes a batch.
//!
//! A sync costs the same for one as for a hundred, and under load its thread competes with those that bring the next ones. If
//! it began with the first that comes back after a batch was answered, all others would miss it and wait for another whole
//! sync. So where many were waiting lately, it lets them come, as long as they do come: it never waits for one that may not,
//! and where few are waiting it waits for none.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::Request;

/// At most so much goes into one batch.
const REQUESTS: usize = 4096;
const BYTES: usize = 8 << 20;
/// How long to stay awake for the next request.
const AWAKE: Duration = Duration::from_micros(50);
/// With fewer waiting lately nobody waits for others.
const MANY: usize = 8;
/// So long after the last one came it is thought that no more are coming.
const PAUSE: Duration = Duration::from_micros(35);
/// However many are coming, the first one has waited long enough.
const LONGEST: Duration = Duration::from_micros(400);

pub(super) struct Queue {
    requests: Receiver<Request>,
    waiting: VecDeque<Request>,
    /// How many were in the last batch, which is being answered.
    answered: usize,
    /// How many there are at a time, lately.
    lately: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn new(requests: Receiver<Request>) -> Self {
        Self {
            requests,
            waiting: VecDeque::new(),
            answered: 0,
            lately: 0,
            closed: false,
        }
    }

    /// The next batch; none after [`Request::Close`], or if nobody is left to send any.
    pub(super) fn next(&mut self) -> Option<Vec<Request>> {
        self.receive();
        if self.waiting.is_empty() {
            if self.closed {
                return None;
            }
            self.await_one();
        }
        self.let_them_come();
        let outstanding = self.waiting.len() + self.answered;
        // A twentieth less each time: what was there is soon forgotten.
        self.lately = outstanding.max(self.lately - self.lately.div_ceil(20));
        let batch = self.batch();
        self.answered = batch.len();
        (!batch.is_empty()).then_some(batch)
    }

    fn batch(&mut self) -> Vec<Request> {
        let mut batch = Vec::with_capacity(self.waiting.len().min(REQUESTS));
        let mut bytes = 0;
        while batch.len() < REQUESTS
            && bytes < BYTES
            && let Some(request) = self.waiting.pop_front()
        {
            if let Request::Accept { callback, .. } = &request {
                bytes += callback.body().len();
            }
            batch.push(request);
        }
        batch
    }

    /// Takes what is there. What comes after the end is dropped, with its reply.
    fn receive(&mut self) {
        while !self.closed && self.waiting.len() < REQUESTS {
            match self.requests.try_recv() {
                Ok(Request::Close) | Err(TryRecvError::Disconnected) => self.closed = true,
                Ok(request) => self.waiting.push_back(request),
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    /// Under load one comes in a moment, sooner than a thread that sleeps could be woken: whoever else has work gets the
    /// processor meanwhile.
    fn await_one(&mut self) {
        let began = Instant::now();
        while self.waiting.is_empty() && !self.closed {
            if began.elapsed() < AWAKE {
                std::thread::yield_now();
                self.receive();
                continue;
            }
            match self.requests.recv() {
                Ok(Request::Close) | Err(_) => self.closed = true,
                Ok(request) => self.waiting.push_back(request),
            }
        }
    }

    fn let_them_come(&mut self) {
        if self.lately < MANY {
            return;
        }
        let began = Instant::now();
        let mut newest = began;
        while self.waiting.len() < self.lately - self.lately / 10 && !self.closed {
            let before = self.waiting.len();
            self.receive();
            let now = Instant::now();
            if self.waiting.len() > before {
                newest = now;
            }
            if now - newest >= PAUSE || now - began >= LONGEST {
                return;
            }
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use tokio::sync::oneshot;

    use super::*;

    fn queue() -> (Sender<Request>, Queue) {
        let (sender, requests) = channel();
        (sender, Queue::new(requests))
    }

    fn send(sender: &Sender<Request>, number: usize) {
        for _ in 0..number {
            let (reply, _) = oneshot::channel();
            sender.send(Request::Probe { reply }).unwrap();
        }
    }

    fn next(queue: &mut Queue) -> Option<usize> {
        queue.next().map(|batch| batch.len())
    }

    #[test]
    fn what_is_there_is_taken_and_the_end_comes_last() {
        let (sender, mut queue) = queue();
        send(&sender, 1);
        assert_eq!(next(&mut queue), Some(1));
        send(&sender, REQUESTS + 5);
        sender.send(Request::Close).unwrap();
        send(&sender, 1);
        assert_eq!(next(&mut queue), Some(REQUESTS));
        assert_eq!(next(&mut queue), Some(5));
        assert_eq!(next(&mut queue), None);
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn the_end_of_all_senders_is_the_end() {
        let (sender, mut queue) = queue();
        send(&sender, 3);
        drop(sender);
        assert_eq!(next(&mut queue), Some(3));
        assert_eq!(next(&mut queue), None);
    }

    /// Told by what it waits for, not by a clock: a lone request leaves nothing to wait for.
    #[test]
    fn a_lone_one_waits_for_nobody() {
        let (sender, mut queue) = queue();
        for _ in 0..100 {
            send(&sender, 1);
            assert_eq!(next(&mut queue), Some(1));
            assert!(queue.lately < MANY);
        }
        send(&sender, 500);
        assert_eq!(next(&mut queue), Some(500));
        assert!(queue.lately >= MANY);
        for _ in 0..200 {
            send(&sender, 1);
            assert_eq!(next(&mut queue), Some(1), "more than one never comes");
        }
        assert!(queue.lately < MANY, "a flood is forgotten");
    }
}
