//! HTTP by hand: what a well-behaved client would never send cannot be tested
//! with one.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer may take; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status; 0 when the connection was closed without an answer.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Everything after the empty line, as it came (chunks are not undone).
    pub body: String,
}

impl Answer {
    /// Takes raw bytes apart, skipping interim answers (`100 Continue`).
    pub fn parse(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw).into_owned();
        let mut rest = text.as_str();
        loop {
            let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            if status == 100 {
                rest = body;
                continue;
            }
            return Self { status, head: head.to_owned(), body: body.to_owned() };
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Connects.
pub async fn connect(addr: SocketAddr) -> TcpStream {
    timeout(PATIENCE, TcpStream::connect(addr)).await.expect("in time").expect("connects")
}

/// Sends `bytes`, then reads until the other side closes. What can no longer be
/// sent because the answer is already there is not an error.
pub async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(addr).await;
    let _ = timeout(PATIENCE, stream.write_all(bytes)).await.expect("sent in time");
    Answer::parse(&read_to_end(&mut stream).await)
}

/// Reads until the other side closes; a reset counts as closing.
pub async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut raw = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut raw)).await.expect("answered in time");
    raw
}

/// A request with the usual headers, after which the connection is closed.
pub fn request(method: &str, path: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for header in headers {
        text += header;
        text += "\r\n";
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    text += body;
    text.into_bytes()
}

/// Sends a plain request and reads its answer.
pub async fn ask(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    exchange(addr, &request(method, path, headers, body)).await
}
