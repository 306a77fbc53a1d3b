//! A receiver with hyper: it stores each signed callback once and refuses everything else.
//!
//! Run it with `CALLBACK_KEY=test cargo run --example hyper -- 127.0.0.1:8080`. In production, put a reverse proxy in front
//! that speaks HTTPS and limits slow senders: the signature does not cover the body.
#![allow(clippy::disallowed_methods, reason = "this asks for the time of day")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use css_callbacks::{Callback, EventId, Payload, Secret, verify};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, http, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

const MAX_BODY: usize = 1 << 20; // bytes
/// The platform still repeats a callback when its signature has expired: accept it for this much longer.
const GRACE: Duration = Duration::from_secs(600);

struct Receiver {
    keys: [Secret; 1],
    /// Stands for the table of your database.
    stored: Mutex<HashSet<EventId>>,
}

impl Receiver {
    /// Stores a callback, unless it is stored already. The error is the answer.
    fn store(&self, body: &[u8]) -> Result<(), StatusCode> {
        let callback = Callback::parse(body).map_err(|_| StatusCode::BAD_REQUEST)?;
        verify(&self.keys, &callback, SystemTime::now().into(), GRACE)
            .map_err(|_| StatusCode::UNAUTHORIZED)?;
        let kind = callback.kind(None);
        let id = EventId::derive("css", kind, callback.members(), rand::random);
        // Store it here: insert the body with `id` as a unique key, and commit. Return only then, because the answer 200
        // ends the platform's repeats. If storing fails, answer 503: the callback comes again.
        let mut stored = self.stored.lock().expect("no thread panics with the lock");
        let is_new = stored.insert(id);
        // An authentic callback without a typed form is stored, too: if you refuse it, it is lost.
        match Payload::parse(kind, &String::from_utf8_lossy(body)) {
            _ if !is_new => println!("repeat {id}"),
            Ok(Payload::StreamBegin(begin)) => println!("new {id} live {:?}", begin.stream_id),
            Ok(_) | Err(_) => println!("new {id} {kind}"),
        }
        Ok(())
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> http::Result<Response<String>> {
        let body = body_of(request).await;
        let (status, text) = match body.and_then(|body| self.store(&body)) {
            Ok(()) => (StatusCode::OK, r#"{"code":0}"#),
            Err(status) => (status, ""),
        };
        Response::builder().status(status).body(text.to_owned())
    }
}

/// The body, if it was posted to `/css` and is not too large.
async fn body_of(request: Request<Incoming>) -> Result<Bytes, StatusCode> {
    if (request.method().as_str(), request.uri().path()) != ("POST", "/css") {
        return Err(StatusCode::NOT_FOUND);
    }
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: hyper ADDRESS:PORT")?;
    let keys = [Secret::new(std::env::var("CALLBACK_KEY")?)];
    let stored = Mutex::default();
    let receiver = Arc::new(Receiver { keys, stored });
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}/css", listener.local_addr()?);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Such as too many open files: wait until some are closed.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let receiver = receiver.clone();
        let service = service_fn(move |request| receiver.clone().answer(request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
