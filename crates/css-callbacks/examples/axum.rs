//! A receiver with axum: it stores each signed callback once and refuses everything else.
//!
//! Run it with `CALLBACK_KEY=test cargo run --example axum -- 127.0.0.1:8080`. In production, put a reverse proxy in front
//! that speaks HTTPS and limits slow senders: the signature does not cover the body.
#![allow(clippy::disallowed_methods, reason = "this asks for the time of day")]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State, rejection::BytesRejection};
use axum::http::StatusCode;
use axum::{Router, routing::post};
use css_callbacks::{Callback, EventId, Payload, Secret, verify};

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
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<&'static str, StatusCode> {
    receiver.store(&body.map_err(|rejection| rejection.status())?)?;
    Ok(r#"{"code":0}"#)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("usage: axum ADDRESS:PORT")?;
    let keys = [Secret::new(std::env::var("CALLBACK_KEY")?)];
    let stored = Mutex::default();
    let router = Router::new()
        .route("/css", post(receive))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Receiver { keys, stored }));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}/css", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}
