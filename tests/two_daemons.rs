//! Fixed host ports on nodes of two Docker daemons.

use std::sync::atomic::{AtomicU32, Ordering};

use kube_lite_testkit::registry::free_port;
use kube_lite_testkit::sandbox::{Fleet, hello};
use kube_lite_testkit::second::{self, SecondDocker};
use kube_lite_testkit::{LONG, http, until};
use serde_json::json;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");
const IMAGES: [&str; 2] = ["kube-lite/hello:v1", "kube-lite/hello:v2"];

/// Three replicas that all want the same host port, on three nodes of two
/// daemons: two run, one says why it waits. A new version goes one at a time, in
/// place, and the other one serves meanwhile.
#[test]
fn a_fixed_port_exists_once_per_daemon_and_is_updated_in_place() {
    if second::is_skipped() {
        return;
    }
    // Free on the machine; in the other network they all are.
    let port = free_port();
    second::apart(move || async move {
        let docker = SecondDocker::start(&IMAGES).await;
        let mut fleet = Fleet::scheduler_only(BIN).await;
        let host = docker.docker_host();
        fleet.start_agent("n1", &[]).await;
        fleet.start_agent("n2", &[("DOCKER_HOST", &host)]).await;
        fleet.start_agent("n3", &[("DOCKER_HOST", &host)]).await;
        fleet.able(3).await;
        let other = docker.truth(&fleet.truth.cluster);

        let mut spec = hello("web", 3);
        spec["ports"] = json!([{"containerPort": 8080, "hostPort": port, "fixed": true}]);
        fleet.deploy(&spec).await;
        let two_run_one_waits = || async {
            let view = fleet.workload("web").await;
            let told = view.reasons.iter().any(|why| {
                why.reason.to_string() == "PortTaken" && why.message.contains(&port.to_string())
            });
            let right = view.ready == 2 && view.waiting == 1 && view.stopping == 0 && told;
            if right { Ok(view) } else { Err(format!("{view:?}")) }
        };
        until("two to run and one to wait", LONG, two_run_one_waits).await;
        let (here, there) = (fleet.runs("web", 1).await, other.running_of("web").await);
        assert_eq!(there.len(), 1, "{there:?}");
        let (watch_here, watch_there) = (fleet.truth.watch().await, other.watch().await);

        fleet.roll("web", IMAGES[1]).await;
        let fewest = AtomicU32::new(u32::MAX);
        until("both to be of v2", LONG, || async {
            let view = fleet.workload("web").await;
            fewest.fetch_min(view.ready, Ordering::Relaxed);
            let updated = view.rollout.as_ref().map_or(0, |r| r.updated);
            if updated == 2 { Ok(()) } else { Err(format!("{view:?}")) }
        })
        .await;
        assert_eq!(fewest.into_inner(), 1, "one at a time");
        until("two to run and one to wait again", LONG, two_run_one_waits).await;
        assert_eq!(watch_here.most_at_once("web", &here), 1);
        assert_eq!(watch_there.most_at_once("web", &there), 1);
        let body = http::get(&format!("127.0.0.1:{port}"), "/").await.expect("an answer").body;
        assert!(body.contains("version v2"), "{body}");

        // Without the one that has no place the rollout has an end.
        fleet.client.scale("web", 2).await.unwrap();
        fleet.rollout_is("web", "done").await;
        fleet.ready("web", 2).await;
        fleet.client.delete("web").await.unwrap();
        fleet.nothing_left().await;
    });
}
