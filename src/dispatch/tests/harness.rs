//! A real inbox, and handlers that do as they are told.

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

/// What the handler does with an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Done,
    Retry,
    RetryAfter(Duration),
    Reject,
    Hang,
    Panic,
    /// Succeeds after so long.
    Take(Duration),
}

type Script = Box<dyn Fn(&Event, usize) -> Act + Send + Sync>;

/// Follows a script of the event and the number of its attempts before, and remembers what came.
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

    /// Attempts in the order in which they began.
    pub(super) fn begun(&self) -> Vec<Seq> {
        self.begun.lock().unwrap().clone()
    }

    /// Attempts that were done.
    pub(super) fn done(&self) -> Vec<Seq> {
        self.done.lock().unwrap().clone()
    }

    pub(super) fn attempts(&self, seq: Seq) -> usize {
        let begun = self.begun.lock().unwrap();
        begun.iter().filter(|other| **other == seq).count()
    }
}

/// One attempt; over when it is dropped, however that comes.
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
    /// By how much the clock is ahead.
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

    /// With one handler, `h`.
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

    /// The end of the process, without any notice; then it is started again.
    pub(super) async fn crash(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
        self.reopen().await;
    }

    /// A stop as on SIGTERM, then a new start.
    pub(super) async fn restart(&mut self, grace: Duration) {
        self.dispatch.stop(grace).await;
        self.runtime.take().unwrap().shutdown_background();
        self.reopen().await;
    }

    async fn reopen(&mut self) {
        let inbox = self.inbox.clone();
        inbox.close().await;
        // The lock goes with the last handle, and the runtime that was dropped may hold one for a moment.
        std::fs::remove_file(self.dir.path().join("livehook.lock")).unwrap();
        self.clock = Clock::system_ahead(self.ahead);
        let (inbox, dispatch, runtime) = open(self.dir.path(), &self.clock).await;
        self.inbox = inbox;
        self.dispatch = dispatch;
        self.runtime = Some(runtime);
        self.change().await;
    }

    /// Sets the clock.
    pub(super) fn set_clock_by(&mut self, millis: i64) {
        self.ahead += millis;
        self.clock.set_by(millis);
    }

    /// Runs something beside the handlers.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().unwrap().spawn(task);
    }

    /// Stores an event of a stream; of none if it is empty.
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

    /// Many events at once, in no special order.
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

    /// As retention does in the end.
    pub(super) async fn remove_events(&self) {
        let conn = rusqlite::Connection::open(self.dir.path().join("inbox.db")).unwrap();
        conn.execute("DELETE FROM events", []).unwrap();
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

    /// Waits until nothing is owed.
    pub(super) async fn idle(&self) {
        eventually(async || self.report().await.lag_events == 0).await;
    }

    pub(super) async fn replay(&self, selection: Selection) -> u64 {
        self.dispatch.replay("h", selection, false).await.unwrap()
    }

    pub(super) async fn discard(&self, selection: Selection) -> u64 {
        self.dispatch.discard("h", selection, false).await.unwrap()
    }

    /// How often the loop of `h` has gone round.
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

/// Everything, from the first event on, with pauses of milliseconds.
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

/// Polls until it is so.
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
