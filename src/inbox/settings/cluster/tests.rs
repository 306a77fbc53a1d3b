#![allow(clippy::unwrap_used)]

use super::*;

fn parse_in(base: &Path, text: &str) -> Result<Cluster, String> {
    let env = Env {
        base,
        variable: &|_| None,
    };
    Cluster::parse(text, &env)
}

fn parse(text: &str) -> Result<Cluster, String> {
    parse_in(Path::new("/nowhere"), text)
}

fn names(cluster: &Cluster) -> Vec<&str> {
    cluster.hosts.iter().map(|host| &*host.name).collect()
}

#[test]
fn hosts_role_and_database_are_read() {
    let one = parse("postgres://livehook:p%40ss@db.example.com/inbox").unwrap();
    assert_eq!(names(&one), ["db.example.com:5432"]);
    assert_eq!((&*one.role, &*one.database), ("livehook", "inbox"));
    let config = &one.hosts[0].config;
    assert_eq!(config.get_password(), Some(&b"p@ss"[..]));
    assert_eq!(config.get_application_name(), Some("livehook"));
    assert_eq!(config.get_connect_timeout(), Some(&CONNECT_TIMEOUT));
    assert_eq!(config.get_keepalives_idle(), KEEPALIVES_IDLE);

    let many = "postgresql://a@h1:1,[::1]:2,h3/d?connect_timeout=9&keepalives_idle=7200&application_name=x";
    let many = parse(many).unwrap();
    assert_eq!(names(&many), ["h1:1", "[::1]:2", "h3:5432"]);
    let config = &many.hosts[1].config;
    assert_eq!(config.get_ports(), [2]);
    assert_eq!(config.get_application_name(), Some("x"));
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(9)));
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7200));

    let socket = parse("postgres:///d?host=/run/postgresql&user=a").unwrap();
    assert_eq!(names(&socket), ["/run/postgresql/.s.PGSQL.5432"]);
    assert_eq!(parse("postgres://a@h").unwrap().database, "a");
}

#[test]
fn encryption_is_full_unless_the_url_or_a_local_host_says_otherwise() {
    let mode = |text: &str| parse(text).map(|cluster| cluster.encryption);
    let full = Ok(Encryption::VerifyFull(None));
    for text in [
        "postgres://a@h",
        "postgres://a@localhost,h",
        "postgres://a@h?sslmode=verify-full&sslrootcert=system",
        "postgres://a@localhost?sslmode=verify-full",
    ] {
        assert_eq!(mode(text), full, "{text}");
    }
    for text in [
        "postgres://a@localhost,127.0.0.2,[::1]",
        "postgres://a@%2Frun/d",
        "postgres://a@h?sslmode=disable",
    ] {
        assert_eq!(mode(text), Ok(Encryption::Disable), "{text}");
    }
    let require = parse("postgres://a@h,%2Frun/d?sslmode=require").unwrap();
    assert_eq!(require.encryption, Encryption::Require);
    let modes = require.hosts.iter().map(|host| host.config.get_ssl_mode());
    assert_eq!(
        modes.collect::<Vec<_>>(),
        [SslMode::Require, SslMode::Disable]
    );
}

#[test]
fn an_unusable_url_is_refused_and_the_password_is_not_shown() {
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("empty.pem"), "").unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(base.path().join("broken.pem"), broken).unwrap();
    for (text, expected) in [
        (
            "host=h password=hush",
            "is not a URL of a PostgreSQL server",
        ),
        ("mysql://a:hush@h", "is not a URL of a PostgreSQL server"),
        ("postgres://a:x@hush@h/d", "write `@` as %40"),
        ("postgres://a:x@hu/sh@h/d", "write `@` as %40"),
        ("postgres://a:x?hush@h/d", "write `@` as %40"),
        ("postgres://h/d?password=hush@x", "write `@` as %40"),
        ("postgres://h/d?password=hush", "names no role"),
        ("postgres://a:hush@/d", "names no host"),
        ("postgres://a:hush@h,,i/d", "neither a name nor an address"),
        ("postgres://a:hush@h h/d", "neither a name nor an address"),
        ("postgres://a:hush@h..i/d", "which is no valid name for TLS"),
        ("postgres://a:hush@h:x/d", "invalid value for option `port`"),
        ("postgres://a:hush@h1,h2/d?port=3", "number of ports"),
        ("postgres://a:hush@h?hostaddr=::1", "has a hostaddr"),
        ("postgres://a:hush@h?sslmode", "an option without a value"),
        ("postgres://a:hush@h?sslcert=x", "unknown option `sslcert`"),
        (
            "postgres://a:hush@h?sslmode=prefer",
            "other than verify-full, require and disable",
        ),
        (
            "postgres://a:hush@h?sslmode=verify-ca&sslrootcert=x",
            "other than verify-full, require and disable",
        ),
        (
            "postgres://a:hush@h?sslmode=require&sslrootcert=x",
            "only sslmode=verify-full uses",
        ),
        (
            "postgres://a:hush@h?sslrootcert=gone.pem",
            "gone.pem: No such file",
        ),
        (
            "postgres://a:hush@h?sslrootcert=empty.pem",
            "there is no certificate in it",
        ),
        (
            "postgres://a:hush@h?sslrootcert=broken.pem",
            "cannot use its sslrootcert",
        ),
        (
            "postgres://a:hush@h?target_session_attrs=standby",
            "but livehook writes",
        ),
    ] {
        let problem = parse_in(base.path(), text).unwrap_err();
        assert!(problem.contains(expected), "{text}: {problem}");
        assert!(!problem.contains("hush"), "{problem}");
    }
}

#[test]
fn debugging_shows_no_password() {
    let cluster = parse("postgres://a:hush@h/d").unwrap();
    assert!(!format!("{cluster:?}").contains("hush"));
}
