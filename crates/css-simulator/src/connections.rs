//! A fixed number of connections to the receiver, and requests over them.
//!
//! A connection pool may open more connections than it should, which would spoil the measurement.
//! So each connection of hyper is held in a slot.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::template::{Template, path_and_query};

/// A connection that was idle for longer is not used again: the receiver may close it just when the
/// next request is sent.
const IDLE: Duration = Duration::from_secs(1);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("livehook-simulate/", env!("CARGO_PKG_VERSION")));

/// The result of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestEnd {
    /// An answer with this status.
    Status(u16),
    /// There was no answer within the platform's time limit.
    TimedOut,
    /// The connection could not be made, or it broke. The text says why.
    Failed(String),
}

/// The end of a sentence.
impl fmt::Display for RequestEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {status}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Failed(why) => write!(f, "broken off: {why}"),
        }
    }
}

impl RequestEnd {
    /// Whether the platform counts the event as acknowledged.
    pub fn is_good(&self) -> bool {
        *self == Self::Status(200)
    }
}

/// The connections to a receiver.
pub(super) struct Connections {
    slots: Semaphore,
    idle: Mutex<Vec<(HttpSender, Instant)>>,
    /// Whether a connection serves more than one request.
    reused: bool,
    host: String,
    port: u16,
    /// The value of the header `Host`.
    authority: HeaderValue,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

type HttpSender = SendRequest<Full<Bytes>>;
type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

/// The right to use one connection, which may not be open yet.
pub(super) struct Slot<'a> {
    connections: &'a Connections,
    _room: SemaphorePermit<'a>,
}

impl Connections {
    /// Prepares at most `most` connections to the host of the template. Opens none yet.
    pub(super) fn new(template: &Template, most: usize) -> anyhow::Result<Self> {
        let url = template.base();
        let host = url.host_str().unwrap_or_default();
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let (host, port) = template.address();
        let host = host.to_owned();
        let tls = if url.scheme() == "https" {
            let crypto = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(crypto)
                .with_safe_default_protocol_versions()?
                .with_platform_verifier()?
                .with_no_client_auth();
            Some((
                TlsConnector::from(Arc::new(config)),
                ServerName::try_from(host.clone())?,
            ))
        } else {
            None
        };
        Ok(Self {
            slots: Semaphore::new(most),
            idle: Mutex::default(),
            reused: true,
            port,
            authority: HeaderValue::try_from(authority)?,
            host,
            tls,
        })
    }

    /// Uses a new connection for each request. So a connection that the receiver closes just when a
    /// request begins does not count against the receiver.
    pub(super) fn used_once(self) -> Self {
        Self {
            reused: false,
            ..self
        }
    }

    /// Waits for a free connection.
    pub(super) async fn slot(&self) -> Slot<'_> {
        let room = self.slots.acquire().await;
        Slot {
            connections: self,
            _room: room.expect("the semaphore is never closed"),
        }
    }

    async fn open(&self) -> Result<HttpSender, ConnectionError> {
        let stream = TcpStream::connect((&*self.host, self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => speak(stream).await,
            Some((tls, name)) => speak(tls.connect(name.clone(), stream).await?).await,
        }
    }

    fn idle(&self) -> Option<HttpSender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, since) = idle.pop()?;
        if since.elapsed() <= IDLE {
            return Some(sender);
        }
        // The connections below it are older still.
        idle.clear();
        None
    }

    async fn exchange(&self, mut request: Request<Full<Bytes>>) -> Result<u16, ConnectionError> {
        while let Some(mut sender) = self.idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return self.read(sender, response).await,
                // The receiver has just closed the connection, and nothing was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let mut sender = self.open().await?;
        let response = sender.send_request(request).await?;
        self.read(sender, response).await
    }

    /// Reads the body to its end. The platform ignores it, but the answer is not complete before.
    async fn read(
        &self,
        sender: HttpSender,
        response: Response<hyper::body::Incoming>,
    ) -> Result<u16, ConnectionError> {
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        if self.reused {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((sender, Instant::now()));
        }
        Ok(status)
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<HttpSender, ConnectionError> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The task ends with the sender. The request reports errors of the connection.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

impl Slot<'_> {
    /// Sends one request and waits for its answer.
    pub(super) async fn post(
        &self,
        url: &Url,
        body: String,
        answer_timeout: Duration,
    ) -> RequestEnd {
        let request = Request::post(path_and_query(url))
            .header(HOST, &self.connections.authority)
            .header(CONTENT_TYPE, JSON)
            .header(USER_AGENT, AGENT)
            // Also for an empty body, as other clients do and hyper does not.
            .header(CONTENT_LENGTH, body.len())
            .body(Full::from(body));
        let request = match request {
            Ok(request) => request,
            Err(error) => return RequestEnd::Failed(error.to_string()),
        };
        match timeout(answer_timeout, self.connections.exchange(request)).await {
            Ok(Ok(status)) => RequestEnd::Status(status),
            Ok(Err(error)) => RequestEnd::Failed(innermost(&*error)),
            Err(_) => RequestEnd::TimedOut,
        }
    }
}

/// The innermost cause, which is the most exact.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
