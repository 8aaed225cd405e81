//! Accepting connections, and ending well.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::Handler;
use super::crowd::{Crowd, Seat};
use super::dispatch::{Desk, Line, RequestIds};
use super::guard::{Doorkeeper, Guard, Hosts, Origins};
use super::route::Router;
use super::wire::Wire;
use crate::identity::tls::PeerCertificate;

/// What a server can be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Web pages that may talk to it besides its own.
    pub origins: Origins,
    /// Names under which it is called, besides its address and `localhost`.
    pub hosts: Hosts,
    /// TLS, and who tells who calls; `None`: plain HTTP, and everybody may everything.
    pub tls: Option<Tls>,
    /// What it puts up with.
    pub limits: Limits,
}

/// What makes a server one of a cluster with identities.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Its own certificate, and whose certificates it takes.
    pub config: Arc<ServerConfig>,
    /// Tells who calls.
    pub doorkeeper: Arc<dyn Doorkeeper>,
}

/// What a server puts up with, whatever the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. Of more, those make room that only sit there; if none
    /// does, newcomers are told to come back.
    pub connections: usize,
    /// Streams at a time: each holds memory for as long as it is not read.
    pub streams: usize,
    /// Bytes of bodies that are on their way, of all requests together.
    pub body_bytes: usize,
    /// Request line and headers together, in bytes.
    pub header_bytes: usize,
    /// Until a request's headers are complete; also how long a connection may
    /// be idle between two requests.
    pub header_read: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub write_stall: Duration,
    /// How long requests in flight have when the server shuts down.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: connections(),
            streams: 512,
            // One of the largest there is, and many of the usual size.
            body_bytes: 72 << 20,
            header_bytes: 16 * 1024,
            header_read: Duration::from_secs(30),
            write_stall: Duration::from_secs(120),
            drain: Duration::from_secs(5),
        }
    }
}

/// As many connections as fit into three quarters of this process's descriptors: the
/// rest is for its own connections to others, and for files.
fn connections() -> usize {
    const MOST: usize = 16_000;
    let descriptors = getrlimit(Resource::Nofile).current;
    let descriptors = descriptors.and_then(|most| usize::try_from(most).ok()).unwrap_or(MOST * 2);
    (descriptors / 4 * 3).clamp(16, MOST)
}

/// How far a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// No new connections or requests; live streams end.
    Draining,
    /// The deadline has passed: whatever is left is cut off.
    Closed,
}

/// Binds `address`: `host:port`, or `:port` for every interface.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    let port = address.rsplit_once(':').map(|(_, port)| port);
    if port.is_none_or(|port| port.parse::<u16>().is_err()) {
        anyhow::bail!(
            "cannot listen on {address:?}: --listen takes HOST:PORT, or :PORT for every interface, \
             with a port from 0 (any free one) to 65535"
        );
    }
    let bound = match address.strip_prefix(':') {
        // One IPv6 socket also takes IPv4, where there is IPv6 at all.
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(format!("0.0.0.0:{port}")).await
            }
            bound => bound,
        },
        None => TcpListener::bind(address).await,
    };
    let taken = matches!(&bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse);
    bound.with_context(|| match taken {
        true => format!(
            "cannot listen on {address}: another program, perhaps another kube-lite, listens there; \
             stop it, or choose another port with --listen"
        ),
        false => format!(
            "cannot listen on {address}; it must be host:port with an address of this machine and \
             a port that nobody else listens on (choose with --listen)"
        ),
    })
}

/// Serves until `shutdown` completes and what is in flight has ended or used up
/// its time.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: H,
    options: Options,
    shutdown: impl Future<Output = ()>,
) {
    let (phase, watched) = watch::channel(Phase::Open);
    let limits = options.limits;
    let desk = Arc::new(Desk {
        handler,
        router: Router::new(H::ROUTES),
        guard: Guard {
            origins: options.origins,
            hosts: options.hosts,
            doorkeeper: options.tls.as_ref().map(|tls| tls.doorkeeper.clone()),
        },
        tls: options.tls.map(|tls| TlsAcceptor::from(tls.config)),
        ids: RequestIds::new(),
        phase: watched,
        streams: Arc::new(Semaphore::new(limits.streams)),
        bodies: Arc::new(Semaphore::new(limits.body_bytes)),
    });
    let crowd = Crowd::new(limits.connections);
    let mut shutdown = pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener) => accepted,
        };
        match crowd.admit(canonical(peer).ip()) {
            Some(seat) => {
                tokio::spawn(connection(desk.clone(), limits, stream, peer, seat));
            }
            // Nothing can be said before a handshake, which would cost too much.
            None if desk.tls.is_some() => drop(stream),
            None => turn_away(&stream, peer),
        }
    }
    drop(listener); // from here on, connecting is refused
    let _ = phase.send(Phase::Draining);
    if tokio::time::timeout(limits.drain, crowd.emptied()).await.is_err() {
        let left = crowd.count();
        tracing::info!("{left} connections were cut off after {:?}", limits.drain);
        let _ = phase.send(Phase::Closed);
        crowd.emptied().await;
    }
}

/// The next connection. Accepting can fail for reasons that pass (a client that
/// is gone again, no descriptors left); it must never end the server.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                if !told {
                    tracing::warn!("cannot accept connections: {error}; trying again and again");
                    told = true;
                }
                // Trying at once would spin: the connection stays in the queue.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// One connection, request after request.
async fn connection<H: Handler>(
    desk: Arc<Desk<H>>,
    limits: Limits,
    stream: TcpStream,
    peer: SocketAddr,
    seat: Arc<Seat>,
) {
    // Answers are small and written whole: waiting to fill a packet only delays.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok().map(|local| local.ip());
    let peer = canonical(peer);
    let mut phase = desk.phase.clone();
    // Who says nothing costs nothing but a socket and this wait.
    let mut first = [0];
    let heard = tokio::select! {
        heard = tokio::time::timeout(limits.header_read, stream.peek(&mut first)) => heard,
        () = seat.to_leave() => return,
        () = reached(&mut phase, Phase::Draining) => return,
    };
    if !matches!(heard, Ok(Ok(1..))) {
        return;
    }
    let Some(acceptor) = desk.tls.clone() else {
        let (wire, ear) = Wire::new(stream, limits.write_stall);
        let line = Line { peer, local, ear, certificate: None, seat };
        return Box::pin(speak(desk, limits, wire, line)).await;
    };
    // The first byte of a TLS connection is no letter, that of HTTP is one.
    let plain = first[0].is_ascii_alphabetic();
    let greeted = Box::pin(async {
        let (mut wire, ear) = Wire::new(stream, limits.write_stall);
        if plain {
            let _ = wire.write_all(by_hand(NOT_TLS).as_bytes()).await;
            let _ = wire.shutdown().await;
            return None;
        }
        match acceptor.accept(wire).into_fallible().await {
            Ok(stream) => Some((stream, ear)),
            Err((error, mut wire)) => {
                tracing::debug!(%peer, "no TLS: {error}");
                // What it was told reaches it, though it may go on sending.
                let _ = wire.shutdown().await;
                None
            }
        }
    });
    let (stream, ear) = tokio::select! {
        greeted = tokio::time::timeout(limits.header_read, greeted) => match greeted {
            Ok(Some(greeted)) => greeted,
            Ok(None) | Err(_) => return,
        },
        () = seat.to_leave() => return,
        () = reached(&mut phase, Phase::Draining) => return,
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = match shown.map(|der| PeerCertificate::read(der)) {
        None => None,
        Some(Some(read)) => Some(Arc::new(read)),
        Some(None) => return,
    };
    let line = Line { peer, local, ear, certificate, seat };
    Box::pin(speak(desk, limits, stream, line)).await;
}

/// HTTP, over whatever it is.
async fn speak<H: Handler, S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    desk: Arc<Desk<H>>,
    limits: Limits,
    stream: S,
    line: Line,
) {
    let (peer, seat) = (line.peer, line.seat.clone());
    let mut phase = desk.phase.clone();
    let service = service_fn(move |request| {
        let (desk, line) = (desk.clone(), line.clone());
        async move { desk.answer(&line, request).await }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(64 * 1024))
        // A client may close its sending side and still wait for its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let told_to_end = async {
        tokio::select! {
            // What has become a request meanwhile is still answered.
            () = seat.to_leave() => seat.works(),
            () = reached(&mut phase, Phase::Draining) => true,
        }
    };
    let served = tokio::select! {
        served = &mut connection => served,
        still = told_to_end => {
            if !still {
                return;
            }
            Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                served = &mut connection => served,
                () = reached(&mut phase, Phase::Closed) => return,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, "connection ended: {error}");
        let parts = connection.into_parts();
        let sentence = match () {
            () if error.is_timeout() => TOO_SLOW,
            () if error.is_incomplete_message() => BROKEN_OFF,
            () => return,
        };
        // Half a request: say why before hanging up. An idle connection just ends.
        if !parts.read_buf.is_empty() {
            let mut wire = parts.io.into_inner();
            let _ = wire.write_all(by_hand(sentence).as_bytes()).await;
            let _ = wire.shutdown().await;
        }
    }
}

/// Completes once the server is in `phase` or past it, or is gone altogether.
pub(super) async fn reached(watched: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = watched.wait_for(|now| *now >= phase).await;
}

/// IPv4 clients of an IPv6 socket as the IPv4 addresses they are.
fn canonical(peer: SocketAddr) -> SocketAddr {
    let ip: IpAddr = peer.ip().to_canonical();
    SocketAddr::new(ip, peer.port())
}

/// There are too many connections: say so and close. Nothing is awaited; if the
/// few bytes do not fit into the socket's empty buffer, nobody reads them.
fn turn_away(stream: &TcpStream, peer: SocketAddr) {
    tracing::debug!(%peer, "turned away: too many connections");
    let _ = stream.try_write(by_hand(TOO_MANY).as_bytes());
}

/// Status line, machine word and sentence of an answer written by hand, where
/// there is no whole request for hyper to answer.
type Sentence = (&'static str, &'static str, &'static str);

const TOO_SLOW: Sentence = (
    "408 Request Timeout",
    "RequestTimeout",
    "The headers of the request did not arrive in time; send them faster.",
);
const BROKEN_OFF: Sentence = (
    "400 Bad Request",
    "BadRequest",
    "The request broke off before the end of its headers; they end with an empty line.",
);
const NOT_TLS: Sentence = (
    "400 Bad Request",
    "NotTls",
    "This server speaks HTTPS only: the address begins with https://, and kube-lite ctl takes it \
     from the file that KUBE_LITE_CREDENTIALS names.",
);
const TOO_MANY: Sentence = (
    "503 Service Unavailable",
    "TooManyConnections",
    "Too many connections at the moment; try again in a second.",
);

fn by_hand((status, reason, sentence): Sentence) -> String {
    let retry = if status.starts_with("503") { "Retry-After: 1\r\n" } else { "" };
    let body = format!("{{\"error\":\"{sentence}\",\"reason\":\"{reason}\"}}\n");
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{retry}\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}
