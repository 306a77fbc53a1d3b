#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

fn config(text: &str, base: &Path) -> Config {
    Config::from_toml(text, base, &Default::default()).unwrap()
}

/// The report of `check`, or its error.
fn checked(config: &Config) -> Result<String, String> {
    validate(config).map_err(|error| format!("{error:#}"))?;
    Ok(report(config).unwrap())
}

#[test]
fn each_field_gets_its_url() {
    let base = tempfile::tempdir().unwrap();
    let text = r#"
        [server]
        public_url = "https://cb.example.com/"
        [sources.css]
        keys = ["abc"]
        token = "a b&c"
        [handlers.archive]
        kinds = ["record"]
        to = { type = "log" }
    "#;
    let report = checked(&config(text, base.path())).unwrap();
    let rows: Vec<Vec<_>> = report
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .collect()
        })
        .collect();
    for kind in Kind::ALL {
        let url = format!("https://cb.example.com/css/{kind}?token=a%20b%26c");
        let row = rows.iter().find(|row| row.last() == Some(&url.as_str()));
        let label = row.unwrap()[0];
        assert!(
            label.starts_with(kind.url_field().unwrap().name()),
            "{label}"
        );
        assert_eq!(label.contains("deprecated"), kind == Kind::StreamMix);
    }
    assert!(report.contains("  archive (log): record; in order per stream\n"));
    assert!(!report.contains("Hints"), "{report}");
    assert!(!base.path().join("data").exists());
}

#[test]
fn the_keys_of_the_shipped_files_are_not_secret() {
    for name in ["livehook.toml", "small.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(name);
        let config = Config::load(&path, &Default::default()).unwrap();
        let report = checked(&config).unwrap();
        assert!(
            report.contains("source css has a key from the documentation"),
            "{report}"
        );
    }
}

#[test]
fn hints_are_given() {
    let base = tempfile::tempdir().unwrap();
    let hints = |text: &str| checked(&config(text, base.path())).unwrap();
    let report = hints("[sources.css]\nkeys = [\"a\"]\n");
    assert!(report.contains("   http://YOUR-HOST/css/stream-begin\n"));
    assert!(report.contains("set server.public_url"));
    assert!(report.contains("source css has no token: unsigned callbacks of these kinds are refused: record-status, audio-audit"));
    assert!(report.contains("none: events are stored, but not delivered"));
    let handler = |more: &str| {
        let to = "to = { type = \"log\" }";
        hints(&format!(
            "[sources.css]\nkeys = [\"a\"]\n[handlers.a]\nstreams = [\"live/*\"]\n{more}\n{to}"
        ))
    };
    let nameless = "handler a: events without an appname match";
    assert!(handler("kinds = [\"record\", \"subtitle\"]").contains(nameless));
    assert!(!handler("kinds = [\"record\"]").contains(nameless));
    let report = hints(
        "[server]\npublic_url = \"http://a\"\n[sources.css]\ntoken = \"a\"\n[sources.open]\nallow_unsigned = true",
    );
    assert!(report.contains("plain http"));
    assert!(report.contains("source css has no key"));
    assert!(report.contains("source open has neither a key nor a token"));
}

#[test]
fn the_report_ends_with_what_was_not_checked() {
    let base = tempfile::tempdir().unwrap();
    let said = |text: &str| {
        let text = format!("[sources.css]\nkeys = [\"a\"]\n{text}");
        let report = checked(&config(&text, base.path())).unwrap();
        let (_, end) = report.split_once("\nNot checked\n").unwrap();
        assert!(end.lines().all(|line| line.starts_with("  - ")), "{end}");
        end.to_owned()
    };
    let end = said("");
    for part in [
        "the callback template: ",
        "whether 0.0.0.0:8080 and 127.0.0.1:9090 are free",
        "data: whether it is undamaged",
    ] {
        assert!(end.contains(part), "{end}");
    }
    assert!(!end.contains("handler"), "{end}");
    let end = said(
        "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@h\"\n\
         [handlers.a]\nto = { type = \"http\", url = \"http://127.0.0.1:1/\" }\n\
         [handlers.b]\nto = { type = \"exec\", command = [\"sh\"] }\n\
         [handlers.c]\nto = { type = \"log\" }\n",
    );
    for part in [
        "PostgreSQL: whether it answers",
        "handler a: whether its endpoint answers",
        "handler b: whether its program works",
    ] {
        assert!(end.contains(part), "{end}");
    }
    assert!(!end.contains("handler c"), "{end}");
}

#[test]
fn a_configuration_that_cannot_run_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let no_target = config(
        "[sources.css]\nkeys = [\"a\"]\n[handlers.mine]",
        base.path(),
    );
    let message = checked(&no_target).unwrap_err();
    assert!(
        message.contains("handlers.mine.to: is missing"),
        "{message}"
    );
    std::fs::write(base.path().join("data"), "").unwrap();
    let blocked = config("[sources.css]\nkeys = [\"a\"]", base.path());
    let message = checked(&blocked).unwrap_err();
    assert!(
        message.contains("livehook.toml: inbox.path: ") && message.ends_with("is no directory"),
        "{message}"
    );
    let shared =
        "[sources.css]\nkeys = [\"a\"]\n[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@h\"";
    checked(&config(shared, base.path())).unwrap();
    std::fs::remove_file(base.path().join("data")).unwrap();
    std::fs::write(base.path().join("file"), "").unwrap();
    let handler = |path: &str| {
        let to = format!("[handlers.a]\nto = {{ type = \"file\", path = \"{path}\" }}");
        config(&format!("[sources.css]\nkeys = [\"a\"]\n{to}"), base.path())
    };
    checked(&handler("new/events.jsonl")).unwrap();
    std::fs::create_dir(base.path().join("folder")).unwrap();
    let message = checked(&handler("folder")).unwrap_err();
    assert!(
        message.contains("livehook.toml: handlers.a.to.path: ")
            && message.ends_with("folder is a directory"),
        "{message}"
    );
    let message = checked(&handler("file/events.jsonl")).unwrap_err();
    assert!(
        message.contains("livehook.toml: handlers.a.to.path: ")
            && message.ends_with("is no directory"),
        "{message}"
    );
}

#[test]
fn no_handler_writes_to_a_file_of_livehook() {
    let base = tempfile::tempdir().unwrap();
    let with = |path: &str| {
        let to = format!("[handlers.a]\nto = {{ type = \"file\", path = \"{path}\" }}");
        checked(&config(
            &format!("[sources.css]\nkeys = [\"a\"]\n{to}"),
            base.path(),
        ))
    };
    let own = [
        "data/inbox.db",
        "data/inbox.db-wal",
        "data/inbox.db-shm",
        "data/state.db",
        "data/state.db-wal",
        "data/log/00000000000000000001.log",
        "data/streams.db",
        "data/streams.db-wal",
        "data/rejected.db",
        "data/../data/rejected.db-shm",
        "data/livehook.lock",
    ];
    let store_is_named = || {
        for path in own {
            let message = with(path).unwrap_err();
            assert!(
                message.contains("livehook.toml: handlers.a.to.path: ")
                    && message.contains("is a file of the store"),
                "{message}"
            );
        }
    };
    store_is_named();
    std::fs::create_dir_all(base.path().join("data/log")).unwrap();
    for path in own {
        std::fs::write(base.path().join(path), "").unwrap();
    }
    store_is_named();
    std::fs::write(base.path().join("livehook.toml"), "").unwrap();
    let message = with("data/../livehook.toml").unwrap_err();
    assert!(
        message.contains("livehook.toml: handlers.a.to.path: ")
            && message.contains("is this configuration"),
        "{message}"
    );
    with("data/events.jsonl").unwrap();
    // The other engine has no files here.
    let shared = "[inbox]\nengine = \"postgres\"\nurl = \"postgres://a@h\"";
    let to = "[handlers.a]\nto = { type = \"file\", path = \"data/state.db\" }";
    checked(&config(
        &format!("[sources.css]\nkeys = [\"a\"]\n{shared}\n{to}"),
        base.path(),
    ))
    .unwrap();
}
