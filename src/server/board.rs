//! Connects the board of streams with the inbox and the handlers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use css_callbacks::Kind;
use tokio::time::{MissedTickBehavior, interval};

use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::settings::HandlerSettings;
use crate::dispatch::{Built, Dispatch};
use crate::inbox::settings::StoreSettings;
use crate::inbox::{Inbox, OpenError, StoreError};
use crate::metrics::Metrics;
use crate::streams::{self, Board, Subscribed};

/// The pause between two looks for changes to announce.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(200);

pub(super) fn open(
    config: &Config,
    inbox: &Inbox,
    clock: &Clock,
    metrics: &Arc<Metrics>,
) -> Result<Board, OpenError> {
    let directory = match &config.inbox.store {
        StoreSettings::Sqlite(store) => &store.path,
        StoreSettings::Postgres(_) => Path::new(""),
    };
    let (inbox, clock, metrics) = (inbox.clone(), clock.clone(), metrics.clone());
    let opened = Board::open(directory, inbox, clock, metrics, config.streams.clone());
    opened.map_err(|error| OpenError::Broken {
        path: directory.join("streams.db"),
        reason: error.to_string(),
    })
}

/// The board as a consumer of events. It is fed like a handler, and announces changes to handlers
/// that subscribe to them.
pub(super) struct BoardProjection {
    projection: Built,
    subscribed: Arc<Subscribed>,
}

impl BoardProjection {
    pub(super) fn of(board: &Board) -> Self {
        Self {
            projection: Built {
                settings: Arc::new(HandlerSettings::for_projection()),
                handler: board.feed(),
            },
            subscribed: Arc::default(),
        }
    }

    pub(super) fn subscribed(&self) -> Arc<Subscribed> {
        self.subscribed.clone()
    }

    /// From now on, announces the derived kinds that these handlers subscribe to.
    pub(super) fn subscribe(&self, handlers: &BTreeMap<String, Built>) {
        let asked = |kind: Kind| {
            let mut settings = handlers.values().map(|built| &built.settings);
            settings.any(|settings| settings.kinds().contains(&kind))
        };
        self.subscribed.set(asked);
    }

    /// The handlers together with the board.
    pub(super) fn with(&self, handlers: &BTreeMap<String, Built>) -> BTreeMap<String, Built> {
        let mut all = handlers.clone();
        all.insert(streams::NAME.to_owned(), self.projection.clone());
        all
    }
}

/// Runs one pass of retention. Keeps the events that the board needs.
pub(super) async fn sweep(inbox: &Inbox, dispatch: &Dispatch, board: &Board, retention: Duration) {
    let pass = async {
        if let Some(id) = dispatch.projection_id(streams::NAME) {
            let is_ready = board.before_sweep(id, retention).await?;
            if !is_ready {
                return Ok(());
            }
        }
        while inbox.sweep().await? {}
        board.after_sweep(retention).await?;
        Ok::<_, StoreError>(())
    };
    // The failed part has logged its error; the next pass tries again.
    let _ = pass.await;
}

/// Announces changes while this receiver feeds the board.
pub(super) async fn announce(board: Board, dispatch: Arc<Dispatch>, subscribed: Arc<Subscribed>) {
    let mut ticks = interval(ANNOUNCE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(id) = dispatch.projection_here(streams::NAME) {
            while let Ok(true) = board.announce(id, &subscribed).await {}
        }
    }
}
