//! `--runtime simulated`: the real binary, the real protocol, and no Docker. Many
//! nodes, and everything that goes wrong on them, in seconds.

use std::collections::BTreeMap;
use std::process::Command;

use kube_lite::model::ContainerInstance;
use kube_lite_testkit::sandbox::Api;
use kube_lite_testkit::{LONG, Process, Replay, Sandbox, http, until};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");
/// Docker is nowhere: what needs it fails.
const NO_DOCKER: [(&str, &str); 1] = [("DOCKER_HOST", "unix:///nowhere.sock")];

/// `dev` without Docker, with these options and nothing slow about it.
async fn dev(nodes: u32, options: &[&str]) -> Sandbox {
    let nodes_text = nodes.to_string();
    let mut all = vec!["--nodes", &nodes_text, "--runtime", "simulated", "--sim-pull", "50ms"];
    all.extend(["--sim-start", "50ms", "--sim-warmup", "50ms", "--sim-stop", "20ms"]);
    all.extend(options);
    let sandbox = Sandbox::start_with(BIN, &all, &NO_DOCKER).await;
    sandbox.able(nodes as usize).await;
    sandbox
}

/// One more simulated node, in a process of its own, that can be killed.
async fn node(api: &Api, name: &str) -> Process {
    let mut command = Command::new(BIN);
    command.args(["agent", "--runtime", "simulated", "--listen", "127.0.0.1:0"]);
    command.args(["--scheduler", &api.url, "--node-id", name]).envs(NO_DOCKER);
    Process::start(name, &mut command)
}

fn web(replicas: u32) -> Value {
    json!({
        "name": "web", "image": "shop/web:1", "replicas": replicas,
        "ports": [{"containerPort": 80}],
        "healthCheck": {"port": 80, "intervalSeconds": 1},
        "strategy": {"drainSeconds": 0, "maxSurge": 10},
    })
}

fn per_node(instances: &[ContainerInstance]) -> BTreeMap<String, usize> {
    let mut per_node = BTreeMap::new();
    for instance in instances {
        *per_node.entry(instance.node_id.to_string()).or_default() += 1;
    }
    per_node
}

/// 300 replicas are spread over 100 nodes; one node's process is killed, and what
/// it had comes back on the others.
#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_on_a_hundred_nodes_outlive_one_of_them() {
    let sandbox = dev(99, &[]).await;
    let mut victim = node(&sandbox, "victim").await;
    sandbox.able(100).await;
    sandbox.deploy(&web(300)).await;
    sandbox.ready("web", 300).await;
    let spread = per_node(&sandbox.instances("web").await);
    assert_eq!(spread.len(), 100, "{spread:?}");
    assert!(spread.values().all(|count| *count == 3), "{spread:?}");

    victim.kill();
    until("the victim to be dead and its three to be elsewhere", LONG, || async {
        let nodes = sandbox.nodes().await;
        let dead = nodes.iter().any(|n| n.id.as_str() == "victim" && n.status.as_str() == "dead");
        let here = sandbox.instances("web").await;
        let elsewhere = here.iter().filter(|i| i.ready && i.node_id.as_str() != "victim").count();
        if dead && elsewhere == 300 { Ok(()) } else { Err(format!("{dead} {elsewhere}")) }
    })
    .await;
    assert_eq!(sandbox.discover("web").await.endpoints.len(), 300);
}

/// Containers that crash are restarted, starts that fail are tried again, and there
/// are moments when all that is wanted is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_crashes_and_what_does_not_start_heals() {
    let sandbox = dev(20, &["--sim-crash", "2/min", "--sim-fail", "10%"]).await;
    sandbox.deploy(&web(60)).await;
    until("many crashes and failed starts, and all of it healed", LONG, || async {
        let events = sandbox.events("web").await;
        let restarts: Vec<&str> = events
            .iter()
            .filter(|event| event.kind == "ReplicaRestarting")
            .map(|event| event.message.as_str())
            .collect();
        let not_started = restarts.iter().filter(|text| text.contains("simulated failure")).count();
        let crashed = restarts.len() - not_started;
        let ready = sandbox.workload("web").await.ready;
        let fine = crashed >= 5 && not_started >= 5 && ready == 60;
        if fine { Ok(()) } else { Err(format!("{crashed} {not_started} {ready}")) }
    })
    .await;
}

/// Nodes that lose their power are found dead and come back; meanwhile others take
/// over what they had.
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_heal() {
    let options = ["--sim-outage", "2/min", "--sim-outage-length", "12s"];
    let sandbox = dev(12, &options).await;
    sandbox.deploy(&web(24)).await;
    until("a node to die and to be back, and all that is wanted to be there", LONG, || async {
        let answer = http::get(sandbox.address(), "/events").await.expect("events").body;
        let lost = answer.matches("\"NodeDead\"").count();
        let back = answer.matches("is back at").count();
        let ready = sandbox.workload("web").await.ready;
        let fine = lost > 0 && back > 0 && ready == 24;
        if fine { Ok(()) } else { Err(format!("{lost} {back} {ready}")) }
    })
    .await;
}

/// A rolling update over 20 nodes: never fewer ready than wanted. A bad image
/// ends in a roll-back that nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_and_a_bad_one() {
    let sandbox = dev(20, &[]).await;
    sandbox.deploy(&web(60)).await;
    sandbox.ready("web", 60).await;
    let replay = Replay::begin(&sandbox, "web").await;
    sandbox.roll("web", "shop/web:2").await;
    sandbox.rollout_is("web", "done").await;
    sandbox.ready("web", 60).await;
    let shown = replay.show(&sandbox).await;
    assert!(shown.fewest >= 60 && shown.stopped == 60, "{shown:?}");

    for bad in ["shop/web:crash", "shop/web:missing"] {
        let replay = Replay::begin(&sandbox, "web").await;
        sandbox.roll("web", bad).await;
        sandbox.rollout_is("web", "aborted").await;
        sandbox.ready("web", 60).await;
        assert!(replay.show(&sandbox).await.fewest >= 60, "{bad}");
    }
    let images = sandbox.instances("web").await;
    let live = images.iter().filter(|i| i.ready);
    assert!(live.clone().all(|i| i.image == "shop/web:2"), "{images:?}");
}

/// A thousand nodes in one process are there in seconds, with few threads, and
/// Ctrl-C ends them all at once. Logs can be read and followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_nodes_are_a_playground() {
    let mut sandbox = dev(1_000, &[]).await;
    sandbox.deploy(&web(1_000)).await;
    sandbox.ready("web", 1_000).await;
    let instances = sandbox.instances("web").await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.process.id()));
    let status = status.expect("its status");
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("threads");
    assert!(threads.trim().parse::<u32>().expect("a number") < 40, "{threads}");

    let log = http::get(sandbox.address(), &format!("/logs/{}?tail=2", instances[0].id)).await;
    let log = log.expect("a log");
    assert_eq!((log.status, log.body.lines().count()), (200, 2), "{log:?}");
    let joint =
        http::get(sandbox.address(), "/workloads/web/logs?tail=1").await.expect("joint logs");
    assert_eq!(joint.status, 200, "{joint:?}");

    assert!(sandbox.interrupt().success());
    assert!(sandbox.process.output().contains("all gone"), "{}", sandbox.process.output());
}

/// With more instances than are read at once, each gets the tail that was asked for,
/// and that some have to wait is said.
#[tokio::test(flavor = "multi_thread")]
async fn joint_logs_of_many_are_tails() {
    let mut sandbox = dev(2, &[]).await;
    sandbox.deploy(&web(60)).await;
    sandbox.ready("web", 60).await;
    let joint = http::get(sandbox.address(), "/workloads/web/logs?tail=1").await;
    let joint = joint.expect("joint logs");
    let said = joint.body.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let (waits, lines): (Vec<Value>, Vec<Value>) =
        said.partition(|line: &Value| line["unread"].is_number());
    let waits: Vec<&Value> = waits.iter().map(|said| &said["unread"]).collect();
    assert_eq!(waits, [&json!(10), &json!(0)], "{}", joint.body);
    let mut of: Vec<&str> = lines.iter().filter_map(|line| line["instance"].as_str()).collect();
    of.sort_unstable();
    of.dedup();
    assert_eq!(of.len(), 60);
    // A line or so that is written meanwhile, but no whole logs.
    assert!(lines.len() < 90, "{} lines", lines.len());
    assert!(sandbox.interrupt().success());
}

/// What makes no sense is refused before anything is started.
#[test]
fn options_that_do_not_fit_are_refused() {
    for (options, says) in [
        (&["dev", "--sim-start", "1s"][..], "--runtime simulated"),
        (&["dev", "--nodes", "2000"], "too many for one Docker daemon"),
        (&["dev", "--runtime", "simulated", "--sim-fail", "200%"], "0% to 100%"),
        (&["agent", "--scheduler", "localhost:1", "--nodes", "3"], "--runtime simulated"),
        (
            &[
                "agent",
                "--scheduler",
                "localhost:1",
                "--runtime",
                "simulated",
                "--advertise",
                "a:1",
            ],
            "leave out",
        ),
    ] {
        let output = Command::new(BIN).args(options).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{options:?}: {said}");
    }
}
