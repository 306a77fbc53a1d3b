#![allow(clippy::unwrap_used)]

use css_callbacks::Secret;

use super::*;
use crate::inbox::settings::StoreSettings;

mod files;
mod messages;

/// The smallest valid configuration.
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
fn a_variable_replaces_a_secret_whichever_way_the_file_gives_it() {
    let text = format!("{LEAST}[admin]\ntoken_env = \"LIVEHOOK_ADMIN_TOKEN?\"\n");
    let token = |variables: &[(&str, &str)]| read(&text, variables).map(|it| it.admin.token);
    let own = ("LIVEHOOK__ADMIN__TOKEN", "mine");
    // The file names this variable, so it is not a misspelt option.
    let named = ("LIVEHOOK_ADMIN_TOKEN", "named");
    assert_eq!(token(&[]), Ok(None));
    assert_eq!(token(&[named]), Ok(Some(Secret::new("named"))));
    assert_eq!(token(&[own]), Ok(Some(Secret::new("mine"))));
    assert_eq!(token(&[own, named]), Ok(Some(Secret::new("mine"))));
    let both = [own, ("LIVEHOOK__ADMIN__TOKEN_FILE", "x")];
    assert!(token(&both).unwrap_err().contains("give only one of"));
}

#[test]
fn a_variable_does_not_replace_what_is_no_section() {
    let variable = ("LIVEHOOK__SERVER__LISTEN", "127.0.0.1:81");
    for (text, found) in [("server = 1", "a number"), ("server = []", "a list")] {
        let message = read(&format!("{text}\n{LEAST}"), &[variable]).unwrap_err();
        let expected = format!("livehook.toml:1:1: server: expected a table, found {found}");
        assert!(message.ends_with(&expected), "{message}");
    }
}

#[test]
fn listeners_beside_each_other_are_taken() {
    for (server, admin) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:80", "127.0.0.2:80"),
        ("0.0.0.0:80", "[::1]:80"),
        ("0.0.0.0:80", "127.0.0.1:81"),
    ] {
        let text = format!("{LEAST}[server]\nlisten = \"{server}\"\n[admin]\nlisten = \"{admin}\"");
        assert_eq!(read(&text, &[]).err(), None, "{server} {admin}");
    }
}

#[test]
fn a_token_that_may_be_missing_keeps_the_listener_at_home() {
    for (listen, local) in [
        ("0.0.0.0:9090", "127.0.0.1:9090"),
        ("10.0.0.1:99", "127.0.0.1:99"),
        ("[::]:9090", "[::1]:9090"),
    ] {
        let text = format!("{LEAST}[admin]\nlisten = \"{listen}\"\ntoken_env = \"TOKEN?\"");
        let without = read(&text, &[]).unwrap().admin;
        assert_eq!(without.listen, local.parse().unwrap());
        assert_eq!(without.unset.as_deref(), Some("TOKEN"));
        let with = read(&text, &[("TOKEN", "a")]).unwrap().admin;
        assert_eq!(with.listen, listen.parse().unwrap());
        assert_eq!(with.unset, None);
    }
    let at_home = format!("{LEAST}[admin]\ntoken_env = \"TOKEN?\"");
    assert_eq!(read(&at_home, &[]).unwrap().admin.unset, None);
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
