//! Serves a router over HTTP/1.1, and stays available when clients are slow or too many.
//!
//! A connection is closed if a head takes longer than `header_timeout` from its first byte (on a
//! new connection: from the accept), if no request follows a response within `idle_timeout`, or if
//! a write is blocked for `write_timeout`. At `max_connections`, an idle connection is closed to
//! admit the next one. If none is idle, a few spare connections are admitted: they answer health
//! probes, and all other requests with 503 at once. A sender left waiting would lose 20 seconds.

mod connection_limit;
mod connection_state;
mod deadline;
mod fixed_response;
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

use self::connection_limit::{ConnectionLimit, ConnectionPermit};
use self::connection_state::{ConnectionState, ListenerState};
use self::deadline::{ConnectionDeadline, ConnectionEnd, LINGER};
use self::fixed_response::FixedResponse;
use self::requests::TrackedBody;
use self::socket::Socket;
pub(crate) use self::unreadable::Unreadable;
use crate::budget::Budget;

/// The most connections beyond `max_connections`. Health probes use them when the server is full.
pub(crate) const SPARE: usize = 64;
const MIN_SPARE: usize = 4;
/// TCP keepalive: the idle time before the first probe.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;
/// The pause before the next accept when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most connections to take from the kernel's accept queue when the listener closes.
const BACKLOG: usize = 1024;
/// The shortest time between two log lines about the same thing.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The smallest read buffer that hyper accepts, in bytes.
const MIN_BUFFER: usize = 8192;

/// Limits of a listener.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// The most connections at a time, without the spare ones.
    pub max_connections: usize,
    /// The most time from a head's first byte to its last.
    pub header_timeout: Duration,
    /// The most time from a response to the next head.
    pub idle_timeout: Duration,
    /// The most time that a write may be blocked.
    pub write_timeout: Duration,
    /// The longest head of a request, in bytes.
    pub max_head: u64,
    /// The bytes that all incomplete heads may use together.
    pub heads: Budget,
}

/// The stage of a listener's shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The listener serves.
    Serving,
    /// The listener serves, and each response closes its connection.
    Draining,
    /// The listener accepts no more connections, and finishes the requests in progress.
    Stopping,
}

/// The connection and the time at which a request arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The address of the other end of the connection.
    pub peer: SocketAddr,
    /// When the head was complete.
    pub head_at: Instant,
    /// The length of a long head in bytes; 0 for all others.
    pub long_head: u64,
    state: Arc<ConnectionState>,
}

impl Arrival {
    fn new(state: Arc<ConnectionState>, long_head: u64) -> Self {
        Self {
            peer: state.peer,
            head_at: Instant::now(),
            long_head,
            state,
        }
    }

    /// Notes that this request was authentic: its connection is among the last to be evicted.
    pub(crate) fn mark_authentic(&self) {
        self.state.set_authentic();
    }
}

/// Serves until `stage` becomes `Stopping`, then finishes the requests in progress. If the sender of
/// `stage` is dropped, it also stops, but does not accept what waits in the kernel's queue.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stage: watch::Receiver<Stage>,
    unreadable: Arc<Unreadable>,
) {
    enable_keepalive(&listener);
    let mut acceptor =
        ConnectionAcceptor::new(router, limits, listener.local_addr().ok(), unreadable);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => acceptor.admit(stream, peer).await,
                Err(error) => acceptor.accept_failed(&error).await,
            },
            change = stage.changed() => match change.map(|()| *stage.borrow_and_update()) {
                Ok(Stage::Serving) => {}
                Ok(Stage::Draining) => acceptor.shared.draining.store(true, Ordering::Relaxed),
                Ok(Stage::Stopping) => {
                    acceptor.drain_backlog(listener).await;
                    break;
                }
                Err(_) => break,
            },
        }
    }
    acceptor.stop();
    acceptor.stop_signal.closed().await;
}

/// Turns on TCP keepalive. Accepted connections inherit it from the listener.
fn enable_keepalive(listener: &TcpListener) {
    let set = || {
        sockopt::set_socket_keepalive(listener, true)?;
        sockopt::set_tcp_keepidle(listener, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(listener, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(listener, KEEPALIVE_PROBES)
    };
    if let Err(error) = set() {
        tracing::warn!(%error, "TCP keepalive cannot be set, so connections of vanished clients stay open until a timeout");
    }
}

/// Accepts the connections of a listener.
struct ConnectionAcceptor {
    router: Router,
    shared: Arc<ListenerState>,
    address: Option<SocketAddr>,
    unreadable: Arc<Unreadable>,
    regular: ConnectionLimit,
    spare: ConnectionLimit,
    /// Wakes all connections when they must stop. Each connection holds a receiver.
    stop_signal: watch::Sender<()>,
    full_log: LogThrottle,
    accept_failed_log: LogThrottle,
}

impl ConnectionAcceptor {
    fn new(
        router: Router,
        limits: Limits,
        address: Option<SocketAddr>,
        unreadable: Arc<Unreadable>,
    ) -> Self {
        let max_connections = limits.max_connections;
        let shared = ListenerState {
            limits,
            opened: Instant::now(),
            draining: AtomicBool::new(false),
            stopped: OnceLock::new(),
        };
        Self {
            router,
            shared: Arc::new(shared),
            address,
            unreadable,
            regular: ConnectionLimit::new(max_connections),
            spare: ConnectionLimit::new((max_connections / 4).clamp(MIN_SPARE, SPARE)),
            stop_signal: watch::channel(()).0,
            full_log: LogThrottle::default(),
            accept_failed_log: LogThrottle::default(),
        }
    }

    async fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let state = Arc::new(ConnectionState::new(peer, self.shared.clone()));
        let is_full = self.regular.is_full();
        if is_full {
            self.warn_full();
        }
        let regular = self.regular.acquire(&state);
        let is_spare = regular.is_none();
        let Some(permit) = regular.or_else(|| self.spare.acquire(&state)) else {
            return;
        };
        let stop_signal = self.stop_signal.subscribe();
        let router = self.router.clone();
        let serving =
            serve_connection(stream, router, state.clone(), is_spare, permit, stop_signal);
        let unreadable = self.unreadable.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await
                && error.is_parse()
            {
                unreadable.note(peer, &error);
            }
        });
        let _ = state.task.set(task.abort_handle());
        if is_full {
            // The evicted task must first close its file descriptor.
            yield_now().await;
        }
    }

    /// Accepts what the kernel has queued, so that these clients still get a response.
    async fn drain_backlog(&mut self, listener: TcpListener) {
        self.shared.draining.store(true, Ordering::Relaxed);
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

    async fn accept_failed(&mut self, error: &io::Error) {
        // If the client broke off the connection, nothing is wrong here. Other errors, such as too
        // few file descriptors, are logged, and end after a while.
        if matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
        ) {
            return;
        }
        if self.accept_failed_log.is_due() {
            let at = self.address.map(tracing::field::display);
            tracing::error!(server.listen = at, %error, "cannot accept connections");
        }
        self.regular.make_room();
        sleep(ACCEPT_PAUSE).await;
    }

    fn warn_full(&mut self) {
        if self.full_log.is_due() {
            tracing::warn!(
                server.listen = self.address.map(tracing::field::display),
                max_connections = self.shared.limits.max_connections,
                "too many connections: idle ones are closed, and when none is idle, new ones get 503"
            );
        }
    }

    fn stop(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        let _ = self.shared.stopped.set(Instant::now());
        self.stop_signal.send_replace(());
    }
}

impl Drop for ConnectionAcceptor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Limits how often a log line is written.
#[derive(Debug, Default)]
struct LogThrottle(Option<Instant>);

impl LogThrottle {
    fn is_due(&mut self) -> bool {
        let is_due = self.0.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// Serves one connection until it ends, and then frees its slot.
async fn serve_connection(
    stream: TcpStream,
    router: Router,
    state: Arc<ConnectionState>,
    is_spare: bool,
    _permit: ConnectionPermit,
    mut stop_signal: watch::Receiver<()>,
) -> hyper::Result<()> {
    let mut connection = connection(stream, router, &state, is_spare);
    let mut deadline = ConnectionDeadline::new(&state, is_spare);
    let mut is_first = true;
    let end = {
        let mut stopped = pin!(stop_signal.changed());
        std::future::poll_fn(|cx| {
            // One poll registers this task for the wake-up. The new state itself is in `shared`.
            if is_first {
                is_first = false;
                let _ = stopped.as_mut().poll(cx);
            }
            if let Poll::Ready(over) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Err(over));
            }
            deadline.poll(cx).map(Ok)
        })
        .await
    };
    match end {
        Err(Ok(())) | Ok(ConnectionEnd::Close) => {}
        Err(Err(error)) => {
            tracing::debug!(peer = %state.peer, %error, "a connection broke off");
            return Err(error);
        }
        Ok(ConnectionEnd::Respond(response)) => {
            let stream = connection.into_parts().io.into_inner().into_stream();
            // Boxed, so that the future of every other connection stays small.
            let _ = timeout(LINGER, Box::pin(respond(stream, response))).await;
        }
    }
    Ok(())
}

fn connection(
    stream: TcpStream,
    router: Router,
    state: &Arc<ConnectionState>,
    is_spare: bool,
) -> Connection<
    TokioIo<Socket>,
    impl HttpService<Incoming, ResBody = TrackedBody, Error = Infallible, Future: Send> + Unpin,
> {
    let socket = TokioIo::new(Socket::new(stream, state.clone()));
    let service = requests::service(router, state.clone(), is_spare);
    let max_head = usize::try_from(state.shared.limits.max_head).unwrap_or(usize::MAX);
    // hyper's own timer is off: it is set and cleared for every request, and `ConnectionDeadline`
    // has one timer for all. A head that is too long is refused before hyper's buffer is full.
    http1::Builder::new()
        .header_read_timeout(None)
        .half_close(true)
        .max_buf_size((max_head + 1).max(MIN_BUFFER))
        .serve_connection(socket, service)
}

/// Sends a response, and waits until the client has read it: an early close could discard it.
async fn respond(mut stream: TcpStream, response: &FixedResponse) -> io::Result<()> {
    stream.write_all(&response.bytes()).await?;
    stream.shutdown().await?;
    let mut discarded = [0; 4096];
    while stream.read(&mut discarded).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_probes_silent_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        enable_keepalive(&listener);
        let connecting = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (_client, accepted) = tokio::join!(connecting, listener.accept());
        let (connection, _) = accepted.unwrap();
        assert!(sockopt::socket_keepalive(&connection).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&connection).unwrap(), KEEPALIVE_IDLE);
        assert_eq!(
            sockopt::tcp_keepintvl(&connection).unwrap(),
            KEEPALIVE_INTERVAL
        );
        assert_eq!(sockopt::tcp_keepcnt(&connection).unwrap(), KEEPALIVE_PROBES);
    }
}
