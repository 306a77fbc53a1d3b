//! The files in `config/` that start several processes fit together, and livehook accepts the
//! configuration in them.

use std::collections::BTreeSet;
use std::path::Path;

use yaml_rust2::{Yaml, YamlLoader};

use crate::support::server::livehook;
use crate::support::{KEY, Settings, TestServer, wait_for};
use crate::validators;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    std::fs::read_to_string(path).unwrap()
}

fn documents(name: &str) -> Vec<Yaml> {
    YamlLoader::load_from_str(&shipped(name)).unwrap()
}

/// The document with this kind and name.
fn object<'a>(documents: &'a [Yaml], kind: &str, name: &str) -> &'a Yaml {
    let mut found = documents.iter().filter(|document| {
        document["kind"].as_str() == Some(kind)
            && document["metadata"]["name"].as_str() == Some(name)
    });
    let object = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none());
    object
}

fn texts(list: &Yaml) -> BTreeSet<&str> {
    let items = list.as_vec().unwrap().iter();
    items.map(|item| item.as_str().unwrap()).collect()
}

/// The output of `livehook check` for a configuration whose secrets are files with these names in
/// `folder`.
fn check(toml: &str, folder: &str, secrets: &BTreeSet<&str>) -> String {
    let directory = tempfile::tempdir().unwrap();
    for secret in secrets {
        let text = match *secret {
            "database-url" => {
                "postgres://livehook:secret@a:5432,b:5432/livehook?target_session_attrs=read-write"
            }
            "callback-key" => "0123456789abcdef0123456789abcdef",
            _ => "a-long-random-text",
        };
        std::fs::write(directory.path().join(secret), text).unwrap();
    }
    assert!(toml.contains(folder));
    let file = directory.path().join("livehook.toml");
    let toml = toml.replace(folder, directory.path().to_str().unwrap());
    std::fs::write(&file, toml).unwrap();
    let checked = livehook()
        .arg("check")
        .arg("--config")
        .arg(file)
        .output()
        .unwrap();
    let said = [checked.stdout, checked.stderr]
        .map(|text| String::from_utf8(text).unwrap())
        .concat();
    assert!(checked.status.success(), "{said}");
    said
}

#[test]
fn the_admin_listener_of_the_image_is_open_only_with_a_token() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/container.toml");
    let directory = tempfile::tempdir().unwrap();
    let check = |token: &[(&str, &str)]| {
        let checked = livehook()
            .arg("check")
            .arg("--config")
            .arg(&file)
            .env("LIVEHOOK_KEY", "TheKeyItself")
            .env("LIVEHOOK__INBOX__PATH", directory.path())
            .envs(token.iter().copied())
            .output()
            .unwrap();
        assert!(checked.status.success());
        String::from_utf8(checked.stdout).unwrap()
    };
    let said = check(&[]);
    assert!(said.contains("and 127.0.0.1:9090 are free"), "{said}");
    assert!(
        said.contains("listens on 127.0.0.1:9090 only, because LIVEHOOK_ADMIN_TOKEN is not set"),
        "{said}"
    );
    let said = check(&[("LIVEHOOK_ADMIN_TOKEN", "AdminTokenItself")]);
    assert!(said.contains("and 0.0.0.0:9090 are free"), "{said}");
    assert!(!said.contains("keeps to"), "{said}");

    let shipped = shipped("container.toml");
    assert!(shipped.contains("listen = \"0.0.0.0:9090\"\ntoken_env = \"LIVEHOOK_ADMIN_TOKEN?\""));
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let settings = |token: Option<&str>| Settings {
        admin: "token_env = \"LIVEHOOK_ADMIN_TOKEN?\"".into(),
        // The port may be any; without a token, the address must be loopback.
        env: [variable(
            "LIVEHOOK__ADMIN__LISTEN",
            if token.is_some() {
                "127.0.0.1:0"
            } else {
                "0.0.0.0:0"
            },
        )]
        .into_iter()
        .chain(token.map(|token| variable("LIVEHOOK_ADMIN_TOKEN", token)))
        .collect(),
        ..Settings::default()
    };
    let lines = |server: &TestServer| {
        let log = server.log();
        assert!(
            !log.contains("AdminTokenItself") && !log.contains(KEY),
            "{log}"
        );
        let about = log
            .lines()
            .filter(|line| line.contains("LIVEHOOK_ADMIN_TOKEN is not set"));
        about.count()
    };
    let without = TestServer::start(&settings(None));
    assert!(without.admin.ip().is_loopback(), "{}", without.admin);
    assert_eq!(without.get("/api/handlers").status, 200);
    wait_for("the line", || (lines(&without) == 1).then_some(()));
    let with = TestServer::start(&settings(Some("AdminTokenItself")));
    assert_eq!(with.get("/api/handlers").status, 401);
    assert_eq!(lines(&with), 0);
}

/// Other tests check nginx.conf (docs_deploy.rs) and the alerts (monitoring.rs).
#[test]
fn each_file_is_taken_by_what_it_is_for() {
    for name in ["compose.yaml", "compose-postgres.yaml"] {
        validators::compose(&shipped(name)).unwrap_or_else(|said| panic!("{name}: {said}"));
    }
    validators::kubernetes(&shipped("kubernetes.yaml")).unwrap();
    validators::systemd("").unwrap();
    let compose = documents("compose-postgres.yaml").remove(0);
    let balancer = &compose["configs"]["balancer"]["content"];
    validators::haproxy(balancer.as_str().unwrap()).unwrap();
}

/// No schema checks that the names in one section exist in another.
#[test]
fn the_compose_files_are_whole() {
    for name in ["compose.yaml", "compose-postgres.yaml"] {
        let [file] = &documents(name)[..] else {
            panic!("{name} is not one document");
        };
        let defined = |section: &str| -> BTreeSet<&str> {
            let entries = file[section].as_hash().into_iter().flatten();
            entries.map(|(key, _)| key.as_str().unwrap()).collect()
        };
        let mut used = [(); 3].map(|()| BTreeSet::new());
        for (_, service) in file["services"].as_hash().unwrap() {
            let listed = |key: &str| service[key].as_vec().into_iter().flatten();
            used[0].extend(listed("configs").map(|config| config["source"].as_str().unwrap()));
            used[1].extend(listed("secrets").map(|secret| secret.as_str().unwrap()));
            let volumes = listed("volumes").map(|volume| volume.as_str().unwrap());
            used[2].extend(volumes.map(|volume| volume.split(':').next().unwrap()));
        }
        for (section, used) in ["configs", "secrets", "volumes"].into_iter().zip(used) {
            assert_eq!(used, defined(section), "{name}: {section}");
        }
    }
}

#[test]
fn the_receivers_of_the_compose_file_take_their_configuration() {
    let file = documents("compose-postgres.yaml").remove(0);
    let services = &file["services"];
    assert_eq!(services["receiver-a"], services["receiver-b"]);
    let receiver = &services["receiver-a"];
    let toml = file["configs"]["livehook"]["content"].as_str().unwrap();
    check(toml, "/run/secrets", &texts(&receiver["secrets"]));
    // The load balancer must notice, by two failed checks, that a receiver is ending before it
    // stops accepting.
    assert!(toml.contains("drain_delay = \"3s\""));
    let balancer = file["configs"]["balancer"]["content"].as_str().unwrap();
    for part in [
        "GET /readyz",
        "inter 500ms fall 2",
        "receiver-a:8080",
        "receiver-b:8080",
    ] {
        assert!(balancer.contains(part), "{part}");
    }
    assert_eq!(receiver["stop_grace_period"].as_str(), Some("20s"));
}

#[test]
fn the_manifests_fit_together() {
    let documents = documents("kubernetes.yaml");
    assert_eq!(documents.len(), 6);
    let deployment = &object(&documents, "Deployment", "livehook")["spec"];
    let pod = &deployment["template"];
    let app = pod["metadata"]["labels"]["app"].as_str();
    assert!(app.is_some());
    let budget = &object(&documents, "PodDisruptionBudget", "livehook")["spec"];
    for selector in [
        &deployment["selector"]["matchLabels"],
        &budget["selector"]["matchLabels"],
    ] {
        assert_eq!(selector["app"].as_str(), app);
    }
    assert!(deployment["replicas"].as_i64() > budget["minAvailable"].as_i64());
    let spec = &pod["spec"];
    // Longer than livehook needs to stop.
    assert!(spec["terminationGracePeriodSeconds"].as_i64() > Some(15));

    let container = &spec["containers"][0];
    let ports = container["ports"].as_vec().unwrap().iter();
    let ports: BTreeSet<_> = ports.map(|port| port["name"].as_str().unwrap()).collect();
    for service in ["livehook", "livehook-admin"] {
        let service = &object(&documents, "Service", service)["spec"];
        assert_eq!(service["selector"]["app"].as_str(), app);
        assert!(ports.contains(service["ports"][0]["targetPort"].as_str().unwrap()));
    }
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["path"].as_str(), Some(path));
        assert!(ports.contains(get["port"].as_str().unwrap()));
    }

    let volumes = spec["volumes"].as_vec().unwrap();
    let folder = |volume: &str| {
        assert!(
            volumes.iter().any(|it| it["name"].as_str() == Some(volume)),
            "{volume}"
        );
        let mounts = container["volumeMounts"].as_vec().unwrap().iter();
        let mut mounts = mounts.filter(|mount| mount["name"].as_str() == Some(volume));
        mounts.next().unwrap()["mountPath"].as_str().unwrap()
    };
    assert_eq!(folder("config"), "/etc/livehook");
    let toml = object(&documents, "ConfigMap", "livehook")["data"]["livehook.toml"].as_str();
    let secrets = object(&documents, "Secret", "livehook")["stringData"]
        .as_hash()
        .unwrap();
    let names = secrets.keys().map(|key| key.as_str().unwrap()).collect();
    let said = check(toml.unwrap(), folder("secrets"), &names);
    assert!(
        said.contains("https://cb.example.com/css/stream-begin"),
        "{said}"
    );
}
