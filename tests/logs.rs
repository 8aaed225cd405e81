//! Logs: tail and follow, through the scheduler.

use std::process::Command;

use kube_lite_testkit::proxy::DockerProxy;
use kube_lite_testkit::sandbox::hello;
use kube_lite_testkit::{LONG, Process, SHORT, Sandbox, http, until};

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
