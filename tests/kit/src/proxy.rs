//! Sockets in front of real servers that stall, throttle or vanish on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a proxy is told to do.
#[derive(Debug, Default)]
struct Orders {
    /// Nothing passes, nothing is refused: a hung server.
    stalled: AtomicBool,
    /// Bytes per second from the server; 0: as fast as it goes.
    bytes_per_second: AtomicU64,
    /// Bytes from the server that have passed.
    passed: AtomicU64,
    /// Connections accepted.
    connections: AtomicU64,
    /// Connections open now.
    open: AtomicU64,
}

/// A Unix socket before Docker's.
#[derive(Debug)]
pub struct DockerProxy {
    path: PathBuf,
    orders: Arc<Orders>,
    task: Option<(JoinHandle<()>, watch::Sender<bool>)>,
}

impl DockerProxy {
    /// A proxy at `path`; it does not listen before [`DockerProxy::open`].
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), orders: Arc::default(), task: None }
    }

    /// The value for `DOCKER_HOST`.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Listens.
    ///
    /// # Panics
    /// When it cannot.
    pub fn open(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).expect("a Unix socket");
        let orders = Arc::clone(&self.orders);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                orders.connections.fetch_add(1, Ordering::Relaxed);
                let (orders, mut stopped) = (Arc::clone(&orders), stopped.clone());
                tokio::spawn(async move {
                    let Ok(server) = UnixStream::connect(docker_socket()).await else { return };
                    orders.open.fetch_add(1, Ordering::Relaxed);
                    tokio::select! {
                        () = relay(client, server, &orders) => {}
                        _ = stopped.wait_for(|stop| *stop) => {}
                    }
                    orders.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        self.task = Some((task, stop));
    }

    /// Vanishes: no socket, and every connection cut.
    pub fn close(&mut self) {
        if let Some((task, stop)) = self.task.take() {
            let _ = stop.send(true);
            task.abort();
        }
        let _ = std::fs::remove_file(&self.path);
    }

    /// Accepts and keeps quiet, or no longer.
    pub fn stall(&self, stalled: bool) {
        self.orders.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Connections to Docker that are open now.
    pub fn open_connections(&self) -> u64 {
        self.orders.open.load(Ordering::Relaxed)
    }
}

impl Drop for DockerProxy {
    fn drop(&mut self) {
        self.close();
    }
}

fn docker_socket() -> String {
    std::env::var("DOCKER_HOST")
        .ok()
        .and_then(|host| host.strip_prefix("unix://").map(str::to_owned))
        .unwrap_or_else(|| "/var/run/docker.sock".to_owned())
}

/// A TCP port before another one.
#[derive(Debug)]
pub struct TcpProxy {
    /// Where it listens, `127.0.0.1:PORT`.
    pub address: String,
    orders: Arc<Orders>,
    task: JoinHandle<()>,
}

impl TcpProxy {
    /// A proxy on a free port before `server`.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let orders: Arc<Orders> = Arc::default();
        let (server, shared) = (server.to_owned(), Arc::clone(&orders));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let (orders, server) = (Arc::clone(&shared), server.clone());
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(&server).await {
                        relay(client, server, &orders).await;
                    }
                });
            }
        });
        Self { address, orders, task }
    }

    /// Limits what comes from the server; 0: no limit.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.orders.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Accepts and keeps quiet, or no longer.
    pub fn stall(&self, stalled: bool) {
        self.orders.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Bytes from the server that have passed so far.
    pub fn passed(&self) -> u64 {
        self.orders.passed.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.orders.connections.load(Ordering::Relaxed)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(
    client: impl AsyncRead + AsyncWrite + Unpin,
    server: impl AsyncRead + AsyncWrite + Unpin,
    orders: &Orders,
) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let up = copy(&mut from_client, &mut to_server, orders, false);
    let down = copy(&mut from_server, &mut to_client, orders, true);
    // Neither Docker nor a registry goes on once one side has closed.
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    orders: &Orders,
    throttled: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let limit = orders.bytes_per_second.load(Ordering::Relaxed);
        let slice = match limit {
            0 => buffer.len(),
            // Ten slices a second.
            limit if throttled => (limit / 10).clamp(1, buffer.len() as u64) as usize,
            _ => buffer.len(),
        };
        let Ok(count) = from.read(&mut buffer[..slice]).await else { break };
        while orders.stalled.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if count == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if throttled {
            orders.passed.fetch_add(count as u64, Ordering::Relaxed);
            if let Some(pause_ms) = (count as u64 * 1000).checked_div(limit) {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            }
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
