//! `GET /stream` over real sockets: everything at first, then what changes.

mod support;

use kube_lite::model::view::{ChangesView, ClusterView, WorkloadView};
use serde_json::{Value, json};
use support::agent;
use support::raw::{PATIENCE, connect, request};
use support::scheduler::Scheduler;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// As many as may read at a time.
const WATCHERS: usize = 64;

/// One message of the stream.
#[derive(Debug)]
struct Message {
    id: u64,
    event: String,
    data: Value,
}

/// Reads as a browser's EventSource does.
struct Stream {
    socket: TcpStream,
    bytes: Vec<u8>,
    /// What of it has not been a message yet, without the chunks it came in.
    text: String,
}

impl Stream {
    async fn open(scheduler: &Scheduler, path: &str, headers: &[&str]) -> Self {
        let mut socket = connect(scheduler.addr).await;
        socket.write_all(&request("GET", path, headers, "")).await.unwrap();
        let mut stream = Self { socket, bytes: Vec::new(), text: String::new() };
        let head = stream.head().await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("\r\ncontent-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("\r\ncache-control: no-store\r\n"), "{head}");
        stream
    }

    async fn more(&mut self) {
        let count = timeout(PATIENCE, self.socket.read_buf(&mut self.bytes)).await;
        assert_ne!(count.expect("in time").unwrap(), 0, "ended: {}", self.text);
    }

    async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.bytes.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap().to_lowercase();
            }
            self.more().await;
        }
    }

    /// Undoes the next chunk.
    async fn chunk(&mut self) {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|two| two == b"\r\n") {
                let size = std::str::from_utf8(&self.bytes[..end]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                if self.bytes.len() >= end + 2 + size + 2 {
                    let chunk: Vec<u8> = self.bytes.drain(..end + 2 + size + 2).collect();
                    self.text += std::str::from_utf8(&chunk[end + 2..end + 2 + size]).unwrap();
                    return;
                }
            }
            self.more().await;
        }
    }

    async fn message(&mut self) -> Message {
        loop {
            if let Some((text, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
                    let value = values.next().unwrap_or_else(|| panic!("no {name} in {text}"));
                    assert_eq!(values.next(), None, "one {name}: {text}");
                    value.to_owned()
                };
                let message = Message {
                    id: field("id: ").parse().unwrap(),
                    event: field("event: "),
                    data: serde_json::from_str(&field("data: ")).unwrap(),
                };
                self.text = rest.to_owned();
                return message;
            }
            self.chunk().await;
        }
    }

    async fn state(&mut self) -> (u64, ClusterView) {
        let message = self.message().await;
        assert_eq!(message.event, "state");
        (message.id, serde_json::from_value(message.data).unwrap())
    }

    /// Reads on until some changes are as wanted; all until then, in one.
    async fn until(&mut self, wanted: impl Fn(&ChangesView) -> bool) -> (u64, ChangesView) {
        let mut all = ChangesView::default();
        timeout(PATIENCE, async {
            loop {
                let message = self.message().await;
                assert_eq!(message.event, "changes");
                let next: ChangesView = serde_json::from_value(message.data).unwrap();
                let found = wanted(&next);
                all.workloads.extend(next.workloads);
                all.workloads_gone.extend(next.workloads_gone);
                all.instances.extend(next.instances);
                all.heard.extend(next.heard);
                all.events.extend(next.events);
                if found {
                    return (message.id, all);
                }
            }
        })
        .await
        .expect("what was waited for")
    }
}

fn web(replicas: u32) -> Value {
    json!({"name": "web", "image": "hello:1", "replicas": replicas})
}

fn has(view: &ChangesView, wanted: impl Fn(&WorkloadView) -> bool) -> bool {
    view.workloads.iter().any(|w| w.spec.name.as_str() == "web" && wanted(w))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_first_and_then_what_changes() {
    let scheduler = Scheduler::start().await;
    agent::start(&scheduler, "n1").await;
    let mut stream = Stream::open(&scheduler, "/stream", &[]).await;
    let (_, first) = stream.state().await;
    assert_eq!((first.nodes.len(), first.workloads.len(), first.resumed), (1, 0, false));
    assert!(first.events.iter().any(|event| event.kind == "NodeRegistered"), "{first:?}");

    scheduler.send("POST", "/deploy", &web(2)).await;
    let (_, changes) = stream.until(|view| has(view, |w| w.ready == 2)).await;
    let ready = changes.instances.iter().filter(|one| one.ready).count();
    assert!(ready >= 2, "{changes:?}");
    assert!(changes.events.iter().any(|event| event.kind == "InstanceReady"), "{changes:?}");

    scheduler.send("DELETE", "/workloads/web", &Value::Null).await;
    let (_, changes) = stream.until(|view| !view.workloads_gone.is_empty()).await;
    assert_eq!(changes.workloads_gone, ["web".into()]);
    // Also when nothing happens, a reader can tell that it is not cut off.
    stream.until(|view| !view.heard.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_the_reader_was() {
    let scheduler = Scheduler::start().await;
    agent::start(&scheduler, "n1").await;
    let mut stream = Stream::open(&scheduler, "/stream", &[]).await;
    stream.state().await;
    scheduler.send("POST", "/deploy", &web(1)).await;
    let (last, _) = stream.until(|view| has(view, |w| w.ready == 1)).await;
    drop(stream);
    scheduler.send("PUT", "/workloads/web/scale", &json!({"replicas": 3})).await;

    let header = format!("Last-Event-ID: {last}");
    let query = format!("/stream?since={last}");
    for (path, headers) in [("/stream", vec![header.as_str()]), (&query, vec![])] {
        let (id, state) = Stream::open(&scheduler, path, &headers).await.state().await;
        assert!(state.resumed);
        let seqs: Vec<u64> = state.events.iter().map(|event| event.seq).collect();
        assert_eq!(seqs, (last + 1..=id).collect::<Vec<_>>(), "each once, none missing");
        assert!(state.events.iter().any(|event| event.message.contains("from 1 to 3")));
        assert_eq!(state.workloads[0].desired, 3);
    }
    // Of another life of the scheduler: the latest, and it says so.
    let (_, state) = Stream::open(&scheduler, "/stream?since=1000000", &[]).await.state().await;
    assert!(!state.resumed && !state.events.is_empty());
    for bad in ["x", "-1", "99999999999999999999"] {
        let answer = scheduler.get(&format!("/stream?since={bad}")).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("since")), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_nobody_up_and_then_sees_what_is() {
    let scheduler = Scheduler::start().await;
    agent::start(&scheduler, "n1").await;
    let mut sleeper = Stream::open(&scheduler, "/stream", &[]).await;
    // More than fits into all buffers on the way, if it were queued.
    let padding = "x".repeat(60_000);
    let spec =
        |name: String| json!({"name": name, "image": "hello:1", "env": {"PADDING": padding}});
    for turn in 0..60 {
        for number in 0..4 {
            let mut spec = spec(format!("w{number}"));
            spec["env"]["TURN"] = json!(turn.to_string());
            let answer = scheduler.send("POST", "/deploy", &spec).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    scheduler.send("POST", "/deploy", &web(1)).await;
    let mut read = 0;
    sleeper.state().await;
    loop {
        let message = sleeper.message().await;
        read += message.data.to_string().len();
        let view: ChangesView = serde_json::from_value(message.data).unwrap();
        if has(&view, |_| true) {
            break;
        }
    }
    let all = 60 * 4 * padding.len();
    assert!(read < all, "{read} bytes were kept for a reader that slept; all is {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_watch_at_a_time() {
    let scheduler = Scheduler::start().await;
    let mut streams = Vec::new();
    for _ in 0..WATCHERS {
        streams.push(Stream::open(&scheduler, "/stream", &[]).await);
    }
    let answer = scheduler.get("/stream").await;
    assert_eq!(
        (answer.status, &answer.json()["reason"]),
        (503, &json!("TooManyWatchers")),
        "{answer:?}"
    );
    assert_eq!(answer.header("retry-after"), Some("5"));
    // Everything else is answered, and who leaves makes room.
    assert_eq!(scheduler.get("/workloads").await.status, 200);
    streams.pop();
    timeout(PATIENCE, async {
        loop {
            let mut socket = connect(scheduler.addr).await;
            socket.write_all(&request("GET", "/stream", &[], "")).await.unwrap();
            let mut start = [0; 12];
            socket.read_exact(&mut start).await.unwrap();
            if &start == b"HTTP/1.1 200" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("room");
}
