//! A backup of the whole store: the inbox, and the rejected list beside it.
//!
//! The board of streams is left out: a server makes it again from the events.

use std::path::Path;
use std::sync::Arc;

use crate::inbox::Inbox;
pub(crate) use crate::inbox::backup::{BackupError, BackupProgress, BackupSummary};
use crate::rejected::{self, RejectedList};

/// Copies the store into a directory that does not exist or is empty. If that fails, the directory is as it was.
pub(crate) async fn back_up(
    inbox: &Inbox,
    rejected: &RejectedList,
    directory: &Path,
    progress: Arc<BackupProgress>,
) -> Result<BackupSummary, BackupError> {
    let of_list = |error| BackupError::Sqlite {
        file: rejected::FILE,
        error,
    };
    let list_bytes = rejected.size().await.map_err(of_list)?;
    let mut backup = inbox.back_up(directory, list_bytes, progress).await?;
    let file = backup.file(rejected::FILE);
    rejected.copy_into(file).await.map_err(of_list)?;
    backup.finish().await
}
