//! A real inbox, and handlers that follow a script.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use css_callbacks::{Callback, Timestamp};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::*;
use crate::auth::{Presented, authenticate};
use crate::dispatch::settings::{HandlerConfig, Retry};
use crate::event::Event;
use crate::handler::{Failure, Handling};
use crate::inbox::delivery::{Lane, Start};
use crate::inbox::settings::InboxConfig;
use crate::settings::Env;
use crate::source::SourceConfig;

/// What the handler does in an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Done,
    Retry,
    RetryAfter(Duration),
    Reject,
    Hang,
    Panic,
    /// Succeeds after this time.
    Take(Duration),
}

type Script = Box<dyn Fn(&Event, usize) -> Act + Send + Sync>;

/// Does what a script says for an event and the number of its earlier attempts.
pub(super) struct Fake {
    script: Mutex<Script>,
    begun: Mutex<Vec<Seq>>,
    done: Mutex<Vec<Seq>>,
    running: Mutex<Vec<Lane>>,
    pub(super) max_running: Mutex<usize>,
    pub(super) overlapped: AtomicBool,
}

impl Fake {
    pub(super) fn new(script: impl Fn(&Event, usize) -> Act + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Box::new(script)),
            begun: Mutex::default(),
            done: Mutex::default(),
            running: Mutex::default(),
            max_running: Mutex::default(),
            overlapped: AtomicBool::new(false),
        })
    }

    pub(super) fn always(act: Act) -> Arc<Self> {
        Self::new(move |_, _| act)
    }

    pub(super) fn set_script(&self, script: impl Fn(&Event, usize) -> Act + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    /// The events of all attempts, in the order in which the attempts began.
    pub(super) fn begun(&self) -> Vec<Seq> {
        self.begun.lock().unwrap().clone()
    }

    /// The events of the attempts that succeeded.
    pub(super) fn done(&self) -> Vec<Seq> {
        self.done.lock().unwrap().clone()
    }

    pub(super) fn attempts(&self, seq: Seq) -> usize {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|other| **other == seq).count()
    }
}

/// A running attempt. Dropping it ends the attempt, also after an abort or a panic.
struct Running<'a>(&'a Fake, Lane);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.0.running.lock().unwrap();
        let at = running.iter().position(|lane| *lane == self.1).unwrap();
        running.remove(at);
    }
}

impl Handler for Fake {
    fn handle<'a>(&'a self, event: &'a Event) -> Handling<'a> {
        Box::pin(async move {
            let before = self.attempts(event.seq());
            self.begun.lock().unwrap().push(event.seq());
            {
                let mut running = self.running.lock().unwrap();
                if running.contains(&event.lane()) {
                    self.overlapped.store(true, Ordering::Relaxed);
                }
                running.push(event.lane());
                let mut max = self.max_running.lock().unwrap();
                *max = (*max).max(running.len());
            }
            let _running = Running(self, event.lane());
            let act = self.script.lock().unwrap()(event, before);
            match act {
                Act::Done => {}
                Act::Retry => return Err(Failure::retry("not now")),
                Act::RetryAfter(after) => {
                    return Err(Failure::Retry {
                        reason: "later".to_owned(),
                        after: Some(after),
                    });
                }
                Act::Reject => return Err(Failure::reject("never")),
                Act::Hang => std::future::pending().await,
                Act::Panic => panic!("as scripted"),
                Act::Take(time) => sleep(time).await,
            }
            self.done.lock().unwrap().push(event.seq());
            Ok(())
        })
    }
}

pub(super) struct Harness {
    dir: TempDir,
    pub(super) inbox: Inbox,
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) handlers: BTreeMap<String, Built>,
    clock: Clock,
    /// How many milliseconds the clock is ahead.
    ahead: i64,
    runtime: Option<Runtime>,
}

impl Harness {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let (inbox, dispatch, runtime) = open(dir.path(), &clock).await;
        Self {
            dir,
            inbox,
            dispatch,
            handlers: BTreeMap::new(),
            clock,
            ahead: 0,
            runtime: Some(runtime),
        }
    }

    /// A harness with one handler, `h`.
    pub(super) async fn with(handler: &Arc<Fake>, change: impl Fn(&mut HandlerConfig)) -> Self {
        let mut harness = Self::new().await;
        harness.add_handler("h", handler, change).await;
        harness
    }

    pub(super) async fn add_handler(
        &mut self,
        name: &str,
        handler: &Arc<Fake>,
        change: impl Fn(&mut HandlerConfig),
    ) {
        self.add_any_handler(name, handler.clone(), change).await;
    }

    pub(super) async fn add_any_handler(
        &mut self,
        name: &str,
        handler: Arc<dyn Handler>,
        change: impl Fn(&mut HandlerConfig),
    ) {
        let settings = Arc::new(settings(change));
        self.handlers.insert(
            name.to_owned(),
            Built {
                settings,
                handler: handler.into(),
            },
        );
        self.change().await;
    }

    pub(super) async fn remove_handler(&mut self, name: &str) {
        self.handlers.remove(name);
        self.change().await;
    }

    pub(super) async fn change(&self) {
        let (dispatch, handlers) = (self.dispatch.clone(), self.handlers.clone());
        let change = async move { dispatch.change_to(handlers).await };
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(change).await.unwrap().unwrap();
    }

    /// Ends the process without notice and starts it again.
    pub(super) async fn crash(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
        self.reopen().await;
    }

    /// Stops as on SIGTERM and starts again.
    pub(super) async fn restart(&mut self, grace: Duration) {
        self.dispatch.stop(grace).await;
        self.runtime.take().unwrap().shutdown_background();
        self.reopen().await;
    }

    async fn reopen(&mut self) {
        let inbox = self.inbox.clone();
        inbox.close().await;
        // The last handle releases the lock, and the old runtime may hold one for a moment.
        std::fs::remove_file(self.dir.path().join("livehook.lock")).unwrap();
        self.clock = Clock::system_ahead(self.ahead);
        let (inbox, dispatch, runtime) = open(self.dir.path(), &self.clock).await;
        self.inbox = inbox;
        self.dispatch = dispatch;
        self.runtime = Some(runtime);
        self.change().await;
    }

    /// Moves the clock by so many milliseconds.
    pub(super) fn set_clock_by(&mut self, millis: i64) {
        self.ahead += millis;
        self.clock.set_by(millis);
    }

    /// Runs a task in the runtime of the handlers.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().unwrap().spawn(task);
    }

    /// Stores an event of a stream. With an empty name it has no stream.
    pub(super) async fn store(&self, stream: &str) -> Seq {
        let body = format!(
            r#"{{"event_type":1,"app":"push.example.com","appname":"live","stream_id":"{stream}","nonce":{}}}"#,
            rand::random::<u64>()
        );
        store(&self.inbox, self.clock.now(), body).await
    }

    pub(super) async fn store_all(&self, streams: &[&str]) -> Vec<Seq> {
        let mut seqs = Vec::new();
        for stream in streams {
            seqs.push(self.store(stream).await);
        }
        seqs
    }

    /// Stores many events at once, in any order.
    pub(super) async fn store_many(&self, count: usize, stream: impl Fn(usize) -> String) {
        let stores = (0..count).map(|n| {
            let body = format!(
                r#"{{"event_type":1,"app":"push.example.com","appname":"live","stream_id":"{}","nonce":{}}}"#,
                stream(n),
                rand::random::<u64>()
            );
            let (inbox, now) = (self.inbox.clone(), self.clock.now());
            tokio::spawn(async move { store(&inbox, now, body).await })
        });
        for stored in stores.collect::<Vec<_>>() {
            stored.await.unwrap();
        }
    }

    /// Removes all events.
    pub(super) async fn remove_events(&self) {
        let events = self.inbox.after(0, usize::MAX, usize::MAX).await.unwrap();
        let seqs = events.iter().map(Event::seq).collect();
        self.inbox.delete(seqs).await.unwrap();
    }

    pub(super) async fn report(&self) -> HandlerReport {
        self.dispatch.report().await.unwrap().swap_remove(0)
    }

    pub(super) async fn rows(&self) -> RowCounts {
        self.inbox
            .count(self.dispatch.id("h").unwrap())
            .await
            .unwrap()
    }

    /// Waits until no event is unfinished.
    pub(super) async fn idle(&self) {
        eventually(async || self.report().await.lag_events == 0).await;
    }

    pub(super) async fn replay(&self, selection: Selection) -> u64 {
        self.dispatch.replay("h", selection, false).await.unwrap()
    }

    pub(super) async fn discard(&self, selection: Selection) -> u64 {
        self.dispatch.discard("h", selection, false).await.unwrap()
    }

    /// How many steps the worker of `h` has made.
    pub(super) fn steps(&self) -> u64 {
        self.status().steps.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> u64 {
        self.status().view().open
    }

    fn status(&self) -> Arc<Status> {
        let configured = self.dispatch.configured();
        configured["h"].worker.as_ref().unwrap().status.clone()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn env() -> Env<'static> {
    Env {
        base: Path::new("/"),
        variable: &|_| None,
    }
}

async fn open(path: &Path, clock: &Clock) -> (Inbox, Arc<Dispatch>, Runtime) {
    let config = InboxConfig {
        path: Some(path.to_owned()),
        min_free: Some(0),
        segment_size: None,
        ..InboxConfig::default()
    };
    let settings = config
        .validate("inbox", &env(), Duration::from_secs(600))
        .unwrap();
    let inbox = Inbox::open(&settings, clock.clone(), Arc::default())
        .await
        .unwrap();
    let dispatch = Dispatch::new(inbox.clone(), clock.clone(), Arc::default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    (inbox, Arc::new(dispatch), runtime)
}

async fn store(inbox: &Inbox, received: Timestamp, body: String) -> Seq {
    let open = SourceConfig {
        token: Some("hush".to_owned()),
        ..SourceConfig::default()
    };
    let source = open.validate("css", &env()).unwrap();
    let presented = Presented {
        url_kind: None,
        token: Some(b"hush"),
        client: None,
        received,
        body: Bytes::from(body.clone()),
    };
    let callback = Callback::parse(body.as_bytes()).unwrap();
    let authentic = authenticate(&source, &presented, &callback, rand::random)
        .outcome
        .unwrap();
    inbox.accept(authentic, None).await.unwrap().seq()
}

/// A handler for all events from the oldest on, with pauses of milliseconds.
pub(super) fn settings(change: impl Fn(&mut HandlerConfig)) -> HandlerSettings {
    let mut config = HandlerConfig {
        start: Start::Oldest,
        retry: Retry {
            initial: Duration::from_millis(2),
            max: Duration::from_millis(8),
            ..Retry::default()
        },
        ..HandlerConfig::default()
    };
    change(&mut config);
    config.validate("h", &["css"].into(), &env()).unwrap()
}

/// Polls until the condition is true.
pub(super) async fn eventually(condition: impl AsyncFn() -> bool) {
    let poll = async {
        while !condition().await {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        timeout(Duration::from_secs(20), poll).await.is_ok(),
        "the condition never became true"
    );
}

pub(super) fn all_time() -> (Timestamp, Timestamp) {
    (
        Timestamp::from_millis(0),
        Clock::system().now().plus(Duration::from_secs(60)),
    )
}
