//! `livehook backup`: asks the running server for a backup, or makes it if no server runs.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytesize::ByteSize;
use clap::Args;
use reqwest::Method;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::remote::{ANSWER_TIMEOUT, Access, Remote};
use super::table::cell;
use super::{counted, print_json, print_line};
use crate::api::{BackupAnswer, BackupProgressView, BackupRequest};
use crate::backup::{BackupError, BackupProgress, BackupSummary, back_up};
use crate::cli::Failed;
use crate::clock::Clock;
use crate::config::{Config, environment};
use crate::inbox::settings::{InboxSettings, SqliteSettings, StoreSettings};
use crate::inbox::{Inbox, is_in_use};
use crate::metrics::Metrics;
use crate::rejected::RejectedList;

/// How often the progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(in crate::cli) struct BackupArgs {
    /// The directory to make: it must not exist, or be empty; with --admin, an absolute path on the
    /// server's machine
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print the result as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl BackupArgs {
    /// Makes the backup. The store and the server come from the configuration `file`, unless
    /// `--admin` names a server.
    pub(in crate::cli) fn run(&self, file: &Path) -> Result<(), Failed> {
        if self.access.is_given() {
            if !self.dir.is_absolute() {
                return Err(Failed::Setup(anyhow!(
                    "{}: with --admin, name an absolute path on the server's machine",
                    self.dir.display()
                )));
            }
            return self.print(&self.ask(&self.dir, file)?);
        }
        let config = Config::load(file, &environment());
        let config = config.map_err(|error| Failed::Setup(error.into()))?;
        let StoreSettings::Sqlite(own) = &config.inbox.store else {
            return Err(Failed::Setup(anyhow!("{}", BackupError::Postgres)));
        };
        let dir = std::path::absolute(&self.dir).map_err(|error| Failed::Setup(error.into()))?;
        let answer = match is_in_use(&own.path) {
            true => self.ask(&dir, file)?,
            false => make(&dir, &config.inbox, own)?,
        };
        self.print(&answer)
    }

    /// Has the server make the backup.
    fn ask(&self, dir: &Path, file: &Path) -> Result<BackupAnswer, Failed> {
        let remote = Remote::find(&self.access, file).map_err(Failed::Setup)?;
        if dir.to_str().is_none() {
            return Err(Failed::Setup(anyhow!(
                "{}: the name is not UTF-8",
                dir.display()
            )));
        }
        let body = json!(BackupRequest {
            dir: dir.to_owned(),
        });
        let path = &["backup"];
        let look = async || {
            let progress = remote.ask(Method::GET, path, &[], None, ANSWER_TIMEOUT);
            // The answer to the backup itself tells what is wrong.
            let progress: BackupProgressView = progress.await.ok()?;
            Some((progress.bytes, progress.total_bytes))
        };
        // It takes as long as it takes.
        let backup = remote.ask(Method::POST, path, &[], Some(&body), Duration::MAX);
        remote.block_on(show_while(backup, look))
    }

    fn print(&self, answer: &BackupAnswer) -> Result<(), Failed> {
        if self.json {
            return print_json(&[answer]);
        }
        let line = format!(
            "{}: {}, {}, in {:.1} s",
            cell(answer.dir.display()),
            counted(answer.events, "event"),
            ByteSize(answer.bytes),
            answer.seconds,
        );
        print_line(&line).map(drop)
    }
}

/// Opens the store and makes the backup.
fn make(
    dir: &Path,
    settings: &InboxSettings,
    own: &SqliteSettings,
) -> Result<BackupAnswer, Failed> {
    check_store(own).map_err(Failed::Setup)?;
    let began = Instant::now();
    let summary = runtime()?.block_on(async {
        let progress = Arc::new(BackupProgress::default());
        let shown = progress.clone();
        let look = async || Some(shown.bytes());
        show_while(open_and_back_up(dir, settings, own, progress), look).await
    });
    let BackupSummary { events, bytes } = summary?;
    Ok(BackupAnswer {
        dir: dir.to_owned(),
        events,
        bytes,
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn runtime() -> Result<Runtime, Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.context("cannot start").map_err(Failed::Run)
}

/// Refuses a directory without a store, and the store of another user: files that are made while it
/// is open would be this user's, and the server could not use them.
fn check_store(own: &SqliteSettings) -> anyhow::Result<()> {
    let path = own.path.display();
    let state = std::fs::metadata(own.path.join("state.db"));
    let state = state.with_context(|| format!("inbox.path: {path} has no store (state.db)"))?;
    let me = rustix::process::geteuid().as_raw();
    if state.uid() != me {
        anyhow::bail!(
            "inbox.path: no server runs, and {path} belongs to the user with the number {}, not to you ({me}); run this as that user",
            state.uid()
        );
    }
    Ok(())
}

async fn open_and_back_up(
    dir: &Path,
    settings: &InboxSettings,
    own: &SqliteSettings,
    progress: Arc<BackupProgress>,
) -> Result<BackupSummary, Failed> {
    let metrics = Arc::new(Metrics::default());
    let opened = Inbox::open(settings, Clock::system(), metrics.clone()).await;
    let inbox = opened.map_err(|error| Failed::Run(error.into()))?;
    let rejected = RejectedList::open(&own.path, metrics);
    let rejected = rejected.context("rejected.db").map_err(Failed::Run)?;
    let made = back_up(&inbox, &rejected, dir, progress).await;
    rejected.close();
    inbox.close().await;
    made.map_err(|error| match error {
        BackupError::Directory { .. } => Failed::Setup(error.into()),
        _ => Failed::Run(error.into()),
    })
}

/// Shows on one line of a terminal how far the work has come, until it is done. `look`: bytes that are done, and all.
async fn show_while<T>(
    work: impl Future<Output = T>,
    look: impl AsyncFn() -> Option<(u64, u64)>,
) -> T {
    let mut err = std::io::stderr();
    let is_shown = err.is_terminal();
    tokio::pin!(work);
    loop {
        if let Ok(done) = timeout(SHOWN_EVERY, &mut work).await {
            if is_shown {
                let _ = err.write_all(b"\r\x1b[K");
            }
            return done;
        }
        if is_shown && let Some((bytes, total)) = look().await {
            let _ = write!(
                err,
                "\r{} of {} copied   ",
                ByteSize(bytes),
                ByteSize(total)
            );
        }
    }
}
