#![allow(clippy::unwrap_used)]

use super::*;
use crate::inbox::settings::StoreSettings;
use crate::settings::Secret;

mod files;
mod messages;

/// The least that is good.
const LEAST: &str = "[sources.css]\nkeys = [\"abc\"]\n";

fn env(variables: &[(&str, &str)]) -> Environment {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect()
}

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    Config::from_toml(text, Path::new("/base"), &env(variables)).map_err(|error| error.to_string())
}

#[test]
fn variables_override_single_options() {
    let config = read(
        LEAST,
        &[
            ("LIVEHOOK__SERVER__LISTEN", " 127.0.0.1:81\n"),
            ("LIVEHOOK__SERVER__MAX_CONNECTIONS", "7"),
            ("LIVEHOOK__SERVER__MAX_BODY", "2MiB"),
            ("LIVEHOOK__SERVER__WATCH", "true"),
            ("LIVEHOOK__LOG__FORMAT", "json"),
            ("LIVEHOOK__INBOX__DEDUPE_WINDOW", "2h"),
            ("LIVEHOOK_OTHER", "x"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.listen, "127.0.0.1:81".parse().unwrap());
    assert_eq!(config.server.max_connections, 7);
    assert_eq!(config.server.max_body, 2 * 1024 * 1024);
    assert!(config.server.watch);
    assert_eq!(config.log.format, crate::log::Format::Json);
    assert_eq!(config.inbox.dedupe_window, Duration::from_secs(7200));
    for text in ["0123456", "1e5", "true"] {
        let config = read(LEAST, &[("LIVEHOOK__ADMIN__TOKEN", text)]).unwrap();
        assert_eq!(config.admin.token, Some(Secret::new(text)));
    }
}

#[test]
fn windows_follow_the_longest_grace() {
    let config = read("[sources.css]\nkeys = [\"a\"]\nexpiry_grace = \"1h\"", &[]).unwrap();
    assert_eq!(config.inbox.dedupe_window, Duration::from_secs(80 * 60));
    assert_eq!(
        read(LEAST, &[]).unwrap().inbox.dedupe_window,
        Duration::from_secs(1800)
    );
    let endless = "[sources.css]\nkeys = [\"a\"]\nexpiry_grace = \"500000000000years\"";
    assert!(read(endless, &[]).is_err());
}

#[test]
fn names_of_headers_keep_their_case_and_paths_start_from_the_file() {
    let text = format!(
        "{LEAST}[handlers.a]\nto = {{ type = \"http\", url = \"http://x\", headers = {{ X-Team = \"A\\nB\" }} }}"
    );
    let message = read(&text, &[]).unwrap_err().to_string();
    assert!(message.contains("`X-Team`"), "{message}");
    let StoreSettings::Sqlite(store) = read(LEAST, &[]).unwrap().inbox.store else {
        panic!("the default is sqlite");
    };
    assert_eq!(store.path, Path::new("/base/data"));
}

#[test]
fn a_missing_file_is_named() {
    let message = Config::load(Path::new("/nowhere/x.toml"), &env(&[]))
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("cannot read /nowhere/x.toml: "),
        "{message}"
    );
}
