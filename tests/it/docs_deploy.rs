//! The examples in docs/deploy work: docker.md, systemd.md, kubernetes.md and nginx.md. So do the commands
//! of upgrade.md.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::clients::run;
use crate::docs::page::{blocks, read};
use crate::support::target::reserve;
use crate::support::{Settings, TestServer, now, signed, signed_with, wait_for};
use crate::validators;

const PAGES: [&str; 5] = [
    "docs/deploy/docker.md",
    "docs/deploy/kubernetes.md",
    "docs/deploy/nginx.md",
    "docs/deploy/systemd.md",
    "docs/operate/upgrade.md",
];

#[test]
fn the_commands_are_known_to_their_programs() {
    let mut problems = Vec::new();
    for page in PAGES {
        let blocks = blocks(page, "console");
        let commands: Vec<_> = blocks
            .iter()
            .flat_map(|it| validators::commands(it))
            .collect();
        assert!(commands.len() >= 3, "{page}");
        for command in commands {
            if let Err(said) = validators::command_line(&command) {
                problems.push(format!("{page}: {command}\n{said}"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_yaml_follows_its_schema() {
    let compose = blocks("docs/deploy/docker.md", "yaml");
    let manifests = blocks("docs/deploy/kubernetes.md", "yaml");
    assert!(!compose.is_empty() && !manifests.is_empty());
    for block in compose {
        validators::compose(&block).unwrap_or_else(|said| panic!("{said}\n{block}"));
    }
    for block in manifests {
        validators::kubernetes(&block).unwrap_or_else(|said| panic!("{said}\n{block}"));
    }
}

#[test]
fn the_drop_ins_are_taken_by_systemd() {
    let drop_ins = blocks("docs/deploy/systemd.md", "ini");
    assert!(!drop_ins.is_empty());
    for block in drop_ins {
        validators::systemd(&block).unwrap_or_else(|said| panic!("{said}\n{block}"));
    }
}

/// The address of the sender for nginx.
const SENDER: &str = "127.0.0.9";

/// nginx with a part of its configuration and its own certificate. Dropping it ends its process.
struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
    address: String,
}

impl Nginx {
    /// Starts nginx. `part` has one listener, the usual certificate, and these receivers, whose
    /// addresses are replaced.
    fn start(part: &str, receivers: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args([
                "-subj",
                "/CN=cb.example.com",
                "-addext",
                "subjectAltName=DNS:cb.example.com",
            ])
            .arg("-keyout")
            .arg(path("privkey.pem"))
            .arg("-out")
            .arg(path("fullchain.pem"));
        run(&mut openssl);
        let address = reserve().to_string();
        let mut part = part.replace("listen 443 ssl", &format!("listen {address} ssl"));
        assert!(part.contains(&address));
        let folder_name = folder.path().to_str().unwrap();
        for (usual, here) in receivers
            .iter()
            .map(|(usual, here)| (*usual, here.as_str()))
            .chain([("/etc/ssl/cb.example.com", folder_name)])
        {
            assert!(part.contains(usual), "{usual}");
            part = part.replace(usual, here);
        }
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {folder_name}/{name};\n"))
            .concat();
        // As root, the workers would be another user, who cannot read the folder.
        let user = if rustix::process::getuid().is_root() {
            "user root;\n"
        } else {
            ""
        };
        let whole = format!(
            "{user}pid {folder_name}/pid;\nerror_log {folder_name}/error.log;\ndaemon off;\nmaster_process off;\n\
             events {{}}\nhttp {{\n{temporary}access_log off;\n{part}\n}}\n"
        );
        std::fs::write(path("nginx.conf"), whole).unwrap();
        let nginx = || {
            let mut nginx = Command::new("/usr/sbin/nginx");
            nginx.arg("-c").arg(path("nginx.conf"));
            nginx.arg("-e").arg(path("error.log"));
            nginx
        };
        run(nginx().arg("-t"));
        let child = nginx()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self {
            child,
            folder,
            address,
        };
        wait_for("nginx", || {
            std::net::TcpStream::connect(&nginx.address).ok()
        });
        nginx
    }

    /// Posts like the platform, by HTTPS and by the host name. Returns the status.
    fn post(&self, path: &str, body: &str, header: &str) -> String {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20"])
            .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
            .args(["--data-binary", body, "--header", header])
            .args(["--noproxy", "*", "--interface", SENDER])
            .args(["--resolve", &format!("cb.example.com:{port}:{host}")])
            .arg("--cacert")
            .arg(self.folder.path().join("fullchain.pem"))
            .arg(format!("https://cb.example.com:{port}{path}"));
        let output = curl.output().unwrap();
        let log = std::fs::read_to_string(self.folder.path().join("error.log"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{log:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// With the configuration of the documents, livehook knows the real sender of a callback.
#[test]
fn callbacks_come_through_nginx() {
    let server = TestServer::start(&Settings {
        server: "drain_delay = \"0s\"\ntrusted_proxies = [\"127.0.0.1/32\"]".into(),
        ..Settings::default()
    });
    let conf = read("config/nginx.conf");
    // The comments at the top of the page about livehook's configuration are applied here, too.
    assert!(conf.contains("trusted_proxies = [\"127.0.0.1/32\"]"));
    let nginx = Nginx::start(
        &conf,
        &[("http://127.0.0.1:8080", format!("http://{}", server.addr))],
    );
    let body = signed(json!({ "event_type": 1, "stream_id": "room-7" }));
    assert_eq!(
        nginx.post("/css/stream-begin?token=x", &body, "x: y"),
        "200"
    );
    assert_eq!(server.events().len(), 1);
    let forged = signed_with("Forged", now() + 600, json!({ "event_type": 1 }));
    let who = "x-forwarded-for: 203.0.113.7";
    assert_eq!(nginx.post("/css", &forged, who), "401");
    let rejected = server.get("/api/rejected").json();
    assert_eq!(rejected["items"][0]["client"], SENDER, "{rejected}");
}

/// nginx.md: with several receivers, nginx passes over one that is gone, and one that does not
/// accept callbacks.
#[test]
fn nginx_asks_the_next_receiver() {
    let pages = blocks("docs/deploy/nginx.md", "nginx");
    let [upstream] = &pages[..] else {
        panic!("{} blocks", pages.len());
    };
    let good = TestServer::start(&Settings::default());
    let full = TestServer::start(&Settings {
        inbox: "min_free = \"1EiB\"".into(),
        ..Settings::default()
    });
    for (first, second) in [(full.addr, good.addr), (reserve(), good.addr)] {
        let receivers = [
            ("10.0.0.11:8080", first.to_string()),
            ("10.0.0.12:8080", second.to_string()),
        ];
        let nginx = Nginx::start(upstream, &receivers);
        for number in 0..4 {
            let body =
                signed(json!({ "event_type": 1, "stream_id": number, "at": first.to_string() }));
            assert_eq!(nginx.post("/css", &body, "x: y"), "200");
        }
    }
    assert_eq!(good.events().len(), 8);
}
