//! The alerts and the dashboard in `config/`, and metrics.md and runbook.md in `docs/operate`, use
//! metrics, labels and log lines that a running server has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use css_callbacks::Kind;
use serde_json::{Value, json};
use yaml_rust2::{Yaml, YamlLoader};

use crate::docs::page::{Page, blocks, quoted, read, rows, table};
use crate::support::server::FILE_HANDLER;
use crate::support::{KEY, Settings, TestServer, now, signed, signed_with, wait_for};
use crate::validators;

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus-alerts.yaml");
const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/grafana-dashboard.json");
/// Labels that Prometheus or the query itself adds.
const OTHERS: [&str; 2] = ["instance", "job"];

/// The metrics of a server after traffic of all kinds.
fn shown() -> String {
    let server = TestServer::start(&Settings::with_handlers(FILE_HANDLER));
    let refused = signed_with(KEY, now() - 3600, json!({ "event_type": 1 }));
    assert_eq!(
        server
            .post("/css", signed(json!({ "event_type": 1 })))
            .status,
        200
    );
    assert_eq!(
        server
            .post("/css/stream-end", signed(json!({ "event_type": 100 })))
            .status,
        200
    );
    assert_eq!(server.post("/css/stream-begin", refused).status, 401);
    let done = "livehook_deliveries_total{handler=\"file\",outcome=\"done\"} 2";
    wait_for("the handler", || {
        server.get("/metrics").text().contains(done).then_some(())
    });
    server.get("/metrics").text()
}

/// All series with their labels.
fn series() -> BTreeMap<String, BTreeSet<String>> {
    labels(&shown())
}

fn labels(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut series: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.split_once('}').unwrap().0),
            None => (line.split(' ').next().unwrap(), ""),
        };
        let names = labels
            .split(',')
            .filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        series.entry(name.to_owned()).or_default().extend(names);
    }
    series
}

/// The words of an expression, and the text between them.
fn words(expression: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in expression.chars() {
        let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$');
        let goes_on = words
            .last()
            .and_then(|word| word.chars().last())
            .is_some_and(is_word);
        if goes_on && is_word(letter) {
            words.last_mut().unwrap().push(letter);
        } else {
            words.push(letter.to_string());
        }
    }
    words.retain(|word| !word.trim().is_empty());
    words
}

/// Checks that every metric exists, and that every label in a selector or after `by` belongs to a
/// metric of the expression.
fn check(expression: &str, series: &BTreeMap<String, BTreeSet<String>>) {
    let words = words(expression);
    let metrics: Vec<_> = words
        .iter()
        .filter(|word| word.starts_with("livehook_"))
        .collect();
    assert!(!metrics.is_empty(), "{expression}");
    let mut known: BTreeSet<&str> = OTHERS.into();
    for metric in metrics {
        let labels = series
            .get(metric)
            .unwrap_or_else(|| panic!("there is no {metric}: {expression}"));
        known.extend(labels.iter().map(String::as_str));
    }
    let (mut selector, mut by) = (false, false);
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "{" => selector = true,
            "}" => selector = false,
            "(" if at > 0 && words[at - 1] == "by" => by = true,
            ")" => by = false,
            _ => {}
        }
        let is_matched = selector
            && words
                .get(at + 1)
                .is_some_and(|next| matches!(next.as_str(), "=" | "!"));
        let is_label = by
            && word
                .chars()
                .all(|letter| letter.is_alphanumeric() || letter == '_');
        if is_matched && word != "=" || is_label {
            assert!(
                known.contains(word.as_str()),
                "there is no label {word}: {expression}"
            );
        }
    }
}

/// All alerts.
fn rules() -> Vec<Yaml> {
    let text = std::fs::read_to_string(ALERTS).unwrap();
    let document = &YamlLoader::load_from_str(&text).unwrap()[0];
    let groups = document["groups"].as_vec().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_vec().unwrap());
    rules.cloned().collect()
}

fn expressions_of_alerts() -> Vec<String> {
    let rules = rules();
    let mut names = BTreeSet::new();
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name) && name.starts_with("Livehook"), "{name}");
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        for note in ["summary", "description"] {
            assert!(
                rule["annotations"][note]
                    .as_str()
                    .is_some_and(|text| text.len() > 20),
                "{name}"
            );
        }
    }
    rules
        .iter()
        .map(|rule| rule["expr"].as_str().unwrap().to_owned())
        .collect()
}

fn expressions_of_dashboard() -> Vec<String> {
    let text = std::fs::read_to_string(DASHBOARD).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    let mut expressions = Vec::new();
    for panel in panels {
        assert!(!panel["title"].as_str().unwrap().is_empty());
        let place = (
            panel["gridPos"]["x"].as_u64(),
            panel["gridPos"]["y"].as_u64(),
        );
        assert!(places.insert(place), "two panels in one place: {panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]
            .as_str()
            .filter(|query| query.contains('('))
        {
            let inner = query
                .strip_prefix("label_values(")
                .unwrap()
                .strip_suffix(')')
                .unwrap();
            let (metric, label) = inner.split_once(", ").unwrap();
            expressions.push(format!("sum by ({label}) ({metric})"));
        }
    }
    expressions
}

#[test]
fn alerts_and_dashboard_use_what_is_there() {
    let series = series();
    let (alerts, dashboard) = (expressions_of_alerts(), expressions_of_dashboard());
    assert!(alerts.len() >= 8 && dashboard.len() >= 12);
    for expression in alerts.iter().chain(&dashboard) {
        check(expression, &series);
    }
    validators::promql(&alerts).unwrap();
    // Replaces the variables that only Grafana knows.
    let dashboard_shown = dashboard.iter().map(|expression| {
        let expression = expression.replace("$__rate_interval", "5m");
        expression.replace("$__range", "1h")
    });
    validators::promql(&dashboard_shown.collect::<Vec<_>>()).unwrap();
    // The metrics that need attention are on the dashboard.
    let all: String = alerts.concat() + &dashboard.concat();
    for (name, _) in series
        .iter()
        .filter(|(name, _)| name.starts_with("livehook_"))
    {
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .fold(&**name, |name, end| name.strip_suffix(end).unwrap_or(name));
        assert!(all.contains(name), "{name} is in no alert and on no panel");
    }
}

#[test]
fn a_missing_metric_is_noticed() {
    let series = series();
    for wrong in [
        "rate(livehook_callback_total[5m])",
        "sum by (stream) (livehook_callbacks_total)",
        "livehook_parked{source=\"css\"} > 0",
        "livehook_parked{handler=~\".*\",kind!=\"x\"}",
    ] {
        let caught = std::panic::catch_unwind(|| check(wrong, &series));
        assert!(caught.is_err(), "{wrong}");
    }
}

/// All samples by series.
fn samples(server: &TestServer) -> BTreeMap<String, f64> {
    let text = server.get("/metrics").text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').unwrap());
    pairs
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

fn rule(name: &str) -> Yaml {
    let mut rules = rules().into_iter();
    let found = rules.find(|rule| rule["alert"].as_str() == Some(name));
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// Prometheus sees growth only of series that it has seen before. Everything counted between two
/// scrapes must be growth of series of the first one, which was before anything happened. Alerts
/// depend on this.
#[test]
fn a_burst_between_two_scrapes_is_seen() {
    let server = TestServer::start(&Settings {
        inbox: "min_free = \"1000PiB\"".into(),
        ..Settings::with_handlers(FILE_HANDLER)
    });
    let before = samples(&server);
    for kind in Kind::ALL {
        let body = signed(json!({ "event_type": kind.code(), "average_score": 1 }));
        assert_eq!(server.post("/css/stream-begin", body).status, 503);
    }
    let forged = signed_with("Forged", now() + 600, json!({ "event_type": 1 }));
    assert_eq!(server.post("/css", forged).status, 401);
    assert_eq!(server.post("/css", "{}").status, 401);
    assert_eq!(server.post("/css", "x").status, 400);
    assert_eq!(server.post("/ccs", signed(json!({}))).status, 404);
    let after = samples(&server);
    let mut grown = BTreeMap::new();
    for (series, value) in &after {
        let name = series.split('{').next().unwrap();
        if !name.ends_with("_total") {
            continue;
        }
        let first = before.get(series);
        let first = first.unwrap_or_else(|| panic!("{series} appeared with {value}"));
        *grown.entry(name).or_insert(0.0) += value - first;
    }
    for (name, least) in [
        ("livehook_callbacks_total", 23.0),
        ("livehook_mixed_up_urls_total", 17.0),
        ("livehook_forgeries_total", 2.0),
        ("livehook_misrouted_total", 1.0),
    ] {
        assert!(grown[name] >= least, "{name}: {grown:?}");
    }
    let failed = |at: &BTreeMap<String, f64>| -> f64 {
        let failed = at.iter().filter(|(series, _)| {
            series.starts_with("livehook_callbacks_total{") && series.contains("\"failed\"")
        });
        failed.map(|(_, value)| value).sum()
    };
    assert_eq!(
        (failed(&before), failed(&after)),
        (0.0, Kind::ALL.len() as f64)
    );
    let alert = rule("LivehookCannotStore");
    let expression = alert["expr"].as_str().unwrap();
    assert!(
        expression.contains("increase(livehook_callbacks_total{result=~\"failed|overloaded\"}"),
        "{expression}"
    );
    assert!(alert["for"].is_badvalue(), "a burst is over soon");
}

/// Without a key or a token, nobody must be able to raise an alert that wakes the operator.
#[test]
fn unauthentic_traffic_raises_no_alert() {
    let severity = |name| {
        rule(name)["labels"]["severity"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(severity("LivehookSourceDeaf"), "critical");
    assert_eq!(severity("LivehookMisrouted"), "warning");
    for rule in rules() {
        let expression = rule["expr"].as_str().unwrap();
        let unauthentic = [
            "livehook_forgeries_total",
            "result=\"refused\"",
            "result=\"invalid\"",
            "result=\"misrouted\"",
            "livehook_unreadable_requests_total",
        ];
        if unauthentic.iter().any(|part| expression.contains(part)) {
            assert_eq!(
                rule["labels"]["severity"].as_str(),
                Some("info"),
                "{expression}"
            );
        }
    }
}

/// Prometheus's own program must agree, if it is installed. It is too large to install only for the
/// tests.
fn promtool(check: [&str; 2], file: &Path) {
    if validators::is_there("promtool") {
        let checked = Command::new("promtool").args(check).arg(file).output();
        let checked = checked.unwrap();
        let said = [checked.stdout, checked.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(checked.status.success(), "{said}");
    }
}

#[test]
fn prometheus_understands_the_alerts() {
    promtool(["check", "rules"], Path::new(ALERTS));
}

const METRICS_PAGE: &str = "docs/operate/metrics.md";
const RUNBOOK: &str = "docs/operate/runbook.md";

#[test]
fn prometheus_understands_how_it_is_told_to_scrape() {
    let blocks = blocks(METRICS_PAGE, "yaml");
    let [block] = &blocks[..] else {
        panic!("{} blocks", blocks.len());
    };
    let document = &YamlLoader::load_from_str(block).unwrap()[0];
    let job = &document["scrape_configs"][0];
    let token = job["authorization"]["credentials_file"].as_str().unwrap();
    assert!(job["static_configs"][0]["targets"][0].as_str().is_some());
    // The files that the configuration names must exist.
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("token");
    std::fs::write(&here, "AdminTokenItself").unwrap();
    let rules = document["rule_files"][0].as_str().unwrap();
    std::fs::copy(ALERTS, folder.path().join(rules)).unwrap();
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, block.replace(token, here.to_str().unwrap())).unwrap();
    promtool(["check", "config"], &file);
}

/// The rows of all tables whose first cell is the name of a metric.
fn described() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = read(METRICS_PAGE);
    let rows = rows(&text).filter(|row| row[0].starts_with("`livehook_"));
    rows.map(|row| {
        assert_eq!(row.len(), 5, "{row:?}");
        let labels = quoted(row[2]).map(str::to_owned).collect();
        let name = row[0].trim_matches('`').to_owned();
        (name, (row[1].to_owned(), labels))
    })
    .collect()
}

#[test]
fn the_page_of_metrics_has_each_with_its_type_and_labels() {
    let text = shown();
    let labels = labels(&text);
    let types = text.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let suffix = if kind == "histogram" { "_bucket" } else { "" };
        let mut labels = labels.get(&format!("{name}{suffix}")).cloned()?;
        labels.remove("le");
        Some((name.to_owned(), (kind.to_owned(), labels)))
    });
    assert_eq!(described(), types.collect());
}

#[test]
fn the_page_of_metrics_has_every_result() {
    let text = shown();
    let of_label = |name: &str| -> BTreeSet<String> {
        let label = format!("{name}=\"");
        let lines = text.lines().filter_map(|line| line.split(&label).nth(1));
        lines
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect()
    };
    let rows = table(METRICS_PAGE, "result");
    let results = rows.iter().map(|row| row[0].trim_matches('`').to_owned());
    assert_eq!(results.collect::<BTreeSet<_>>(), of_label("result"));
    let page = read(METRICS_PAGE);
    let outcomes = of_label("outcome");
    assert!(outcomes.len() == 3 && outcomes.iter().all(|it| page.contains(&format!("`{it}`"))));
}

#[test]
fn each_alert_leads_to_its_part_of_the_runbook() {
    let page = Page::read(RUNBOOK);
    let url = concat!(env!("CARGO_PKG_HOMEPAGE"), "/blob/main/");
    let mut described = BTreeSet::new();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        let link = rule["annotations"]["runbook_url"].as_str();
        let link = link.and_then(|link| link.strip_prefix(url));
        let link =
            link.unwrap_or_else(|| panic!("{name} has no runbook_url that begins with {url}"));
        let anchor = name.to_lowercase();
        assert_eq!(link, format!("{RUNBOOK}#{anchor}"));
        assert!(page.anchors.contains(&anchor), "{RUNBOOK} has no {name}");
        described.insert(anchor);
    }
    let anchors = page.anchors.iter();
    let gone: Vec<_> = anchors
        .filter(|anchor| anchor.starts_with("livehook") && !anchor.contains('-'))
        .filter(|anchor| !described.contains(*anchor))
        .collect();
    assert!(gone.is_empty(), "there is no alert for {gone:?}");
}

/// The sources in a folder, each as one line.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut pieces = text.split("\\\n");
            all += pieces.next().unwrap();
            pieces.for_each(|piece| all += piece.trim_start());
        }
    }
    all
}

#[test]
fn the_runbook_names_what_livehook_says_and_counts() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let page = read(RUNBOOK);
    let quoted = page
        .lines()
        .filter_map(|line| line.strip_prefix("> log: `"));
    let mut said: Vec<String> = quoted
        .map(|rest| rest.split('`').next().unwrap().to_owned())
        .collect();
    let rows = table(RUNBOOK, "log");
    said.extend(rows.iter().map(|row| row[0].trim_matches('`').to_owned()));
    assert!(said.len() > 15, "{said:?}");
    for text in said {
        assert!(sources.contains(text.trim()), "nothing says `{text}`");
    }
    let described = described();
    for (at, _) in page.match_indices("`livehook_") {
        let name = &page[at + 1..];
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &name[..end.unwrap()];
        assert!(described.contains_key(name), "{name}");
    }
}
