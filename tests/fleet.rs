//! A scheduler and agents in processes of their own: nodes that die, freeze,
//! return and restart, and a scheduler that does.

use std::time::Duration;

use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::labels;
use kube_lite_testkit::sandbox::{Fleet, hello, hello_probed};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, http, until};
use nix::sys::signal::Signal;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

async fn status_of(fleet: &Fleet, node: &str) -> NodeStatus {
    fleet
        .nodes()
        .await
        .into_iter()
        .find(|n| n.id.as_str() == node)
        .map_or(NodeStatus::Unknown, |n| n.status)
}

async fn until_status(fleet: &Fleet, node: &str, status: NodeStatus) {
    until(&format!("{node} to be {}", status.as_str()), LONG, || async {
        let is = status_of(fleet, node).await;
        if is == status { Ok(()) } else { Err(is.as_str().to_owned()) }
    })
    .await;
}

/// A node that dies with its containers: replaced elsewhere after 9 s, and it
/// returns to right counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_replaced_and_returns_empty() {
    let mut fleet = Fleet::start(BIN, 3).await;
    fleet.deploy(&hello("web", 6)).await;
    fleet.ready("web", 6).await;
    let began = std::time::Instant::now();
    fleet.agent("n2").kill();
    for container in fleet.truth.all().await {
        if container.label(labels::NODE) == "n2" {
            fleet.truth.remove(&container.id).await;
        }
    }
    until_status(&fleet, "n2", NodeStatus::Dead).await;
    assert!(began.elapsed() > Duration::from_secs(5), "not before it was silent for 9 s");
    fleet.ready("web", 6).await;
    let running = fleet.runs("web", 6).await;
    assert!(running.iter().all(|c| c.label(labels::NODE) != "n2"), "{running:?}");

    fleet.start_agent("n2", &[]).await;
    until_status(&fleet, "n2", NodeStatus::Alive).await;
    fleet.ready("web", 6).await;
    fleet.runs("web", 6).await;
}

/// A node whose agent dies while its containers run on: replaced, and when the
/// agent returns with them, the excess goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_returns_with_its_containers() {
    let mut fleet = Fleet::start(BIN, 3).await;
    fleet.deploy(&hello_probed("web", 6)).await;
    fleet.ready("web", 6).await;
    fleet.agent("n3").kill();
    until_status(&fleet, "n3", NodeStatus::Dead).await;
    fleet.ready("web", 6).await;
    assert_eq!(fleet.truth.running_of("web").await.len(), 8, "two of them out of sight");

    fleet.start_agent("n3", &[]).await;
    until_status(&fleet, "n3", NodeStatus::Alive).await;
    fleet.runs("web", 6).await;
    fleet.ready("web", 6).await;
    stays("six run", Duration::from_secs(3), || async {
        let running = fleet.truth.running_of("web").await.len();
        if running == 6 { Ok(()) } else { Err(format!("{running} run")) }
    })
    .await;
}

/// An agent that is frozen for five seconds is not dead.
#[tokio::test(flavor = "multi_thread")]
async fn five_frozen_seconds_kill_no_node() {
    let mut fleet = Fleet::start(BIN, 2).await;
    fleet.deploy(&hello("web", 2)).await;
    fleet.ready("web", 2).await;
    let before = fleet.runs("web", 2).await;
    // Five seconds of silence are meant, not five after up to three.
    until("n1 to have been heard just now", LONG, || async {
        let nodes = fleet.nodes().await;
        let n1 = nodes.iter().find(|node| node.id.as_str() == "n1").ok_or("no n1")?;
        let ago = n1.last_heartbeat_seconds_ago.unwrap_or(99.0);
        if ago < 0.3 { Ok(()) } else { Err("not just now") }
    })
    .await;
    fleet.agent("n1").signal(Signal::SIGSTOP);
    stays("n1 is alive", Duration::from_secs(5), || async {
        match status_of(&fleet, "n1").await {
            NodeStatus::Alive => Ok(()),
            other => Err(other.as_str()),
        }
    })
    .await;
    fleet.agent("n1").signal(Signal::SIGCONT);
    fleet.ready("web", 2).await;
    assert_eq!(fleet.runs("web", 2).await, before, "the same containers");
}

/// A scheduler that is frozen for longer than nine seconds blames nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_scheduler_kills_no_node() {
    let fleet = Fleet::start(BIN, 2).await;
    fleet.deploy(&hello("web", 2)).await;
    fleet.ready("web", 2).await;
    let before = fleet.runs("web", 2).await;
    fleet.scheduler.signal(Signal::SIGSTOP);
    stays("its containers run on", Duration::from_secs(12), || async {
        let running = fleet.truth.running_of("web").await;
        if running == before { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    fleet.scheduler.signal(Signal::SIGCONT);
    stays("nobody is dead and nothing is replaced", Duration::from_secs(4), || async {
        let dead = fleet.nodes().await.into_iter().any(|n| n.status == NodeStatus::Dead);
        let running = fleet.truth.running_of("web").await;
        if !dead && running == before { Ok(()) } else { Err(format!("dead {dead} {running:?}")) }
    })
    .await;
}

/// A restarted scheduler does not know its agents: they register again, and not
/// one container is touched.
#[tokio::test(flavor = "multi_thread")]
async fn agents_register_again_with_a_restarted_scheduler() {
    let mut fleet = Fleet::start(BIN, 3).await;
    fleet.deploy(&hello("web", 3)).await;
    let mut crash = hello("crash", 1);
    crash["env"] = serde_json::json!({"HELLO_EXIT_CODE": "1"});
    fleet.deploy(&crash).await;
    let mut job = hello("job", 1);
    job["restartPolicy"] = "never".into();
    job["env"] = serde_json::json!({"HELLO_EXIT_CODE": "0"});
    fleet.deploy(&job).await;
    fleet.ready("web", 3).await;
    let watch = fleet.truth.watch().await;
    until("the crash loop to be in its stride and the job done", LONG, || async {
        let (crash, job) = (fleet.workload("crash").await, fleet.workload("job").await);
        if crash.restarts >= 4 && job.done == 1 {
            Ok(())
        } else {
            Err(format!("{crash:?} {job:?}"))
        }
    })
    .await;
    let before = fleet.runs("web", 3).await;
    let starts = watch.starts("crash").len();
    let job_starts = watch.starts("job").len();
    fleet.restart_scheduler().await;
    fleet.able(3).await;
    fleet.ready("web", 3).await;
    assert_eq!(fleet.runs("web", 3).await, before, "the same containers");
    assert_eq!(fleet.workload("job").await.done, 1, "done outlives the scheduler");
    // The crash loop waits 8 s by now; a scheduler that had forgotten it would
    // start it at once.
    let after = watch.starts("crash").len();
    assert!(after <= starts + 1, "{after} starts after {starts}: it was started before its time");
    let view = fleet.workload("crash").await;
    assert!(view.restarts >= 4, "its restarts are remembered: {view:?}");
    assert_eq!(watch.starts("job").len(), job_starts, "the job is not run again");
}

/// A restarted agent adopts what runs, and starts nothing before its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_adopts_its_containers() {
    let mut fleet = Fleet::start(BIN, 1).await;
    fleet.deploy(&hello_probed("web", 2)).await;
    let mut job = hello("job", 1);
    job["restartPolicy"] = "onFailure".into();
    job["env"] = serde_json::json!({"HELLO_EXIT_CODE": "0"});
    fleet.deploy(&job).await;
    fleet.ready("web", 2).await;
    until("the job to be done", LONG, || async {
        let view = fleet.workload("job").await;
        if view.done == 1 { Ok(()) } else { Err(format!("{view:?}")) }
    })
    .await;
    let before = fleet.runs("web", 2).await;
    let watch = fleet.truth.watch().await;
    for hard in [true, false] {
        if hard {
            fleet.agent("n1").kill();
        } else {
            fleet.agent("n1").signal(Signal::SIGTERM);
            let status = fleet.agent("n1").wait(Duration::from_secs(15));
            assert!(status.success(), "{status}");
        }
        assert_eq!(fleet.runs("web", 2).await, before, "containers outlive their agent");
        fleet.start_agent("n1", &[]).await;
        fleet.able(1).await;
        fleet.ready("web", 2).await;
    }
    stays("the same containers run", Duration::from_secs(4), || async {
        let running = fleet.truth.running_of("web").await;
        if running == before { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
    assert_eq!(watch.starts("web").len() + watch.starts("job").len(), 0, "{:?}", watch.events());
    let story = http::get(fleet.address(), "/workloads/web").await.unwrap().body;
    assert!(!story.contains("\"restarts\":1"), "{story}");
}

/// A crash-looping and an unhealthy replica wait their time also when their
/// agent is restarted meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_started_before_its_time_over_a_restart_of_the_agent() {
    let mut fleet = Fleet::start(BIN, 1).await;
    let watch = fleet.truth.watch().await;
    let mut crash = hello("crash", 1);
    crash["env"] = serde_json::json!({"HELLO_EXIT_CODE": "1"});
    fleet.deploy(&crash).await;
    let mut sick = hello_probed("sick", 1);
    sick["env"] = serde_json::json!({"HELLO_UNHEALTHY": "1"});
    sick["healthCheck"]["startupSeconds"] = 1.into();
    sick["healthCheck"]["failureThreshold"] = 1.into();
    fleet.deploy(&sick).await;
    for round in 1..=4 {
        // Each restart hits the replicas in another step of their back-off.
        until("more starts", LONG, || async {
            let starts = (watch.starts("crash").len(), watch.starts("sick").len());
            if starts.0 > round && starts.1 > round / 2 {
                Ok(())
            } else {
                Err(format!("{starts:?}"))
            }
        })
        .await;
        fleet.agent("n1").kill();
        fleet.start_agent("n1", &[]).await;
    }
    for name in ["crash", "sick"] {
        let view = fleet.workload(name).await;
        let at: Vec<i64> = watch.starts(name).iter().map(|e| e.at_ns / 1_000_000).collect();
        let gaps: Vec<i64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (number, gap) in gaps.iter().enumerate().skip(1) {
            let least = 1000 << (number - 1);
            assert!(*gap >= least, "{name}: start {number} came after {gap} ms: {gaps:?} {view:?}");
        }
        assert!(gaps.len() >= 2, "{name} was started again: {gaps:?}");
    }
}
