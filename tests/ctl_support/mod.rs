//! A server for tests of the client side: it says exactly the bytes it is told
//! to say, so that broken servers can be played too.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do about one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Send these bytes and keep the connection.
    Say(Vec<u8>),
    /// Send these bytes and close the connection.
    SayAndClose(Vec<u8>),
    /// Send these pieces with a pause before each, then close.
    Dribble(Duration, Vec<Vec<u8>>),
    /// Send these bytes, then nothing more, but keep the connection.
    SayAndHang(Vec<u8>),
}

/// One request as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which connection it came over, counted from 0.
    pub connection: usize,
    /// `GET /path`.
    pub line: String,
    /// Its head, lower-cased.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// A running server; it ends with the test's runtime.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts one that asks `answer` about each request.
    pub async fn start(answer: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (log, answer) = (log.clone(), answer.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, connection, &log, answer.as_ref()).await;
                });
            }
        });
        Self { address, seen }
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has come in so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic while held").clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    log: &Mutex<Vec<Seen>>,
    answer: &(impl Fn(&Seen) -> Act + ?Sized),
) -> io::Result<()> {
    while let Some(request) = read_request(&mut stream, connection).await? {
        log.lock().expect("no panic while held").push(request.clone());
        match answer(&request) {
            Act::Say(bytes) => stream.write_all(&bytes).await?,
            Act::SayAndClose(bytes) => {
                stream.write_all(&bytes).await?;
                return Ok(());
            }
            Act::Dribble(pause, pieces) => {
                for piece in pieces {
                    tokio::time::sleep(pause).await;
                    stream.write_all(&piece).await?;
                }
                return Ok(());
            }
            Act::SayAndHang(bytes) => {
                stream.write_all(&bytes).await?;
                // Until the client leaves.
                let _ = stream.read(&mut [0]).await;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn read_request(stream: &mut TcpStream, connection: usize) -> io::Result<Option<Seen>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1).map_or(0, |rest| {
        rest.lines().next().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    });
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    let body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    let line = head.lines().next().unwrap_or("").trim_end_matches(" HTTP/1.1").to_owned();
    Ok(Some(Seen { connection, line, head: lower, body }))
}

/// An answer with this status line, these extra header lines and this body.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

/// 200 with this JSON.
pub fn ok(body: &str) -> Act {
    Act::Say(answer("200 OK", "content-type: application/json\r\n", body))
}

/// An error of ours.
pub fn error(status: &str, body: &str) -> Act {
    Act::Say(answer(status, "content-type: application/json\r\n", body))
}

/// The head of an answer without an end, and one chunk of it.
pub const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// One chunk.
pub fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A port of this machine where nobody listens.
pub async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.and_then(|l| l.local_addr()).expect("a free port")
}
