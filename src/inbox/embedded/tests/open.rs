//! Which directories can be opened, by how many, and what is said of the others.

use super::*;

/// What an open says of a directory that is broken.
fn reason(bench: &Bench) -> String {
    match bench.try_open().err() {
        Some(OpenError::Broken { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_one_waits_for_the_first() {
    let mut bench = Bench::new();
    assert!(matches!(
        bench.try_open().err(),
        Some(OpenError::Locked { waited, .. }) if waited.is_zero()
    ));
    let patient = SqliteSettings {
        lock_wait: Duration::from_secs(600),
        ..bench.own().clone()
    };
    let (settings, clock) = (bench.settings.clone(), bench.clock.clone());
    let (begins, begun) = std::sync::mpsc::channel();
    let second = std::thread::spawn(move || {
        begins.send(()).unwrap();
        EmbeddedStore::open(&settings, &patient, clock, Arc::default()).map(drop)
    });
    begun.recv().unwrap();
    assert!(!second.is_finished());
    bench.store = None;
    second.join().unwrap().unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: PathBuf| {
        let settings = settings(dir.path());
        let own = SqliteSettings {
            path,
            lock_wait: Duration::ZERO,
            min_free: Some(0),
            segment_size: None,
        };
        EmbeddedStore::open(&settings, &own, Clock::default(), Arc::default()).err()
    };
    std::fs::write(dir.path().join("file"), "x").unwrap();
    for taken in ["file/inbox", "state/state.db", "log/log"] {
        let path = dir.path().join(taken);
        let inbox = path.parent().unwrap().to_owned();
        let inbox = match taken {
            "file/inbox" => path.clone(),
            "log/log" => {
                std::fs::create_dir(&inbox).unwrap();
                std::fs::write(&path, "a file").unwrap();
                inbox
            }
            _ => {
                std::fs::create_dir_all(&path).unwrap();
                inbox
            }
        };
        let refused = open(inbox);
        assert!(
            matches!(refused, Some(OpenError::Unwritable { .. })),
            "{taken}: {refused:?}"
        );
    }
    assert!(open(dir.path().join("new/and/deep")).is_none());
}

#[tokio::test]
async fn a_log_that_lost_events_is_refused_by_their_names() {
    let bench = Bench::new();
    bench.segment("room", 10).await;
    bench.segment("room", 10).await;
    for n in 21..=40 {
        bench.try_accept(&body("room", n)).await.unwrap();
    }
    let damaged = |change: &dyn Fn(&[PathBuf])| {
        let mut copy = bench.crash();
        copy.store = None;
        // As it was before the copy was opened.
        copy.log("")
            .iter()
            .for_each(|file| std::fs::remove_file(file).unwrap());
        for file in bench.log("") {
            let to = copy.path().join("log").join(file.file_name().unwrap());
            std::fs::copy(&file, to).unwrap();
        }
        change(&copy.log(".log"));
        (reason(&copy), copy)
    };
    // A segment in the middle is gone.
    let (reason, copy) = damaged(&|logs| std::fs::remove_file(&logs[1]).unwrap());
    assert!(reason.contains("events 11 to 20 were accepted"), "{reason}");
    assert!(
        matches!(copy.try_open().err(), Some(OpenError::Broken { .. })),
        "again"
    );
    // A byte in the middle of the segment that was written to.
    let (reason, copy) =
        damaged(&|logs| damage::flip(&logs[2], damage::place(&logs[2], "marker-25-")));
    assert!(reason.contains("events 25 to 39 were accepted"), "{reason}");
    assert!(
        reason.contains("00000000000000000021.log is damaged"),
        "{reason}"
    );
    assert_eq!(copy.log(".log").len(), 3);
    // What the reason says helps.
    std::fs::rename(&copy.log(".log")[2], copy.dir.path().join("away")).unwrap();
    let mut copy = copy;
    copy.open();
    assert_eq!(copy.stored().await, (1..=20).collect::<Vec<_>>());
    // The head of that file, without which nothing in it can be told.
    for at in [0, 7, 9, 17, 25] {
        let (reason, copy) = damaged(&|logs| damage::flip(&logs[2], at));
        assert!(reason.contains("events 21 to 40 were accepted"), "{reason}");
        assert_eq!(copy.log(".log").len(), 3, "nothing is removed");
    }
}

/// Whether another process sees locks on a file. One look at the system's table may miss some, as it changes meanwhile.
fn is_locked(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", std::fs::metadata(file).unwrap().ino());
    (0..200).any(|_| {
        let table = std::fs::read_to_string("/proc/locks").unwrap();
        let is_there = table.contains(&inode);
        if !is_there {
            std::thread::sleep(Duration::from_millis(10));
        }
        is_there
    })
}

/// The system drops all locks of a process on a file that it opens and closes once more.
#[tokio::test]
async fn sqlite_keeps_its_locks_on_its_file() {
    let mut bench = Bench::new();
    for _ in 0..2 {
        bench.try_accept(&body("room", 1)).await.unwrap();
        let handler = bench.handler("h", 0).await;
        assert_eq!(bench.store().position(handler).await.unwrap(), 0);
        assert!(bench.store().size() > 0);
        bench.store().check_files().await.unwrap();
        assert!(is_locked(&bench.path().join("state.db")));
        bench.reopen();
    }
}
