//! `livehook demo`: starts a server in its own directory, sends one signed callback, shows the
//! result.

mod directory;
mod shown;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use css_callbacks::sign;
use reqwest::Url;
use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use self::directory::DemoDirectory;
use self::shown::{command, pretty, program};
use super::Failed;
use super::health::local;
use super::serve::{self, Stops};
use crate::clock::Clock;
use crate::config::{Config, environment};
use crate::inbox::settings::StoreSettings;
use crate::outbound;
use crate::server::{Server, StartError};

/// The ports of the callback listener and the admin listener, if they are free.
const PORTS: [u16; 2] = [8080, 9090];
/// The longest time to the answer. The server's own limit is shorter.
const ANSWER: Duration = Duration::from_secs(20);
/// The longest time from the answer to the event in the handler's file.
const DELIVERY: Duration = Duration::from_secs(60);
/// The pause between two looks at that file.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// The port for callbacks; 0 means any free port [default: 8080, or a free one if it is in use]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// The directory for the configuration, the key, the store and the events; created if missing,
    /// else used again
    #[arg(long, value_name = "DIR", default_value = "livehook-demo")]
    dir: PathBuf,
}

pub(super) fn demo(args: &DemoArgs) -> Result<(), Failed> {
    let listen = free_addresses(args.port)?;
    let directory = DemoDirectory::open(&args.dir, listen).map_err(Failed::Setup)?;
    let mut env = environment();
    if args.port.is_some() {
        env.remove("LIVEHOOK__SERVER__LISTEN");
    }
    let mut config = directory.config(&env).map_err(Failed::Setup)?;
    // Messages about normal work would interrupt the output of the demo.
    config.log.level = "warn".to_owned();
    let demo = Demo::of(&config, directory).map_err(Failed::Setup)?;
    serve::start(&config)?;
    serve::block_on(run(config, demo, args.port.is_some()))
}

/// Returns the addresses to listen on. If `port` is given and not free, fails.
fn free_addresses(port: Option<u16>) -> Result<[SocketAddr; 2], Failed> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listen = |port| TcpListener::bind(address(port));
    let usual = |port| if listen(port).is_ok() { port } else { 0 };
    let callbacks = match port {
        Some(port) => {
            listen(port).map_err(|error| {
                let advice = match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        "the port is taken; name another one, or leave --port out"
                    }
                    _ => "name another port, or leave --port out",
                };
                let problem = format!("--port: cannot listen on {}", address(port));
                Failed::Run(anyhow!("{problem}: {error}; {advice}"))
            })?;
            port
        }
        None => usual(PORTS[0]),
    };
    let admin = match PORTS[1] {
        port if port == callbacks => 0,
        port => usual(port),
    };
    Ok([callbacks, admin].map(address))
}

async fn run(config: Config, demo: Demo, keeps_port: bool) -> Result<(), Failed> {
    let mut stops = Stops::new().map_err(|error| Failed::Run(error.into()))?;
    let bound = bind(config, keeps_port, &mut stops).await;
    let Some(server) = bound.map_err(serve::failed)? else {
        return Ok(());
    };
    let addresses = serve::addresses(&server)?;
    let showing = async move {
        demo.show(addresses).await.map_err(Failed::Run)?;
        std::future::pending().await
    };
    serve::until_stopped(server, &mut stops, showing).await
}

/// Starts the server. If a port was taken in the meantime, takes another one.
async fn bind(
    mut config: Config,
    keeps_port: bool,
    stops: &mut Stops,
) -> Result<Option<Server>, StartError> {
    let mut first = config.clone();
    if let StoreSettings::Sqlite(store) = &mut first.inbox.store {
        // Do not wait for the lock: probably another demo uses the store and keeps running.
        store.lock_wait = Duration::ZERO;
    }
    match serve::bind(first, stops).await {
        Err(StartError::Listen { .. }) => {
            config.admin.listen.set_port(0);
            if !keeps_port {
                config.server.listen.set_port(0);
            }
            serve::bind(config, stops).await
        }
        bound => bound,
    }
}

/// A callback with a signature by no key.
const FORGED: &str = r#"{"event_type":1,"t":1,"sign":"00000000000000000000000000000000"}"#;

struct Demo {
    directory: DemoDirectory,
    key: String,
    /// The handler whose file shows the event.
    handler: String,
    events: PathBuf,
}

impl Demo {
    /// Fails if somebody removed from the configuration what the demo needs.
    fn of(config: &Config, directory: DemoDirectory) -> anyhow::Result<Self> {
        let file = config.file.display();
        let source = config.sources.get("css");
        let key = source
            .and_then(|source| source.keys().first())
            .with_context(|| format!("{file}: the demo needs the source css with a key"))?;
        let files = config.handlers.iter().find_map(|(name, handler)| {
            Some((name.clone(), handler.target.as_ref()?.file()?.to_owned()))
        });
        let (handler, events) =
            files.with_context(|| format!("{file}: the demo needs a handler of type file"))?;
        Ok(Self {
            directory,
            key: key.reveal().to_owned(),
            handler,
            events,
        })
    }

    /// Shows the request, the answer, the event and what to try next, each as soon as it is known.
    async fn show(self, [callbacks, admin]: [SocketAddr; 2]) -> anyhow::Result<()> {
        self.directory.keep([callbacks, admin])?;
        let [callbacks, admin] = [callbacks, admin].map(|at| format!("http://{}", local(at)));
        let url: Url = format!("{callbacks}/css/stream-begin").parse()?;
        let sequence = rand::random::<u64>().to_string();
        let body = self.callback(&sequence);
        let before = length(&self.events);
        say(format!(
            "\
1. The request: a callback as Tencent Cloud sends it when a stream begins

POST {url}
Content-Type: application/json

{}
",
            pretty(&body)
        ))
        .await?;

        let client = outbound::client(&url, |client| client.timeout(ANSWER))?;
        let request = client.post(url).header("content-type", "application/json");
        let answer = request.body(body).send().await?;
        let (version, status) = (answer.version(), answer.status());
        let text = answer.text().await?;
        say(format!(
            "
2. The answer

{version:?} {status}

{text}
"
        ))
        .await?;
        ensure!(status.is_success(), "the callback was not accepted");

        let event = self.event(before, &sequence).await?;
        let (handler, events) = (&self.handler, self.directory.shown(&self.events));
        say(format!(
            "
3. The event, as the handler {handler} received it and wrote it to
   {events}

{}

4. livehook keeps running until Ctrl-C. Its console, for a browser:

   {admin}/

{}",
            pretty(&event),
            self.next(&callbacks)
        ))
        .await
    }

    /// A callback with a new sequence. The same callback again would be a duplicate, which is not
    /// delivered.
    fn callback(&self, sequence: &str) -> String {
        let now = Clock::system().now().seconds();
        // The platform's signatures are valid for ten minutes.
        let t = now + 600;
        let callback = json!({
            "app": "push.example.com",
            "appid": 1_250_000_000,
            "appname": "live",
            "channel_id": "room-7",
            "errcode": 0,
            "errmsg": "ok",
            "event_time": now,
            "event_type": 1,
            "height": 1080,
            "idc_id": 35,
            "node": "203.0.113.21",
            "sequence": sequence,
            "set_id": 2,
            "sign": sign(&self.key, &t.to_string()),
            "stream_id": "room-7",
            "stream_param": "",
            "t": t,
            "user_ip": "198.51.100.4",
            "width": 1920,
        });
        callback.to_string()
    }

    /// Waits for the line that the handler writes.
    async fn event(&self, before: u64, sequence: &str) -> anyhow::Result<String> {
        let looking = async {
            loop {
                let (file, sequence) = (self.events.clone(), sequence.to_owned());
                let found = spawn_blocking(move || line_with(&file, before, &sequence)).await?;
                match found {
                    Ok(Some(line)) => return Ok(line),
                    Ok(None) => sleep(LOOK).await,
                    Err(error) => {
                        let file = self.directory.shown(&self.events);
                        return Err(error).with_context(|| format!("cannot read {file}"));
                    }
                }
            }
        };
        let late = |_| {
            let (handler, seconds) = (&self.handler, DELIVERY.as_secs());
            anyhow!("the handler {handler} did not get the event within {seconds} s")
        };
        timeout(DELIVERY, looking).await.map_err(late)?
    }

    /// The commands to try next, ready to paste.
    fn next(&self, callbacks: &str) -> String {
        let program = program();
        let (config, key) = (self.directory.file(), self.directory.key());
        let url = format!("{callbacks}/css");
        let ours = |words: &[&str]| command(&[&[program.as_str()], words].concat());
        let forged = command(&["curl", "-i", &url, "-d", FORGED]);
        let simulate = ours(&["simulate", "--url", &url, "--key-file", &key]);
        let events = ours(&["events", "--config", &config]);
        let streams = ours(&["streams", "--config", &config]);
        let serve = ours(&["serve", "--config", &config]);
        format!(
            "\
What to try next, in a second terminal:

   A forged callback, which is refused:

{forged}

   100 callbacks in ten seconds, as the platform sends them:

{simulate}

   What is stored, and which streams are live:

{events}
{streams}

   The same server without this demo, after Ctrl-C:

{serve}
"
        )
    }
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |found| found.len())
}

/// The first complete line that contains `word`, after the first `before` bytes of the file.
fn line_with(file: &Path, before: u64, word: &str) -> io::Result<Option<String>> {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let before = usize::try_from(before).unwrap_or(usize::MAX);
    let text = String::from_utf8_lossy(text.get(before..).unwrap_or(&text));
    let mut whole = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
    Ok(whole
        .find(|line| line.contains(word))
        .map(|line| line.trim_end().to_owned()))
}

/// Prints on a blocking thread, because the reader may be slow.
async fn say(text: String) -> anyhow::Result<()> {
    let print = move || {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
    let printed = spawn_blocking(print).await?;
    printed.context("cannot print to standard output")
}
