//! Logs: tail and follow, through the scheduler.

use std::process::Command;

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
    say("one", "stdout").await;
    say("two", "stderr").await;
    say("three", "stdout").await;

    let id = endpoint.instance_id.as_str();
    let path = format!("/logs/{id}");
    let text = until("all three lines", SHORT, || async {
        let text = http::get(sandbox.address(), &path).await.unwrap().body;
        if text.contains("three") { Ok(text) } else { Err(text) }
    })
    .await;
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
