//! Connections that send almost nothing and never end. They must not block a receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use css_callbacks::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::template::{Template, path_and_query};

/// The pause between two bytes.
const PAUSE: Duration = Duration::from_millis(500);

/// The slow connections that are open.
pub(super) struct Slow {
    connections: JoinSet<()>,
    counts: Option<Arc<[AtomicU64; 2]>>,
}

/// Keeps this many slow connections open, until [`Slow::end`].
pub(super) fn start(template: &Template, connections: usize) -> Slow {
    let mut tasks = JoinSet::new();
    if connections == 0 {
        return Slow {
            connections: tasks,
            counts: None,
        };
    }
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let url = template.url(Kind::StreamBegin);
    let host = url.host_str().unwrap_or_default().to_owned();
    let (name, port) = template.address();
    let address = (name.to_owned(), port);
    for at in 0..connections {
        // Every second connection sends its head quickly and is slow in its body.
        let head = match at % 2 {
            0 => String::new(),
            _ => format!(
                "POST {} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 100000\r\n\r\n",
                path_and_query(&url)
            ),
        };
        let (address, counts) = (address.clone(), counts.clone());
        tasks.spawn(async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(&address).await {
                    counts[0].fetch_add(1, Ordering::Relaxed);
                    trickle(&mut stream, &head).await;
                    counts[1].fetch_add(1, Ordering::Relaxed);
                }
                sleep(PAUSE).await;
            }
        });
    }
    Slow {
        connections: tasks,
        counts: Some(counts),
    }
}

/// Sends slowly until the other side closes the connection.
async fn trickle(stream: &mut TcpStream, head: &str) {
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut answer = [0; 256];
    loop {
        match timeout(PAUSE, stream.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_) if stream.write_all(b"P").await.is_err() => return,
            Err(_) => {}
        }
    }
}

impl Slow {
    /// Returns the number of opened connections and of those that the receiver closed; none if none
    /// were wanted.
    pub(super) async fn end(mut self) -> Option<[u64; 2]> {
        self.connections.shutdown().await;
        self.counts
            .map(|counts| [0, 1].map(|at| counts[at].load(Ordering::Relaxed)))
    }
}
