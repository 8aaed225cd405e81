//! `kube-lite dev` against real Docker: deploying, scaling, healing, leaving.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use kube_lite::model::wire::labels;
use kube_lite_testkit::sandbox::{Fleet, IMAGE, hello, hello_probed};
use kube_lite_testkit::wait::stays;
use kube_lite_testkit::{LONG, SHORT, Sandbox, Truth, http, until};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// Three replicas on three nodes: one each, and each answers where `/discover`
/// says it does. Then scaled up and down and away.
#[tokio::test(flavor = "multi_thread")]
async fn deploys_spreads_scales_and_deletes() {
    let sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&hello_probed("web", 3)).await;
    sandbox.ready("web", 3).await;
    let containers = sandbox.runs("web", 3).await;
    let nodes: BTreeSet<&str> = containers.iter().map(|c| c.label(labels::NODE)).collect();
    assert_eq!(nodes.len(), 3, "one per node: {containers:?}");

    let endpoints = sandbox.discover("web").await.endpoints;
    assert_eq!(endpoints.len(), 3, "{endpoints:?}");
    for endpoint in &endpoints {
        let answer = http::get(&endpoint.address, "/").await.expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains(endpoint.instance_id.as_str()), "{}", answer.body);
        assert!(answer.body.contains(endpoint.node_id.as_str()), "{}", answer.body);
    }

    for count in [10, 2, 0, 3] {
        sandbox.client.scale("web", count).await.expect("scale");
        sandbox.ready("web", count).await;
        sandbox.runs("web", count as usize).await;
        assert_eq!(sandbox.discover("web").await.endpoints.len(), count as usize);
    }
    sandbox.client.delete("web").await.expect("delete");
    sandbox.nothing_left().await;
    assert_eq!(http::get(sandbox.address(), "/workloads/web").await.unwrap().status, 404);
    assert_eq!(http::get(sandbox.address(), "/discover/web").await.unwrap().status, 404);
}

/// Ctrl-C takes every container along and leaves a stranger's alone.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_nothing_but_the_foreign_container() {
    let mut sandbox = Sandbox::start(BIN).await;
    let foreign = format!("foreign-{}", sandbox.truth.cluster);
    let options = CreateContainerOptionsBuilder::default().name(&foreign).build();
    let body =
        bollard::models::ContainerCreateBody { image: Some(IMAGE.into()), ..Default::default() };
    let docker = sandbox.truth.docker.clone();
    docker.create_container(Some(options), body).await.expect("a foreign container");
    docker.start_container(&foreign, None).await.expect("started");

    sandbox.deploy(&hello("web", 4)).await;
    // A dead one, kept for its logs, must go as well.
    let mut crash = hello("crash", 1);
    crash["env"] = serde_json::json!({"HELLO_EXIT_CODE": "3"});
    sandbox.deploy(&crash).await;
    sandbox.ready("web", 4).await;
    until("a dead container to be kept", SHORT, || async {
        let all = sandbox.truth.all().await;
        if all.iter().any(|c| c.state == "exited") { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;

    let status = sandbox.interrupt();
    let left = sandbox.truth.all().await;
    let inspected = docker.inspect_container(&foreign, None).await.expect("still there");
    let remove = RemoveContainerOptionsBuilder::default().force(true).build();
    docker.remove_container(&foreign, Some(remove)).await.expect("removed");
    assert!(status.success(), "{status}");
    assert_eq!(left, [], "nothing of ours is left");
    assert_eq!(inspected.state.and_then(|s| s.running), Some(true), "the foreign one still runs");
}

/// A test that fails leaves nothing either, though its workloads would heal.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_test_leaves_nothing() {
    let sandbox = Sandbox::start(BIN).await;
    let mut fleet = Fleet::start(BIN, 2).await;
    let truths = [&sandbox.truth, &fleet.truth].map(|truth| Truth::of(&truth.cluster));
    for api in [&sandbox.api, &fleet.api] {
        api.deploy(&hello("web", 4)).await;
        api.ready("web", 4).await;
    }
    fleet.agent("n1").kill();
    let failing = tokio::spawn(async move {
        let _both = (sandbox, fleet);
        panic!("as a failing test does");
    });
    assert!(failing.await.is_err_and(|error| error.is_panic()));
    stays("nothing is left", Duration::from_secs(2), || async {
        let left = [truths[0].all().await, truths[1].all().await].concat();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// However a container ends, it is replaced, and at no moment do more than
/// desired run: by Docker's own event stream.
#[tokio::test(flavor = "multi_thread")]
async fn heals_whatever_is_done_to_containers() {
    let sandbox = Sandbox::start(BIN).await;
    sandbox.deploy(&hello("web", 3)).await;
    sandbox.ready("web", 3).await;
    let watch = sandbox.truth.watch().await;
    let beginning = sandbox.runs("web", 3).await;

    let mut known: BTreeSet<String> = beginning.iter().map(|c| c.id.clone()).collect();
    for round in 0..4 {
        let victim = sandbox.runs("web", 3).await.remove(0);
        match round {
            0 => sandbox.truth.kill(&victim.id).await,
            1 => sandbox.truth.remove(&victim.id).await,
            2 => sandbox.truth.stop(&victim.id).await,
            _ => {
                let endpoints = sandbox.discover("web").await.endpoints;
                let endpoint = endpoints.iter().find(|e| e.instance_id.as_str() == victim.name);
                let address = &endpoint.expect("the victim is an endpoint").address;
                let _ = http::get(address, "/exit?code=7").await;
            }
        }
        until("a replacement of the victim", LONG, || async {
            let running = sandbox.truth.running_of("web").await;
            let fresh = running.iter().any(|c| !known.contains(&c.id));
            let gone = running.iter().all(|c| c.id != victim.id);
            if fresh && gone && running.len() == 3 { Ok(()) } else { Err(format!("{running:?}")) }
        })
        .await;
        sandbox.ready("web", 3).await;
        known.extend(sandbox.truth.running_of("web").await.into_iter().map(|c| c.id));
    }
    assert_eq!(watch.most_at_once("web", &beginning), 3, "{:?}", watch.events());
    let story = sandbox.get_json("/workloads/web/explain").await.to_string();
    assert!(story.contains("exited with code 7"), "the reason is told: {story}");
}

/// Fifty deploys and scales at once never run more than was ever asked for, and
/// end at the last word.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_deploys_and_scales_in_parallel() {
    let sandbox = Sandbox::start(BIN).await;
    let watch = sandbox.truth.watch().await;
    let tasks = (0..50).map(|number: u32| {
        let client = sandbox.client.clone();
        tokio::spawn(async move {
            if number.is_multiple_of(2) {
                let spec = hello("web", 3).to_string();
                client.deploy(spec.into()).await.map(|_| ())
            } else {
                // Unknown before the first deploy has arrived; that is an answer.
                client.scale("web", 1 + number % 3).await.map(drop).or(Ok(()))
            }
        })
    });
    for result in futures_util::future::join_all(tasks).await {
        result.expect("no panic").expect("accepted");
    }
    sandbox.client.scale("web", 3).await.expect("scale");
    sandbox.ready("web", 3).await;
    // Docker tells a death before its list of containers shows it.
    sandbox.runs("web", 3).await;
    stays("three run", Duration::from_secs(2), || async {
        let running = sandbox.truth.running_of("web").await.len();
        if running == 3 { Ok(()) } else { Err(format!("{running} run")) }
    })
    .await;
    assert!(watch.most_at_once("web", &[]) <= 3, "{:?}", watch.events());
}

/// A crash loop backs off as specified, says why, keeps its dead bounded, and
/// holds nobody else up.
#[tokio::test(flavor = "multi_thread")]
async fn crash_loop_backs_off_and_disturbs_nobody() {
    let sandbox = Sandbox::start(BIN).await;
    let watch = sandbox.truth.watch().await;
    let mut crash = hello("crash", 1);
    crash["env"] = serde_json::json!({"HELLO_EXIT_CODE": "42"});
    sandbox.deploy(&crash).await;
    until("five starts", LONG, || async {
        let starts = watch.starts("crash").len();
        if starts >= 5 { Ok(()) } else { Err(format!("{starts} starts")) }
    })
    .await;
    let starts: Vec<i64> = watch.starts("crash").iter().map(|e| e.at_ns / 1_000_000).collect();
    let gaps: Vec<i64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // First at once, then after 1, 2 and 4 s. Docker says that it was not sooner;
    // that it was not the next step is in what was decided, which no load delays.
    for (gap, least) in gaps.iter().zip([0, 1000, 2000, 4000]) {
        assert!(*gap >= least, "gaps {gaps:?}");
    }
    let decided = delays(&sandbox, "crash").await;
    for (delay, (least, most)) in
        decided.iter().zip([(0.0, 0.0), (1.0, 1.1), (2.0, 2.2), (4.0, 4.4)])
    {
        assert!(*delay >= least && *delay <= most, "decided {decided:?}");
    }
    assert!(decided.len() >= 4, "decided {decided:?}");
    until("the reason to name the exit code", SHORT, || async {
        let view = sandbox.workload("crash").await;
        let told = view.reasons.iter().any(|why| {
            format!("{}", why.reason) == "BackOff" && why.message.contains("exited with code 42")
        });
        if told { Ok(()) } else { Err(format!("{:?}", view.reasons)) }
    })
    .await;
    // One more than is kept lies there until the agent has swept up after the last.
    until("its dead to be bounded", SHORT, || async {
        let all = sandbox.truth.all().await;
        let dead = all.into_iter().filter(|c| c.state == "exited").count();
        if dead <= 2 { Ok(()) } else { Err(format!("{dead} dead on the one node it stays on")) }
    })
    .await;

    sandbox.deploy(&hello("calm", 2)).await;
    sandbox.ready("calm", 2).await;
    // At once: in the very step that created it, nothing lies in between.
    let told = events(&sandbox, "calm").await;
    let first: Vec<_> = told.iter().take(3).map(|e| e["kind"].as_str().unwrap_or("")).collect();
    assert_eq!(first, ["WorkloadCreated", "InstanceOrdered", "InstanceOrdered"]);
    let number = |index: usize| told[index]["seq"].as_u64().expect("a number");
    assert_eq!(number(2), number(0) + 2, "{told:?}");
    assert!(sandbox.workload("crash").await.ready == 0, "it still crashes");

    // Its dead go with it, and the other stays.
    sandbox.client.delete("crash").await.expect("delete");
    until("nothing of it to be left, dead or alive", SHORT, || async {
        let all = sandbox.truth.all().await;
        let left: Vec<_> = all.iter().filter(|c| c.label(labels::WORKLOAD) == "crash").collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    sandbox.runs("calm", 2).await;
}

/// What happened to a workload, oldest first.
async fn events(sandbox: &Sandbox, workload: &str) -> Vec<serde_json::Value> {
    let path = format!("/events?workload={workload}");
    let lines = http::get(sandbox.address(), &path).await.expect("events").body;
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON on each line")).collect()
}

/// The delays before restarts, in seconds, as the scheduler decided them.
async fn delays(sandbox: &Sandbox, workload: &str) -> Vec<f64> {
    let told = events(sandbox, workload).await;
    let restarts = told.iter().filter(|event| event["kind"] == "ReplicaRestarting");
    restarts
        .map(|event| event["message"].as_str().unwrap_or_default())
        .map(|text| match text.split_once("restarting it in ") {
            Some((_, rest)) => rest.split(' ').next().unwrap_or_default().parse().expect("seconds"),
            None => 0.0,
        })
        .collect()
}

/// Finished is finished.
#[tokio::test(flavor = "multi_thread")]
async fn done_is_not_run_again() {
    let sandbox = Sandbox::start(BIN).await;
    let watch = sandbox.truth.watch().await;
    let job = |name: &str, policy: &str, code: &str| {
        let mut job = hello(name, 2);
        job["restartPolicy"] = policy.into();
        job["env"] = serde_json::json!({"HELLO_EXIT_CODE": code, "HELLO_EXIT_AFTER_MS": "100"});
        job
    };
    sandbox.deploy(&job("once", "onFailure", "0")).await;
    sandbox.deploy(&job("never", "never", "5")).await;
    for name in ["once", "never"] {
        until(&format!("{name} to be done"), LONG, || async {
            let view = sandbox.workload(name).await;
            if view.done == 2 { Ok(()) } else { Err(format!("{view:?}")) }
        })
        .await;
    }
    let mut retried = job("retried", "onFailure", "9");
    retried["replicas"] = 1.into();
    sandbox.deploy(&retried).await;
    until("a failure to be retried", LONG, || async {
        let starts = watch.starts("retried").len();
        if starts >= 3 { Ok(()) } else { Err(format!("{starts} starts")) }
    })
    .await;
    for name in ["once", "never"] {
        assert_eq!(watch.starts(name).len(), 2, "{name} ran once per replica");
        assert_eq!(sandbox.workload(name).await.done, 2);
    }
}
