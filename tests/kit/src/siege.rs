//! Callers that do not mean well, thousands at a time, and an honest one among them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kube_lite::identity::authority::SCHEDULER;
use kube_lite::identity::credentials::Credentials;
use kube_lite::identity::tls::pinned_config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;

use crate::http;
use crate::process::Process;
use crate::wait::{SHORT, until};

/// Whom it is about.
#[derive(Clone)]
pub struct Castle {
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is known; `None`: plain HTTP.
    pub tls: Option<Arc<ClientConfig>>,
    /// What is shown where credentials are needed.
    pub token: Option<String>,
    /// What readers that never read ask for: it should be long.
    pub log: String,
}

impl std::fmt::Debug for Castle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Castle").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What one attacker does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Connects and says nothing; every fourth has asked something first. Over TLS a
    /// fourth begins a handshake that never goes on.
    Idle,
    /// Says a header every second, and never the last one.
    Slow,
    /// Sends a body that never ends: a megabyte at once, then a little at a time.
    Body,
    /// Asks for a log, and reads nothing of it.
    Reader,
}

/// A scheduler in a process of its own.
#[derive(Debug)]
pub struct Stronghold {
    /// The process.
    pub process: Process,
    /// The way to it.
    pub castle: Castle,
    _dir: TempDir,
}

impl Stronghold {
    /// One that may have so many descriptors, with or without identities.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(binary: &str, secure: bool, descriptors: u64) -> Self {
        let dir = TempDir::new().expect("a directory");
        let data = dir.path().join("scheduler");
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
        let listen = free.expect("a free port").to_string();
        if secure {
            let mut command = Command::new(binary);
            command.args(["scheduler", "--init", "--listen", &listen, "--data-dir"]).arg(&data);
            let output = command.output().expect("it runs");
            assert!(output.status.success(), "{output:?}");
        }
        let mut command = Command::new("sh");
        let script = format!("ulimit -n {descriptors} && exec \"$@\"");
        command.args(["-c", &script, "sh", binary, "scheduler", "--listen", &listen, "--data-dir"]);
        let process = Process::start("scheduler", command.arg(&data));
        let address = until("the scheduler to listen", SHORT, || async {
            let said = process.output();
            let address = said.split_once("listens on http").and_then(|(_, rest)| {
                rest.trim_start_matches("s").strip_prefix("://")?.split_whitespace().next()
            });
            address.and_then(|address| address.parse::<SocketAddr>().ok()).ok_or(said)
        })
        .await;
        let castle = castle(address, secure.then_some(data.as_path()));
        Self { process, castle, _dir: dir }
    }
}

fn castle(address: SocketAddr, secure: Option<&Path>) -> Castle {
    let log = "/events?follow=true".to_owned();
    let Some(data) = secure else { return Castle { address, tls: None, token: None, log } };
    let admin = Credentials::read(&data.join("admin.json")).expect("readable").expect("there");
    let tls = Some(pinned_config(&admin.fingerprint).expect("TLS"));
    Castle { address, tls, token: Some(admin.token), log }
}

/// Attackers at work, in threads of their own, until it is dropped.
#[derive(Debug)]
pub struct Siege {
    connected: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Siege {
    /// So many of each.
    pub fn lay(castle: &Castle, attackers: &[(Attack, usize)]) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let connected = Arc::new(AtomicUsize::new(0));
        for (attack, count) in attackers {
            for number in 0..*count {
                let (castle, connected, attack) = (castle.clone(), connected.clone(), *attack);
                runtime.spawn(async move {
                    loop {
                        let here = Here::new(&connected);
                        // Refused or thrown out: it comes again.
                        let _ = assail(&castle, attack, number, &here).await;
                        drop(here);
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                });
            }
        }
        Self { connected, runtime: Some(runtime) }
    }

    /// How many hold a connection.
    pub fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Counts one for as long as it is connected.
struct Here<'a> {
    all: &'a AtomicUsize,
    counted: AtomicUsize,
}

impl<'a> Here<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        Self { all, counted: AtomicUsize::new(0) }
    }

    fn arrived(&self) {
        self.counted.store(1, Ordering::Relaxed);
        self.all.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.counted.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The beginning of a TLS record that announces more than comes.
const HALF_A_HANDSHAKE: &[u8] = &[0x16, 0x03, 0x01, 0x01, 0x00, 0x01, 0x00, 0x00, 0xfc, 0x03, 0x03];

async fn assail(
    castle: &Castle,
    attack: Attack,
    number: usize,
    here: &Here<'_>,
) -> std::io::Result<()> {
    let mut stream = connect(castle, attack == Attack::Reader).await?;
    here.arrived();
    if attack == Attack::Idle && !number.is_multiple_of(4) {
        if number % 4 == 1 && castle.tls.is_some() {
            stream.write_all(HALF_A_HANDSHAKE).await?;
        }
        return until_thrown_out(&mut stream).await;
    }
    match &castle.tls {
        None => speak(castle, attack, stream).await,
        Some(tls) => {
            let name = ServerName::try_from(SCHEDULER).expect("a name");
            let stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
            speak(castle, attack, stream).await
        }
    }
}

async fn connect(castle: &Castle, narrow: bool) -> std::io::Result<TcpStream> {
    let socket = match castle.address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if narrow {
        socket.set_recv_buffer_size(4096)?;
    }
    socket.connect(castle.address).await
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    castle: &Castle,
    attack: Attack,
    mut stream: S,
) -> std::io::Result<()> {
    let bearer = castle.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
    let bearer = bearer.unwrap_or_default();
    match attack {
        Attack::Idle => {
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
            until_thrown_out(&mut stream).await
        }
        Attack::Slow => {
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n").await?;
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                stream.write_all(b"X-More: to come\r\n").await?;
            }
        }
        Attack::Body => {
            // The largest that anybody takes, where anybody may; else what an admin may send.
            let path = if castle.token.is_some() { "/deploy" } else { "/heartbeat" };
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}Content-Type: application/json\r\n\
                 Transfer-Encoding: chunked\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            let mut chunk = b"8000\r\n".to_vec();
            chunk.resize(chunk.len() + 0x8000, b' ');
            chunk.extend_from_slice(b"\r\n");
            for sent in 0_u32.. {
                stream.write_all(&chunk).await?;
                if sent >= 30 {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
            Ok(())
        }
        Attack::Reader => {
            let log = &castle.log;
            let head = format!("GET {log} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n");
            stream.write_all(head.as_bytes()).await?;
            std::future::pending().await
        }
    }
}

async fn until_thrown_out<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<()> {
    let mut scrap = [0; 1024];
    while stream.read(&mut scrap).await? > 0 {}
    Ok(())
}

/// An agent with one instance, whose log has no end; where that is.
///
/// # Panics
/// When the scheduler does not take it.
pub async fn talkative(scheduler: SocketAddr) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 4096];
                let _ = stream.read(&mut heard).await;
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
                let piece = "what a container says\n".repeat(1_000);
                let mut sent = stream.write_all(head.as_bytes()).await;
                while sent.is_ok() {
                    sent = stream.write_all(piece.as_bytes()).await;
                }
            });
        }
    });
    let scheduler = scheduler.to_string();
    let docker = json!({"state": "ok", "daemon": "d1"});
    let hello =
        json!({"nodeId": "n1", "key": "k", "incarnation": 7, "port": port, "docker": docker});
    let answer = http::send(&scheduler, "POST", "/register", Some(&hello.to_string())).await;
    let epoch = answer.expect("an answer").json()["epoch"].clone();
    let instance = json!({"id": "web-r1-bbbbb", "containerId": "c".repeat(64), "workloadId": "web",
        "replica": 0, "revision": 1, "nodeId": "n1", "image": "nginx", "phase": "running",
        "health": "unknown", "ready": true, "restarts": 0, "backoffStep": 0});
    let beat = json!({"nodeId": "n1", "incarnation": 7, "epoch": epoch, "seq": 1, "synced": true,
        "docker": docker, "containers": [instance]});
    let answer = http::send(&scheduler, "POST", "/heartbeat", Some(&beat.to_string())).await;
    assert_eq!(answer.expect("an answer").status, 200);
    "/logs/web-r1-bbbbb?follow=true".to_owned()
}

/// What an honest caller experienced.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// How long each answer took, milliseconds, in ascending order.
    pub ms: Vec<f64>,
    /// What came instead of answers.
    pub failed: Vec<String>,
}

impl Answers {
    /// The time within which this share of them came.
    ///
    /// # Panics
    /// When there were none.
    pub fn within(&self, share: f64) -> f64 {
        let last = self.ms.len().checked_sub(1).expect("at least one answer");
        self.ms[(last as f64 * share).round() as usize]
    }
}

impl std::fmt::Display for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (half, most, all) = (self.within(0.5), self.within(0.99), self.within(1.0));
        let (count, failed) = (self.ms.len(), self.failed.len());
        write!(
            f,
            "{count} answers in {half:.1} ms (99 %: {most:.1}, all: {all:.1}), {failed} failed"
        )
    }
}

/// Asks `/health` for so long, on a new connection each time, twenty times a second at
/// the most. An answer that is not there within `patience` has failed.
pub fn call(castle: &Castle, period: Duration, patience: Duration) -> Answers {
    let castle = castle.clone();
    let caller = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (mut answers, end) = (Answers::default(), Instant::now() + period);
            while Instant::now() < end {
                let began = Instant::now();
                match tokio::time::timeout(patience, health(&castle)).await {
                    Ok(Ok(())) => answers.ms.push(began.elapsed().as_secs_f64() * 1e3),
                    Ok(Err(error)) => answers.failed.push(error.to_string()),
                    Err(_) => answers.failed.push(format!("no answer in {patience:?}")),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answers.ms.sort_by(f64::total_cmp);
            answers
        })
    });
    caller.join().expect("the caller")
}

async fn health(castle: &Castle) -> std::io::Result<()> {
    let mut stream = connect(castle, false).await?;
    let answer = match &castle.tls {
        None => ask_health(&mut stream).await?,
        Some(tls) => {
            let name = ServerName::try_from(SCHEDULER).expect("a name");
            let mut stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
            ask_health(&mut stream).await?
        }
    };
    match answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"epoch\"") {
        true => Ok(()),
        false => Err(std::io::Error::other(answer)),
    }
}

async fn ask_health<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> std::io::Result<String> {
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        // Over TLS some servers hang up without a word of farewell.
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Resident memory of a process now, megabytes.
///
/// # Panics
/// When there is no such process.
pub fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok());
    kib.expect("a number") / 1024.0
}

/// Descriptors that a process has open.
pub fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

/// Lets this process have as many descriptors as it may.
///
/// # Panics
/// When those are fewer than `needed`.
pub fn descriptors_for(needed: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    assert!(hard >= needed, "at most {hard} descriptors (ulimit -Hn), and this takes {needed}");
}
