//! Rollouts and drains as people see them: the real binary, the real scheduler,
//! and agents that are played.

mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kube_lite::model::Timing;
use serde_json::{Value, json};
use support::agent;
use support::scheduler::Scheduler;

#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs one command to its end.
async fn ctl(scheduler: &Scheduler, args: &str) -> Outcome {
    ctl_with(scheduler, args, String::new()).await
}

/// The same with something on its standard input.
async fn ctl_with(scheduler: &Scheduler, args: &str, input: String) -> Outcome {
    let url = format!("http://{}", scheduler.addr);
    let words: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kube-lite"))
            .arg("ctl")
            .args(words)
            .env("KUBE_LITE_SERVER", url)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output()
    });
    let output = output.await.expect("no panic").expect("the binary runs");
    let outcome = Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    eprintln!("$ kube-lite ctl {args}\n{}{}", outcome.out, outcome.err);
    outcome
}

/// Three nodes, and nothing that takes long.
async fn three_nodes() -> Scheduler {
    // On a busy machine, too, no node is to die.
    let timing = Timing { dead_after_ms: 600_000, ..Timing::default() };
    let scheduler = Scheduler::with(timing).await;
    for node in ["node-1", "node-2", "node-3"] {
        agent::start(&scheduler, node).await;
    }
    scheduler
}

fn spec(image: &str, change: Value) -> String {
    let mut spec = json!({
        "name": "web", "image": image, "replicas": 4,
        "healthCheck": {"port": 8080}, "strategy": {"drainSeconds": 0},
    });
    let fields = change.as_object().expect("an object").clone();
    spec.as_object_mut().expect("an object").extend(fields);
    spec.to_string()
}

async fn with_web() -> Scheduler {
    let scheduler = three_nodes().await;
    let outcome =
        ctl_with(&scheduler, "deploy -f - --timeout 20s", spec("hello:1", json!({}))).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    scheduler
}

/// Ids of the instances that are not over, in order.
async fn instances(scheduler: &Scheduler) -> Vec<String> {
    let list = scheduler.get("/instances?workload=web").await.json();
    let mut ids: Vec<String> = list
        .as_array()
        .expect("a list")
        .iter()
        .filter(|one| one["phase"] != "exited" && one["stopping"] != true)
        .map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids
}

async fn rollout_is(scheduler: &Scheduler, state: &str) {
    let began = Instant::now();
    loop {
        let rollout = scheduler.get("/workloads/web/rollout").await.json();
        if rollout["state"] == state {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "never {state}: {rollout}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_and_its_undo_are_followed() {
    let scheduler = with_web().await;
    let outcome = ctl(&scheduler, "rollout status web").await;
    assert_eq!(outcome.code, Some(0));
    assert_eq!(
        outcome.out,
        "web  no rollout yet, all is of revision 1 (hello:1)\n\n\
         Next: kube-lite ctl rollout start web --image IMAGE\n"
    );

    let outcome = ctl(&scheduler, "rollout start web --image hello:2 --max-surge 50%").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.err.contains("web: revision 2, "), "{}", outcome.err);
    assert!(outcome.err.contains("/4 updated, 4/4 ready"), "{}", outcome.err);
    assert!(outcome.err.contains(" (revision 2) on node-"), "{}", outcome.err);
    assert!(outcome.out.starts_with("web: 4/4 ready (revision 2, "), "{}", outcome.out);

    // A changed template in a deploy is the same.
    let changed = spec("hello:2", json!({"env": {"COLOUR": "blue"}}));
    let outcome = ctl_with(&scheduler, "deploy -f - --timeout 20s", changed).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.err.contains("web: revision 3, "), "{}", outcome.err);

    let outcome = ctl(&scheduler, "rollout undo web --to 1").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.contains("web: 4/4 ready (revision 1, "), "{}", outcome.out);
    let outcome = ctl(&scheduler, "rollout undo web").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.contains("web: 4/4 ready (revision 3, "), "{}", outcome.out);

    let outcome = ctl(&scheduler, "rollout status web").await;
    assert!(outcome.out.starts_with("web  done, 4/4 updated\n"), "{}", outcome.out);
    let outcome = ctl(&scheduler, "rollout status web --watch").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let outcome = ctl(&scheduler, "rollout history web").await;
    let now: Vec<&str> = outcome.out.lines().filter(|line| line.contains("current")).collect();
    assert!(matches!(now[..], [line] if line.contains("3  current, head")), "{}", outcome.out);
    let outcome = ctl(&scheduler, "rollout undo web --to 77").await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains("revision 77 of web is not kept"), "{}", outcome.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_rollout_says_why_and_that_all_is_as_before() {
    let scheduler = with_web().await;
    let before = instances(&scheduler).await;
    for command in ["rollout start web --image crash:2", "deploy -f - --timeout 20s"] {
        let input = spec("crash:3", json!({}));
        let outcome = ctl_with(&scheduler, command, input).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.err.contains(" was aborted: web-r"), "{}", outcome.err);
        assert!(outcome.err.contains("exited with code 3"), "{}", outcome.err);
        assert!(
            outcome.err.contains("\nEverything is as before: 4/4 of revision 1."),
            "{}",
            outcome.err
        );
        assert_eq!(instances(&scheduler).await, before);
    }
    let outcome = ctl(&scheduler, "rollout status web").await;
    assert!(outcome.out.starts_with("web  aborted\n"), "{}", outcome.out);
    assert!(outcome.out.contains("because   web-r3-"), "{}", outcome.out);
    let outcome = ctl(&scheduler, "rollout status web --watch").await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let outcome = ctl(&scheduler, "status web").await;
    assert!(outcome.out.starts_with("web  4/4 ready\n"), "{}", outcome.out);
    assert!(
        outcome.out.contains("revision 1 to 3 and back to 1: aborted: web-r3-"),
        "{}",
        outcome.out
    );
    let outcome = ctl(&scheduler, "rollout history web").await;
    assert!(outcome.out.contains("OUTCOME"), "{}", outcome.out);
    assert!(outcome.out.contains("aborted: web-r2-"), "{}", outcome.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_paused_resumed_and_taken_back() {
    let scheduler = with_web().await;
    let before = instances(&scheduler).await;
    for command in ["pause", "resume", "abort"] {
        let outcome = ctl(&scheduler, &format!("rollout {command} web")).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let (said, request) = outcome.err.rsplit_once(" [request ").expect("its request");
        assert_eq!(
            said,
            "error: no rollout of web is under way. What there was: \
             kube-lite ctl rollout history web"
        );
        assert!(request.ends_with("]\n"), "{outcome:?}");
        let outcome = ctl(&scheduler, &format!("rollout {command} wbe")).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.err.contains("Did you mean web?"), "{}", outcome.err);
    }
    let outcome = ctl(&scheduler, "rollout start web --image stuck:2 --no-wait").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(
        outcome.out,
        "web: revision 2 is wanted now; see: kube-lite ctl rollout status web --watch\n"
    );
    let outcome = ctl(&scheduler, "rollout pause web").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.starts_with("web: paused at 0/4 of revision 2; "), "{}", outcome.out);
    let outcome = ctl(&scheduler, "rollout status web").await;
    assert!(outcome.out.starts_with("web  paused, 0/4 updated\n"), "{}", outcome.out);
    assert!(outcome.out.ends_with("rollout resume web, or rollout abort web\n"), "{}", outcome.out);
    let outcome = ctl(&scheduler, "status web").await;
    assert!(outcome.out.contains("go on: kube-lite ctl rollout resume web"), "{}", outcome.out);

    let outcome = ctl(&scheduler, "rollout resume web --no-wait").await;
    assert!(outcome.out.starts_with("web: goes on at 0/4 of revision 2; "), "{}", outcome.out);
    let outcome = ctl(&scheduler, "rollout resume web --timeout 1s").await;
    assert_eq!(outcome.code, Some(3), "resumed, it is waited for: {outcome:?}");
    let outcome = ctl(&scheduler, "rollout start web --image stuck:2 --timeout 1s").await;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.err.contains("web: revision 2, 0/4 updated, 4/4 ready"), "{}", outcome.err);

    let outcome = ctl(&scheduler, "rollout abort web").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.starts_with("web: 4/4 ready (revision 1, "), "{}", outcome.out);
    rollout_is(&scheduler, "aborted").await;
    assert_eq!(instances(&scheduler).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_followed_until_all_are_new() {
    let scheduler = with_web().await;
    let before = instances(&scheduler).await;
    let outcome = ctl(&scheduler, "rollout restart web --timeout 20s").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.starts_with("web: 4/4 ready (revision 2, "), "{}", outcome.out);
    let now = instances(&scheduler).await;
    assert!(now.iter().all(|id| !before.contains(id)), "{now:?}");
    let outcome = ctl(&scheduler, "rollout history web").await;
    assert!(outcome.out.contains("restarted"), "{}", outcome.out);
    let outcome = ctl(&scheduler, "rollout restart wbe").await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains("Did you mean web?"), "{}", outcome.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_is_empty_and_stays_so() {
    let scheduler = with_web().await;
    let outcome = ctl(&scheduler, "drain node-1").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(
        outcome.out,
        "node-1: drained, nothing runs there and nothing new comes. \
         Back to work: kube-lite ctl uncordon node-1\n"
    );
    let outcome = ctl(&scheduler, "drain node-1 -o json").await;
    let node: Value = serde_json::from_str(&outcome.out).expect("JSON");
    assert_eq!((&node["id"], &node["draining"]), (&"node-1".into(), &true.into()));
    let outcome = ctl(&scheduler, "nodes").await;
    assert!(outcome.out.contains("node-1  alive, drained          0"), "{}", outcome.out);
    let outcome = ctl(&scheduler, "status web").await;
    assert!(outcome.out.starts_with("web  4/4 ready\n"), "{}", outcome.out);
    assert!(!outcome.out.contains("node-1"), "{}", outcome.out);

    // Nowhere to go: it says so, and nothing is stopped.
    ctl(&scheduler, "cordon node-3").await;
    let outcome = ctl(&scheduler, "drain node-2 --no-wait").await;
    assert!(outcome.out.starts_with("node-2: what runs there moves elsewhere"), "{}", outcome.out);
    ctl(&scheduler, "uncordon node-2").await;
    ctl(&scheduler, "drain node-3").await;
    let outcome = ctl(&scheduler, "drain node-2 --timeout 1s").await;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.err.contains("node-2: 4 instances left, 4 waiting"), "{}", outcome.err);
    assert!(outcome.err.contains("being drained"), "{}", outcome.err);
    let outcome = ctl(&scheduler, "status web").await;
    assert!(outcome.out.starts_with("web  4/4 ready"), "{}", outcome.out);
    let outcome = ctl(&scheduler, "drain node-9").await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
}

/// All JSON documents on standard output.
fn documents(outcome: &Outcome) -> Vec<Value> {
    let all = serde_json::Deserializer::from_str(&outcome.out).into_iter();
    all.collect::<Result<_, _>>().expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_followed_as_json_ends_with_it() {
    let scheduler = with_web().await;
    let outcome = ctl(&scheduler, "rollout status web --watch -o json").await;
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "null\n"), "there was none");
    ctl(&scheduler, "rollout start web --image hello:2 --no-wait").await;
    let outcome = ctl(&scheduler, "rollout status web --watch -o json").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_eq!(documents(&outcome).last().expect("one")["state"], "done");
    ctl(&scheduler, "rollout start web --image crash:3 --no-wait").await;
    let outcome = ctl(&scheduler, "rollout status web --watch -o json").await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(documents(&outcome).last().expect("one")["state"], "aborted");
    assert!(outcome.err.contains("was aborted: web-r3-"), "{}", outcome.err);
}

/// Neither the new revision runs nor the one it came from: that is said at once, and
/// not waited for until the time is up.
#[tokio::test(flavor = "multi_thread")]
async fn an_abort_to_what_does_not_run_either_is_not_waited_for() {
    let scheduler = three_nodes().await;
    let outcome = ctl_with(&scheduler, "deploy -f - --no-wait", spec("stuck:1", json!({}))).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let began = Instant::now();
    while scheduler.get("/workloads/web").await.json()["running"] != 4 {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for command in ["rollout start web --image crash:2", "rollout start web --image crash:3"] {
        let outcome = ctl(&scheduler, &format!("{command} --timeout 20s")).await;
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        for words in [" was aborted: web-r", "Revision 1 is wanted again, 0/4 ready"] {
            assert!(outcome.err.contains(words), "{words}: {}", outcome.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_fails_is_told_as_it_happens_and_ends_a_wait_that_fails_fast() {
    let scheduler = with_web().await;
    let outcome = ctl(&scheduler, "rollout start web --image nopull:2 --timeout 2s").await;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let first = outcome.err.split("error: not there").next().expect("what came before");
    let wanted = "web: PullFailed: the registry does not answer; tried again in 1 s";
    assert!(first.contains(wanted), "{}", outcome.err);
    for command in [
        "rollout undo web",
        "rollout start web --image nopull:3 --fail-fast",
        "rollout undo web --to 1",
        "rollout undo web --to 3 --fail-fast",
    ] {
        let outcome = ctl(&scheduler, &format!("{command} --timeout 20s")).await;
        let code = if command.contains("--fail-fast") { 1 } else { 0 };
        assert_eq!(outcome.code, Some(code), "{command}: {outcome:?}");
        assert_eq!(outcome.err.contains("error: web: PullFailed"), code == 1, "{}", outcome.err);
    }
}

/// One replica, one node, one port, and no leave to lack one: it can never move.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_leaves_itself_no_room_is_told_as_it_happens() {
    let scheduler = Scheduler::with(Timing { dead_after_ms: 600_000, ..Timing::default() }).await;
    agent::start(&scheduler, "node-1").await;
    let change = json!({"replicas": 1, "strategy": {"maxUnavailable": 0, "drainSeconds": 0},
        "ports": [{"containerPort": 80, "hostPort": 9000, "fixed": true}]});
    let outcome = ctl_with(&scheduler, "deploy -f - --timeout 20s", spec("hello:1", change)).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let outcome = ctl(&scheduler, "rollout start web --image hello:2 --timeout 2s").await;
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let first = outcome.err.split("error: not there").next().expect("what came before");
    for words in ["host port 9000 is taken by web-r1-", "maxUnavailable is 0", "Ctrl-C ends it"] {
        assert!(first.contains(words), "{words}: {}", outcome.err);
    }
    ctl(&scheduler, "rollout abort web --timeout 20s").await;
    let outcome = ctl(&scheduler, "rollout start web --image hello:2 --fail-fast").await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains("error: web: PortTaken: "), "{}", outcome.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_wanted_already_is_called_unchanged() {
    let scheduler = with_web().await;
    let same = || spec("hello:1", json!({}));
    let outcome = ctl_with(&scheduler, "deploy -f -", same()).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.starts_with("web: 4/4 ready (revision 1, unchanged)\n"), "{outcome:?}");
    let outcome = ctl_with(&scheduler, "deploy -f - --no-wait", same()).await;
    assert!(outcome.out.starts_with("web: unchanged, revision 1 "), "{outcome:?}");
    let outcome = ctl_with(&scheduler, "deploy -f - --no-wait -o json", same()).await;
    assert_eq!(documents(&outcome)[0]["unchanged"], true);
    let outcome = ctl(&scheduler, "scale web 4 --no-wait").await;
    assert!(outcome.out.starts_with("web: unchanged, 4 replicas "), "{outcome:?}");
    let outcome = ctl(&scheduler, "rollout start web --image hello:1 --no-wait").await;
    assert!(outcome.out.starts_with("web: unchanged, revision 1 "), "{outcome:?}");
    let outcome = ctl(&scheduler, "uncordon node-1").await;
    assert!(outcome.out.contains("unchanged"), "{outcome:?}");
}

/// A node that dies while it is drained, or that was dead before: nobody has seen it
/// empty. One that was seen to be is another matter.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_not_drained_by_that() {
    let scheduler = Scheduler::with(Timing { dead_after_ms: 1_500, ..Timing::default() }).await;
    let mortal = agent::start(&scheduler, "node-1").await;
    let outcome =
        ctl_with(&scheduler, "deploy -f - --timeout 20s", spec("hello:1", json!({}))).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let empty = agent::start(&scheduler, "node-2").await;
    let outcome = ctl(&scheduler, "drain node-2").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    mortal.abort();
    empty.abort();
    let before = instances(&scheduler).await;
    let outcome = ctl(&scheduler, "drain node-1 --timeout 20s").await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains("node-1: is dead, and was not seen to be empty"), "{outcome:?}");
    assert!(before.iter().any(|id| outcome.err.contains(&format!("{id}: not replaced yet"))));
    let began = Instant::now();
    while scheduler.get("/nodes").await.json()[1]["status"] != "dead" {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let outcome = ctl(&scheduler, "drain node-2").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.out.contains("is dead; nothing ran there"), "{outcome:?}");
    let outcome = ctl(&scheduler, "node remove node-1").await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(
        outcome.err.starts_with("warning: node node-1 was not heard to be empty"),
        "{outcome:?}"
    );
    let outcome = ctl(&scheduler, "node remove node-2").await;
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
}
