//! The sandbox's own life: `--deploy`, being killed and started again, `--fresh`,
//! and an end that takes no longer than it may.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube_lite::model::wire::labels;
use kube_lite_testkit::sandbox::hello;
use kube_lite_testkit::{LONG, SHORT, Sandbox, http, until};
use nix::sys::signal::Signal;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// What `make dev` ends in: a running app, its URLs and what to try next. Killed
/// the hard way and started again, it clears up and has the app running again.
#[tokio::test(flavor = "multi_thread")]
async fn deploys_what_it_is_given_and_survives_being_killed() {
    let options = ["--nodes", "3", "--deploy", "examples/hello.json"];
    let sandbox = Sandbox::start_with(BIN, &options, &[]).await;
    let said = until("the app to be up and the next steps told", LONG, || async {
        let said = sandbox.process.output();
        let all = said.contains("hello is up: 3/3 ready") && said.contains("scale hello 5");
        if all { Ok(said) } else { Err(said) }
    })
    .await;
    let urls: Vec<&str> =
        said.lines().filter_map(|line| line.trim().strip_prefix("http://")).collect();
    assert_eq!(urls.len(), 3, "{said}");
    for line in urls {
        let address = line.split_whitespace().next().expect("an address");
        assert_eq!(http::get(address, "/").await.expect("an answer").status, 200, "{line}");
    }
    let next = said.split_once("Try next").expect("the next steps").1;
    let commands: Vec<&str> = next.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(commands.len(), 4, "{next}");
    assert_eq!(commands[0], format!("export KUBE_LITE_SERVER={}", sandbox.url), "{next}");

    let Sandbox { mut process, api, directory } = sandbox;
    process.kill();
    let orphans = api.runs("hello", 3).await;
    let mut again = Sandbox::start_in(BIN, directory, &["--nodes", "2"], &[]).await;
    assert_eq!(again.truth.cluster, api.truth.cluster, "it is the same cluster");
    again.ready("hello", 3).await;
    let running = again.runs("hello", 3).await;
    assert!(running.iter().all(|c| !orphans.contains(c)), "leftovers were removed: {running:?}");
    assert_eq!(again.nodes().await.len(), 2, "of the nodes before, none is left");
    assert!(again.interrupt().success());
    again.nothing_left().await;

    let Sandbox { directory, .. } = again;
    let options = ["--nodes", "1", "--fresh"];
    let mut fresh = Sandbox::start_in(BIN, directory, &options, &[]).await;
    assert_eq!(fresh.truth.cluster, api.truth.cluster, "the id survives --fresh");
    assert_eq!(fresh.get_json("/workloads").await, serde_json::json!([]));
    assert!(fresh.interrupt().success());
}

/// Whatever runs takes its time on SIGTERM or ignores it, and wants to be
/// drained at length: Ctrl-C is over within 15 s, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_is_over_in_fifteen_seconds() {
    let mut sandbox = Sandbox::start(BIN).await;
    for (name, variable, value) in
        [("deaf", "HELLO_IGNORE_TERM", "1"), ("slow", "HELLO_TERM_DELAY_MS", "40000")]
    {
        let mut spec = hello(name, 3);
        spec["env"] = serde_json::json!({ variable: value });
        spec["stopGracePeriodSeconds"] = 60.into();
        spec["strategy"]["drainSeconds"] = 60.into();
        sandbox.deploy(&spec).await;
    }
    for name in ["deaf", "slow"] {
        sandbox.ready(name, 3).await;
    }
    // One that is on its way out already, and would take two minutes.
    sandbox.client.scale("slow", 2).await.expect("scale");
    until("one to be stopping", SHORT, || async {
        let stopping = sandbox.workload("slow").await.stopping;
        if stopping == 1 { Ok(()) } else { Err(format!("{stopping} stopping")) }
    })
    .await;
    let began = Instant::now();
    let status = sandbox.interrupt();
    let took = began.elapsed();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(15), "it took {took:?}: {}", sandbox.process.output());
    let left = sandbox.truth.all().await;
    assert_eq!(left, [], "{}", sandbox.process.output());
}

/// The terminal was closed: the same as Ctrl-C.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_terminal_ends_it_too() {
    let mut sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&hello("web", 2)).await;
    sandbox.ready("web", 2).await;
    sandbox.process.signal(Signal::SIGHUP);
    assert!(sandbox.process.wait(SHORT).success());
    assert_eq!(sandbox.truth.all().await, [], "{}", sandbox.process.output());
}

/// A sandbox that is started again spreads what it was told before over all its
/// nodes: it does not give everything to the first one that answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_started_again_spreads_over_all_its_nodes() {
    let mut sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&hello("web", 3)).await;
    sandbox.ready("web", 3).await;
    assert!(sandbox.interrupt().success());
    let Sandbox { directory, .. } = sandbox;
    let again = Sandbox::start_in(BIN, directory, &["--nodes", "3"], &[]).await;
    again.ready("web", 3).await;
    let running = again.runs("web", 3).await;
    let nodes: BTreeSet<&str> = running.iter().map(|c| c.label(labels::NODE)).collect();
    assert_eq!(nodes.len(), 3, "{running:?}");
}
