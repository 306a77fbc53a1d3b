//! The console over HTTP: its files and their headers, signing in, and what the cookie may do.

mod browser;
mod feed;
mod keyboard;
mod looks;
mod pages;
mod picture;
mod stream;
mod streams;

use crate::support::server::FILE_HANDLER;
use crate::support::{Client, Settings, TestServer};

const TOKEN: &str = "{\"token\":\"AdminTokenItself\"}";

fn server() -> TestServer {
    TestServer::start(&Settings {
        admin: "token = \"AdminTokenItself\"".into(),
        ..Settings::with_handlers(FILE_HANDLER)
    })
}

#[test]
fn the_page_and_its_files_are_public_and_run_only_their_own_scripts() {
    let server = server();
    let mut client = Client::new(server.admin);
    let mut get = |path: &str| client.request("GET", path, &[], None).unwrap();
    let mut waiting = vec!["/".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = waiting.pop() {
        if seen.contains(&path) {
            continue;
        }
        let answer = get(&path);
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let text = answer.text();
        assert!(!text.contains("innerHTML"), "{path}");
        for quoted in text.split(['"', '\'']) {
            if quoted.starts_with("/console/") {
                waiting.push(quoted.to_owned());
            } else if quoted.starts_with("./") && quoted.ends_with(".js") {
                waiting.push(format!("/console{}", &quoted[1..]));
            }
        }
        seen.push(path);
    }
    assert_eq!(seen.len(), 17, "{seen:?}");
    assert_eq!(get("/console/other.js").status, 404);
}

#[test]
fn the_cookie_reads_anywhere_and_changes_only_from_the_console() {
    let server = server();
    let mut client = Client::new(server.admin);
    let mut ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let body = Some(body.as_bytes());
        client.request(method, path, headers, body).unwrap()
    };
    assert_eq!(ask("POST", "/login", &[], "{\"token\":\"x\"}").status, 401);
    let foreign = ("origin", "https://example.com");
    assert_eq!(ask("POST", "/login", &[foreign], TOKEN).status, 403);
    let answer = ask("POST", "/login", &[], TOKEN);
    assert_eq!(answer.status, 204);
    let set = answer.header("set-cookie").unwrap();
    assert!(set.contains("; HttpOnly; SameSite=Strict"), "{set}");
    assert!(!set.contains("AdminTokenItself"));
    let cookie = ("cookie", set.split(';').next().unwrap());
    assert_eq!(ask("GET", "/api/handlers", &[cookie], "").status, 200);

    let own = format!("http://{}", server.admin);
    let pause = "/api/handlers/file/pause";
    for more in [
        ("accept", "*/*"),
        foreign,
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(ask("POST", pause, &[cookie, more], "{}").status, 403);
    }
    for more in [("origin", &*own), ("sec-fetch-site", "same-origin")] {
        assert_eq!(ask("POST", pause, &[cookie, more], "{}").status, 200);
    }
    let broken = format!("{}0", cookie.1);
    let answer = ask("GET", "/api/handlers", &[("cookie", &broken)], "");
    assert_eq!(answer.status, 401);
    let answer = ask("POST", "/logout", &[("origin", &own)], "");
    let set = answer.header("set-cookie").unwrap();
    assert!(set.contains("=; Max-Age=0"), "{set}");
}
