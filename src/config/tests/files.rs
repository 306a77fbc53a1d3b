//! The files in `config/`.

use super::*;
use crate::settings::key_error::keys;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

fn shipped(name: &str) -> (PathBuf, String) {
    let path = Path::new(REPOSITORY).join("config").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn every_shipped_file_is_good() {
    let env = env(&[("LIVEHOOK_KEY", "0123456")]);
    for entry in std::fs::read_dir(Path::new(REPOSITORY).join("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let config = Config::load(&path, &env).unwrap();
        assert!(config.sources.contains_key("css"), "{}", path.display());
        assert!(config.handlers.values().all(|it| it.target.is_some()));
        assert_eq!(config.file, path);
    }
}

#[test]
fn the_unit_starts_the_server_with_the_default_file() {
    let (_, unit) = shipped("livehook.service");
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
    let start = line("ExecStart=").unwrap();
    let (program, rest) = start.split_once(' ').unwrap();
    assert!(program.ends_with("/livehook"), "{start}");
    assert!(
        rest == "serve" || rest.starts_with("serve --config "),
        "{start}"
    );
    assert!(line("ExecReload=").unwrap().contains("-HUP"));
}

#[test]
fn the_image_takes_key_and_token_literally_from_its_variables() {
    let (path, _) = shipped("container.toml");
    for text in ["0123456", "1e5", "true"] {
        let env = env(&[("LIVEHOOK_KEY", text), ("LIVEHOOK_TOKEN", text)]);
        let config = Config::load(&path, &env).unwrap();
        assert_eq!(config.sources["css"].keys(), [Secret::new(text)]);
        assert_eq!(config.sources["css"].token(), Some(&Secret::new(text)));
    }
    let message = Config::load(&path, &env(&[])).unwrap_err().to_string();
    assert!(
        message.contains("container.toml:")
            && message.ends_with(
                ": sources.css.keys_env: the environment variable `LIVEHOOK_KEY` is not set"
            ),
        "{message}"
    );
}

#[test]
fn the_image_goes_over_to_postgres_by_its_variables() {
    let (path, _) = shipped("container.toml");
    let dir = tempfile::tempdir().unwrap();
    let url_file = dir.path().join("url");
    std::fs::write(&url_file, "postgres://a:hush@db.example.com/d\n").unwrap();
    let env = env(&[
        ("LIVEHOOK_KEY", "0123456"),
        ("LIVEHOOK__INBOX__ENGINE", "postgres"),
        ("LIVEHOOK__INBOX__URL_FILE", url_file.to_str().unwrap()),
        ("LIVEHOOK__INBOX__CONNECTIONS", "4"),
        ("LIVEHOOK__INBOX__ALLOW_ASYNC_COMMIT", "true"),
    ]);
    let config = Config::load(&path, &env).unwrap();
    let StoreSettings::Postgres(postgres) = &config.inbox.store else {
        panic!("{:?}", config.inbox.store);
    };
    assert_eq!(postgres.connections, 4);
    assert_eq!(postgres.connect_wait, Duration::from_secs(30));
    assert!(postgres.allow_async_commit);
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    let (_, documented) = shipped("livehook.toml");
    let least = "[sources.css]\nkeys = [\"0123456789abcdef0123456789abcdef\"]\n\
        [handlers.archive]\nto = { type = \"log\" }";
    assert_eq!(read(&documented, &[]), read(least, &[]));
}

/// The value of an option in the documented file, and whether it is commented out.
fn options(section: &str) -> Vec<(&str, bool)> {
    let lines = section.lines().filter(|line| !line.starts_with("# "));
    lines
        .filter_map(|line| {
            let (key, _) = line.split_once(" = ")?;
            let shown = key.strip_prefix('#');
            Some((shown.unwrap_or(key), shown.is_some()))
        })
        .filter(|(key, _)| {
            key.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        })
        .collect()
}

#[test]
fn every_option_is_documented() {
    let (_, text) = shipped("livehook.toml");
    for (section, keys) in [
        ("server", keys::<ServerConfig>()),
        ("admin", keys::<AdminConfig>()),
        ("log", keys::<LogConfig>()),
        ("inbox", keys::<InboxConfig>()),
        ("sources.css", keys::<SourceConfig>()),
        ("handlers.archive", keys::<HandlerConfig>()),
    ] {
        let start = text.find(&format!("\n[{section}]")).unwrap() + 1;
        let section_text = text[start..].split("\n[").next().unwrap();
        let options = options(section_text);
        for key in keys {
            assert!(
                options.iter().any(|(name, _)| name == key),
                "{section}.{key}"
            );
        }
    }
}

#[test]
fn every_option_that_is_commented_out_is_known() {
    let (_, text) = shipped("livehook.toml");
    let lines: Vec<_> = text.lines().collect();
    let mut tried = 0;
    for (index, line) in lines.iter().enumerate() {
        let Some(option) = line
            .strip_prefix('#')
            .filter(|it| !it.starts_with([' ', '#']))
        else {
            continue;
        };
        if option.is_empty() {
            continue;
        }
        tried += 1;
        let mut changed = lines.clone();
        if option.starts_with("to = ") {
            changed.retain(|line| !line.starts_with("to = "));
        }
        changed.insert(index - usize::from(option.starts_with("to = ")), option);
        if let Err(message) = read(&changed.join("\n"), &[]) {
            let of_its_own = ["cannot read", "is not set", "give only one of", "postgres"];
            assert!(
                of_its_own.iter().any(|reason| message.contains(reason)),
                "{option}: {message}"
            );
        }
    }
    assert!(tried > 12);
}
