//! Authentication from outside: keys, tokens, unsigned kinds, addresses, clocks, and the rejected
//! list.

mod refused;

use std::fs;

use css_callbacks::Kind;
use serde_json::{Value, json};

use crate::support::{Client, KEY, Settings, TestServer, now, signed, signed_with, wait_for};

const OTHER_KEY: &str = "OtherKeyOtherKeyOtherKeyOtherKey";

/// A server with these `[sources.…]` sections.
fn server(sources: &str) -> TestServer {
    TestServer::start(&settings(sources))
}

fn settings(sources: &str) -> Settings {
    Settings {
        sources: sources.to_owned(),
        ..Settings::default()
    }
}

/// A unique body, with `event_type` if the kind is known.
fn body(kind: Kind) -> Value {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    match kind.code() {
        Some(code) => json!({ "event_type": code, "number": number }),
        None => json!({ "number": number }),
    }
}

fn push() -> Value {
    body(Kind::StreamBegin)
}

#[track_caller]
fn assert_taken(client: &mut Client, path: &str, body: impl AsRef<[u8]>) {
    assert_eq!(client.post(path, body).unwrap().status, 200, "{path}");
}

#[track_caller]
fn assert_refused(client: &mut Client, path: &str, body: impl AsRef<[u8]>) {
    let answer = client.post(path, body).unwrap();
    assert_eq!(answer.status, 401, "{path}");
    assert_eq!(
        answer.text(),
        "{\"code\":401,\"message\":\"not authentic\"}"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn any_of_several_keys_is_good_and_no_other() {
    let server = server(&format!(
        "[sources.css]\nkeys = [\"{KEY}\", \"{OTHER_KEY}\"]\n"
    ));
    let mut client = server.client();
    for key in [KEY, OTHER_KEY] {
        assert_taken(&mut client, "/css", signed_with(key, now() + 600, push()));
    }
    for key in ["", "test", &KEY.to_lowercase(), &KEY[1..]] {
        assert_refused(&mut client, "/css", signed_with(key, now() + 600, push()));
    }
}

#[test]
fn sign_is_lower_case_hex_over_t_as_it_is_written() {
    let server = TestServer::start(&Settings::default());
    let mut client = server.client();
    let t = (now() + 600).to_string();
    let sign = css_callbacks::sign(KEY, &t);
    let with = |sign: Value, t: Value| {
        let mut body = push();
        body["sign"] = sign;
        body["t"] = t;
        body.to_string()
    };
    assert_taken(&mut client, "/css", with(json!(sign), json!(t)));
    assert_taken(
        &mut client,
        "/css",
        with(json!(sign), json!(t.parse::<i64>().unwrap())),
    );
    let far = "9999999999999999";
    assert_taken(
        &mut client,
        "/css",
        with(json!(css_callbacks::sign(KEY, far)), json!(far)),
    );
    let zero = format!("0{t}");
    for body in [
        with(json!(sign.to_uppercase()), json!(t)),
        with(json!(sign[..31]), json!(t)),
        with(json!(format!("{sign}0")), json!(t)),
        with(json!(format!(" {sign}")), json!(t)),
        with(json!(""), json!(t)),
        with(Value::Null, json!(t)),
        with(json!(5), json!(t)),
        with(json!([sign]), json!(t)),
        with(json!(sign), json!(format!(" {t}"))),
        with(json!(sign), Value::Null),
        with(json!(css_callbacks::sign(KEY, &zero)), json!(zero)),
        with(json!(css_callbacks::sign(KEY, "-1")), json!(-1)),
        with(
            json!(css_callbacks::sign(KEY, "99999999999999999")),
            json!("99999999999999999"),
        ),
        with(json!(css_callbacks::sign(KEY, "")), json!("")),
        // The last of duplicate members is the one that is read.
        with(json!(sign), json!(t)).replacen('}', ",\"t\":1}", 1),
    ] {
        assert_refused(&mut client, "/css", body);
    }
    let exponent = format!("{}e0", &t);
    let text = with(json!(css_callbacks::sign(KEY, &exponent)), json!(1))
        .replace("\"t\":1", &format!("\"t\":{exponent}"));
    assert_refused(&mut client, "/css", text);
}

#[test]
fn half_a_signature_is_refused_even_where_none_is_needed() {
    let server = server(&format!(
        "[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"hush\"\nallow_unsigned = true\n"
    ));
    let mut client = server.client();
    for member in ["sign", "t"] {
        let mut half: Value = serde_json::from_str(&signed(body(Kind::Relay))).unwrap();
        half.as_object_mut().unwrap().remove(member);
        assert_refused(&mut client, "/css/relay?token=hush", half.to_string());
    }
    assert_taken(
        &mut client,
        "/css/relay?token=hush",
        body(Kind::Relay).to_string(),
    );
}

#[test]
fn keys_come_from_a_file_and_from_a_variable() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("keys"),
        format!("  {KEY}\r\n\n{OTHER_KEY}\n"),
    )
    .unwrap();
    let server = TestServer::start_in(
        directory.path(),
        &Settings {
            env: vec![("CSS_KEYS".into(), format!(" {OTHER_KEY}\n"))],
            ..settings("[sources.a]\nkey_file = \"keys\"\n[sources.b]\nkeys_env = \"CSS_KEYS\"\n")
        },
    );
    let mut client = server.client();
    assert_taken(&mut client, "/a", signed_with(KEY, now() + 600, push()));
    assert_taken(
        &mut client,
        "/a",
        signed_with(OTHER_KEY, now() + 600, push()),
    );
    assert_taken(
        &mut client,
        "/b",
        signed_with(OTHER_KEY, now() + 600, push()),
    );
    assert_refused(&mut client, "/b", signed_with(KEY, now() + 600, push()));
}

#[test]
fn a_key_is_rotated_by_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    fs::write(&keys, KEY).unwrap();
    let server = TestServer::start_in(
        directory.path(),
        &settings("[sources.css]\nkey_file = \"keys\"\n"),
    );
    let mut client = server.client();
    let try_key = |client: &mut Client, key: &str| {
        client
            .post("/css", signed_with(key, now() + 600, push()))
            .unwrap()
            .status
    };
    let reload = |keys_now: String, reloads: usize| {
        fs::write(&keys, keys_now).unwrap();
        server.signal("HUP");
        wait_for("the reload", || {
            let log = server.log();
            Some(())
                .filter(|()| log.matches("sources and handlers are reloaded").count() == reloads)
        });
    };
    assert_eq!(
        (try_key(&mut client, KEY), try_key(&mut client, OTHER_KEY)),
        (200, 401)
    );
    // A forger and a mistake look the same, so the log names both possibilities.
    let logged = "callbacks are refused: the signature was made with another key; if other callbacks arrive, this one is a forgery, \
        else the keys here differ from the template's CallbackKey";
    wait_for("the log", || server.log().contains(logged).then_some(()));
    reload(format!("{KEY}\n{OTHER_KEY}\n"), 1);
    assert_eq!(
        (try_key(&mut client, KEY), try_key(&mut client, OTHER_KEY)),
        (200, 200)
    );
    reload(OTHER_KEY.to_owned(), 2);
    assert_eq!(
        (try_key(&mut client, KEY), try_key(&mut client, OTHER_KEY)),
        (401, 200)
    );
}

#[test]
fn the_token_must_match_on_every_callback() {
    let sources = format!(
        "[sources.css]\nkeys = [\"{KEY}\"]\ntoken = \"a+b /%ü\"\n[sources.plain]\ntoken = \"hush\"\n"
    );
    let server = server(&sources);
    let mut client = server.client();
    for query in [
        "token=a%2Bb%20%2F%25%C3%BC",
        "token=a+b%20/%25%c3%bc",
        "x=1&token=a%2Bb%20%2F%25%C3%BC&action=streamBegin",
    ] {
        assert_taken(&mut client, &format!("/css?{query}"), signed(push()));
        assert_refused(&mut client, &format!("/css?{query}"), push().to_string());
    }
    for query in [
        "",
        "?",
        "?token",
        "?token=",
        "?token=a",
        "?Token=a%2Bb%20%2F%25%C3%BC",
        "?token=a%2Bb+%2F%25%C3%BC",
        "?token=x&token=a%2Bb%20%2F%25%C3%BC",
    ] {
        assert_refused(&mut client, &format!("/css{query}"), signed(push()));
    }
    // Without a key, no signature can be checked.
    assert_taken(
        &mut client,
        "/plain/stream-end?token=hush",
        body(Kind::StreamEnd).to_string(),
    );
    assert_taken(
        &mut client,
        "/plain?token=hush",
        signed_with("", now() - 99_999, push()),
    );
    assert_refused(
        &mut client,
        "/plain?token=hus",
        signed_with("", now() + 600, push()),
    );
    assert_refused(&mut client, "/plain", push().to_string());
}

#[test]
fn unsigned_callbacks_are_taken_only_of_their_kinds_and_with_a_token() {
    let keys = format!("keys = [\"{KEY}\"]");
    let server = server(&format!(
        "[sources.bare]\n{keys}\n[sources.token]\n{keys}\ntoken = \"hush\"\n\
         [sources.relay]\n{keys}\nallow_unsigned = [\"relay\"]\n[sources.all]\n{keys}\nallow_unsigned = true\n"
    ));
    let mut client = server.client();
    let always_signed = [
        "stream-begin",
        "stream-end",
        "record",
        "record-exception",
        "snapshot",
        "image-audit",
        "subtitle",
        "smart-erase",
        "streamlive-begin",
        "streamlive-end",
    ];
    for kind in Kind::ALL {
        let slug = kind.slug();
        let may = !always_signed.contains(&slug);
        for (source, query, vouched) in [
            ("bare", "", false),
            ("token", "", false),
            ("token", "?token=hush", true),
            ("relay", "", slug == "relay"),
            ("all", "", true),
        ] {
            for path in [
                format!("/{source}/{slug}{query}"),
                format!("/{source}{query}"),
            ] {
                let body = body(kind).to_string();
                if may && vouched {
                    assert_taken(&mut client, &path, body);
                } else {
                    assert_refused(&mut client, &path, body);
                }
            }
        }
    }
    // Removing the signature does not help at the URL of another kind or without a kind.
    for path in ["/all/relay", "/token/relay?token=hush", "/relay/relay"] {
        assert_refused(&mut client, path, body(Kind::StreamEnd).to_string());
        assert_refused(&mut client, path, json!({ "event_type": 999 }).to_string());
    }
    assert_refused(&mut client, "/all", body(Kind::Unknown).to_string());
    assert_taken(&mut client, "/all/relay", body(Kind::Unknown).to_string());
}

#[test]
fn a_source_without_anything_is_open_only_if_it_says_so() {
    let server = server("[sources.open]\nallow_unsigned = true\n");
    let mut client = server.client();
    assert_taken(
        &mut client,
        "/open/stream-end",
        body(Kind::StreamEnd).to_string(),
    );
    assert_taken(&mut client, "/open", signed_with("", 1, push()));
}

#[test]
fn the_address_must_be_allowed_behind_proxies_too() {
    let sources = format!(
        "[sources.here]\nkeys = [\"{KEY}\"]\nallow_from = [\"127.0.0.0/8\"]\n\
         [sources.there]\nkeys = [\"{KEY}\"]\nallow_from = [\"203.0.113.0/24\", \"2001:db8::1\"]\n"
    );
    let direct = server(&sources);
    let mut client = direct.client();
    assert_taken(&mut client, "/here", signed(push()));
    assert_refused(&mut client, "/there", signed(push()));
    let forwarded = |client: &mut Client, path: &str, lines: &[&str]| {
        let headers: Vec<_> = lines
            .iter()
            .map(|line| ("X-Forwarded-For", *line))
            .collect();
        client
            .request("POST", path, &headers, Some(signed(push()).as_bytes()))
            .unwrap()
            .status
    };
    assert_eq!(
        forwarded(&mut client, "/there", &["203.0.113.7"]),
        401,
        "no proxy is trusted"
    );
    let proxied = TestServer::start(&Settings {
        server: "drain_delay = \"0s\"\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]".into(),
        ..settings(&sources)
    });
    let mut client = proxied.client();
    for (lines, expected) in [
        (&["203.0.113.7"][..], 200),
        (&["203.0.113.7:4711"], 200),
        (&["2001:db8::1"], 200),
        (&["[2001:db8::1]:443"], 200),
        (&["198.51.100.1, 203.0.113.7"], 200),
        (&["198.51.100.1", "203.0.113.7, 10.1.1.1"], 200),
        (&["203.0.113.7, 198.51.100.1"], 401),
        (&["203.0.113.7", "198.51.100.1"], 401),
        (&["203.0.113.7, unknown"], 401),
        (&["203.0.113.7, "], 401),
        (&["2001:db8::2"], 401),
        (&[], 401),
    ] {
        assert_eq!(
            forwarded(&mut client, "/there", lines),
            expected,
            "{lines:?}"
        );
    }
    assert_eq!(
        forwarded(&mut client, "/here", &[]),
        200,
        "the proxy itself"
    );
}

#[test]
fn an_expired_signature_is_taken_within_the_grace() {
    let server = server(&format!(
        "[sources.css]\nkeys = [\"{KEY}\"]\n[sources.strict]\nkeys = [\"{KEY}\"]\nexpiry_grace = \"1s\"\n"
    ));
    let mut client = server.client();
    assert_taken(&mut client, "/css", signed_with(KEY, now() - 570, push()));
    assert_refused(&mut client, "/css", signed_with(KEY, now() - 630, push()));
    assert_refused(&mut client, "/strict", signed_with(KEY, now() - 30, push()));
    assert_taken(
        &mut client,
        "/strict",
        signed_with(KEY, now() + 600, push()),
    );
    assert_refused(&mut client, "/css", signed_with(KEY, 1, push()));
}
