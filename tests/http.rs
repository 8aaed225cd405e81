//! The HTTP layer over real sockets: every limit, and everything that must hold
//! for every request however broken.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use kube_lite::http::reply::{JSON_LINES, TEXT};
use kube_lite::http::{
    Access, Handler, Limits, Options, Origins, Outflow, Reply, Request, Route, Timeouts,
};
use kube_lite::model::ApiError;
use support::raw::{Answer, PATIENCE, ask, connect, exchange, read_to_end, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

#[derive(Clone, Copy, Debug)]
enum Call {
    Hello,
    Show,
    Echo,
    Panic,
    Slow,
    Busy,
    Gate,
    Live,
    Flood,
    Steps,
    Broken,
}

const SHORT: Timeouts =
    Timeouts { body_read: Duration::from_millis(300), handler: Some(Duration::from_millis(200)) };

/// What the handler tells the test.
#[derive(Default)]
struct Seen {
    reader_left: Notify,
    flooded: AtomicUsize,
    at_gate: Notify,
    open_gate: Notify,
}

struct App(Arc<Seen>);

impl Handler for App {
    type Call = Call;

    const ROUTES: &'static [Route<Call>] = &[
        Route::new(Method::GET, "/", Call::Hello, Access::Public, "Hello"),
        Route::new(Method::GET, "/things/{id}", Call::Show, Access::Viewer, "Shows")
            .query(&["tail"]),
        Route::new(Method::DELETE, "/things/{id}", Call::Show, Access::Operator, "Deletes"),
        Route::new(Method::POST, "/echo", Call::Echo, Access::Operator, "Echoes").body(1024),
        Route::new(Method::POST, "/hurry", Call::Echo, Access::Operator, "Echoes")
            .body(1 << 20)
            .timeouts(SHORT),
        Route::new(Method::POST, "/beat", Call::Echo, Access::Agent, "Lenient").body(1024),
        Route::new(Method::GET, "/panic", Call::Panic, Access::Viewer, "Panics"),
        Route::new(Method::GET, "/slow", Call::Slow, Access::Viewer, "Never done").timeouts(SHORT),
        Route::new(Method::GET, "/busy", Call::Busy, Access::Viewer, "503"),
        Route::new(Method::GET, "/gate", Call::Gate, Access::Viewer, "Waits to be let through"),
        Route::new(Method::GET, "/live", Call::Live, Access::Viewer, "Quiet stream").streaming(),
        Route::new(Method::GET, "/flood", Call::Flood, Access::Viewer, "Endless").streaming(),
        Route::new(Method::GET, "/steps", Call::Steps, Access::Viewer, "Ends").streaming(),
        Route::new(Method::GET, "/broken", Call::Broken, Access::Viewer, "Breaks off").streaming(),
    ];

    async fn handle(&self, request: Request<Call>) -> Result<Reply, ApiError> {
        let seen = self.0.clone();
        Ok(match request.call {
            Call::Hello => Reply::text(200, "hello\n"),
            Call::Show => Reply::json(200, request.param("id")),
            Call::Echo => Reply::bytes(200, TEXT, request.body),
            Call::Panic => panic!("this panic belongs to a test"),
            Call::Slow => std::future::pending().await,
            Call::Busy => return Err(ApiError::unavailable("Busy", "Not now.", 7)),
            Call::Gate => {
                seen.at_gate.notify_one();
                seen.open_gate.notified().await;
                Reply::text(200, "through\n")
            }
            Call::Live => {
                let (out, reply) = Reply::live_stream(JSON_LINES);
                tokio::spawn(async move {
                    let _ = out.send("first\n").await;
                    out.reader_left().await;
                    seen.reader_left.notify_one();
                });
                reply
            }
            Call::Flood => {
                let (out, reply) = Reply::live_stream(TEXT);
                tokio::spawn(flood(out, seen));
                reply
            }
            Call::Steps => {
                let (out, reply) = Reply::stream(TEXT);
                tokio::spawn(async move {
                    for step in 0..5 {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                        let _ = out.send(format!("step {step}\n")).await;
                    }
                });
                reply
            }
            Call::Broken => {
                let (out, reply) = Reply::stream(TEXT);
                tokio::spawn(async move {
                    let _ = out.send("half of it").await;
                    out.break_off().await;
                });
                reply
            }
        })
    }
}

async fn flood(out: Outflow, seen: Arc<Seen>) {
    let piece = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
    while out.send(piece.clone()).await.is_ok() {
        seen.flooded.fetch_add(piece.len(), Ordering::Relaxed);
    }
    seen.reader_left.notify_one();
}

/// A running server. Dropping it ends it at once.
struct Server {
    addr: SocketAddr,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let handler = App(seen.clone());
        let task = tokio::spawn(kube_lite::http::serve(listener, handler, options, async {
            let _ = stopped.await;
        }));
        Self { addr, seen, stop: Some(stop), task }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        ask(self.addr, method, path, headers, body).await
    }

    fn shut_down(&mut self) {
        self.stop.take().expect("not yet shut down").send(()).expect("the server runs");
    }

    /// The next good request works.
    async fn assert_alive(&self) {
        let answer = self.ask("GET", "/", &[], "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello\n"));
    }
}

const JSON_TYPE: &str = "Content-Type: application/json";

/// Every error is JSON of one shape; returns its sentence.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, reason: &str) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    let body = answer.json();
    assert_eq!(body["reason"], reason, "{answer:?}");
    body["error"].as_str().expect("a sentence").to_owned()
}

#[tokio::test]
async fn answers_carry_what_every_answer_must() {
    let server = Server::start().await;
    let answer = server.ask("GET", "/things/web", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "\"web\"\n"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()));

    let answer = server.ask("GET", "/", &["X-Request-Id: mine-7"], "").await;
    assert_eq!(answer.header("x-request-id"), Some("mine-7"));
    let answer = server.ask("GET", "/", &["X-Request-Id: <script>"], "").await;
    assert_ne!(answer.header("x-request-id"), Some("<script>"));

    let answer = server.ask("HEAD", "/", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.header("content-length"), Some("6"));

    let answer = server.ask("GET", "/busy", &[], "").await;
    assert_eq!(assert_error(&answer, 503, "Busy"), "Not now.");
    assert_eq!(answer.header("retry-after"), Some("7"));
}

#[tokio::test]
async fn wrong_paths_methods_ids_and_queries_are_explained() {
    let server = Server::start().await;
    let sentence = assert_error(&server.ask("GET", "/thing/web", &[], "").await, 404, "NotFound");
    assert!(sentence.contains("GET /things/{id}"), "{sentence}");

    let answer = server.ask("POST", "/things/web", &[], "").await;
    assert_error(&answer, 405, "MethodNotAllowed");
    assert_eq!(answer.header("allow"), Some("GET, DELETE, HEAD, OPTIONS"));
    assert_error(&server.ask("BREW", "/", &[], "").await, 405, "MethodNotAllowed");

    for trick in ["..", "%2e%2e%2fetc", "a%00b", "%F0%9F%92%A9", &"a".repeat(200), ""] {
        let answer = server.ask("GET", &format!("/things/{trick}"), &[], "").await;
        let sentence = assert_error(&answer, 400, "InvalidField");
        assert!(sentence.contains("lower-case letters"), "{sentence}");
    }
    let answer = server.ask("GET", "/things/web?tial=5", &[], "").await;
    let sentence = assert_error(&answer, 400, "InvalidField");
    assert!(sentence.contains("tial") && sentence.contains("`tail`"), "{sentence}");
    assert_eq!(answer.json()["field"], "tial");

    let answer = exchange(
        server.addr,
        b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_error(&answer, 404, "NotFound");
    server.assert_alive().await;
}

#[tokio::test]
async fn malformed_http_is_refused() {
    let server = Server::start().await;
    for broken in ["NOT HTTP\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n", "\0\0\0"] {
        let answer = exchange(server.addr, broken.as_bytes()).await;
        assert_eq!(answer.status, 400, "{broken:?}: {answer:?}");
    }
    // Broken off: what has come could still have become a request.
    for start in ["G", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut stream = connect(server.addr).await;
        stream.write_all(start.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = Answer::parse(&read_to_end(&mut stream).await);
        let sentence = assert_error(&answer, 400, "BadRequest");
        assert!(sentence.contains("broke off"), "{sentence}");
    }
    server.assert_alive().await;
}

#[tokio::test]
async fn bodies_must_be_announced_as_json() {
    let server = Server::start().await;
    let sentence =
        assert_error(&server.ask("POST", "/echo", &[], "{}").await, 415, "UnsupportedMediaType");
    assert!(sentence.contains("application/json"), "{sentence}");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let sentence = assert_error(
        &server.ask("POST", "/echo", &[form], "a=b").await,
        415,
        "UnsupportedMediaType",
    );
    assert!(sentence.contains("x-www-form-urlencoded"), "{sentence}");
    let zipped = server.ask("POST", "/echo", &[JSON_TYPE, "Content-Encoding: gzip"], "{}").await;
    assert_error(&zipped, 415, "UnsupportedMediaType");
    let fine = "Content-Type: Application/JSON; charset=utf-8";
    assert_eq!(server.ask("POST", "/echo", &[fine], "{}").await.body, "{}");
    // Without a body there is nothing to announce.
    assert_eq!(server.ask("POST", "/echo", &["Content-Length: 0"], "").await.status, 200);
    let sentence = assert_error(
        &server.ask("DELETE", "/things/a", &[JSON_TYPE], "{}").await,
        400,
        "BadRequest",
    );
    assert!(sentence.contains("takes no body"), "{sentence}");
}

#[tokio::test]
async fn bodies_are_limited_in_size() {
    let server = Server::start().await;
    let fits = "x".repeat(1024);
    assert_eq!(server.ask("POST", "/echo", &[JSON_TYPE], &fits).await.body, fits);

    // Announced too large: refused before any of it is read.
    let head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 1025\r\n\r\n";
    let answer = exchange(server.addr, head.as_bytes()).await;
    let sentence = assert_error(&answer, 413, "TooLarge");
    assert!(sentence.contains("1025") && sentence.contains("1 KiB"), "{sentence}");
    assert_eq!(answer.header("connection"), Some("close"));

    // All of it sent before the answer is read: the answer still arrives.
    let large = "x".repeat(8 << 20);
    assert_error(&server.ask("POST", "/echo", &[JSON_TYPE], &large).await, 413, "TooLarge");

    // Chunked: found out on the way, whether or not it ever ends.
    let mut endless =
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                        Transfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..300 {
        endless.extend_from_slice(b"100\r\n");
        endless.extend_from_slice(&[b'x'; 256]);
        endless.extend_from_slice(b"\r\n");
    }
    assert_error(&exchange(server.addr, &endless).await, 413, "TooLarge");

    let chunked = "Transfer-Encoding: chunked";
    let raw = [request("DELETE", "/things/a", &[chunked], ""), b"2\r\n{}\r\n0\r\n\r\n".to_vec()];
    assert_error(&exchange(server.addr, &raw.concat()).await, 400, "BadRequest");
    let raw = [request("DELETE", "/things/a", &[chunked], ""), b"0\r\n\r\n".to_vec()];
    assert_eq!(exchange(server.addr, &raw.concat()).await.status, 200);
    server.assert_alive().await;
}

#[tokio::test]
async fn bodies_are_limited_in_time() {
    let server = Server::start().await;
    let head = "POST /hurry HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    for start in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    {
        let answer = exchange(server.addr, format!("{head}{start}").as_bytes()).await;
        let sentence = assert_error(&answer, 408, "RequestTimeout");
        assert!(sentence.contains("0.3 s"), "{sentence}");
    }
    // Broken off in the middle by a client that still listens.
    let mut stream = connect(server.addr).await;
    stream.write_all(format!("{head}Content-Length: 10\r\n\r\nabc").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = Answer::parse(&read_to_end(&mut stream).await);
    let sentence = assert_error(&answer, 400, "BadRequest");
    assert!(sentence.contains("after 3 bytes"), "{sentence}");
    server.assert_alive().await;
}

#[tokio::test]
async fn a_body_may_wait_to_be_asked_for() {
    let server = Server::start().await;
    let mut stream = connect(server.addr).await;
    let expecting = [JSON_TYPE, "Content-Length: 2", "Expect: 100-continue"];
    stream.write_all(&request("POST", "/echo", &expecting, "")).await.unwrap();
    let mut interim = [0; 25];
    timeout(PATIENCE, stream.read_exact(&mut interim)).await.unwrap().unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100"));
    stream.write_all(b"{}").await.unwrap();
    assert_eq!(Answer::parse(&read_to_end(&mut stream).await).body, "{}");

    // Too large: it is told so instead of being asked for it.
    let expecting = [JSON_TYPE, "Content-Length: 9999", "Expect: 100-continue"];
    let answer = exchange(server.addr, &request("POST", "/echo", &expecting, "")).await;
    assert_error(&answer, 413, "TooLarge");
}

#[tokio::test]
async fn headers_are_limited_in_size_and_time() {
    let limits = Limits { header_read: Duration::from_millis(300), ..Limits::default() };
    let server = Server::with(Options { limits, ..Options::default() }).await;
    let long = format!("X-Long: {}", "x".repeat(64 * 1024));
    assert_eq!(server.ask("GET", "/", &[&long], "").await.status, 431);
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(server.ask("GET", "/", &many, "").await.status, 431);

    // A line now and then keeps nobody busy forever.
    let mut slow = connect(server.addr).await;
    slow.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let answer = Answer::parse(&read_to_end(&mut slow).await);
    assert_error(&answer, 408, "RequestTimeout");

    // Nothing at all is closed without a word.
    let mut idle = connect(server.addr).await;
    assert_eq!(read_to_end(&mut idle).await, b"");
    server.assert_alive().await;
}

#[tokio::test]
async fn handlers_may_panic_and_hang() {
    let server = Server::start().await;
    let answer = server.ask("GET", "/panic", &["X-Request-Id: find-me"], "").await;
    let sentence = assert_error(&answer, 500, "Internal");
    assert!(sentence.contains("find-me"), "{sentence}");
    let answer = server.ask("GET", "/slow", &[], "").await;
    let sentence = assert_error(&answer, 503, "Timeout");
    assert!(sentence.contains("0.2 s"), "{sentence}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    server.assert_alive().await;
}

#[tokio::test]
async fn half_closed_connections_get_their_answer() {
    let server = Server::start().await;
    for (path, body) in [("/", "hello"), ("/steps", "step 4"), ("/gate", "through")] {
        let mut stream = connect(server.addr).await;
        let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        if path == "/gate" {
            timeout(PATIENCE, server.seen.at_gate.notified()).await.unwrap();
            server.seen.open_gate.notify_one();
        }
        let answer = Answer::parse(&read_to_end(&mut stream).await);
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains(body), "{answer:?}");
    }
}

#[tokio::test]
async fn connections_are_kept_and_pipelines_answered_in_order() {
    let server = Server::start().await;
    let mut stream = connect(server.addr).await;
    let mut text = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Transfer-Encoding: chunked\r\n\r\n3\r\n\"0\"\r\n0\r\n\r\n"
        .to_owned();
    for id in ["a", "b"] {
        text += &format!("GET /things/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.write_all(&request("GET", "/things/c", &[], "")).await.unwrap();
    let all = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    // The first body has no line end: the next answer's head follows it directly.
    let bodies: Vec<&str> = all.lines().filter(|line| line.starts_with('"')).collect();
    assert_eq!(bodies, ["\"0\"HTTP/1.1 200 OK", "\"a\"", "\"b\"", "\"c\""]);
}

#[tokio::test]
async fn connections_are_counted() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let server = Server::with(Options { limits, ..Options::default() }).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(server.addr).await;
        stream.write_all(&request("GET", "/live", &[], "")).await.unwrap();
        read_until(&mut stream, "first\n").await; // it flows
        held.push(stream);
    }
    let answer = Answer::parse(&read_to_end(&mut connect(server.addr).await).await);
    assert_error(&answer, 503, "TooManyConnections");
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(held);
    timeout(PATIENCE, async {
        while server.ask("GET", "/", &[], "").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("room again");
}

/// Silent, slow, between two requests or in the middle of a body: whoever the server
/// waits for makes room for who comes, and whoever waits for the server does not.
#[tokio::test]
async fn who_only_sits_there_makes_room() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let server = Server::with(Options { limits, ..Options::default() }).await;
    let mut live = connect(server.addr).await;
    live.write_all(&request("GET", "/live", &[], "")).await.unwrap();
    read_until(&mut live, "first\n").await;
    let mut sitting = Vec::new();
    for said in [
        "",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 9\r\n\r\n{",
    ] {
        let mut stream = connect(server.addr).await;
        stream.write_all(said.as_bytes()).await.unwrap();
        if said.ends_with("localhost\r\n\r\n") {
            read_until(&mut stream, "hello\n").await;
        }
        sitting.push(stream);
    }
    let mut newcomers = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(server.addr).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        read_until(&mut stream, "hello\n").await;
        newcomers.push(stream);
    }
    for mut stream in sitting {
        assert_eq!(read_to_end(&mut stream).await, b"", "nothing but the end");
    }
    newcomers[0].write_all(&request("GET", "/", &[], "")).await.unwrap();
    read_until(&mut newcomers[0], "hello\n").await;
    let left = timeout(Duration::from_millis(100), server.seen.reader_left.notified()).await;
    assert!(left.is_err(), "the stream flows on");
    drop(live);
    timeout(PATIENCE, server.seen.reader_left.notified()).await.expect("noticed");
}

#[tokio::test]
async fn streams_and_bodies_on_their_way_are_counted() {
    let limits = Limits { streams: 1, body_bytes: 64 * 1024, ..Limits::default() };
    let server = Server::with(Options { limits, ..Options::default() }).await;
    let mut live = connect(server.addr).await;
    live.write_all(&request("GET", "/live", &[], "")).await.unwrap();
    read_until(&mut live, "first\n").await;
    let answer = server.ask("GET", "/live", &[], "").await;
    assert!(assert_error(&answer, 503, "TooManyStreams").contains("followed"));
    drop(live);
    timeout(PATIENCE, async {
        while server.ask("GET", "/steps", &[], "").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("room again");

    let large = "x".repeat(100 * 1024);
    let answer = server.ask("POST", "/hurry", &[JSON_TYPE], &large).await;
    assert_error(&answer, 503, "TooMuchAtOnce");
    let fits = "x".repeat(60 * 1024);
    for _ in 0..3 {
        assert_eq!(
            server.ask("POST", "/hurry", &[JSON_TYPE], &fits).await.body,
            fits,
            "given back"
        );
    }
}

/// Reads until `text` has come.
async fn read_until(stream: &mut tokio::net::TcpStream, text: &str) {
    let mut all = Vec::new();
    timeout(PATIENCE, async {
        while !String::from_utf8_lossy(&all).contains(text) {
            let mut piece = [0; 1024];
            let count = stream.read(&mut piece).await.unwrap();
            assert_ne!(count, 0, "ended before {text:?}");
            all.extend_from_slice(&piece[..count]);
        }
    })
    .await
    .expect("in time");
}

#[tokio::test]
async fn a_quiet_stream_ends_when_its_client_leaves() {
    let server = Server::start().await;
    let mut stream = connect(server.addr).await;
    stream.write_all(&request("GET", "/live", &[], "")).await.unwrap();
    read_until(&mut stream, "first\n").await;
    drop(stream);
    timeout(PATIENCE, server.seen.reader_left.notified()).await.expect("noticed");
}

#[tokio::test]
async fn a_reader_that_never_reads_costs_little_and_is_let_go() {
    let limits = Limits { write_stall: Duration::from_millis(500), ..Limits::default() };
    let server = Server::with(Options { limits, ..Options::default() }).await;
    let mut stream = connect(server.addr).await;
    stream.write_all(&request("GET", "/flood", &[], "")).await.unwrap();
    timeout(PATIENCE, server.seen.reader_left.notified()).await.expect("let go");
    // What the kernel's two buffers hold, and our half a megabyte.
    let sent = server.seen.flooded.load(Ordering::Relaxed);
    assert!(sent < 16 << 20, "{sent} bytes were taken from the source");
    server.assert_alive().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_does_not_look_complete() {
    let server = Server::start().await;
    let answer = server.ask("GET", "/broken", &[], "").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.ends_with("0\r\n\r\n"), "{answer:?}");
    let answer = server.ask("GET", "/steps", &[], "").await;
    assert!(answer.body.ends_with("0\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn foreign_pages_may_not_write() {
    let origins = Origins::parse(&["http://dash.example:3000"]).unwrap();
    let server = Server::with(Options { origins, ..Options::default() }).await;
    let (listed, foreign) = ("Origin: http://dash.example:3000", "Origin: http://evil.example");
    let own = "Origin: http://localhost";

    let answer = server.ask("DELETE", "/things/a", &[foreign], "").await;
    let sentence = assert_error(&answer, 403, "ForbiddenOrigin");
    assert!(sentence.contains("--cors-origin"), "{sentence}");
    assert_eq!(server.ask("DELETE", "/things/a", &["Origin: null"], "").await.status, 403);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let read = server.ask("GET", "/", &[foreign], "").await;
    assert_eq!((read.status, read.header("access-control-allow-origin")), (200, None));

    let answer = server.ask("DELETE", "/things/a", &[listed], "").await;
    assert_eq!(answer.status, 200);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("http://dash.example:3000"));
    assert_eq!(answer.header("vary"), Some("Origin"));
    assert_eq!(server.ask("DELETE", "/things/a", &[own], "").await.status, 200);

    let asks = "Access-Control-Request-Method: DELETE";
    let answer = server.ask("OPTIONS", "/things/a", &[listed, asks], "").await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("access-control-allow-methods").unwrap().contains("DELETE"));
    let answer = server.ask("OPTIONS", "/things/a", &[foreign, asks], "").await;
    assert_error(&answer, 403, "ForbiddenOrigin");
    let answer = server.ask("OPTIONS", "/things/a", &[], "").await;
    assert_eq!((answer.status, answer.header("allow")), (204, Some("GET, DELETE, HEAD, OPTIONS")));
}

#[tokio::test]
async fn machines_of_another_release_are_understood() {
    let server = Server::start().await;
    assert_eq!(server.ask("POST", "/beat?new=1", &[JSON_TYPE], "{}").await.body, "{}");
}

#[tokio::test]
async fn shutting_down_finishes_what_is_in_flight() {
    let mut server = Server::start().await;
    let mut idle = connect(server.addr).await;
    let mut live = connect(server.addr).await;
    live.write_all(&request("GET", "/live", &[], "")).await.unwrap();
    read_until(&mut live, "first\n").await;
    let mut busy = connect(server.addr).await;
    busy.write_all(b"GET /gate HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    timeout(PATIENCE, server.seen.at_gate.notified()).await.unwrap();

    server.shut_down();
    // The stream ends as a whole one, the idle connection is closed ...
    let rest = read_to_end(&mut live).await;
    assert!(rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    assert_eq!(read_to_end(&mut idle).await, b"");
    assert!(tokio::net::TcpStream::connect(server.addr).await.is_err());
    // ... and who was being served gets the answer, and no further request.
    assert!(!server.task.is_finished());
    server.seen.open_gate.notify_one();
    let answer = Answer::parse(&read_to_end(&mut busy).await);
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    timeout(PATIENCE, &mut server.task).await.expect("ended").unwrap();
}

#[tokio::test]
async fn shutting_down_does_not_wait_forever() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let mut server = Server::with(Options { limits, ..Options::default() }).await;
    let mut stuck = connect(server.addr).await;
    stuck.write_all(&request("GET", "/gate", &[], "")).await.unwrap();
    timeout(PATIENCE, server.seen.at_gate.notified()).await.unwrap();
    server.shut_down();
    timeout(PATIENCE, &mut server.task).await.expect("ended").unwrap();
    assert_eq!(read_to_end(&mut stuck).await, b"");
}

/// A page that gives its own name this server's address gets nothing from it, not
/// even what there is and what not.
#[tokio::test]
async fn foreign_names_are_refused() {
    let server = Server::start().await;
    let call = async |path: &str, hosts: &str| {
        let text = format!("GET {path} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        exchange(server.addr, text.as_bytes()).await
    };
    for path in ["/", "/nothing", "/things/web"] {
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.2"] {
            let answer = call(path, &format!("Host: {host}\r\n")).await;
            let sentence = assert_error(&answer, 403, "ForbiddenHost");
            assert!(sentence.contains("--host"), "{sentence}");
        }
    }
    let answer = call("http://evil.example/", "Host: localhost\r\n").await;
    assert_error(&answer, 403, "ForbiddenHost");
    for hosts in ["", "Host: localhost\r\nHost: localhost\r\n"] {
        assert_error(&call("/", hosts).await, 400, "BadRequest");
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]:99"] {
        assert_eq!(call("/", &format!("Host: {host}\r\n")).await.status, 200, "{host}");
    }
    server.assert_alive().await;
}
