//! Reports for the operator: how handlers are doing, and what happened to an event.

use std::time::Duration;

use super::status::{HandlerState, Last, WorkerView};
use super::{ConfiguredHandler, Dispatch};
use crate::event::{Event, Seq};
use crate::inbox::StoreError;
use crate::inbox::delivery::{DeliveryRow, RowCounts, RowState};
use crate::metrics::HandlerLabel;

/// How a handler is doing.
#[derive(Debug, Clone)]
pub(crate) struct HandlerReport {
    pub name: String,
    /// The `type` of its target; none if it is code.
    pub target_type: Option<&'static str>,
    pub state: HandlerState,
    /// Unfinished events, and all unread ones, even if the filters will reject them.
    pub lag_events: u64,
    /// The age of the oldest unfinished event.
    pub lag: Duration,
    /// The numbers of its rows.
    pub rows: RowCounts,
    pub last: Last,
}

/// What happened to an event at one handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeliveryReport {
    pub handler: String,
    pub progress: DeliveryProgress,
    /// The delivery's row, if it has one.
    pub row: Option<DeliveryRow>,
}

/// How far a handler is with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryProgress {
    /// The handler's filters reject it.
    NotWanted,
    /// It is done, or was discarded, or is older than the handler's start.
    Done,
    /// It was read. It is being delivered, or is done and the position is not written yet.
    InProgress,
    /// The handler has not read it yet.
    Ahead,
    /// It failed, or waits behind one that failed.
    OutOfLine(RowState),
}

impl DeliveryProgress {
    pub(crate) const ALL: [Self; 7] = [
        Self::NotWanted,
        Self::Done,
        Self::InProgress,
        Self::Ahead,
        Self::OutOfLine(RowState::Due),
        Self::OutOfLine(RowState::Waiting),
        Self::OutOfLine(RowState::Parked),
    ];

    /// The word for it in the API.
    pub(crate) fn slug(self) -> &'static str {
        match self {
            Self::NotWanted => "not wanted",
            Self::Done => "done",
            Self::InProgress => "at work",
            Self::Ahead => "ahead",
            Self::OutOfLine(RowState::Due) => "retrying",
            Self::OutOfLine(RowState::Waiting) => "waiting",
            Self::OutOfLine(RowState::Parked) => "parked",
        }
    }
}

impl Dispatch {
    /// What happened to an event at each handler, ordered by name.
    pub(crate) async fn deliveries(
        &self,
        event: &Event,
    ) -> Result<Vec<DeliveryReport>, StoreError> {
        let handlers: Vec<_> = {
            let configured = self.configured();
            let handlers = configured
                .iter()
                .filter(|(_, configured)| !configured.is_projection());
            let targets = handlers.map(|(name, configured)| {
                let read_to = configured
                    .worker
                    .as_ref()
                    .map(|worker| worker.status.view().read_to);
                let wants = configured.built.settings.wants(event);
                (name.clone(), configured.id, wants, read_to)
            });
            targets.collect()
        };
        let mut reports = Vec::with_capacity(handlers.len());
        for (handler, id, wants, read_to) in handlers {
            // First the position: an event that fails meanwhile must not be reported as done.
            let position = self.inbox.position(id).await?;
            let mut row = self.inbox.delivery_row(id, event.seq()).await?;
            if let Some(row) = row.as_mut().filter(|row| row.state != RowState::Parked) {
                let wall_time = |steady| self.clock.time_of_day(steady);
                row.attempts.first = row.attempts.first.map(wall_time);
                row.due = row.due.map(wall_time);
            }
            let progress = match &row {
                // It is replayed, or the row before it is gone, and there was no attempt yet.
                Some(row) if row.state == RowState::Due && row.attempts.count == 0 => {
                    DeliveryProgress::OutOfLine(RowState::Waiting)
                }
                Some(row) => DeliveryProgress::OutOfLine(row.state),
                None if !wants => DeliveryProgress::NotWanted,
                None if event.seq() <= position => DeliveryProgress::Done,
                None if read_to.is_some_and(|read_to| event.seq() <= read_to) => {
                    DeliveryProgress::InProgress
                }
                None => DeliveryProgress::Ahead,
            };
            reports.push(DeliveryReport {
                handler,
                progress,
                row,
            });
        }
        Ok(reports)
    }

    /// How every handler is doing, ordered by name.
    pub(crate) async fn report(&self) -> Result<Vec<HandlerReport>, StoreError> {
        self.report_of(|configured| !configured.is_projection())
            .await
    }

    async fn report_of(
        &self,
        wanted: impl Fn(&ConfiguredHandler) -> bool,
    ) -> Result<Vec<HandlerReport>, StoreError> {
        let handlers: Vec<_> = {
            let configured = self.configured();
            let stopping = self.stopping_workers.borrow();
            let described = |configured: &ConfiguredHandler| {
                let worker = configured.worker.as_ref().map(|worker| &worker.status);
                let stopped = || stopping.get(&configured.id).map(|worker| &worker.status);
                (
                    configured.id,
                    worker.or_else(stopped).cloned(),
                    configured.built.settings.target_type,
                )
            };
            configured
                .iter()
                .filter(|(_, configured)| wanted(configured))
                .map(|(name, configured)| (name.clone(), described(configured)))
                .collect()
        };
        let last_seq = *self.inbox.committed().borrow();
        let mut reports = Vec::with_capacity(handlers.len());
        for (name, (id, status, target_type)) in handlers {
            // First memory, then rows: better to count an event twice than not at all.
            let (view, last) = match status {
                Some(status) => (status.view(), status.last()),
                None => (
                    WorkerView::elsewhere(self.inbox.position(id).await?),
                    Last::default(),
                ),
            };
            let rows = self.inbox.count(id).await?;
            let unread = (last_seq - view.read_to).max(0).unsigned_abs();
            let lag_events = unread + view.open + rows.due + rows.waiting;
            let first_unread: Option<Seq> = (unread > 0).then_some(view.read_to + 1);
            let lag = match [first_unread, view.oldest, rows.oldest]
                .into_iter()
                .flatten()
                .min()
            {
                Some(oldest) => self.inbox.age_from(oldest).await?.unwrap_or_default(),
                None => Duration::ZERO,
            };
            let state = view.state;
            reports.push(HandlerReport {
                name,
                target_type,
                state,
                lag_events,
                lag,
                rows,
                last,
            });
        }
        Ok(reports)
    }

    /// Updates the gauges of the handlers.
    pub(crate) async fn measure(&self) -> Result<(), StoreError> {
        for report in self.report().await? {
            let label = HandlerLabel {
                handler: report.name,
            };
            let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics
                .handler_lag_events
                .get_or_create(&label)
                .set(signed(report.lag_events));
            self.metrics
                .handler_lag_seconds
                .get_or_create(&label)
                .set(report.lag.as_secs_f64());
            self.metrics
                .parked
                .get_or_create(&label)
                .set(signed(report.rows.parked));
        }
        let projections = self.report_of(ConfiguredHandler::is_projection).await?;
        let lag = projections
            .iter()
            .map(|report| report.lag_events)
            .sum::<u64>();
        let signed = i64::try_from(lag).unwrap_or(i64::MAX);
        self.metrics.streams_lag_events.set(signed);
        Ok(())
    }
}
