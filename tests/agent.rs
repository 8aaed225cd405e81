//! One agent against the real Docker daemon, and a scheduler that does what the
//! test says. `make test` sees to the daemon and to the sample image.

mod agent_support;

use std::time::Duration;

use agent_support::{Bench, Node, hello, order};
use kube_lite::model::wire::DockerState;
use kube_lite::model::{Health, Phase, Reason};
use kube_lite_testkit::proxy::DockerProxy;
use kube_lite_testkit::registry::Registry;
use kube_lite_testkit::{SHORT, http, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_becomes_a_container_that_answers_and_a_stop_takes_it_away() {
    let node = Node::start().await;
    let order =
        order("plain-r1-aaaaa", hello(json!({"healthCheck": {"port": 8080, "path": "/healthz"}})));
    let accepted = node.run(&order).await.unwrap();
    assert_eq!(node.run(&order).await.unwrap(), accepted);
    let web = node.until("plain-r1-aaaaa", |web| web.health == Health::Healthy).await;
    assert_eq!((web.phase, web.reason), (Phase::Running, None));
    let port = web.ports.iter().find(|port| port.container_port == 8080).unwrap().host_port;

    let answer = http::get(&format!("127.0.0.1:{port}"), "/json").await.unwrap().json();
    assert_eq!(answer["instance"], "plain-r1-aaaaa", "{answer}");
    let made = node.truth.all().await;
    assert_eq!(made.len(), 1);
    assert_eq!((made[0].name.as_str(), made[0].state.as_str()), ("plain-r1-aaaaa", "running"));
    assert_eq!(made[0].label("kube-lite.node"), node.name);

    let status = node.get("/status/plain-r1-aaaaa").await;
    assert_eq!((status.status, status.json()["phase"].clone()), (200, json!("running")));
    let by_container = node.get(&format!("/status/{}", &web.container_id[..12])).await;
    assert_eq!(by_container.json()["id"], "plain-r1-aaaaa");

    node.stop("plain-r1-aaaaa", 0).await.unwrap();
    node.until_gone("plain-r1-aaaaa").await;
    assert_eq!(node.truth.all().await, []);
    node.end(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_reported_from_dockers_events_with_their_exit_codes() {
    let node = Node::start().await;
    let crash = json!({"env": {"HELLO_EXIT_CODE": "3", "HELLO_EXIT_AFTER_MS": "50"}});
    node.run(&order("crash-r1-aaaaa", hello(crash))).await.unwrap();
    node.run(&order("ends-r1-aaaaa", hello(json!({})))).await.unwrap();
    let crashed = node.until("crash-r1-aaaaa", |it| it.phase == Phase::Exited).await;
    assert_eq!((crashed.exit_code, crashed.reason), (Some(3), Some(Reason::Error)));
    assert!(crashed.message.unwrap().starts_with("exited with code 3 after 0."));

    node.until("ends-r1-aaaaa", |web| web.phase == Phase::Running).await;
    let killed = std::time::Instant::now();
    node.truth.kill("ends-r1-aaaaa").await;
    let dead = node.until("ends-r1-aaaaa", |web| web.phase == Phase::Exited).await;
    assert_eq!(dead.exit_code, Some(137));
    assert!(killed.elapsed() < Duration::from_secs(3), "by an event, not by the next listing");

    node.truth.remove("crash-r1-aaaaa").await;
    node.stop("crash-r1-aaaaa", 0).await.unwrap();
    node.stop("ends-r1-aaaaa", 0).await.unwrap();
    node.until_gone("crash-r1-aaaaa").await;
    node.until_gone("ends-r1-aaaaa").await;
    node.end(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_removes_is_noticed() {
    let node = Node::start().await;
    node.run(&order("byhand-r1-aaaaa", hello(json!({})))).await.unwrap();
    node.until("byhand-r1-aaaaa", |web| web.phase == Phase::Running).await;
    node.truth.remove("byhand-r1-aaaaa").await;
    node.until("byhand-r1-aaaaa", |web| web.phase >= Phase::Exited).await;
    node.end(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_and_leaves_nothing() {
    let node = Node::start().await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let taken = json!({"ports": [{"containerPort": 8080, "hostPort": port, "fixed": true}]});
    node.run(&order("taken-r1-aaaaa", hello(taken))).await.unwrap();
    let failed = node.until("taken-r1-aaaaa", |it| it.phase == Phase::Failed).await;
    assert_eq!(failed.reason, Some(Reason::PortTaken));
    assert!(failed.message.unwrap().contains(&format!("host port {port} on 127.0.0.1")));

    node.run(&order("nope-r1-aaaaa", hello(json!({"command": ["/no-such-program"]}))))
        .await
        .unwrap();
    let failed = node.until("nope-r1-aaaaa", |it| it.phase == Phase::Failed).await;
    assert_eq!(failed.reason, Some(Reason::StartFailed));

    let absent = json!({"image": "kube-lite/no-such-image:v0", "pullPolicy": "never"});
    node.run(&order("absent-r1-aaaaa", hello(absent))).await.unwrap();
    let failed = node.until("absent-r1-aaaaa", |it| it.phase == Phase::Failed).await;
    assert_eq!(failed.reason, Some(Reason::ImageNotFound));
    assert_eq!(node.truth.all().await, []);
    node.end(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_adopts_its_containers_and_takes_them_along_when_told_to() {
    let bench = Bench::new().await;
    let home = tempfile::tempdir().unwrap();
    let first = bench.node_in("n1", Some(home.path().to_owned())).await;
    let order = order("adopt-r1-aaaaa", hello(json!({"healthCheck": {"port": 8080}})));
    first.run(&order).await.unwrap();
    let before = first.until("adopt-r1-aaaaa", |web| web.health == Health::Healthy).await;
    first.end(false).await;
    let truth = bench.truth();
    assert_eq!(truth.running().await.len(), 1, "its containers run on");

    let second = bench.node_in("n1", Some(home.path().to_owned())).await;
    let after = second.until("adopt-r1-aaaaa", |web| web.health == Health::Healthy).await;
    assert_eq!(after.container_id, before.container_id);
    assert_eq!((after.ports, after.started_at), (before.ports, before.started_at));
    assert!(after.running_for_ms >= before.running_for_ms);
    second.run(&order).await.unwrap();
    assert_eq!(truth.all().await.len(), 1);

    let began = std::time::Instant::now();
    second.end(true).await;
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(bench.truth().all().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_without_frames_from_both_streams_and_end_with_their_reader() {
    let node = Node::start().await;
    node.run(&order("logs-r1-aaaaa", hello(json!({})))).await.unwrap();
    let web = node.until("logs-r1-aaaaa", |web| web.phase == Phase::Running).await;
    let app = format!("127.0.0.1:{}", web.ports[0].host_port);
    until("the app to answer", SHORT, || http::get(&app, "/log?line=one&stream=stdout")).await;
    // Docker copies the two streams side by side: only what it has seen is in order.
    until("the first line", SHORT, || async {
        let text = node.get("/logs/logs-r1-aaaaa").await.body;
        if text.contains("one\n") { Ok(()) } else { Err(text) }
    })
    .await;
    http::get(&app, "/log?line=two&stream=stderr").await.unwrap();

    until("both lines", SHORT, || async {
        let text = node.get("/logs/logs-r1-aaaaa").await.body;
        let both = text.contains("one\n") && text.contains("two\n") && !text.contains('\0');
        if both { Ok(()) } else { Err(text) }
    })
    .await;
    let only = node.get("/logs/logs-r1-aaaaa?stream=stderr&tail=1").await.body;
    assert_eq!(only, "two\n");

    let mut follower = node.follow("logs-r1-aaaaa").await;
    // A line that is written just as Docker begins to follow may be told only with
    // the next one.
    let again = tokio::spawn(async move {
        loop {
            let _ = http::get(&app, "/log?line=three&stream=stdout").await;
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    });
    follower.read_until("three\n").await;
    again.abort();
    drop(follower);
    node.stop("logs-r1-aaaaa", 0).await.unwrap();
    node.until_gone("logs-r1-aaaaa").await;
    assert_eq!(node.get("/logs/logs-r1-aaaaa").await.status, 404);
    node.end(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_happens_once_for_all_nodes_of_a_process_and_can_be_told_to_stop() {
    let mut registry = Registry::start(false).await;
    let address = registry.address.clone();
    let proxy = kube_lite_testkit::proxy::TcpProxy::before(&address).await;
    let image = registry.push("app", 2_000_000, &proxy.address).await;
    let bench = Bench::new().await;
    let (one, two) = (bench.node("n1").await, bench.node("n2").await);

    proxy.throttle(200_000);
    one.run(&order("pull-r1-aaaaa", hello(json!({"image": image})))).await.unwrap();
    one.until("pull-r1-aaaaa", |web| web.phase == Phase::Pulling).await;
    one.run(&order("other-r1-aaaaa", hello(json!({})))).await.unwrap();
    one.until("other-r1-aaaaa", |other| other.phase == Phase::Running).await;
    one.stop("pull-r1-aaaaa", 0).await.unwrap();
    one.until_gone("pull-r1-aaaaa").await;

    // Told to stop, Docker takes a moment; then nothing moves any more.
    let before = until("the pull to have ended", SHORT, || async {
        let first = proxy.passed();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = proxy.passed();
        if first == second { Ok(first) } else { Err(format!("{first}, {second} bytes")) }
    })
    .await;
    proxy.throttle(0);
    for (node, id) in [(&one, "pull-r1-bbbbb"), (&two, "pull-r1-ccccc")] {
        node.run(&order(id, hello(json!({"image": image})))).await.unwrap();
    }
    one.until("pull-r1-bbbbb", |web| web.phase == Phase::Running).await;
    two.until("pull-r1-ccccc", |web| web.phase == Phase::Running).await;
    let passed = proxy.passed() - before;
    assert!(passed < 3_500_000, "{passed} bytes for 2 MB");

    let missing = json!({"image": format!("{}/app:v9", proxy.address)});
    one.run(&order("gone-r1-aaaaa", hello(missing))).await.unwrap();
    let failed = one.until("gone-r1-aaaaa", |it| it.phase == Phase::Failed).await;
    assert_eq!(failed.reason, Some(Reason::ImageNotFound), "{:?}", failed.message);

    let nobody = json!({"image": "127.0.0.1:1/app:v1"});
    one.run(&order("away-r1-aaaaa", hello(nobody))).await.unwrap();
    let waits = one.until("away-r1-aaaaa", |it| it.reason == Some(Reason::PullFailed)).await;
    assert!(waits.message.unwrap().contains("refused"), "tried again, and says why");
    one.end(true).await;
    two.end(true).await;
    assert_eq!(bench.truth().all().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_final() {
    let mut registry = Registry::start(true).await;
    let address = registry.address.clone();
    let image = registry.push("secret", 1_000, &address).await;
    let node = Node::start().await;
    node.run(&order("login-r1-aaaaa", hello(json!({"image": image})))).await.unwrap();
    let failed = node.until("login-r1-aaaaa", |web| web.phase == Phase::Failed).await;
    assert_eq!(failed.reason, Some(Reason::ImageDenied), "{:?}", failed.message);
    node.end(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_may_be_absent_gone_and_hung_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut proxy = DockerProxy::new(&directory.path().join("docker.sock"));
    let bench = Bench::new().await;
    let node = bench.node_at("n1", &proxy.docker_host()).await;
    let absent = node.until_docker(DockerState::Away).await;
    assert!(absent.message.unwrap().contains("docker.sock"));
    node.run(&order("docker-r1-aaaaa", hello(json!({"healthCheck": {"port": 8080}}))))
        .await
        .unwrap();
    node.until("docker-r1-aaaaa", |web| web.reason == Some(Reason::DockerUnavailable)).await;

    proxy.open();
    node.until_docker(DockerState::Ok).await;
    node.until("docker-r1-aaaaa", |web| web.health == Health::Healthy).await;

    proxy.close();
    node.until_docker(DockerState::Away).await;
    node.truth.kill("docker-r1-aaaaa").await;
    proxy.open();
    let dead = node.until("docker-r1-aaaaa", |web| web.phase == Phase::Exited).await;
    assert_eq!(dead.exit_code, Some(137), "found by the listing");

    proxy.stall(true);
    let hung = node.until_docker(DockerState::Hung).await;
    assert!(hung.message.unwrap().contains("did not answer"));
    node.run(&order("docker-r1-bbbbb", hello(json!({})))).await.unwrap();
    proxy.stall(false);
    node.until_docker(DockerState::Ok).await;
    node.until("docker-r1-bbbbb", |web| web.phase == Phase::Running).await;
    node.end(true).await;
    assert_eq!(bench.truth().all().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_node_was_taken_over_ends_by_itself() {
    let mut node = Node::start().await;
    node.run(&order("taken-r1-aaaaa", hello(json!({})))).await.unwrap();
    node.until("taken-r1-aaaaa", |web| web.phase == Phase::Running).await;
    node.scheduler.answer_heartbeats_with(422);
    until("it to register again", SHORT, || async {
        let times = node.scheduler.registrations(&node.name);
        if times >= 2 { Ok(()) } else { Err(times) }
    })
    .await;
    node.scheduler.answer_heartbeats_with(409);
    let ending = tokio::time::timeout(SHORT, node.agent.as_mut().unwrap().ended()).await.unwrap();
    assert!(format!("{ending:?}").starts_with("Superseded"), "{ending:?}");
    assert_eq!(node.truth.running().await.len(), 1, "its containers are the other's now");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_orders_is_answered_by_itself() {
    let node = Node::start().await;
    let one = order("batch-r1-aaaaa", hello(json!({})));
    let mut other = one.clone();
    other.replica = 7;
    let two = order("batch-r1-bbbbb", hello(json!({})));
    let gone = json!({"stop": {"id": "batch-r1-ccccc"}});
    let fence = node.run_request(&one).fence;
    let orders = json!([{"run": one}, {"run": other}, gone, {"run": two}]);
    let body = json!({"fence": fence, "orders": orders}).to_string();
    let answer = node.send("POST", "/orders", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let outcomes = answer.json();
    let ids = [0, 2, 3].map(|n| outcomes[n]["accepted"]["id"].as_str().unwrap_or("?").to_owned());
    assert_eq!(ids, ["batch-r1-aaaaa", "batch-r1-ccccc", "batch-r1-bbbbb"], "{outcomes}");
    assert_eq!(outcomes[1]["refused"]["status"], 409, "{outcomes}");
    assert_eq!(outcomes.as_array().map(Vec::len), Some(4));
    for id in ["batch-r1-aaaaa", "batch-r1-bbbbb"] {
        node.until(id, |web| web.phase == Phase::Running).await;
    }
    node.end(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_change_nothing() {
    let node = Node::start().await;
    let good = serde_json::to_value(node.run_request(&order("bad-r1-aaaaa", hello(json!({})))));
    let mut stale = good.unwrap();
    stale["fence"]["epoch"] = json!(999);
    let other_node = json!({"fence": {"cluster": "c", "node": "x", "incarnation": 1, "epoch": 1}});
    for (method, path, body, status) in [
        ("POST", "/run", "{".to_owned(), 400),
        ("POST", "/run", "[]".to_owned(), 400),
        ("POST", "/run", stale.to_string(), 409),
        ("POST", "/orders", "{}".to_owned(), 400),
        ("POST", "/orders", json!({"fence": stale["fence"], "orders": [7]}).to_string(), 400),
        ("POST", "/stop/bad-r1-aaaaa", other_node.to_string(), 409),
        ("POST", "/stop/..%2Fetc", other_node.to_string(), 400),
        ("GET", "/status/nobody", String::new(), 404),
        ("GET", "/logs/nobody", String::new(), 404),
        ("GET", "/logs/nobody?tail=x", String::new(), 400),
        ("GET", "/logs/nobody?stream=x", String::new(), 400),
        ("GET", "/run", String::new(), 405),
    ] {
        let answer = node.send(method, path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.json()["error"].is_string(), "{method} {path}");
    }
    assert_eq!(node.get("/health").await.json()["status"], "ok");
    assert_eq!(node.truth.all().await, []);
    node.end(false).await;
}
