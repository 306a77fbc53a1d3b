//! `livehook check --store`.

use super::*;

/// The exit code and the lines of a check of the server's store.
fn check(directory: &Path) -> (i32, Vec<String>) {
    let output = run(directory, None, &["check", "--store"]);
    let lines = text(&output.stdout).lines().map(str::to_owned).collect();
    (output.status.code().unwrap(), lines)
}

/// The first file of the log with this ending.
fn first_file(directory: &Path, ending: &str) -> String {
    let entries = fs::read_dir(directory.join("data/log")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).min().unwrap()
}

#[test]
fn a_store_is_whole_while_it_is_written_to_and_when_it_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start_in(directory.path(), &settings());
    let load = Load::on(&[server.addr], Duration::from_millis(1));
    load.run(|| {
        for round in 0..5 {
            let before = load.acknowledged();
            wait_for("events", || {
                (load.acknowledged() > before + 200).then_some(())
            });
            let (code, lines) = check(directory.path());
            assert_eq!((code, lines.len()), (0, 1), "{round}: {lines:?}");
            assert!(lines[0].contains("is whole: "), "{lines:?}");
            // A deletion meanwhile is no damage.
            let stream = format!("/api/events?stream=live/room-{round}");
            let mut client = crate::support::Client::new(server.admin);
            let deleted = client.request("DELETE", &stream, &[], None).unwrap();
            assert_eq!(deleted.status, 202);
        }
    });
    let count = server.events().len();
    assert_eq!(server.stop().code(), Some(0));
    let (code, lines) = check(directory.path());
    assert_eq!((code, lines.len()), (0, 1), "{lines:?}");
    assert!(
        lines[0].contains(&format!("is whole: {count} events, ")),
        "{lines:?}"
    );
}

#[test]
fn one_flipped_bit_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::start_in(directory.path(), &settings());
    for n in 0..10 {
        assert_eq!(server.post("/css", push("room", n)).status, 200);
    }
    assert_eq!(server.stop().code(), Some(0));
    let (log, index) = (
        first_file(directory.path(), ".log"),
        first_file(directory.path(), ".idx"),
    );
    let (log, index) = (format!("log/{log}"), format!("log/{index}"));
    // The head of a segment has 72 bytes, so has that of a record; the name of the source has 3.
    for (file, at, problem) in [
        (&log, 72 + 72 + 3 + 5, "event 1 is damaged"),
        (&log, 72 + 20, "event 1 was accepted, but cannot be read"),
        (&log, 9, "its head is damaged"),
        (&index, 12, "it is damaged; the next start makes it again"),
        (&index, 70, "its checksum does not match"),
        (&"state.db".to_owned(), 100, "state.db: "),
    ] {
        let path = directory.path().join("data").join(file);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 2;
        fs::write(&path, &bytes).unwrap();
        let (code, lines) = check(directory.path());
        assert_eq!(code, 1, "{file} {at}: {lines:?}");
        assert!(
            lines[0].starts_with(file.as_str()) && lines[0].contains(problem),
            "{lines:?}"
        );
        assert!(
            lines.last().unwrap().contains("is damaged in "),
            "{lines:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is written");
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(check(directory.path()).0, 0);

    // The server runs on, and the check sees it.
    let server = TestServer::start_in(directory.path(), &settings());
    let path = directory.path().join("data").join(&log);
    let mut bytes = fs::read(&path).unwrap();
    bytes[72 + 72 + 3 + 5] ^= 2;
    fs::write(&path, &bytes).unwrap();
    let (code, lines) = check(directory.path());
    assert_eq!(code, 1);
    assert_eq!(lines[0], format!("{log}: event 1 is damaged"));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(server.post("/css", push("room", 11)).status, 200);
}
