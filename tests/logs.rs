//! Logs: tail and follow, through the scheduler.

use std::process::Command;

use kube_lite::client::Client;
use kube_lite_testkit::proxy::DockerProxy;
use kube_lite_testkit::sandbox::hello;
use kube_lite_testkit::{LONG, Process, SHORT, Sandbox, http, until};
use serde_json::{Value, json};
use tokio::time::timeout;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// Both streams, in order, without Docker's frame headers; the tail; and what
/// comes while following. The agent's stream ends when the reader leaves.
#[tokio::test(flavor = "multi_thread")]
async fn tail_and_follow() {
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "1"], &[]).await;
    sandbox.able(1).await;
    sandbox.deploy(&hello("web", 1)).await;
    sandbox.ready("web", 1).await;
    let endpoint = sandbox.discover("web").await.endpoints.remove(0);
    let say = |line: &'static str, stream: &'static str| {
        let address = endpoint.address.clone();
        async move {
            let path = format!("/log?line={line}&stream={stream}");
            assert_eq!(http::get(&address, &path).await.unwrap().status, 200);
        }
    };
    let id = endpoint.instance_id.as_str();
    let path = format!("/logs/{id}");
    let mut text = String::new();
    for (line, stream) in [("one", "stdout"), ("two", "stderr"), ("three", "stdout")] {
        say(line, stream).await;
        // Docker copies the two streams side by side: only what it has seen is in order.
        text = until("the line", SHORT, || async {
            let text = http::get(sandbox.address(), &path).await.unwrap().body;
            if text.contains(line) { Ok(text) } else { Err(text) }
        })
        .await;
    }
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("hello "), "from the start: {text}");
    assert_eq!(lines[1..], ["one", "two", "three"], "both streams, frames taken off: {text:?}");
    let tail = http::get(sandbox.address(), &format!("{path}?tail=2")).await.unwrap().body;
    assert_eq!(tail, "two\nthree\n");

    // By a prefix of the container's id, too.
    let container = sandbox.runs("web", 1).await.remove(0);
    let by_prefix = format!("/logs/{}?tail=1", &container.id[..12]);
    assert_eq!(http::get(sandbox.address(), &by_prefix).await.unwrap().body, "three\n");

    let mut follower = Process::start(
        "ctl logs",
        Command::new(BIN)
            .args(["ctl", "--server", &sandbox.url, "logs", id, "--tail", "1"])
            .arg("--follow"),
    );
    until("the tail", SHORT, || async {
        let text = follower.output();
        if text.contains("three") { Ok(()) } else { Err(text) }
    })
    .await;
    say("four", "stderr").await;
    until("the line that came later", SHORT, || async {
        let text = follower.output();
        if text.contains("four") { Ok(()) } else { Err(text) }
    })
    .await;
    assert!(!follower.output().contains("two"), "only the tail: {}", follower.output());
    follower.kill();

    // When its container ends, so does following it.
    let mut last = Process::start(
        "ctl logs",
        Command::new(BIN).args(["ctl", "--server", &sandbox.url, "logs", id, "--follow"]),
    );
    until("it to follow", SHORT, || async {
        let text = last.output();
        if text.contains("four") { Ok(()) } else { Err(text) }
    })
    .await;
    sandbox.truth.kill(&container.id).await;
    assert!(last.wait(LONG).success(), "{}", last.output());
}

/// When whoever follows leaves, the stream from Docker ends too, all the way back.
#[tokio::test(flavor = "multi_thread")]
async fn the_agents_stream_ends_when_the_reader_leaves() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut proxy = DockerProxy::new(&directory.path().join("docker.sock"));
    proxy.open();
    let env = [("DOCKER_HOST", proxy.docker_host())];
    let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "1"], &env).await;
    sandbox.able(1).await;
    sandbox.deploy(&hello("web", 1)).await;
    sandbox.ready("web", 1).await;
    let id = sandbox.instances("web").await.remove(0).id;
    let idle = until("connections to Docker to come to rest", SHORT, || async {
        let first = proxy.open_connections();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let second = proxy.open_connections();
        if first == second { Ok(first) } else { Err(format!("{first}, {second}")) }
    })
    .await;
    let mut followers: Vec<Process> = (0..8)
        .map(|_| {
            let mut command = Command::new(BIN);
            command.args(["ctl", "--server", &sandbox.url, "logs", id.as_str(), "--follow"]);
            Process::start("ctl logs", &mut command)
        })
        .collect();
    for follower in &followers {
        until("the first line", SHORT, || async {
            let text = follower.output();
            if text.contains("hello ") { Ok(()) } else { Err(text) }
        })
        .await;
    }
    let busy = proxy.open_connections();
    assert!(busy >= 8, "each follower has a stream: {busy}");
    for follower in &mut followers {
        follower.kill();
    }
    until("their streams to be closed", SHORT, || async {
        let open = proxy.open_connections();
        if open <= idle + 1 { Ok(()) } else { Err(format!("{open} open, {idle} before")) }
    })
    .await;
}

/// What all instances of a workload write, as one stream: whose each line is, of
/// which stream, and when. Who joins later is read too.
#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_a_workload_together() {
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "2"], &[]).await;
    sandbox.able(2).await;
    sandbox.deploy(&hello("web", 2)).await;
    sandbox.ready("web", 2).await;
    let endpoints = sandbox.discover("web").await.endpoints;
    for (endpoint, line, stream) in
        [(&endpoints[0], "from-one", "stdout"), (&endpoints[1], "from-two", "stderr")]
    {
        let path = format!("/log?line={line}&stream={stream}");
        assert_eq!(http::get(&endpoint.address, &path).await.unwrap().status, 200);
    }
    let wanted = |lines: &[Value], endpoint: usize, line: &str, stream: &str| {
        lines.iter().any(|found| {
            found["instance"] == endpoints[endpoint].instance_id.as_str()
                && found["line"] == line
                && found["stream"] == stream
                && found["at"].as_str().is_some_and(|at| at.ends_with('Z'))
        })
    };
    let lines = until("both lines", SHORT, || async {
        let text = http::get(sandbox.address(), "/workloads/web/logs").await.unwrap().body;
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        match wanted(&lines, 0, "from-one", "stdout") && wanted(&lines, 1, "from-two", "stderr") {
            true => Ok(lines),
            false => Err(text),
        }
    })
    .await;
    assert!(lines.len() >= 4, "from the start: {lines:?}");
    let first = endpoints[0].instance_id.as_str();
    let path = format!("/workloads/web/logs?tail=1&instance={first}");
    let one = http::get(sandbox.address(), &path).await.unwrap().json();
    assert_eq!((&one["instance"], &one["line"]), (&json!(first), &json!("from-one")));

    // Following: an instance that comes later is read from its beginning.
    let client = Client::new(&sandbox.url).expect("an address");
    let path = "/workloads/web/logs?tail=1&follow=true";
    let mut lines = client.stream(path).await.expect("a stream").lines();
    client.scale("web", 3).await.expect("scaled");
    let began = timeout(LONG, async {
        loop {
            let line = lines.next_line().await.expect("a line").expect("not over");
            let line: Value = serde_json::from_slice(&line).expect("JSON");
            let known = endpoints.iter().any(|e| line["instance"] == e.instance_id.as_str());
            if !known {
                return line;
            }
        }
    })
    .await
    .expect("the third");
    assert!(began["line"].as_str().is_some_and(|line| line.starts_with("hello ")), "{began}");

    for (path, status) in [
        ("/workloads/nobody/logs", 404),
        ("/workloads/web/logs?instance=web-r1-xxxxx", 404),
        ("/workloads/web/logs?tail=many", 400),
    ] {
        let answer = http::get(sandbox.address(), path).await.unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
}

/// What is not there is said to be not there.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_instances() {
    let sandbox = Sandbox::start_with(BIN, &["--nodes", "1"], &[]).await;
    let answer = http::get(sandbox.address(), "/logs/nobody-r1-xxxxx").await.unwrap();
    assert_eq!(answer.status, 404, "{}", answer.body);
    assert!(answer.body.contains("nobody-r1-xxxxx"), "{}", answer.body);
    let answer = http::get(sandbox.address(), "/logs/x?tail=many").await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body);
}
