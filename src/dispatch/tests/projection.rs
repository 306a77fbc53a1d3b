//! A part of livehook that gets events many at once.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::dispatch::settings::HandlerSettings;
use crate::handler::{Applying, Projection};

/// Takes everything but what comes while it fails.
#[derive(Default)]
struct Taken {
    seqs: Mutex<Vec<Seq>>,
    fails: AtomicU32,
}

impl Projection for Taken {
    fn apply_events(&self, events: Vec<Event>) -> Applying<'_> {
        let fails = self.fails.load(Ordering::Relaxed);
        Box::pin(async move {
            if fails > 0 {
                self.fails.fetch_sub(1, Ordering::Relaxed);
                return Err(StoreError::Failed);
            }
            let mut seqs = self.seqs.lock().unwrap();
            seqs.extend(events.iter().map(Event::seq));
            Ok(())
        })
    }
}

impl Taken {
    fn seqs(&self) -> Vec<Seq> {
        self.seqs.lock().unwrap().clone()
    }
}

async fn bench(parts: &Arc<Taken>) -> Bench {
    let mut bench = Bench::new().await;
    let built = Built {
        settings: Arc::new(HandlerSettings::of_projection()),
        handler: Consumer::Projection(parts.clone()),
    };
    bench.handlers.insert("a.part".to_owned(), built);
    bench.change().await;
    bench
}

#[tokio::test]
async fn everything_comes_in_order_and_what_fails_comes_again() {
    let parts = Arc::new(Taken::default());
    parts.fails.store(2, Ordering::Relaxed);
    let bench = bench(&parts).await;
    bench.store_many(3000, |n| format!("s{}", n % 9)).await;
    let all: Vec<Seq> = (1..=3000).collect();
    eventually(async || parts.seqs().len() >= 3000).await;
    assert_eq!(parts.seqs(), all);
}

#[tokio::test]
async fn it_goes_on_where_it_was_and_is_no_handler() {
    let parts = Arc::new(Taken::default());
    let mut bench = bench(&parts).await;
    bench.store_many(100, |n| format!("s{n}")).await;
    eventually(async || parts.seqs().len() == 100).await;
    bench.restart(Duration::from_secs(1)).await;
    bench.store("a").await;
    eventually(async || parts.seqs().last() == Some(&101)).await;
    assert_eq!(parts.seqs().len(), 101, "nothing comes twice after a stop");
    assert!(bench.dispatch.report().await.unwrap().is_empty());
    let error = bench.dispatch.pause("a.part", true).await;
    assert_eq!(error, Err(ControlError::NoSuchHandler));
    assert!(bench.dispatch.projection_here("a.part").is_some());
}
