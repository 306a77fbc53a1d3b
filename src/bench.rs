//! Functions for the benchmarks only. They may change at any time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use css_callbacks::Callback;

use crate::auth::{Presented, authenticate};
use crate::clock::Clock;
use crate::inbox::Inbox;
use crate::inbox::settings::InboxConfig;
use crate::metrics::Metrics;
use crate::settings::Env;
use crate::source::{Source, SourceConfig};

/// Tasks that store side by side; at most so many events share a transaction.
const TASKS: usize = 512;

/// Stores `events` events in livehook's store in the folder `dir`, as the server does but without
/// HTTP. Each must be signed with `key`; it is verified and accepted.
///
/// Several tasks work side by side. `bodies` makes one source of bodies for each task.
///
/// # Errors
///
/// If the store cannot be opened or written, or a body is refused or is a duplicate.
pub fn fill<B: FnMut(u64) -> Bytes + Send + 'static>(
    dir: &Path,
    key: &str,
    events: u64,
    bodies: impl Fn() -> B,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let env = Env {
        base: dir,
        variable: &|_| None,
    };
    let source = SourceConfig {
        keys: vec![key.to_owned()],
        ..SourceConfig::default()
    };
    let source = Arc::new(source.validate("css", &env)?);
    let settings = InboxConfig::default().validate("inbox", &env, source.expiry_grace())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let open = Inbox::open(&settings, Clock::system(), Arc::new(Metrics::default()));
    let inbox = runtime.block_on(open)?;
    let accepted = runtime.block_on(async {
        let next = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (inbox, source, next) = (inbox.clone(), source.clone(), next.clone());
                let body = bodies();
                tokio::spawn(async move { accept(&inbox, &source, &next, events, body).await })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        anyhow::Ok(())
    });
    let stored = *inbox.committed().borrow();
    runtime.block_on(inbox.close());
    accepted.context("the store cannot be filled")?;
    ensure!(
        stored.cast_unsigned() == events,
        "{stored} events are stored"
    );
    eprintln!(
        "{events} events stored within {:.0} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Accepts events one after the other, until there are enough.
async fn accept(
    inbox: &Inbox,
    source: &Source,
    next: &AtomicU64,
    events: u64,
    mut body_of: impl FnMut(u64) -> Bytes,
) -> anyhow::Result<()> {
    let clock = Clock::system();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= events {
            return Ok(());
        }
        let body = body_of(number);
        let presented = Presented {
            url_kind: None,
            token: None,
            client: None,
            received: clock.now(),
            body: body.clone(),
        };
        let callback = Callback::parse(&body)?;
        let verdict = authenticate(source, &presented, &callback, || [0; 16]);
        let authentic = verdict
            .outcome
            .map_err(|refusal| anyhow::anyhow!("refused: {}", refusal.slug()))?;
        let receipt = inbox.accept(authentic, None).await?;
        ensure!(!receipt.is_duplicate(), "an event is a duplicate");
    }
}
