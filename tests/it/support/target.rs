//! An HTTP endpoint that answers by a script and records its requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::wait_for;

/// The reaction to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and a header.
    With(u16, &'static str, String),
    /// Answers 200 with this body, and the date.
    Page(String),
    /// Waits before the other reply.
    After(Duration, Box<Reply>),
    /// Closes the connection in the middle of an answer.
    Torn,
}

/// A recorded request.
#[derive(Debug, Clone)]
pub struct Hit {
    pub method: String,
    pub path: String,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub began: Instant,
    /// When its answer was ready.
    pub ended: Instant,
    /// The status of its answer; zero if the answer was cut off.
    pub status: u16,
}

impl Hit {
    /// The value of a header; the name must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON: the event in structured mode.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// `streamid` and the `number` that the tests put into bodies, in structured mode.
    pub fn number_in_stream(&self) -> (String, u64) {
        number_in_stream(&self.json())
    }
}

/// `streamid` and the `number` that the tests put into bodies.
pub fn number_in_stream(event: &Value) -> (String, u64) {
    let stream = event["streamid"].as_str().unwrap_or_default();
    (stream.to_owned(), event["data"]["number"].as_u64().unwrap())
}

type Script = dyn Fn(&Hit) -> Reply + Send + Sync;

/// A running endpoint.
pub struct Target {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    script: Mutex<Arc<Script>>,
    hits: Mutex<Vec<Hit>>,
    connections: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// A free address that no other process uses. It is not on 127.0.0.1, where outgoing connections
/// get their ports.
pub fn reserve() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let host = NEXT.fetch_add(1, Ordering::Relaxed).max(1);
    let address = Ipv4Addr::new(127, high | 1, low, host);
    TcpListener::bind((address, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Target {
    /// Starts an endpoint that answers 200.
    pub fn good() -> Self {
        Self::start(|_| Reply::Status(200))
    }

    /// Starts an endpoint with a script.
    pub fn start(script: impl Fn(&Hit) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(reserve(), script)
    }

    /// Starts an endpoint at a reserved address.
    pub fn at(address: SocketAddr, script: impl Fn(&Hit) -> Reply + Send + Sync + 'static) -> Self {
        // A process that another test starts right now may still hold an earlier socket at this
        // address.
        let listener = wait_for("the address", || TcpListener::bind(address).ok());
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            hits: Mutex::default(),
            connections: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = {
            let shared = shared.clone();
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Replaces the script.
    pub fn change_to(&self, script: impl Fn(&Hit) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// The URL of the endpoint.
    pub fn url(&self) -> String {
        format!("{}/hook", self.base())
    }

    /// The scheme and the address of the endpoint, without a path.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came so far, in the order of the answers.
    /// The requests so far.
    pub fn hits(&self) -> Vec<Hit> {
        self.shared.hits.lock().unwrap().clone()
    }

    /// The number of requests so far.
    pub fn count(&self) -> usize {
        self.shared.hits.lock().unwrap().len()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// The number of requests that were answered 2xx.
    pub fn delivered(&self) -> usize {
        let hits = self.shared.hits.lock().unwrap();
        hits.iter()
            .filter(|hit| (200..300).contains(&hit.status))
            .count()
    }
}

/// Dropping it closes all connections and refuses new ones.
impl Drop for Target {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for connection in self.shared.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming().flatten() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let _ = connection.set_nodelay(true);
        let held = connection.try_clone().unwrap();
        shared.connections.lock().unwrap().push(held);
        let shared = shared.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(connection);
            while let Some(hit) = read(&mut reader) {
                let script = shared.script.lock().unwrap().clone();
                let reply = script(&hit);
                if answer(&shared, reader.get_mut(), hit, reply).is_none() {
                    break;
                }
            }
            // Otherwise the stored clone would keep the connection open.
            let _ = reader.get_mut().shutdown(Shutdown::Both);
        });
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Hit> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let head = line()?;
    let began = Instant::now();
    let (method, rest) = head.split_once(' ')?;
    let path = rest.split(' ').next()?.to_owned();
    let mut headers = Vec::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut hit = Hit {
        method: method.to_owned(),
        path,
        headers,
        body: Vec::new(),
        began,
        ended: began,
        status: 0,
    };
    // A GET has no body.
    let length = hit.header("content-length").unwrap_or("0").parse().ok()?;
    hit.body.resize(length, 0);
    reader.read_exact(&mut hit.body).ok()?;
    Some(hit)
}

/// Sends a reply. Returns none if the connection has ended.
fn answer(shared: &Shared, stream: &mut TcpStream, mut hit: Hit, reply: Reply) -> Option<()> {
    let (status, header, body) = match reply {
        Reply::After(pause, reply) => {
            std::thread::sleep(pause);
            return answer(shared, stream, hit, *reply);
        }
        Reply::Torn => {
            hit.ended = Instant::now();
            shared.hits.lock().unwrap().push(hit);
            stream.write_all(b"HTTP/1.1 20").ok()?;
            return None;
        }
        Reply::Status(status) => (status, String::new(), String::new()),
        Reply::With(status, name, value) => (status, format!("{name}: {value}\r\n"), String::new()),
        Reply::Page(body) => (200, format!("date: {}\r\n", date()), body),
    };
    hit.ended = Instant::now();
    hit.status = status;
    shared.hits.lock().unwrap().push(hit);
    let answer = format!(
        "HTTP/1.1 {status} As told\r\n{header}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).ok()
}

/// The time in the form of a `Date` header.
fn date() -> String {
    let now = jiff::Timestamp::from_second(super::now()).unwrap();
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
