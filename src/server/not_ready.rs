//! Answers "not ready" during the start.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use super::StartError;
use super::answers::Answers;
use crate::budget::Budget;
use crate::config::Config;
use crate::ingress::health;
use crate::listener::{self, Stage, Unreadable};
use crate::metrics::Metrics;

/// Answers "not ready" at the callback listener while the start waits for the database.
pub(super) struct NotReady {
    listener: std::net::TcpListener,
    stage: watch::Sender<Stage>,
    serving: JoinHandle<()>,
}

impl NotReady {
    pub(super) async fn begin(
        config: &Config,
        max_connections: usize,
        metrics: &Metrics,
        answers: &Answers,
    ) -> Result<Self, StartError> {
        let address = config.server.listen;
        let inflight = Budget::new(config.server.max_inflight);
        let limits = config.server.limits(max_connections, &inflight);
        let unreadable = Arc::new(Unreadable::new(metrics.unreadable.clone()));
        let begun = answers.spawn(async move {
            let listener = TcpListener::bind(address).await?.into_std()?;
            let same_listener = TcpListener::from_std(listener.try_clone()?)?;
            let (stage, stages) = watch::channel(Stage::Serving);
            let router = health::starting();
            let serving = listener::serve(same_listener, router, limits, stages, unreadable);
            Ok(Self {
                listener,
                stage,
                serving: tokio::spawn(serving),
            })
        });
        listen_result("server", address, begun.await)
    }

    /// Stops answering. New connections wait until the server accepts them.
    pub(super) async fn end(self) -> std::io::Result<TcpListener> {
        drop(self.stage);
        let _ = self.serving.await;
        TcpListener::from_std(self.listener)
    }
}

pub(super) async fn listen(
    section: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, StartError> {
    listen_result(section, address, Ok(TcpListener::bind(address).await))
}

/// The result of a task that opened a listener.
pub(super) fn listen_result<T>(
    section: &'static str,
    address: SocketAddr,
    opened: Result<std::io::Result<T>, JoinError>,
) -> Result<T, StartError> {
    let opened = opened.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    opened.map_err(|error| StartError::Listen {
        section,
        address,
        error,
    })
}
