//! Backups: making one, and how far it has come.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::{JsonResult, parse_object};
use super::query::Fields;
use super::{Admin, Problem};
use crate::api::{BackupAnswer, BackupProgressView, BackupRequest};
use crate::backup::{BackupError, BackupProgress, back_up};

/// The backup that is being made, if there is one.
#[derive(Default)]
pub(super) struct RunningBackup(Mutex<Option<Arc<BackupProgress>>>);

impl RunningBackup {
    fn progress(&self) -> Option<Arc<BackupProgress>> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.clone()
    }

    /// Begins a backup, unless one is being made.
    fn begin(&self) -> Option<Arc<BackupProgress>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return None;
        }
        Some(running.insert(Arc::default()).clone())
    }

    fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// `POST /api/backup`
pub(super) async fn start(
    State(admin): State<Arc<Admin>>,
    body: Bytes,
) -> JsonResult<BackupAnswer> {
    let BackupRequest { dir } = parse_object(&body, "{\"dir\":\"/var/backups/livehook\"}")?;
    if !dir.is_absolute() {
        let problem = "`dir` must be an absolute path on the server's machine";
        return Err(Problem::Bad(problem.to_owned()));
    }
    let Some(progress) = admin.running_backup.begin() else {
        return Err(Problem::Busy(
            "another backup is being made; wait until it is done",
        ));
    };
    // A task of its own: the backup is finished even if the client disconnects.
    let backup = tokio::spawn(async move {
        let made = make(&admin, &dir, progress).await;
        admin.running_backup.end();
        made
    });
    backup.await.unwrap_or(Err(Problem::Broken))
}

async fn make(
    admin: &Admin,
    dir: &Path,
    progress: Arc<BackupProgress>,
) -> JsonResult<BackupAnswer> {
    let began = Instant::now();
    tracing::info!(backup.dir = %dir.display(), "a backup begins: retention and deletions wait until it is done");
    let made = back_up(&admin.inbox, admin.ingress.rejected(), dir, progress).await;
    let summary = made.map_err(|error| {
        tracing::warn!(backup.dir = %dir.display(), %error, "the backup failed");
        problem(&error)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    tracing::info!(backup.dir = %dir.display(), backup.events = summary.events, backup.bytes = summary.bytes, seconds, "the backup is done");
    Ok(Json(BackupAnswer {
        dir: dir.to_owned(),
        events: summary.events,
        bytes: summary.bytes,
        seconds,
    }))
}

fn problem(error: &BackupError) -> Problem {
    let message = error.to_string();
    match error {
        BackupError::Directory { .. } | BackupError::Postgres => Problem::Bad(message),
        BackupError::NoRoom { .. } => Problem::Failed(StatusCode::INSUFFICIENT_STORAGE, message),
        BackupError::Io { .. } | BackupError::Sqlite { .. } => {
            Problem::Failed(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
        BackupError::Store(error) => Problem::Store(*error),
    }
}

/// `GET /api/backup`
pub(super) async fn progress(
    State(admin): State<Arc<Admin>>,
    fields: Fields,
) -> JsonResult<BackupProgressView> {
    fields.end()?;
    let running = admin.running_backup.progress();
    let (bytes, total_bytes) = running.as_ref().map_or((0, 0), |progress| progress.bytes());
    Ok(Json(BackupProgressView {
        running: running.is_some(),
        bytes,
        total_bytes,
    }))
}
