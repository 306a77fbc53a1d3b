//! Connections: a listener that serves a router over HTTP/1.1 and is not held by clients that are slow or many.
//!
//! A connection is closed if a request's head takes longer than `header_timeout` from its first byte (a new connection: from
//! its begin), if nothing comes for `idle_timeout` after an answer, or if the client takes nothing of what it is sent for
//! `write_timeout`. At `max_connections` one that rests makes room for the next. If none rests, a few more are taken to
//! answer health probes, and everything else 503 at once: left waiting, the sender would lose 20 seconds.

mod caller;
mod crowd;
mod patience;
mod refusal;
mod requests;
mod socket;
mod unreadable;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Connection};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use self::caller::{Caller, Rules};
use self::crowd::{Crowd, CrowdPlace};
use self::patience::{Impatience, LINGER, Patience};
use self::refusal::FixedAnswer;
use self::requests::Answering;
use self::socket::Socket;
pub(crate) use self::unreadable::Unreadable;
use crate::budget::Budget;

/// Connections beyond `max_connections`, at most, so that whoever looks after the server gets to it.
pub(crate) const SPARE: usize = 64;
const LEAST_SPARE: usize = 4;
/// A client that is silent is asked whether it is still there after so long; gone after four questions without an answer.
const SILENCE: Duration = Duration::from_secs(60);
const QUESTION_EVERY: Duration = Duration::from_secs(15);
const QUESTIONS: u32 = 4;
/// Between tries when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that the system may hold for a listener that closes.
const BACKLOG: usize = 1024;
/// Between two log lines about the same.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// What hyper reads into at least.
const LEAST_BUFFER: usize = 8192;

/// Limits of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Connections at a time.
    pub max_connections: usize,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
    /// From an answer to the next head.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of what it is sent.
    pub write_timeout: Duration,
    /// The longest head of a request.
    pub max_head: u64,
    /// What heads that are not complete may take together.
    pub heads: Budget,
}

/// How far a listener is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It serves.
    Serving,
    /// It serves, and tells each client that the answer is the connection's last.
    Draining,
    /// It takes nobody any more and finishes the requests under way.
    Stopping,
}

/// Where and when a request came in.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// When the head was complete.
    pub head_at: Instant,
    /// The bytes of a long head; 0 for all others.
    pub long_head: u64,
    caller: Arc<Caller>,
}

impl Arrival {
    fn new(caller: Arc<Caller>, long_head: u64) -> Self {
        Self {
            peer: caller.peer,
            head_at: Instant::now(),
            long_head,
            caller,
        }
    }

    /// The request was authentic: where there are too many connections, this one is among the last to make room.
    pub(crate) fn vouch(&self) {
        self.caller.set_genuine();
    }
}

/// Serves until `stage` says so, then finishes the requests under way. If nobody is left to say so it stops, too, and leaves
/// the connections that it has not taken.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stage: watch::Receiver<Stage>,
    unreadable: Arc<Unreadable>,
) {
    watch_for_the_dead(&listener);
    let mut hall = Hall::new(router, limits, listener.local_addr().ok(), unreadable);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => hall.admit(stream, peer).await,
                Err(error) => hall.failed(&error).await,
            },
            told = stage.changed() => match told.map(|()| *stage.borrow_and_update()) {
                Ok(Stage::Serving) => {}
                Ok(Stage::Draining) => hall.rules.draining.store(true, Ordering::Relaxed),
                Ok(Stage::Stopping) => {
                    hall.admit_the_last(listener).await;
                    break;
                }
                Err(_) => break,
            },
        }
    }
    hall.stop();
    hall.bell.closed().await;
}

/// Connections have it from their listener.
fn watch_for_the_dead(listener: &TcpListener) {
    let set = || {
        sockopt::set_socket_keepalive(listener, true)?;
        sockopt::set_tcp_keepidle(listener, SILENCE)?;
        sockopt::set_tcp_keepintvl(listener, QUESTION_EVERY)?;
        sockopt::set_tcp_keepcnt(listener, QUESTIONS)
    };
    if let Err(error) = set() {
        tracing::warn!(%error, "the system does not watch for clients that are gone without a word");
    }
}

/// A listener's connections.
struct Hall {
    router: Router,
    rules: Arc<Rules>,
    address: Option<SocketAddr>,
    unreadable: Arc<Unreadable>,
    regular: Crowd,
    spare: Crowd,
    /// Rings when they have to stop; each of them holds a receiver.
    bell: watch::Sender<()>,
    told_full: Seldom,
    told_failed: Seldom,
}

impl Hall {
    fn new(
        router: Router,
        limits: Limits,
        address: Option<SocketAddr>,
        unreadable: Arc<Unreadable>,
    ) -> Self {
        let max_connections = limits.max_connections;
        let rules = Rules {
            limits,
            opened: Instant::now(),
            draining: AtomicBool::new(false),
            stopped: OnceLock::new(),
        };
        Self {
            router,
            rules: Arc::new(rules),
            address,
            unreadable,
            regular: Crowd::new(max_connections),
            spare: Crowd::new((max_connections / 4).clamp(LEAST_SPARE, SPARE)),
            bell: watch::channel(()).0,
            told_full: Seldom::default(),
            told_failed: Seldom::default(),
        }
    }

    async fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let caller = Arc::new(Caller::new(peer, self.rules.clone()));
        let is_full = self.regular.is_full();
        if is_full {
            self.tell_full();
        }
        let regular = self.regular.place(&caller);
        let is_spare = regular.is_none();
        let Some(place) = regular.or_else(|| self.spare.place(&caller)) else {
            return;
        };
        let bell = self.bell.subscribe();
        let router = self.router.clone();
        let attended = attend(stream, router, caller.clone(), is_spare, place, bell);
        let unreadable = self.unreadable.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = attended.await
                && error.is_parse()
            {
                unreadable.note(peer, &error);
            }
        });
        let _ = caller.task.set(task.abort_handle());
        if is_full {
            // Whoever was sent away gives back a descriptor first.
            yield_now().await;
        }
    }

    /// What the system took before the listener closed is not turned away without an answer.
    async fn admit_the_last(&mut self, listener: TcpListener) {
        self.rules.draining.store(true, Ordering::Relaxed);
        let Ok(listener) = listener.into_std() else {
            return;
        };
        for _ in 0..BACKLOG {
            let Ok((stream, peer)) = listener.accept() else {
                return;
            };
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.admit(stream, peer).await;
            }
        }
    }

    async fn failed(&mut self, error: &io::Error) {
        // The connection that failed is its client's business; a lack of descriptors is ours, and passes.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        ) {
            return;
        }
        if self.told_failed.is_due() {
            let at = self.address.map(tracing::field::display);
            tracing::error!(server.listen = at, %error, "connections cannot be accepted");
        }
        self.regular.make_room();
        sleep(ACCEPT_PAUSE).await;
    }

    fn tell_full(&mut self) {
        if self.told_full.is_due() {
            tracing::warn!(
                server.listen = self.address.map(tracing::field::display),
                max_connections = self.rules.limits.max_connections,
                "there are too many connections: those that rest make room, further ones are answered 503"
            );
        }
    }

    fn stop(&self) {
        self.rules.draining.store(true, Ordering::Relaxed);
        let _ = self.rules.stopped.set(Instant::now());
        self.bell.send_replace(());
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Something to be told once in a while.
#[derive(Debug, Default)]
struct Seldom(Option<Instant>);

impl Seldom {
    fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// Serves one connection to its end, which gives back the place.
async fn attend(
    stream: TcpStream,
    router: Router,
    caller: Arc<Caller>,
    is_spare: bool,
    _place: CrowdPlace,
    mut bell: watch::Receiver<()>,
) -> hyper::Result<()> {
    let mut connection = connection(stream, router, &caller, is_spare);
    let mut patience = Patience::new(&caller, is_spare);
    let mut is_first = true;
    let impatience = {
        let mut rung = pin!(bell.changed());
        std::future::poll_fn(|cx| {
            // One that has been polled wakes this task; what has changed is in the rules.
            if is_first {
                is_first = false;
                let _ = rung.as_mut().poll(cx);
            }
            if let Poll::Ready(over) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Err(over));
            }
            patience.poll(cx).map(Ok)
        })
        .await
    };
    match impatience {
        Err(Ok(())) | Ok(Impatience::Leave) => {}
        Err(Err(error)) => {
            tracing::debug!(peer = %caller.peer, %error, "a connection broke off");
            return Err(error);
        }
        Ok(Impatience::Tell(refusal)) => {
            let stream = connection.into_parts().io.into_inner().into_stream();
            // Boxed, so that all others do not hold the room for it.
            let _ = timeout(LINGER, Box::pin(turn_away(stream, refusal))).await;
        }
    }
    Ok(())
}

fn connection(
    stream: TcpStream,
    router: Router,
    caller: &Arc<Caller>,
    is_spare: bool,
) -> Connection<
    TokioIo<Socket>,
    impl HttpService<Incoming, ResBody = Answering, Error = Infallible, Future: Send> + Unpin,
> {
    let socket = TokioIo::new(Socket::new(stream, caller.clone()));
    let service = requests::answering(router, caller.clone(), is_spare);
    let max_head = usize::try_from(caller.rules.limits.max_head).unwrap_or(usize::MAX);
    // Without hyper's timer, which would be set and cleared for every request: `Patience` has one. A head that is too long
    // is refused before hyper's buffer is full.
    http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size((max_head + 1).max(LEAST_BUFFER))
        .serve_connection(socket, service)
}

/// Answers without a request, and waits for the client to have read it: closing at once could take the answer back.
async fn turn_away(mut stream: TcpStream, refusal: &FixedAnswer) -> io::Result<()> {
    stream.write_all(&refusal.bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_probes_silent_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        watch_for_the_dead(&listener);
        let connecting = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(connecting, listener.accept());
        let (connection, _) = accepted.unwrap();
        assert!(sockopt::socket_keepalive(&connection).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&connection).unwrap(), SILENCE);
        assert_eq!(sockopt::tcp_keepintvl(&connection).unwrap(), QUESTION_EVERY);
        assert_eq!(sockopt::tcp_keepcnt(&connection).unwrap(), QUESTIONS);
    }
}
