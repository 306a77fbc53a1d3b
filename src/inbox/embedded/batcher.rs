//! Collects requests into batches.
//!
//! A sync costs the same for one request as for a hundred, and waking a thread costs half as much as a request. While the acceptor is
//! busy, nobody wakes it: it takes what has come when it is done. While it sleeps, a lone request wakes it at once. If many
//! requests came at a time lately, it is woken when half as many wait again, so that some are read while others are synced; or
//! when the runtime has nothing else to do, because then no more will come soon. Nothing spins.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::yield_now;

use super::acceptor::Request;

/// At most so much goes into one batch.
const REQUESTS: usize = 4096;
const BYTES: usize = 8 << 20;
/// If fewer requests came at a time lately, a request does not wait for others.
const MANY: usize = 8;
/// The first request of a batch waits for others no longer than this.
const LONGEST: Duration = Duration::from_micros(400);
/// Nobody needs to wake the acceptor.
const AWAKE: u64 = u64::MAX;

/// Sends requests to a [`Queue`]. Dropping it closes the queue.
pub(super) struct Requests {
    sender: Sender<Request>,
    waker: Arc<Waker>,
    /// The runtime of those who send, if there is one.
    runtime: Option<Handle>,
}

/// Wakes the acceptor.
#[derive(Default)]
struct Waker {
    acceptor: OnceLock<Thread>,
    /// How many requests there ever were.
    sent: AtomicU64,
    /// At how many the acceptor wants to be woken.
    wanted: AtomicU64,
    /// Somebody waits for the runtime to come to rest.
    is_watched: AtomicBool,
}

impl Waker {
    fn wake(&self) {
        if let Some(acceptor) = self.acceptor.get() {
            acceptor.unpark();
        }
    }
}

/// Wakes the acceptor when the runtime has nothing else to do, or has ended.
struct IdleWatch(Arc<Waker>);

impl IdleWatch {
    async fn until_rest(self) {
        let began = Instant::now();
        loop {
            let sent = self.0.sent.load(Ordering::SeqCst);
            // It goes on after whatever is ready, and whatever has arrived on the sockets meanwhile.
            yield_now().await;
            if self.0.sent.load(Ordering::SeqCst) == sent || began.elapsed() > LONGEST {
                return;
            }
        }
    }
}

impl Drop for IdleWatch {
    fn drop(&mut self) {
        self.0.is_watched.store(false, Ordering::SeqCst);
        if self.0.wanted.load(Ordering::SeqCst) != AWAKE {
            self.0.wake();
        }
    }
}

impl Requests {
    /// If nobody receives the request, it is dropped with its reply, which tells that it failed.
    pub(super) fn send(&self, request: Request) {
        let waits_for_others = matches!(request, Request::Accept { .. });
        let _ = self.sender.send(request);
        let sent = self.waker.sent.fetch_add(1, Ordering::SeqCst) + 1;
        let wanted = self.waker.wanted.load(Ordering::SeqCst);
        if wanted == AWAKE {
            return;
        }
        match &self.runtime {
            Some(runtime) if waits_for_others && sent < wanted => {
                if !self.waker.is_watched.swap(true, Ordering::SeqCst) {
                    runtime.spawn(IdleWatch(self.waker.clone()).until_rest());
                }
            }
            _ => self.waker.wake(),
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.send(Request::Close);
    }
}

pub(super) struct Queue {
    requests: Receiver<Request>,
    waker: Arc<Waker>,
    /// How many were received.
    received: u64,
    waiting: VecDeque<Request>,
    /// How many were in the last batch, which is being answered.
    answered: usize,
    /// How many there are at a time, lately.
    lately: usize,
    closed: bool,
}

/// A queue and where it is sent to, from `runtime` if it is one.
pub(super) fn queue(runtime: Option<Handle>) -> (Requests, Queue) {
    let (sender, requests) = channel();
    let waker = Arc::new(Waker::default());
    waker.wanted.store(AWAKE, Ordering::SeqCst);
    let sends = Requests {
        sender,
        waker: waker.clone(),
        runtime,
    };
    let queue = Queue {
        requests,
        waker,
        received: 0,
        waiting: VecDeque::new(),
        answered: 0,
        lately: 0,
        closed: false,
    };
    (sends, queue)
}

impl Queue {
    /// The next batch; none after [`Request::Close`], or if nobody is left to send any.
    pub(super) fn next(&mut self) -> Option<Vec<Request>> {
        self.receive();
        // Where few wait nobody waits for others.
        let enough = if self.lately < MANY {
            1
        } else {
            self.lately / 2
        };
        let mut rested = false;
        while self.waiting.is_empty() && !self.closed {
            self.sleep(enough, None);
            rested = true;
            self.receive();
        }
        if self.waiting.len() < enough && !rested && !self.closed {
            self.sleep(enough - self.waiting.len(), Some(LONGEST));
            self.receive();
        }
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
                Ok(request) => {
                    self.received += 1;
                    self.waiting.push_back(request);
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    /// Until so many more have come, or no more seem to come for now.
    fn sleep(&self, more: usize, longest: Option<Duration>) {
        self.waker.acceptor.get_or_init(std::thread::current);
        let wanted = self.received + more as u64;
        self.waker.wanted.store(wanted, Ordering::SeqCst);
        // Whoever sent before that will not ring.
        if self.waker.sent.load(Ordering::SeqCst) == self.received {
            match longest {
                Some(longest) => std::thread::park_timeout(longest),
                None => std::thread::park(),
            }
        }
        self.waker.wanted.store(AWAKE, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use css_callbacks::Timestamp;
    use tokio::sync::oneshot;

    use super::*;
    use crate::inbox::contract::{authentic, push};

    fn send(requests: &Requests, number: usize) {
        for _ in 0..number {
            let (reply, _) = oneshot::channel();
            requests.send(Request::Probe { reply });
        }
    }

    fn accept(requests: &Requests) {
        let (reply, _) = oneshot::channel();
        requests.send(Request::Accept {
            callback: authentic(
                "css",
                push("room", 1).as_bytes(),
                Timestamp::from_seconds(0),
            ),
            charge: None,
            reply,
            unless_ever_stored: false,
        });
    }

    fn next(queue: &mut Queue) -> Option<usize> {
        queue.next().map(|batch| batch.len())
    }

    #[test]
    fn what_is_there_is_taken_and_the_end_comes_last() {
        let (sender, mut queue) = queue(None);
        send(&sender, 1);
        assert_eq!(next(&mut queue), Some(1));
        send(&sender, REQUESTS + 5);
        sender.send(Request::Close);
        send(&sender, 1);
        assert_eq!(next(&mut queue), Some(REQUESTS));
        assert_eq!(next(&mut queue), Some(5));
        assert_eq!(next(&mut queue), None);
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn the_end_of_all_senders_is_the_end() {
        let (sender, mut queue) = queue(None);
        send(&sender, 3);
        drop(sender);
        assert_eq!(next(&mut queue), Some(3));
        assert_eq!(next(&mut queue), None);
    }

    /// Told by what it waits for, not by a clock: a lone request leaves nothing to wait for.
    #[test]
    fn a_lone_one_waits_for_nobody() {
        let (sender, mut queue) = queue(None);
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

    /// Has a flood be remembered, so that others are waited for.
    fn flood(requests: &Requests, queue: &mut Queue) {
        send(requests, 4 * MANY);
        assert_eq!(next(queue), Some(4 * MANY));
    }

    #[test]
    fn one_of_many_waits_until_the_runtime_is_at_rest() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (sender, mut queue) = queue(Some(runtime.handle().clone()));
        let (batches, taken) = channel();
        flood(&sender, &mut queue);
        let acceptor = std::thread::spawn(move || {
            while let Some(batch) = next(&mut queue) {
                queue.lately = 4 * MANY;
                batches.send(batch).unwrap();
            }
        });
        for _ in 0..100 {
            accept(&sender);
            assert_eq!(taken.recv(), Ok(1));
        }
        // A runtime that is gone keeps nobody waiting.
        drop(runtime);
        accept(&sender);
        assert_eq!(taken.recv(), Ok(1));
        drop(sender);
        acceptor.join().unwrap();
    }

    #[test]
    fn half_as_many_as_lately_are_enough_whatever_the_runtime_does() {
        // Nobody drives it.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (sender, mut queue) = queue(Some(runtime.handle().clone()));
        flood(&sender, &mut queue);
        let acceptor = std::thread::spawn(move || next(&mut queue));
        while sender.waker.wanted.load(Ordering::SeqCst) == AWAKE {
            std::thread::yield_now();
        }
        (0..2 * MANY).for_each(|_| accept(&sender));
        assert_eq!(acceptor.join().unwrap(), Some(2 * MANY));
    }
}
