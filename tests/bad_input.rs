//! Bad input, through the real binary and real sockets: each gets a clear
//! error, nothing changes, and the next good request works.

mod support;

use kube_lite_testkit::sandbox::{Fleet, hello};
use kube_lite_testkit::{SHORT, http, until};
use support::bad_requests::run_all;

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// Against the scheduler, while a workload runs that nothing of it may touch.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_changes_nothing() {
    let fleet = Fleet::start(BIN, 1).await;
    fleet.deploy(&hello("bystander", 2)).await;
    fleet.ready("bystander", 2).await;
    let before = fleet.runs("bystander", 2).await;
    let watch = fleet.truth.watch().await;
    run_all(fleet.address().parse().expect("an address")).await;
    assert_eq!(fleet.runs("bystander", 2).await, before, "the same containers");
    let events = watch.events();
    assert!(events.is_empty(), "Docker was asked to do something: {events:?}");
    fleet.client.scale("bystander", 3).await.expect("the next good request works");
    fleet.ready("bystander", 3).await;
}

/// Against an agent: orders from nobody it knows, ids that are none, bodies that
/// are none.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_refuses_what_is_not_its_schedulers_word() {
    let fleet = Fleet::start(BIN, 1).await;
    fleet.deploy(&hello("bystander", 1)).await;
    fleet.ready("bystander", 1).await;
    let before = fleet.runs("bystander", 1).await;
    let agent = fleet.nodes().await.remove(0).address;
    let cluster = fleet.truth.cluster.clone();
    let fence = |cluster: &str, node: &str, incarnation: u64, epoch: u64| {
        format!(
            r#"{{"cluster":"{cluster}","node":"{node}","incarnation":{incarnation},"epoch":{epoch}}}"#
        )
    };
    let run = |fence: &str| {
        format!(
            r#"{{"fence":{fence},"order":{{"id":"evil-r1-aaaaa","workload":"evil","revision":1,
            "replica":0,"template":{{"image":"kube-lite/hello:v1"}}}}}}"#
        )
    };
    let stop = |fence: &str| format!(r#"{{"fence":{fence}}}"#);
    let strangers = [
        fence("another", "n1", 1, 1),
        fence(&cluster, "n2", 1, 1),
        fence(&cluster, "n1", 1, 1),
        fence(&cluster, "n1", 1, 99),
    ];
    for fence in &strangers {
        let answer = http::send(&agent, "POST", "/run", Some(&run(fence))).await.unwrap();
        assert_eq!(answer.status, 409, "{fence}: {}", answer.body);
        let batch =
            format!(r#"{{"fence":{fence},"orders":[{{"stop":{{"id":"{}"}}}}]}}"#, before[0].name);
        let answer = http::send(&agent, "POST", "/orders", Some(&batch)).await.unwrap();
        assert_eq!(answer.json()[0]["refused"]["status"], 409, "{fence}: {}", answer.body);
        let path = format!("/stop/{}", before[0].name);
        let answer = http::send(&agent, "POST", &path, Some(&stop(fence))).await.unwrap();
        assert_eq!(answer.status, 409, "{fence}: {}", answer.body);
    }
    let broken = [
        ("POST", "/run", Some("{"), 400),
        ("POST", "/run", Some("{}"), 400),
        ("POST", "/run", Some("[]"), 400),
        ("POST", "/stop/..%2fetc", Some("{}"), 400),
        ("GET", "/status/nobody", None, 404),
        ("GET", "/logs/nobody", None, 404),
        ("GET", "/logs/%00", None, 400),
        ("DELETE", "/run", None, 405),
        ("GET", "/nothing", None, 404),
    ];
    for (method, path, body, status) in broken {
        let answer = http::send(&agent, method, path, body).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        let json = answer.json();
        assert!(json["error"].is_string() && json["reason"].is_string(), "{}", answer.body);
    }
    assert_eq!(fleet.runs("bystander", 1).await, before, "the same container");
    until("the agent to be well", SHORT, || async {
        let answer = http::get(&agent, "/health").await.map_err(|e| e.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    })
    .await;
}
