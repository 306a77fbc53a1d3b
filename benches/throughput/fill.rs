//! A store with many events, made as the server makes it but without HTTP.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use css_callbacks::Callback;
use livehook::auth::{Presented, authenticate, sign};
use livehook::clock::Clock;
use livehook::inbox::Inbox;
use livehook::inbox::settings::InboxConfig;
use livehook::metrics::Metrics;
use livehook::settings::Surroundings;
use livehook::source::{Source, SourceConfig};

use crate::callback::Template;
use crate::generator::KEY;

/// As many share a transaction at most.
const TASKS: usize = 512;
/// Above what loads have.
const SEED: u32 = 9999;

/// So many events in the store that livehook has in this folder, each of them verified and accepted.
pub fn fill(dir: &Path, events: u64) -> anyhow::Result<()> {
    fill_with(dir, events, || {
        let mut template = Template::new(0, SEED);
        move |number| Bytes::copy_from_slice(template.body(number))
    })
}

/// The begins of so many streams.
pub fn fill_streams(dir: &Path, streams: u64) -> anyhow::Result<()> {
    let now = Clock::system().now().seconds();
    let t = (now + 600).to_string();
    let sign = sign(KEY, &t);
    fill_with(dir, streams, || {
        let (t, sign) = (t.clone(), sign.clone());
        move |number| {
            let begin = now - 100_000 + number.cast_signed() % 90_000;
            let domain = number % 7;
            let body = format!(
                r#"{{"event_type":1,"app":"push-{domain}.example.com","appname":"live","stream_id":"room-{number}","sequence":"{number}","event_time":{begin},"t":{t},"sign":"{sign}"}}"#
            );
            body.into()
        }
    })
}

/// Each task has bodies of its own making.
fn fill_with<B: FnMut(u64) -> Bytes + Send + 'static>(
    dir: &Path,
    events: u64,
    bodies: impl Fn() -> B,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let around = Surroundings {
        base: dir,
        variable: &|_| None,
    };
    let source = SourceConfig {
        keys: vec![KEY.to_owned()],
        ..SourceConfig::default()
    };
    let source = Arc::new(source.validate("css", &around)?);
    let settings = InboxConfig::default().validate("inbox", &around, source.expiry_grace())?;
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
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// One after the other, until there are enough.
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
        ensure!(!receipt.is_duplicate(), "an event was there before");
    }
}
