//! The real binary against a scheduler that is played: what it asks, what it
//! says, where it says it, and its exit code.

mod ctl_support;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use ctl_support::{Act, CHUNKED, Seen, Server, answer, chunk, closed_port, error, ok};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// No command may take longer than this; a test that waits for more has hung.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A started command.
struct Running {
    child: Child,
    out: std::thread::JoinHandle<String>,
    err: std::thread::JoinHandle<String>,
}

fn start(server: &str, args: &[&str]) -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kube-lite"))
        .arg("ctl")
        .args(args)
        .env_remove("NO_COLOR")
        .env("KUBE_LITE_SERVER", server)
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let read = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = read(Box::new(child.stdout.take().expect("piped")));
    let err = read(Box::new(child.stderr.take().expect("piped")));
    Running { child, out, err }
}

impl Running {
    /// Waits for its end, with a bound.
    async fn end(mut self) -> Outcome {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break status;
            }
            if began.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let said = (self.out.join(), self.err.join());
                panic!("still running after {PATIENCE:?}; it said {said:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let out = self.out.join().expect("the reader of its output");
        let err = self.err.join().expect("the reader of its errors");
        for text in [&out, &err] {
            assert!(!text.contains('\x1b'), "colours without a terminal: {text:?}");
            assert!(!text.contains("panicked"), "{text}");
        }
        Outcome { code: status.code(), out, err }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(pid, signal).expect("it runs");
    }
}

async fn run(server: &str, args: &[&str]) -> Outcome {
    start(server, args).end().await
}

/// Waits until `condition` holds, with a bound.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A spec file that is removed when it is dropped.
struct SpecFile {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl SpecFile {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("web.json");
        std::fs::write(&path, text).expect("a file");
        Self { _dir: dir, path }
    }

    fn path(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }
}

const SPEC: &str = r#"{"name": "web", "image": "hello:1", "replicas": 2}"#;

fn workload(ready: usize, more: Value) -> Value {
    let mut view = json!({
        "spec": {"name": "web", "image": "hello:1", "ports": [{"containerPort": 8080}]},
        "revision": 1, "desired": 2, "running": ready, "ready": ready, "pending": 2 - ready,
        "waiting": 0, "done": 0, "stopping": 0, "restarts": 0, "reasons": [], "rollout": null,
    });
    let fields = more.as_object().expect("an object").clone();
    view.as_object_mut().expect("an object").extend(fields);
    view
}

fn instances(ready: usize) -> Value {
    let one = |n: usize| {
        let (phase, message) =
            if n < ready { ("running", None) } else { ("pulling", Some("pulling hello:1")) };
        json!({
            "id": format!("web-r1-{n}"), "containerId": if n < ready { "0123" } else { "" },
            "workloadId": "web", "replica": n, "revision": 1, "nodeId": format!("node-{n}"),
            "image": "hello:1", "phase": phase, "ready": n < ready, "message": message,
            "health": if n < ready { "healthy" } else { "unknown" },
        })
    };
    json!((0..2).map(one).collect::<Vec<_>>())
}

fn say(value: &Value) -> Act {
    ok(&value.to_string())
}

fn nothing_here(seen: &Seen) -> Act {
    let body = json!({"error": format!("nothing at {}", seen.line), "reason": "NotFound"});
    error("404 Not Found", &body.to_string())
}

/// Plays a scheduler where `web` has so many ready instances of two, as told for
/// each time it is asked (the last goes for the rest).
async fn scheduler(ready: &'static [usize]) -> Server {
    let asked = AtomicUsize::new(0);
    let now = move |n: usize| ready[n.min(ready.len() - 1)];
    Server::start(move |seen| match seen.line.as_str() {
        "POST /deploy" => say(&json!({"id": "web", "revision": 1, "warnings": ["mind the port"]})),
        "PUT /workloads/web/scale" => ok("{}"),
        "GET /workloads/web" => say(&workload(now(asked.load(Relaxed)), json!({}))),
        "GET /instances?workload=web" => say(&instances(now(asked.fetch_add(1, Relaxed)))),
        "GET /discover/web" => say(&json!({"name": "web", "endpoints": [
            {"instanceId": "web-r1-0", "nodeId": "node-0", "address": "127.0.0.1:4000",
             "containerPort": 8080, "health": "healthy"}]})),
        _ => nothing_here(seen),
    })
    .await
}

#[tokio::test]
async fn nobody_there() {
    let url = format!("http://{}", closed_port().await);
    let outcome = run(&url, &["nodes"]).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""));
    assert_eq!(
        outcome.err,
        format!(
            "error: cannot reach the scheduler at {url} (connection refused). Is it running? Start \
             one with `kube-lite dev`, or point --server / KUBE_LITE_SERVER at it.\n"
        )
    );
}

#[tokio::test]
async fn wrong_usage() {
    for args in [&["frobnicate"][..], &["scale", "web"], &["nodes", "--server", "https://h:1"]] {
        let outcome = run("http://127.0.0.1:1", args).await;
        assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.err);
        assert!(outcome.err.starts_with("error: "), "{args:?}: {}", outcome.err);
        // Nobody has typed that.
        assert!(!outcome.err.contains("--server <URL>"), "{}", outcome.err);
    }
    let outcome = run("127.0.0.1:99999", &["nodes"]).await;
    assert_eq!(outcome.code, Some(2));
    for words in ["ports are from 1 to 65535", "It comes from KUBE_LITE_SERVER"] {
        assert!(outcome.err.contains(words), "{}", outcome.err);
    }
    let outcome = run("127.0.0.1:99999", &["nodes", "--server", "x y"]).await;
    assert!(outcome.err.contains("It comes from --server"), "{}", outcome.err);
    // Set to nothing is not set.
    let outcome = run("", &["completion", "zsh"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[tokio::test]
async fn a_deploy_is_waited_for_and_told() {
    let server = scheduler(&[0, 1, 2]).await;
    let file = SpecFile::new(SPEC);
    let outcome = run(&server.url(), &["deploy", "-f", file.path()]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let result = outcome.out.strip_prefix("web: 2/2 ready (revision 1, ").expect("a result");
    assert_eq!(
        outcome.err,
        "\
warning: web: mind the port
web: 0/2 ready, 2 pulling
  web-r1-0 on node-0: pulling: pulling hello:1
  web-r1-1 on node-1: pulling: pulling hello:1
web: 1/2 ready, 1 pulling
  web-r1-0 on node-0: ready
  web-r1-1 on node-1: ready
"
    );
    let wanted = " s)\n  reach it  http://127.0.0.1:4000  (web-r1-0 on node-0)\n";
    assert!(result.ends_with(wanted), "{result}");
    assert_eq!(server.seen()[0].body, SPEC, "sent as it was written");
}

#[tokio::test]
async fn a_deploy_is_left_to_itself_if_one_says_so() {
    let server = scheduler(&[0]).await;
    let file = SpecFile::new(SPEC);
    let outcome = run(&server.url(), &["deploy", "-f", file.path(), "--no-wait"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(
        outcome.out,
        "web: revision 1 is wanted now; see: kube-lite ctl status web --watch\n"
    );
    assert_eq!(server.seen().len(), 1);
    let json = ["deploy", "-f", file.path(), "--no-wait", "-o", "json"];
    let said: Value = serde_json::from_str(&run(&server.url(), &json).await.out).expect("JSON");
    assert_eq!(said, json!({"id": "web", "revision": 1, "warnings": ["mind the port"]}));
}

/// Standard output carries the end and nothing else: what is wanted, as it is then.
#[tokio::test]
async fn waited_for_as_json_it_is_the_end_that_is_told() {
    let file = SpecFile::new(SPEC);
    for args in
        [&["deploy", "-f", file.path(), "-o", "json"][..], &["scale", "web", "2", "-o", "json"]]
    {
        let outcome = run(&scheduler(&[0, 1, 2]).await.url(), args).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let said: Value = serde_json::from_str(&outcome.out).expect("JSON");
        assert_eq!(said, workload(2, json!({})), "{args:?}");
        assert!(outcome.err.contains("web: 1/2 ready, 1 pulling\n"), "{}", outcome.err);
    }
    let outcome =
        run(&scheduler(&[1]).await.url(), &["scale", "web", "2", "--timeout", "1s", "-o", "json"])
            .await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(3), ""), "{outcome:?}");
}

#[tokio::test]
async fn waiting_ends_with_reasons_and_the_next_step() {
    let server = scheduler(&[1]).await;
    let file = SpecFile::new(SPEC);
    let args = ["deploy", "-f", file.path(), "--timeout", "1s"];
    let outcome = run(&server.url(), &args).await;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(
        outcome.err.ends_with(
            "error: not there after 1 s: web: 1/2 ready, 1 pulling\n  \
             web-r1-1  node-1  pulling  pulling hello:1\n\
             The scheduler goes on. The whole story: kube-lite ctl explain web\n"
        ),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn what_cannot_come_is_said_at_once() {
    let server = Server::start(|seen| match seen.line.as_str() {
        "POST /deploy" => say(&json!({"id": "web", "revision": 1})),
        "GET /workloads/web" => say(&workload(
            0,
            json!({"pending": 0, "waiting": 2, "reasons": [
                {"reason": "ImageNotFound", "message": "there is no image hello:1", "replica": 0},
                {"reason": "ImageNotFound", "message": "there is no image hello:1", "replica": 1},
            ]}),
        )),
        "GET /instances?workload=web" => ok("[]"),
        _ => nothing_here(seen),
    })
    .await;
    let file = SpecFile::new(SPEC);
    let args = ["deploy", "-f", file.path(), "--timeout", "1s"];
    let said = "web: ImageNotFound: there is no image hello:1\n";
    let outcome = run(&server.url(), &args).await;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(outcome.err.matches(said).count(), 1, "{}", outcome.err);
    let outcome =
        run(&server.url(), &[&args[..], &["--timeout", "60s", "--fail-fast"]].concat()).await;
    assert_eq!(outcome.code, Some(2), "an option given twice is a mistake: {outcome:?}");
    let args = ["deploy", "-f", file.path(), "--fail-fast"];
    let outcome = run(&server.url(), &args).await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains(&format!("error: {said}")), "{}", outcome.err);
}

#[tokio::test]
async fn a_bad_file_is_not_sent() {
    let server = scheduler(&[2]).await;
    for (text, wanted) in [
        (
            "{\n  \"name\": web\n}",
            ":2:11: The JSON is broken at line 2, column 11: a value is expected here",
        ),
        ("", " is empty; expected the spec of a workload"),
    ] {
        let file = SpecFile::new(text);
        let outcome = run(&server.url(), &["deploy", "-f", file.path()]).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let wanted = format!("error: {}{wanted}", file.path());
        assert!(outcome.err.starts_with(&wanted), "{}", outcome.err);
    }
    let outcome = run(&server.url(), &["deploy", "-f", "no-such.json"]).await;
    assert_eq!(outcome.err, "error: cannot read no-such.json: there is no such file\n");
    assert_eq!(server.seen(), []);
}

#[tokio::test]
async fn a_refusal_names_the_file_and_the_field() {
    let server = Server::start(|_| {
        let body = r#"{"error": "65 is too many", "reason": "InvalidField", "field": "replicas"}"#;
        error("400 Bad Request", body)
    })
    .await;
    let file = SpecFile::new(SPEC);
    let outcome = run(&server.url(), &["deploy", "-f", file.path()]).await;
    assert_eq!(outcome.code, Some(1));
    assert_eq!(outcome.err, format!("error: {}: replicas: 65 is too many\n", file.path()));
}

#[tokio::test]
async fn json_is_word_for_word() {
    let given = r#"[{"z":1.0,"id":"node-1","a":{"future":true}}]"#;
    let server = Server::start(move |_| ok(given)).await;
    let outcome = run(&server.url(), &["nodes", "-o", "json"]).await;
    let wanted = "[\n  {\n    \"z\": 1.0,\n    \"id\": \"node-1\",\n    \"a\": {\n      \"future\": true\n    }\n  }\n]\n";
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), wanted), "{outcome:?}");
}

#[tokio::test]
async fn ctrl_c_ends_the_waiting_and_not_the_work() {
    let server = scheduler(&[1]).await;
    let running = start(&server.url(), &["scale", "web", "2"]);
    until("it waits", || server.seen().len() > 3).await;
    running.signal(Signal::SIGINT);
    let outcome = running.end().await;
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    let said = "stopped waiting; the scheduler goes on. See: kube-lite ctl status web --watch\n";
    assert!(outcome.err.ends_with(said), "{}", outcome.err);
    assert_eq!(server.seen()[0].body, r#"{"replicas":2}"#);
}

#[tokio::test]
async fn a_scheduler_that_is_away_while_we_wait_is_waited_for() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.line.as_str() {
        "PUT /workloads/web/scale" => ok(""),
        "GET /workloads/web" => match asked.fetch_add(1, Relaxed) {
            0..3 => error("503 Service Unavailable", r#"{"error": "I am just starting"}"#),
            _ => say(&workload(2, json!({}))),
        },
        "GET /instances?workload=web" => say(&instances(2)),
        _ => nothing_here(seen),
    })
    .await;
    let outcome = run(&server.url(), &["scale", "web", "2"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.err.starts_with("I am just starting. Still trying.\n"), "{}", outcome.err);
}

#[tokio::test]
async fn a_delete_is_waited_for_until_nothing_is_left() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.line.as_str() {
        "DELETE /workloads/web" => Act::Say(answer("202 Accepted", "", "")),
        "GET /instances?workload=web" => match asked.fetch_add(1, Relaxed) {
            0 => say(&instances(2)),
            _ => ok("[]"),
        },
        _ => nothing_here(seen),
    })
    .await;
    let outcome = run(&server.url(), &["delete", "web"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.err.starts_with("web: 2 instances left"), "{}", outcome.err);
    assert_eq!(outcome.out, "web: deleted, and nothing of it is left\n");
}

#[tokio::test]
async fn a_slip_of_the_finger_is_noticed() {
    let server = Server::start(|seen| match seen.line.as_str() {
        "GET /workloads" => say(&json!([workload(2, json!({}))])),
        "GET /instances?workload=wbe" => ok("[]"),
        _ => error("404 Not Found", r#"{"error": "there is no workload wbe."}"#),
    })
    .await;
    for args in
        [&["status", "wbe"][..], &["scale", "wbe", "1"], &["delete", "wbe"], &["instances", "wbe"]]
    {
        let outcome = run(&server.url(), args).await;
        assert_eq!(outcome.code, Some(1), "{args:?}");
        assert_eq!(outcome.err, "error: there is no workload wbe. Did you mean web?\n", "{args:?}");
    }
}

fn event(seq: u64) -> String {
    let event = json!({"seq": seq, "at": "2025-11-22T14:00:00Z", "kind": "Tested", "message": "m"});
    chunk(&format!("{event}\n"))
}

fn numbers(out: &str) -> Vec<u64> {
    out.lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_u64().expect("a number")
        })
        .collect()
}

#[tokio::test]
async fn events_are_followed_across_breaks_and_gaps() {
    let server = Server::start(|seen| {
        let stream = |events: &str| Act::SayAndClose(format!("{CHUNKED}{events}").into_bytes());
        match seen.line.as_str() {
            // Breaks off; ends properly; is asked for what is no longer kept.
            "GET /events?since=3&follow=true" => stream(&(event(4) + &event(5))),
            "GET /events?since=5&follow=true" => stream(&(event(6) + "0\r\n\r\n")),
            "GET /events?since=6&follow=true" => error("410 Gone", r#"{"error": "too old"}"#),
            "GET /events?follow=true" => stream(&(event(90) + "0\r\n\r\n")),
            _ => error("403 Forbidden", r#"{"error": "that is enough"}"#),
        }
    })
    .await;
    let args = ["events", "--since", "3", "--follow", "-o", "json"];
    let outcome = run(&server.url(), &args).await;
    assert_eq!(numbers(&outcome.out), [4, 5, 6, 90]);
    assert_eq!(
        outcome.err,
        "some events may have been missed: the scheduler was restarted, or keeps only so many; \
         going on with the oldest it has\n\
         error: that is enough\n"
    );
}

#[tokio::test]
async fn events_end_where_they_are_not_followed() {
    let server = Server::start(|seen| {
        let events = if seen.line.ends_with("workload=web") { event(1) } else { String::new() };
        Act::Say(format!("{CHUNKED}{events}0\r\n\r\n").into_bytes())
    })
    .await;
    let outcome = run(&server.url(), &["events", "--workload", "web"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(
        outcome.out.ends_with("14:00:00  Tested                -                   m\n"),
        "{}",
        outcome.out
    );
    let outcome = run(&server.url(), &["events"]).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), ""));
    assert_eq!(outcome.err, "no events yet; wait for them with --follow\n");
}

#[tokio::test]
async fn logs_of_a_workload_and_of_one_instance() {
    let server = Server::start(|seen| match seen.line.as_str() {
        "GET /instances?workload=web" | "GET /instances" => say(&instances(1)),
        "GET /workloads" => ok("[]"),
        "GET /logs/web-r1-0?tail=2" => Act::Say(answer("200 OK", "", "one\ntwo")),
        _ => nothing_here(seen),
    })
    .await;
    let outcome = run(&server.url(), &["logs", "web", "--tail", "2"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.out, "web-r1-0 | one\nweb-r1-0 | two\n");
    assert_eq!(outcome.err, "web-r1-1: no log yet: pulling hello:1\n");
    let outcome = run(&server.url(), &["logs", "web-r1-0", "-n", "2"]).await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "one\ntwo"), "{outcome:?}");
    let outcome = run(&server.url(), &["logs", "nope"]).await;
    assert_eq!(outcome.code, Some(1));
    let wanted = "error: there is no workload or instance \"nope\". See: ";
    assert!(outcome.err.starts_with(wanted), "{}", outcome.err);
    let outcome = run(&server.url(), &["logs", "web-r1-5"]).await;
    assert!(outcome.err.ends_with("Did you mean web-r1-0?\n"), "{}", outcome.err);
}

#[tokio::test]
async fn followed_logs_take_in_those_that_start_later_and_end_with_the_workload() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.line.as_str() {
        "GET /instances?workload=web" => {
            say(&instances(if asked.load(Relaxed) > 0 { 2 } else { 1 }))
        }
        "GET /workloads/web" if asked.fetch_add(1, Relaxed) < 3 => say(&workload(2, json!({}))),
        "GET /logs/web-r1-0?follow=true" => Act::Say(answer("200 OK", "", "first\n")),
        "GET /logs/web-r1-1?follow=true" => Act::Say(answer("200 OK", "", "second\n")),
        _ => nothing_here(seen),
    })
    .await;
    let outcome = run(&server.url(), &["logs", "web", "--follow"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let mut lines: Vec<&str> = outcome.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["web-r1-0 | first", "web-r1-1 | second"]);
    assert!(outcome.err.ends_with("web is gone\n"), "{}", outcome.err);
}

#[tokio::test]
async fn nobody_reading_is_no_failure() {
    let server = Server::start(|_| {
        let many: String = (0..20_000).map(event).collect();
        Act::SayAndHang(format!("{CHUNKED}{many}").into_bytes())
    })
    .await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_kube-lite"))
        .args(["ctl", "events", "--follow", "--server", &server.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let out = std::thread::spawn(String::new);
    let mut pipe = child.stderr.take().expect("piped");
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        text
    });
    let outcome = Running { child, out, err }.end().await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_watched_list_is_shown_again_when_it_changes() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Relaxed) {
        0 | 1 => say(&json!([workload(1, json!({}))])),
        2 => error("503 Service Unavailable", r#"{"error": "not now"}"#),
        3 => say(&json!([workload(2, json!({}))])),
        _ => error("403 Forbidden", r#"{"error": "that is enough"}"#),
    })
    .await;
    let outcome = run(&server.url(), &["workloads", "--watch"]).await;
    assert_eq!(
        outcome.out,
        "\
WORKLOAD  READY  STATUS    RESTARTS  IMAGE
web       1/2    starting         0  hello:1

WORKLOAD  READY  STATUS  RESTARTS  IMAGE
web       2/2    ready          0  hello:1
"
    );
    assert_eq!(outcome.err, "not now\nerror: that is enough\n");
}

#[tokio::test]
async fn nodes_are_managed() {
    let server = Server::start(|_| ok("{}")).await;
    for (args, request) in [
        (&["cordon", "n1"][..], "POST /nodes/n1/cordon"),
        (&["uncordon", "n1"], "POST /nodes/n1/uncordon"),
        (&["drain", "n1", "--no-wait"], "POST /nodes/n1/drain"),
        (&["node", "remove", "n1"], "DELETE /nodes/n1"),
    ] {
        let outcome = run(&server.url(), args).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.out.starts_with("n1: "), "{}", outcome.out);
        assert_eq!(server.seen().last().map(|seen| seen.line.clone()).as_deref(), Some(request));
    }
}

/// A cluster that asks nobody who he is has a dashboard, too, and nothing to sign in to.
#[tokio::test]
async fn the_dashboard_is_where_the_scheduler_is() {
    let refusal = r#"{"error": "no certificates, no tokens", "reason": "Conflict"}"#;
    let server = Server::start(move |_| error("409 Conflict", refusal)).await;
    let outcome = run(&server.url(), &["dashboard"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(outcome.out, format!("{}/\n", server.url()));
    assert_eq!(server.seen()[0].line, "POST /session/code");
    let outcome = run(&server.url(), &["dashboard", "-o", "json"]).await;
    let value: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(value, json!({"url": format!("{}/", server.url())}));
    let nobody = format!("http://{}", closed_port().await);
    let outcome = run(&nobody, &["dashboard"]).await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
}

#[tokio::test]
async fn rollouts_are_asked_for() {
    let server = Server::start(|seen| match seen.line.as_str() {
        "GET /workloads/web/rollout" => ok("null"),
        _ => say(&json!({"id": "web", "revision": 2, "warnings": ["mind the port"]})),
    })
    .await;
    let start = r#"{"image":"a:2","maxSurge":"25%","maxUnavailable":1}"#;
    for (args, request, body) in [
        (
            &["start", "web", "--image", "a:2"][..],
            "POST /workloads/web/rollout",
            r#"{"image":"a:2"}"#,
        ),
        (
            &["start", "web", "--image", "a:2", "--max-surge", "25%", "--max-unavailable", "1"],
            "POST /workloads/web/rollout",
            start,
        ),
        (&["pause", "web"], "POST /workloads/web/rollout/pause", ""),
        (&["resume", "web"], "POST /workloads/web/rollout/resume", ""),
        (&["abort", "web"], "POST /workloads/web/rollout/abort", ""),
        (&["restart", "web"], "POST /workloads/web/restart", ""),
        (&["undo", "web"], "POST /workloads/web/rollout/undo", "{}"),
        (&["undo", "web", "--to", "1"], "POST /workloads/web/rollout/undo", r#"{"to":1}"#),
    ] {
        let before = server.seen().len();
        let left: &[&str] = if args[0] == "pause" { &[] } else { &["--no-wait"] };
        let outcome = run(&server.url(), &[&["rollout"], args, left].concat()).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.out.starts_with("web: "), "{}", outcome.out);
        assert_eq!(outcome.err, "warning: web: mind the port\n");
        let asked = &server.seen()[before];
        assert_eq!((asked.line.as_str(), asked.body.as_str()), (request, body));
    }
}

#[tokio::test]
async fn shells_can_complete_it() {
    for (shell, wanted) in [("zsh", "#compdef kube-lite"), ("fish", "complete -c kube-lite")] {
        let outcome = run("http://127.0.0.1:1", &["completion", shell]).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert!(outcome.out.contains(wanted) && outcome.out.contains("workloads"), "{shell}");
    }
}

#[tokio::test]
async fn bash_really_completes_it() {
    let script = run("http://127.0.0.1:1", &["completion", "bash"]).await.out;
    for (typed, wanted) in [
        (&["kube-lite", "ct"][..], "ctl"),
        (&["kube-lite", "ctl", "sc"], "scale"),
        (&["kube-lite", "ctl", "deploy", "--no"], "--no-wait"),
        (&["kube-lite", "ctl", "-o", "js"], "json"),
        (&["kube-lite", "ctl", "rollout", "his"], "history"),
    ] {
        let [.., before, current] = typed else { panic!("two words at least") };
        let words = typed.join(" ");
        let last = typed.len() - 1;
        // What bash does when the user presses Tab.
        let tab = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={last}; \
             _kube__lite kube-lite '{current}' '{before}'; echo \"${{COMPREPLY[*]}}\""
        );
        let output = Command::new("bash").args(["-c", &tab]).output().expect("bash runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), wanted, "{words}: {output:?}");
    }
}
