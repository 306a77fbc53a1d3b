#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use css_callbacks::Timestamp;

use super::*;
use crate::clock::Clock;
use crate::event::Event;
use crate::inbox::backup::BackupSummary;
use crate::inbox::contract::{authentic, push, settings};
use crate::inbox::delivery::{Attempts, DeliveryChange, DeliveryCommit, HandlerId, Start};
use crate::inbox::settings::{InboxSettings, StoreSettings};
use crate::inbox::{Inbox, OpenError, check_store};

const BEGIN: Timestamp = Timestamp::from_seconds(1_795_420_800);

/// The settings of a store in exactly this directory.
fn settings_of(path: &Path) -> InboxSettings {
    let mut settings = settings(path);
    if let StoreSettings::Sqlite(own) = &mut settings.store {
        own.path = path.to_owned();
    }
    settings
}

async fn open(path: &Path) -> Result<Inbox, OpenError> {
    Inbox::open(&settings_of(path), Clock::manual(BEGIN), Arc::default()).await
}

/// Why a start on this directory is refused.
async fn refusal(path: &Path) -> String {
    open(path).await.err().unwrap().to_string()
}

async fn accept(inbox: &Inbox, numbers: std::ops::Range<Seq>) {
    for n in numbers {
        let callback = authentic("css", push("room", n).as_bytes(), BEGIN);
        assert!(!inbox.accept(callback, None).await.unwrap().is_duplicate());
    }
}

async fn begin(inbox: &Inbox, path: &Path) -> Result<crate::inbox::UnfinishedBackup, BackupError> {
    inbox.back_up(path, 0, Arc::default()).await
}

async fn back_up(inbox: &Inbox, path: &Path) -> BackupSummary {
    begin(inbox, path).await.unwrap().finish().await.unwrap()
}

async fn stored(inbox: &Inbox) -> Vec<Event> {
    inbox.after(0, 1000, usize::MAX).await.unwrap()
}

fn seqs(events: &[Event]) -> Vec<Seq> {
    events.iter().map(Event::seq).collect()
}

/// Every file below a directory, with its content.
fn content(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(content(&path)),
            false => drop(all.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    for file in content(from).keys() {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

async fn park(inbox: &Inbox, handler: HandlerId, event: &Event, position: Seq) {
    let attempts = Attempts {
        count: 3,
        first: Some(BEGIN),
        error: "no".to_owned(),
    };
    let change = DeliveryChange::Park {
        seq: event.seq(),
        lane: event.lane(),
        attempts,
        at: BEGIN,
    };
    let commit = DeliveryCommit {
        epoch: None,
        position: Some(position),
        changes: vec![change],
    };
    inbox.commit(handler, commit).await.unwrap();
}

#[tokio::test]
async fn a_start_on_a_backup_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, backup) = (dir.path().join("store"), dir.path().join("new/backup"));
    let inbox = open(&store).await.unwrap();
    let handlers = vec![("file".to_owned(), Start::Oldest)];
    let handler = inbox.register(handlers.clone()).await.unwrap()[0].id;
    accept(&inbox, 0..20).await;
    let events = stored(&inbox).await;
    park(&inbox, handler, &events[4], 7).await;
    assert_eq!(inbox.delete(vec![2, 3]).await, Ok(2));
    let summary = back_up(&inbox, &backup).await;
    assert_eq!(summary.events, 18);
    let size: usize = content(&backup).values().map(Vec::len).sum();
    assert_eq!(summary.bytes, size as u64);
    // The store goes on beside it: nothing of it is shared.
    accept(&inbox, 20..30).await;
    assert_eq!(inbox.delete(vec![10]).await, Ok(1));
    assert_eq!(seqs(&stored(&inbox).await).len(), 27);
    let check = check_store(&backup).unwrap();
    assert_eq!((check.damage, check.events), (Vec::new(), 18));

    let restored = open(&backup).await.unwrap();
    let expected: Vec<Event> = events
        .into_iter()
        .filter(|e| ![2, 3].contains(&e.seq()))
        .collect();
    let found = stored(&restored).await;
    assert_eq!(seqs(&found), seqs(&expected));
    assert!(
        found
            .iter()
            .zip(&expected)
            .all(|(a, b)| a.body() == b.body() && a.id() == b.id())
    );
    let registered = restored.register(handlers).await.unwrap();
    assert_eq!((registered[0].id, registered[0].position), (handler, 7));
    let parked = restored.parked(handler, None, false, 10).await.unwrap();
    assert_eq!(parked.items[0].event.seq(), 5);
    // No number is given twice.
    accept(&restored, 20..21).await;
    assert_eq!(*restored.committed().borrow(), 21);
}

#[tokio::test]
async fn an_empty_store_has_a_backup_too() {
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    fs::create_dir(&backup).unwrap();
    let inbox = open(&dir.path().join("store")).await.unwrap();
    assert_eq!(back_up(&inbox, &backup).await.events, 0);
    assert!(check_store(&backup).unwrap().damage.is_empty());
    accept(&open(&backup).await.unwrap(), 0..1).await;
}

#[tokio::test]
async fn nothing_is_removed_while_a_backup_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let (store, backup) = (dir.path().join("store"), dir.path().join("backup"));
    let clock = Clock::manual(BEGIN);
    let opened = Inbox::open(&settings_of(&store), clock.clone(), Arc::default()).await;
    let inbox = opened.unwrap();
    accept(&inbox, 0..5).await;
    inbox.end_segment().await;
    accept(&inbox, 5..10).await;
    clock.advance(Duration::from_secs(100 * 24 * 3600));
    let unfinished = begin(&inbox, &backup).await.unwrap();
    let deleting = inbox.clone();
    let deletion = tokio::spawn(async move { deleting.delete(vec![7]).await });
    // All of these pass through the threads that a deletion would pass through.
    for n in 10..30 {
        while inbox.sweep().await.unwrap() {}
        accept(&inbox, n..n + 1).await;
    }
    assert!(!deletion.is_finished());
    assert_eq!(seqs(&stored(&inbox).await), (1..31).collect::<Vec<_>>());
    unfinished.finish().await.unwrap();
    assert_eq!(deletion.await.unwrap(), Ok(1));
    while inbox.sweep().await.unwrap() {}
    assert!(!seqs(&stored(&inbox).await).contains(&1));
    assert_eq!(
        seqs(&stored(&open(&backup).await.unwrap()).await),
        (1..11).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn half_a_backup_is_no_store_and_is_removed_if_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let inbox = open(&path("store")).await.unwrap();
    accept(&inbox, 0..5).await;
    fs::create_dir(path("there")).unwrap();
    for name in ["there", "new"] {
        let mut unfinished = begin(&inbox, &path(name)).await.unwrap();
        fs::write(unfinished.file("rejected.db"), "x").unwrap();
        // As if the process were killed now.
        let killed = path(&format!("killed-{name}"));
        copy(&path(name), &killed);
        let before = content(&killed);
        assert!(
            refusal(&killed)
                .await
                .contains("this is a backup that was not finished")
        );
        let damage = check_store(&killed).unwrap().damage;
        assert!(damage[0].contains("not finished"), "{damage:?}");
        let after = content(&killed);
        assert!(
            before
                .iter()
                .all(|(file, content)| after.get(file) == Some(content))
        );
        drop(unfinished);
    }
    assert!(!path("new").exists());
    assert_eq!(fs::read_dir(path("there")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_log_without_its_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = open(dir.path()).await.unwrap();
    accept(&inbox, 0..5).await;
    inbox.close().await;
    fs::rename(dir.path().join("state.db"), dir.path().join("away")).unwrap();
    let message = refusal(dir.path()).await;
    assert!(message.contains("there is no state.db"), "{message}");
    assert!(!dir.path().join("state.db").exists());
    // As the message says.
    fs::write(dir.path().join("state.db"), "").unwrap();
    assert_eq!(stored(&open(dir.path()).await.unwrap()).await.len(), 5);
}

#[tokio::test]
async fn a_directory_that_cannot_take_it_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let inbox = open(&path("store")).await.unwrap();
    accept(&inbox, 0..5).await;
    fs::create_dir(path("full")).unwrap();
    fs::write(path("full/mine"), "mine").unwrap();
    fs::write(path("file"), "mine").unwrap();
    for (name, problem) in [
        ("full", "is not empty"),
        ("store", "is not empty"),
        ("store/log", "in the log of the store"),
        ("store/log/more", "in the log of the store"),
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
    ] {
        let error = begin(&inbox, &path(name)).await.err().unwrap().to_string();
        assert!(error.contains(problem), "{name}: {error}");
        assert!(error.contains(path(name).to_str().unwrap()), "{error}");
    }
    assert_eq!(content(&path("full")).len(), 1);
    assert_eq!(fs::read(path("file")).unwrap(), b"mine");
    assert!(!path("store/log/more").exists());
    assert_eq!(fs::read(path("full/mine")).unwrap(), b"mine");
}

#[tokio::test]
async fn a_volume_without_room_is_refused_with_figures() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings_of(&dir.path().join("store"));
    let StoreSettings::Sqlite(own) = &mut settings.store else {
        unreachable!()
    };
    own.min_free = Some(8 << 60);
    let inbox = Inbox::open(&settings, Clock::manual(BEGIN), Arc::default())
        .await
        .unwrap();
    let backup = dir.path().join("a/backup");
    let error = begin(&inbox, &backup).await.err().unwrap();
    let BackupError::NoRoom {
        needed, free, kept, ..
    } = &error
    else {
        panic!("{error}")
    };
    assert!(*needed > 4096 && *free > 0 && *kept == 8 << 60);
    let message = error.to_string();
    assert!(message.contains("0 B can be used there"), "{message}");
    assert!(
        message.contains("8.0 EiB of the store's own volume stay free"),
        "{message}"
    );
    assert!(!dir.path().join("a").exists());
}

#[tokio::test]
async fn a_backup_needs_no_index() {
    let dir = tempfile::tempdir().unwrap();
    let (store, backup) = (dir.path().join("store"), dir.path().join("backup"));
    let inbox = open(&store).await.unwrap();
    accept(&inbox, 0..20).await;
    inbox.end_segment().await;
    let index = content(&store)
        .into_keys()
        .find(|file| file.extension().is_some_and(|ending| ending == "idx"));
    fs::remove_file(index.unwrap()).unwrap();
    let summary = back_up(&inbox, &backup).await;
    assert_eq!(summary.events, 20);
    let restored = open(&backup).await.unwrap();
    assert_eq!(stored(&restored).await.len(), 20);
}
