//! A simple HTTP/1.1 client over one connection, so that tests control exactly what is sent.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A client whose connection is opened when needed, and again after an error.
pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    connection: Option<BufReader<TcpStream>>,
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header; the name must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

impl Client {
    /// A client with a time-out of 30 seconds.
    pub fn new(address: SocketAddr) -> Self {
        Self::with_timeout(address, Duration::from_secs(30))
    }

    /// A client whose requests fail if nothing arrives for `timeout`.
    pub fn with_timeout(address: SocketAddr, timeout: Duration) -> Self {
        Self {
            address,
            timeout,
            connection: None,
        }
    }

    /// Posts a JSON body.
    pub fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> io::Result<Answer> {
        self.request(
            "POST",
            path,
            &[("content-type", "application/json")],
            Some(body.as_ref()),
        )
    }

    /// Gets a page.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.request("GET", path, &[], None)
    }

    /// Sends a request. Adds `Host`, unless given, and `Content-Length`, if there is a body.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            head += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let mut request = head.into_bytes();
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body.unwrap_or_default());
        self.send(&request)
    }

    /// Sends raw bytes and reads one answer.
    pub fn send(&mut self, request: &[u8]) -> io::Result<Answer> {
        let result = self.try_send(request);
        match &result {
            Ok(answer) if answer.header("connection") != Some("close") => {}
            _ => self.connection = None,
        }
        result
    }

    fn try_send(&mut self, request: &[u8]) -> io::Result<Answer> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(self.timeout))?;
                self.connection.insert(BufReader::new(stream))
            }
        };
        connection.get_mut().write_all(request)?;
        read_answer(connection)
    }
}

/// Reads one answer from a connection.
pub fn read_answer(connection: &mut impl BufRead) -> io::Result<Answer> {
    let mut line = String::new();
    let mut read_line = |connection: &mut dyn BufRead| {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok::<_, io::Error>(line.trim_end().to_owned())
    };
    let status_line = read_line(connection)?;
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer {
        status,
        headers,
        body: Vec::new(),
    };
    let length = answer
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    answer.body.resize(length, 0);
    connection.read_exact(&mut answer.body)?;
    Ok(answer)
}
