#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Instant, UNIX_EPOCH};

use super::*;
use crate::handlers::tests::{NOW, env_of, event};

const HOUR: Duration = Duration::from_secs(3600);

fn target(folder: &Path, rotate: Rotate) -> FileTarget {
    let config = Config {
        path: "events.jsonl".into(),
        rotate,
        sync: true,
    };
    config.validate("handlers.a.to", &env_of(folder)).unwrap()
}

fn appender(folder: &Path, rotate: Rotate, clock: &Clock) -> Appender {
    target(folder, rotate)
        .build("a", PayloadForm::Original, clock)
        .unwrap()
}

async fn append(appender: &Appender, stream: &str) {
    let body = format!(r#"{{"stream_id":"{stream}"}}"#);
    appender.handle(&event(body)).await.unwrap();
}

/// The stream of each line of a file, in order. A line that is not an event is returned unchanged.
fn streams(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    let stream = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(event) => event["streamid"].as_str().unwrap().to_owned(),
        Err(_) => line.to_owned(),
    };
    text.lines().map(stream).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn changed_at(path: &Path, time: Timestamp) {
    let since = Duration::from_secs(time.seconds().unsigned_abs());
    let file = fs::File::options().append(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + since).unwrap();
}

async fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(10), "never happened");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn calls_side_by_side_write_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let appender = Arc::new(appender(folder.path(), Rotate::Never, &Clock::manual(NOW)));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200 {
        let appender = Arc::clone(&appender);
        calls.spawn(async move { append(&appender, &format!("{number:03}")).await });
    }
    calls.join_all().await;
    let mut found = streams(&folder.path().join("events.jsonl"));
    found.sort();
    let expected: Vec<String> = (0..200).map(|number| format!("{number:03}")).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_torn_line_is_ended_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    fs::write(&path, "{\"torn\":").unwrap();
    let appender = appender(folder.path(), Rotate::Never, &Clock::manual(NOW));
    append(&appender, "a").await;
    append(&appender, "b").await;
    assert_eq!(streams(&path), ["{\"torn\":", "a", "b"]);
}

#[tokio::test]
async fn a_file_moved_or_removed_from_outside_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let moved = folder.path().join("events.jsonl.1");
    let appender = appender(folder.path(), Rotate::Never, &Clock::manual(NOW));
    append(&appender, "a").await;
    fs::rename(&path, &moved).unwrap();
    append(&appender, "b").await;
    assert_eq!(
        (streams(&moved), streams(&path)),
        (vec!["a".into()], vec!["b".into()])
    );
    fs::remove_file(&path).unwrap();
    append(&appender, "c").await;
    assert_eq!(streams(&path), ["c"]);
    // The file was moved away and replaced by one with an incomplete last line.
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "other").unwrap();
    append(&appender, "d").await;
    assert_eq!(streams(&path), ["other", "d"]);
}

#[tokio::test]
async fn a_failed_write_is_retried_with_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    symlink("/dev/full", &path).unwrap();
    let mut target = target(folder.path(), Rotate::Daily);
    target.sync = false;
    let appender = target
        .build("a", PayloadForm::Original, &Clock::manual(NOW))
        .unwrap();
    let Err(Failure::Retry { reason, after }) = appender.handle(&event("{}")).await else {
        panic!("a full disk is no success");
    };
    assert!(
        reason.contains("cannot write") && reason.contains("No space left"),
        "{reason}"
    );
    assert_eq!(after, None);
    fs::remove_file(&path).unwrap();
    append(&appender, "a").await;
    assert_eq!(streams(&path), ["a"]);
}

#[tokio::test]
async fn a_vanished_directory_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a/b");
    let appender = appender(&directory, Rotate::Never, &Clock::manual(NOW));
    append(&appender, "a").await;
    fs::remove_dir_all(folder.path().join("a")).unwrap();
    append(&appender, "b").await;
    assert_eq!(streams(&directory.join("events.jsonl")), ["b"]);
    // A file has the name of the directory: writing fails until it is gone.
    fs::remove_dir_all(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a"), "").unwrap();
    let failure = appender.handle(&event("{}")).await.unwrap_err();
    assert!(failure.reason().starts_with("cannot see"), "{failure:?}");
    fs::remove_file(folder.path().join("a")).unwrap();
    append(&appender, "c").await;
    assert_eq!(streams(&directory.join("events.jsonl")), ["c"]);
}

#[tokio::test]
async fn a_pipe_is_not_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let build = |target: FileTarget| target.build("a", PayloadForm::Original, &Clock::manual(NOW));
    let mut target = target(folder.path(), Rotate::Never);
    let refused = format!("{:#}", build(target.clone()).err().unwrap());
    assert!(refused.contains("is a pipe or a device"), "{refused}");
    // The check finds it without opening it.
    let found = target.check("handlers.a.to").unwrap_err().to_string();
    assert_eq!(found, format!("handlers.a.to.path: {refused}"));
    target.sync = false;
    assert_eq!(target.check("handlers.a.to"), Ok(()));
    let appender = build(target.clone()).unwrap();
    append(&appender, "a").await;
    // A pipe that replaces the file is refused too.
    fs::remove_file(&path).unwrap();
    target.sync = true;
    let appender = build(target).unwrap();
    append(&appender, "b").await;
    fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    let failure = appender.handle(&event("{}")).await.unwrap_err();
    assert!(
        failure.reason().contains("is a pipe or a device"),
        "{failure:?}"
    );
}

#[test]
fn files_of_the_kernel_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for bad in [
        "/proc/self/comm",
        "/proc",
        "/tmp/../proc/events.jsonl",
        "//sys/power/./state",
    ] {
        let config = Config {
            path: bad.into(),
            rotate: Rotate::Never,
            sync: false,
        };
        let invalid = config
            .validate("handlers.a.to", &env_of(folder.path()))
            .unwrap_err();
        assert_eq!(invalid.place, "handlers.a.to.path", "{bad}");
    }
    // The file in /proc is one of this thread, so other tests are not affected.
    symlink("/proc/thread-self/comm", folder.path().join("events.jsonl")).unwrap();
    let mut target = target(folder.path(), Rotate::Never);
    for sync in [true, false] {
        target.sync = sync;
        let built = target.build("a", PayloadForm::Original, &Clock::manual(NOW));
        let refused = format!("{:#}", built.err().unwrap());
        assert!(
            refused.contains("is in a file system of the kernel"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_file_is_renamed_when_its_hour_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let appender = appender(folder.path(), Rotate::Hourly, &clock);
    append(&appender, "a").await;
    clock.advance(HOUR - Duration::from_secs(1));
    append(&appender, "b").await;
    clock.advance(Duration::from_secs(1));
    append(&appender, "c").await;
    clock.advance(HOUR * 20);
    append(&appender, "d").await;
    let seen = |name| streams(&folder.path().join(name));
    assert_eq!(seen("events-2026-11-23T08.jsonl"), ["a", "b"]);
    assert_eq!(seen("events-2026-11-23T09.jsonl"), ["c"]);
    assert_eq!(seen("events.jsonl"), ["d"]);
    assert_eq!(names(folder.path()).len(), 3);
}

#[tokio::test]
async fn a_found_file_is_dated_by_its_last_change_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    for taken in ["events-2026-11-22.jsonl", "events-2026-11-22-2.jsonl"] {
        fs::write(folder.path().join(taken), "taken\n").unwrap();
    }
    fs::write(&path, "found\n").unwrap();
    changed_at(&path, NOW.minus(HOUR * 24));
    let appender = appender(folder.path(), Rotate::Daily, &Clock::manual(NOW));
    append(&appender, "a").await;
    assert_eq!(streams(&path), ["a"]);
    let seen = |name| streams(&folder.path().join(name));
    assert_eq!(seen("events-2026-11-22.jsonl"), ["taken"]);
    assert_eq!(seen("events-2026-11-22-2.jsonl"), ["taken"]);
    assert_eq!(seen("events-2026-11-22-3.jsonl"), ["found"]);
}

#[tokio::test]
async fn a_file_from_the_future_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    fs::write(&path, "found\n").unwrap();
    changed_at(&path, NOW.plus(HOUR * 24));
    let clock = Clock::manual(NOW);
    let appender = appender(folder.path(), Rotate::Daily, &clock);
    append(&appender, "a").await;
    assert_eq!(streams(&path), ["found", "a"]);
    clock.advance(HOUR * 48);
    append(&appender, "b").await;
    assert_eq!(
        names(folder.path()),
        ["events-2026-11-24.jsonl", "events.jsonl"]
    );
}

#[tokio::test]
async fn a_file_is_renamed_without_a_further_event_and_none_is_made_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let appender = appender(folder.path(), Rotate::Daily, &clock);
    clock.advance(HOUR * 24);
    append(&appender, "a").await;
    assert_eq!(names(folder.path()), ["events.jsonl"]);
    clock.advance(HOUR * 24);
    let renamed = folder.path().join("events-2026-11-24.jsonl");
    until(|| renamed.exists()).await;
    assert_eq!(names(folder.path()), ["events-2026-11-24.jsonl"]);
    append(&appender, "b").await;
    assert_eq!(streams(&folder.path().join("events.jsonl")), ["b"]);
}

#[tokio::test]
async fn an_abandoned_line_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path(), Rotate::Never);
    let mut file = ActiveFile::open(&target, &Clock::manual(NOW)).unwrap();
    let slots = Arc::new(Semaphore::new(3));
    let line = |text: &str| {
        let (reply, answer) = oneshot::channel();
        let line = QueuedLine {
            text: text.into(),
            reply,
            _slot: Arc::clone(&slots).try_acquire_owned().unwrap(),
        };
        (line, answer)
    };
    let (queue, waiting) = mpsc::channel();
    let (first, first_answer) = line("first\n");
    let (second, second_answer) = line("second\n");
    let (third, third_answer) = line("third\n");
    drop(first_answer);
    queue.send(second).unwrap();
    queue.send(third).unwrap();
    write_batch(&mut file, first, &waiting);
    assert_eq!(second_answer.await.unwrap(), Ok(()));
    assert_eq!(third_answer.await.unwrap(), Ok(()));
    assert_eq!(fs::read_to_string(&target.path).unwrap(), "second\nthird\n");
    assert_eq!(slots.available_permits(), 3);
}

#[tokio::test]
async fn the_thread_ends_with_the_handler() {
    let running = || {
        fs::read_dir("/proc/self/task").unwrap().any(|task| {
            let comm = task.unwrap().path().join("comm");
            fs::read_to_string(comm).is_ok_and(|name| name == "file-ending\n")
        })
    };
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path(), Rotate::Never);
    let clock = Clock::manual(NOW);
    let appender = target
        .build("ending", PayloadForm::Original, &clock)
        .unwrap();
    append(&appender, "a").await;
    assert!(running());
    drop(appender);
    until(|| !running()).await;
}

#[test]
fn what_cannot_be_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for bad in ["", "..", "logs/", "/"] {
        let config = Config {
            path: bad.into(),
            rotate: Rotate::Never,
            sync: true,
        };
        let invalid = config
            .validate("handlers.a.to", &env_of(folder.path()))
            .unwrap_err();
        assert_eq!(invalid.place, "handlers.a.to.path", "{bad}");
    }
    fs::create_dir(folder.path().join("events.jsonl")).unwrap();
    let built =
        target(folder.path(), Rotate::Never).build("a", PayloadForm::Original, &Clock::manual(NOW));
    assert!(format!("{:#}", built.err().unwrap()).starts_with("cannot open"));
}
