//! A projection gets many events at once.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::dispatch::settings::HandlerSettings;
use crate::handler::{Applying, Projection};

/// Records events, after so many failures.
#[derive(Default)]
struct RecordingProjection {
    seqs: Mutex<Vec<Seq>>,
    failures: AtomicU32,
    /// Set if it keeps its cursor itself: up to where it is written.
    written: Mutex<Option<Seq>>,
}

impl Projection for RecordingProjection {
    fn cursor(&self) -> Option<Seq> {
        let last = self.seqs().last().copied().unwrap_or(0);
        self.written.lock().unwrap().map(|_| last)
    }

    fn flush(&self, at_once: bool) -> Result<Option<Seq>, StoreError> {
        let cursor = self.cursor();
        let mut written = self.written.lock().unwrap();
        if at_once {
            *written = cursor;
        }
        Ok(*written)
    }

    fn apply_events(&self, events: Vec<Event>) -> Applying<'_> {
        let failures = self.failures.load(Ordering::Relaxed);
        Box::pin(async move {
            if failures > 0 {
                self.failures.fetch_sub(1, Ordering::Relaxed);
                return Err(StoreError::Failed);
            }
            let mut seqs = self.seqs.lock().unwrap();
            seqs.extend(events.iter().map(Event::seq));
            Ok(())
        })
    }
}

impl RecordingProjection {
    fn seqs(&self) -> Vec<Seq> {
        self.seqs.lock().unwrap().clone()
    }
}

async fn harness(projection: &Arc<RecordingProjection>) -> Harness {
    let mut harness = Harness::new().await;
    let built = Built {
        settings: Arc::new(HandlerSettings::for_projection()),
        handler: Consumer::Projection(projection.clone()),
    };
    harness.handlers.insert("a.projection".to_owned(), built);
    harness.change().await;
    harness
}

#[tokio::test]
async fn everything_comes_in_order_and_what_fails_comes_again() {
    let projection = Arc::new(RecordingProjection::default());
    projection.failures.store(2, Ordering::Relaxed);
    let harness = harness(&projection).await;
    harness.store_many(3000, |n| format!("s{}", n % 9)).await;
    let all: Vec<Seq> = (1..=3000).collect();
    eventually(async || projection.seqs().len() >= 3000).await;
    assert_eq!(projection.seqs(), all);
}

#[tokio::test]
async fn it_continues_after_a_restart_and_is_not_a_handler() {
    let projection = Arc::new(RecordingProjection::default());
    let mut harness = harness(&projection).await;
    harness.store_many(100, |n| format!("s{n}")).await;
    eventually(async || projection.seqs().len() == 100).await;
    harness.restart(Duration::from_secs(1)).await;
    harness.store("a").await;
    eventually(async || projection.seqs().last() == Some(&101)).await;
    assert_eq!(
        projection.seqs().len(),
        101,
        "nothing comes twice after a stop"
    );
    assert!(harness.dispatch.report().await.unwrap().is_empty());
    let error = harness.dispatch.pause("a.projection", true).await;
    assert_eq!(error, Err(ControlError::NoSuchHandler));
    assert!(harness.dispatch.projection_here("a.projection").is_some());
}

#[tokio::test]
async fn its_position_is_never_beyond_what_it_has_written() {
    let projection = Arc::new(RecordingProjection::default());
    *projection.written.lock().unwrap() = Some(0);
    let mut harness = harness(&projection).await;
    let id = harness.dispatch.projection_id("a.projection").unwrap();
    harness.store_many(10, |n| format!("s{n}")).await;
    eventually(async || projection.seqs().len() == 10).await;
    assert_eq!(harness.inbox.position(id).await.unwrap(), 0);
    *projection.written.lock().unwrap() = Some(4);
    eventually(async || harness.inbox.position(id).await.unwrap() > 0).await;
    assert_eq!(harness.inbox.position(id).await.unwrap(), 4);
    // It goes on behind its own cursor, and a stop writes what is left.
    harness.restart(Duration::from_secs(1)).await;
    assert_eq!(harness.inbox.position(id).await.unwrap(), 10);
    harness.store("a").await;
    eventually(async || projection.seqs().last() == Some(&11)).await;
    assert_eq!(projection.seqs().len(), 11);
}
