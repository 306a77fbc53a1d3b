//! Connections: a listener that serves a router over HTTP/1.1 and is not held by clients that are slow or many.
//!
//! A connection is closed if a request's head takes longer than `header_timeout` from its first byte (a new connection: from
//! its begin), or if nothing comes for `IDLE`. Above `max_connections` a connection is answered 503 at once: left waiting,
//! the sender would lose 20 seconds.

mod unreadable;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tower_service::Service;

pub use self::unreadable::Unreadable;

/// Longer than load balancers keep idle connections, so that it is they who close them.
const IDLE: Duration = Duration::from_secs(120);
/// The head of a request.
const MAX_HEAD: usize = 64 << 10;
/// Turned away politely at a time; beyond it, connections are just closed.
const TURNED_AWAY: usize = 256;
/// Between tries when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Between two log lines about too many connections.
const TELL_EVERY: Duration = Duration::from_secs(60);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n\
    connection: close\r\ncontent-length: 45\r\n\r\n{\"code\":503,\"message\":\"too many connections\"}";

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time.
    pub max_connections: usize,
    /// From a head's first byte to its last.
    pub header_timeout: Duration,
}

/// Where and when a request came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// When the head was complete.
    pub head_at: Instant,
}

/// Serves until `stop` says so, then finishes the requests under way.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    unreadable: Arc<Unreadable>,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let turned_away = Arc::new(Semaphore::new(TURNED_AWAY));
    let graceful = GracefulShutdown::new();
    let mut told_full: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The connection that failed is its client's business; a lack of descriptors is ours, and passes.
                if !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) {
                    tracing::error!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            if told_full.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told_full = Some(Instant::now());
                let at = listener.local_addr().ok();
                tracing::warn!(
                    server.listen = at.map(tracing::field::display),
                    max_connections = limits.max_connections,
                    "there are too many connections: further ones are answered 503"
                );
            }
            if let Ok(place) = turned_away.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _ = timeout(Duration::from_secs(1), turn_away(stream)).await;
                    drop(place);
                });
            }
            continue;
        };
        let _ = stream.set_nodelay(true);
        let phase = Arc::new(AtomicU8::new(HEAD));
        let io = TokioIo::new(Patient::new(stream, phase.clone(), limits.header_timeout));
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            phase.store(BUSY, Ordering::Relaxed);
            let arrival = Arrival {
                peer,
                head_at: Instant::now(),
            };
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(arrival);
            let answer = router.clone().call(request);
            let phase = phase.clone();
            async move {
                let answer = answer.await;
                phase.store(IDLING, Ordering::Relaxed);
                answer
            }
        });
        // Without hyper's timer, which would be set and cleared for every request: `Patient` has one.
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD)
            .serve_connection(io, service);
        let connection = graceful.watch(connection);
        let unreadable = unreadable.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                if error.is_parse() {
                    unreadable.note(peer, &error);
                }
                tracing::debug!(%peer, %error, "a connection broke off");
            }
            drop(slot);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Answers without a request, and waits for the client to have read it: closing at once could take the answer back.
async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(FULL).await?;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Waiting for the first byte of another head.
const IDLING: u8 = 0;
/// Waiting for the rest of a head.
const HEAD: u8 = 1;
/// A request is being answered.
const BUSY: u8 = 2;

/// A stream that gives a head only so long, and the next one, too.
struct Patient {
    stream: TcpStream,
    phase: Arc<AtomicU8>,
    limit: Duration,
    /// When the last head began.
    began: Instant,
    /// Rings at some time up to when patience ends, and is set anew then: most requests leave it alone.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, phase: Arc<AtomicU8>, limit: Duration) -> Self {
        Self {
            stream,
            phase,
            limit,
            began: Instant::now(),
            timer: None,
        }
    }

    /// Ready when patience is over; else wakes the task when there is something to look at.
    fn poll_end(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = match &mut self.timer {
            // It was polled by this task before, which is all it takes to be woken.
            Some(timer) if timer.deadline() <= until && !timer.is_elapsed() => {
                return Poll::Pending;
            }
            Some(_) if until <= Instant::now() => return Poll::Ready(()),
            Some(timer) => {
                timer.as_mut().reset(until);
                timer
            }
            None => self.timer.insert(Box::pin(sleep_until(until))),
        };
        timer.as_mut().poll(cx)
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let phase = self.phase.load(Ordering::Relaxed);
        if read.is_ready() {
            if phase == IDLING && buffer.filled().len() > before {
                self.phase.store(HEAD, Ordering::Relaxed);
                self.began = Instant::now();
            }
            return read;
        }
        let patience = match phase {
            HEAD => self.limit,
            IDLING => IDLE,
            _ => return read,
        };
        let until = self.began + patience;
        match self.poll_end(until, cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => read,
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
