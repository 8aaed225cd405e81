//! What single callers may and may not do in a cluster with TLS: people, browsers, and
//! nodes that lie.

#[path = "support/secured.rs"]
mod secured;

use std::path::Path;

use kube_lite::client::{AgentClient, Client};
use kube_lite::http::guard::Doorkeeper as _;
use kube_lite::identity::ledger::Grant;
use kube_lite::identity::membership::Membership;
use kube_lite::identity::message::TokenRequest;
use kube_lite::identity::tls::{client_config, pinned_config};
use kube_lite::identity::token::Invitation;
use kube_lite::model::NodeId;
use kube_lite::roles::scheduler::{self, SchedulerConfig};
use kube_lite_testkit::{SHORT, until};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use secured::*;

/// A browser's whole way: a code, a session with it, and its end, which ends what is
/// being read, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_and_out() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let answer = |status, reason: &str| Said::Answer(status, reason.to_owned());
    let operator = cluster.shown("operator");
    let token = operator.token.clone().unwrap();
    let code = || {
        let asking = cluster.keeper.identify(None, Some(&token)).unwrap();
        cluster.keeper.offer_sign_in(&asking).unwrap().code
    };
    let nobody = cluster.shown("nothing");
    let sign_in = |shown: Shown, code: String| async move {
        shown.ask(addr, SCHEDULER, "POST", "/session", &json!({"code": code})).await
    };
    // Another page cannot, nor is it taken for what it is not.
    let foreign = cluster.shown("foreign page");
    assert_eq!(sign_in(foreign, code()).await, answer(403, "ForbiddenOrigin"));
    for bad in [String::new(), token.clone(), format!("klc_{}", "a".repeat(64))] {
        assert_eq!(sign_in(nobody.clone(), bad).await, answer(401, "UnknownCode"));
    }
    let once = code();
    assert_eq!(sign_in(nobody.clone(), once.clone()).await, answer(200, ""));
    assert_eq!(sign_in(nobody.clone(), once).await, answer(401, "UnknownCode"));

    // A code outlives its token no more than a session does.
    let brief = TokenRequest { role: Grant::Viewer, name: None, expires_in_seconds: None };
    let brief = cluster.keeper.create_token(&brief).unwrap();
    let asking = cluster.keeper.identify(None, Some(&brief.secret)).unwrap();
    let left = cluster.keeper.offer_sign_in(&asking).unwrap().code;
    cluster.keeper.revoke_token(&brief.token.id).unwrap();
    assert_eq!(sign_in(nobody.clone(), left).await, answer(401, "RevokedToken"));

    // What is read ends with the session, and so it does with the token.
    for (who, ends) in [("page of operator", "sign out"), ("page of viewer", "revoke")] {
        let shown = cluster.shown(who);
        let name = ServerName::try_from(SCHEDULER).unwrap();
        let tcp = TcpStream::connect(addr).await.unwrap();
        let mut stream = TlsConnector::from(shown.tls.clone()).connect(name, tcp).await.unwrap();
        let cookie = &shown.headers[0].1;
        let head = format!("GET /stream HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        while !String::from_utf8_lossy(&raw).contains("event: state") {
            assert_ne!(stream.read_buf(&mut raw).await.unwrap(), 0, "{raw:?}");
        }
        match ends {
            "sign out" => {
                let said = shown.ask(addr, SCHEDULER, "DELETE", "/session", &Value::Null).await;
                assert_eq!(said, answer(200, ""));
            }
            _ => {
                for token in cluster.keeper.tokens() {
                    if token.role == Grant::Viewer && token.state == "good" {
                        cluster.keeper.revoke_token(&token.id).unwrap();
                    }
                }
            }
        }
        // To its end: it says itself that there is no more.
        let read = timeout(PATIENCE, async {
            while !raw.ends_with(b"0\r\n\r\n") {
                if stream.read_buf(&mut raw).await? == 0 {
                    break;
                }
            }
            std::io::Result::Ok(())
        });
        read.await.expect("the stream ends").unwrap();
        let said = shown.ask(addr, SCHEDULER, "GET", "/stream", &Value::Null).await;
        assert!(matches!(said, Said::Answer(401, _)), "{said:?}");
    }
    // The token that signed it in is as good as before.
    let said = operator.ask(addr, SCHEDULER, "GET", "/session", &Value::Null).await;
    assert_eq!(said, answer(200, ""));
    cluster.scheduler.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malicious_node_speaks_for_itself_only() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let node = cluster.shown("node"); // n1
    let ask = |method: &'static str, path: &'static str, body: Value| {
        let node = node.clone();
        async move { node.ask(addr, SCHEDULER, method, path, &body).await }
    };
    let hello = |name: &str, advertise: Option<&str>| {
        json!({"nodeId": name, "key": "k", "incarnation": 1, "port": 9, "advertise": advertise,
            "docker": {"state": "ok"}})
    };
    let refused = |status, reason: &str| Said::Answer(status, reason.to_owned());
    // Reports for another, and registers as one.
    let beat = json!({"nodeId": "n2", "incarnation": 1, "epoch": 1, "seq": 1, "synced": true,
        "docker": {"state": "ok"}, "containers": []});
    assert_eq!(ask("POST", "/heartbeat", beat).await, refused(403, "AnotherNode"));
    assert_eq!(ask("POST", "/register", hello("n2", None)).await, refused(403, "AnotherNode"));
    // Has a certificate made for another.
    let renewal = json!({"nodeId": "n2", "request": "x"});
    assert_eq!(ask("POST", "/renew", renewal).await, refused(403, "AnotherNode"));
    // Or one for itself, for a key that it does not have.
    let pair = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&pair).unwrap();
    let renewal = json!({"nodeId": "n1", "request": request.pem().unwrap()});
    assert_eq!(ask("POST", "/renew", renewal).await, refused(409, "NameTaken"));
    // Makes the scheduler fetch an address of its choice.
    for address in ["169.254.169.254:80", "localhost:8080", "10.0.0.1:1"] {
        let said = ask("POST", "/register", hello("n1", Some(address))).await;
        assert_eq!(said, refused(403, "ForeignAddress"), "{address}");
    }
    // Reads another's specs.
    for path in ["/workloads", "/instances", "/nodes", "/events", "/backup", "/stream", "/tokens"] {
        assert_eq!(
            ask("GET", path, Value::Null).await,
            refused(403, "WrongKindOfCaller"),
            "{path}"
        );
    }
    // Itself it may be.
    let said = ask("POST", "/register", hello("n1", None)).await;
    assert_eq!(said, Said::Answer(200, String::new()));

    // With a join token it becomes nobody who is there already.
    let taken = Membership::join(&cluster.home("thief"), &"n1".into(), &cluster.invitation).await;
    let error = format!("{:#}", taken.unwrap_err());
    assert!(error.contains("There is a node n1 already"), "{error}");

    // At an address where another node answers, the scheduler says nothing.
    let agent = cluster.agent("a1").await;
    let there = agent.local_addr().to_string();
    let client = AgentClient::secured(PATIENCE, cluster.keeper.client_config().unwrap());
    let right = client.health(&client.at(&NodeId::from("a1"), &there)).await;
    assert!(right.is_ok(), "{right:?}");
    let error = client.health(&client.at(&NodeId::from("n1"), &there)).await.unwrap_err();
    assert!(error.to_string().contains("somebody else"), "{error}");
    // Nor does an agent report to another one, whose certificate is as good as its own.
    let reporter = cluster.member("m9").await.client_config().unwrap();
    let reporter = Client::secured(&format!("https://{there}"), reporter).unwrap();
    let error = reporter.health().await.unwrap_err();
    assert!(error.to_string().contains("somebody else"), "{error}");
    agent.kill();
    cluster.scheduler.shutdown().await;
}

/// A spec may hold secrets: who only looks is shown the names of variables, everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_no_values() {
    const SECRET: &str = "hunter2";
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let spec = json!({"name": "web", "image": "i", "replicas": 0, "env": {"PASSWORD": SECRET}});
    let deployed = cluster.shown("operator").ask(addr, SCHEDULER, "POST", "/deploy", &spec).await;
    assert_eq!(deployed, Said::Answer(200, String::new()));
    let reads = [
        "/workloads",
        "/workloads/web",
        "/stream",
        "/events",
        "/workloads/web/explain",
        "/workloads/web/history",
        "/metrics",
        "/instances",
    ];
    for path in reads {
        let seen = cluster.shown("viewer").read(addr, path).await;
        assert!(seen.starts_with("HTTP/1.1 200"), "{path}: {seen}");
        assert!(!seen.contains(SECRET), "{path}: {seen}");
    }
    for path in ["/workloads", "/workloads/web", "/workloads/web/history", "/stream"] {
        let (seen, all) = (cluster.shown("viewer"), cluster.shown("operator"));
        assert!(seen.read(addr, path).await.contains(r#""PASSWORD":"(hidden)""#), "{path}");
        assert!(all.read(addr, path).await.contains(SECRET), "{path}");
    }
    // What changes comes to a page that looks on, too.
    let mut stream = cluster.shown("viewer").open(addr, "/stream").await;
    let mut heard = until_heard(&mut stream, "PASSWORD").await;
    let spec = json!({"name": "web", "image": "i", "replicas": 0, "env": {"PASSWORD": "hunter22"}});
    cluster.shown("operator").ask(addr, SCHEDULER, "POST", "/deploy", &spec).await;
    heard += &until_heard(&mut stream, "\"revision\":2").await;
    assert!(!heard.contains(SECRET), "{heard}");
    cluster.scheduler.shutdown().await;
}

/// A token that is taken back ends what it had opened.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_out_hears_no_more() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let asked = TokenRequest { role: Grant::Viewer, name: None, expires_in_seconds: None };
    let made = cluster.keeper.create_token(&asked).unwrap();
    let tls = client_config(&cluster.authority, None).unwrap();
    let viewer = Shown { tls, token: Some(made.secret), headers: Vec::new() };
    let mut streams = Vec::new();
    for path in ["/stream", "/events?follow=true"] {
        let mut stream = viewer.open(addr, path).await;
        let head = until_heard(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        streams.push((path, stream));
    }
    cluster.keeper.revoke_token(&made.token.id).unwrap();
    for (path, mut stream) in streams {
        let end = async {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await
        };
        assert!(timeout(PATIENCE, end).await.is_ok(), "{path} goes on");
    }
    cluster.scheduler.shutdown().await;
}

/// A node that lies about itself with numbers that cannot be must leave a scheduler that
/// reads its own records back.
#[tokio::test(flavor = "multi_thread")]
async fn a_malicious_node_does_not_keep_the_scheduler_from_starting_again() {
    let cluster = Cluster::start().await;
    let data = cluster.dir.path().join("data");
    let config = || SchedulerConfig {
        keeper: Some(cluster.keeper.clone()),
        data_dir: Some(data.clone()),
        ..SchedulerConfig::default()
    };
    let scheduler = scheduler::start(config()).await.unwrap();
    let addr = scheduler.local_addr();
    let spec = json!({"name": "web", "image": "i", "replicas": 1});
    let operator = cluster.shown("operator");
    operator.ask(addr, SCHEDULER, "POST", "/deploy", &spec).await;
    let node = cluster.shown("node");
    let hello = json!({"nodeId": "n1", "key": "k", "incarnation": 1, "port": 9,
        "docker": {"state": "ok"}});
    let mut epoch = 1_u64;
    for (number, reported) in [
        json!({"epoch": (1_u64 << 31) - 2}),
        json!({"epoch": u64::MAX}),
        json!({"containers": [{"revision": (1_u64 << 53) - 1}]}),
        json!({"containers": [{"revision": 1, "restarts": u32::MAX, "backoffStep": u32::MAX}]}),
        json!({"containers": [{"revision": 1, "replica": u32::MAX}]}),
        json!({"containers": [{"workloadId": "../x", "revision": 1}]}),
        json!({"containers": [{"id": "x\"y", "revision": 1}]}),
    ]
    .into_iter()
    .enumerate()
    {
        node.ask(addr, SCHEDULER, "POST", "/register", &hello).await;
        let mut beat = json!({"nodeId": "n1", "incarnation": 1, "epoch": epoch, "seq": number + 1,
            "synced": true, "docker": {"state": "ok"}, "containers": []});
        let whole = json!({"id": format!("web-r1-{number}"), "containerId": "c", "workloadId": "web",
            "replica": 0, "nodeId": "n1", "image": "i", "phase": "exited", "exitCode": 1});
        for (key, value) in reported.as_object().unwrap() {
            beat[key] = value.clone();
        }
        for container in beat["containers"].as_array_mut().unwrap() {
            let mut all = whole.clone();
            for (key, value) in container.as_object().unwrap() {
                all[key] = value.clone();
            }
            *container = all;
        }
        let said = node.ask(addr, SCHEDULER, "POST", "/heartbeat", &beat).await;
        assert!(matches!(said, Said::Answer(200 | 422, _)), "{number}: {said:?}");
        epoch = scheduler.handle().snapshot().state.epoch;
    }
    // What it made of that is on the disk with the next changes.
    let spec = json!({"name": "web", "image": "j", "replicas": 1});
    let said = operator.ask(addr, SCHEDULER, "POST", "/deploy", &spec).await;
    assert_eq!(said, Said::Answer(200, String::new()));
    scheduler.shutdown().await;
    for _ in 0..3 {
        scheduler::start(config()).await.expect("it starts again").shutdown().await;
    }
    cluster.scheduler.shutdown().await;
}

/// Who may ask is decided by the scheduler, whatever an agent answers.
#[tokio::test(flavor = "multi_thread")]
async fn figures_of_a_node_come_through_the_scheduler() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let agent = cluster.agent("a1").await;
    let viewer = cluster.shown("viewer");
    until("the node to be known", SHORT, || async {
        let seen = viewer.read_all(addr, "/nodes/a1/metrics").await;
        let good = seen.starts_with("HTTP/1.1 200") && seen.contains("kube_lite_agent_docker_up");
        if good { Ok(()) } else { Err(seen) }
    })
    .await;
    let seen = viewer.read_all(addr, "/nodes/nobody/metrics").await;
    assert!(seen.starts_with("HTTP/1.1 404"), "{seen}");
    agent.kill();
    cluster.scheduler.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_is_with_the_right_scheduler_and_once() {
    let cluster = Cluster::start().await;
    let join = |home: &'static str, node: &'static str, invitation: Invitation| {
        let home = cluster.home(home);
        async move { Membership::join(&home, &NodeId::from(node), &invitation).await }
    };
    // Another authority than the token is of: the secret is not even told.
    let fingerprint = "0".repeat(64);
    let wrong = Invitation { fingerprint, ..cluster.invitation.clone() };
    let error = format!("{:#}", join("m", "m", wrong).await.unwrap_err());
    assert!(error.contains("another cluster"), "{error}");
    assert!(!error.contains(cluster.invitation.secret.reveal()), "no secret in an error");
    // That attempt left a key; the next one goes on with it.
    let member = join("m", "m", cluster.invitation.clone()).await.unwrap();
    let kept = cluster.home("m").join("identity.json");
    let before = std::fs::read(&kept).unwrap();
    assert_eq!(mode(&kept), 0o600);
    drop(member);
    // Again: nothing happens. As somebody else: no.
    join("m", "m", cluster.invitation.clone()).await.unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), before);
    let error = format!("{:#}", join("m", "other", cluster.invitation.clone()).await.unwrap_err());
    assert!(error.contains("is of node m"), "{error}");
    // Its answer got lost: the same key may ask again.
    let text = String::from_utf8(before).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["certificate"] = Value::Null;
    std::fs::write(&kept, value.to_string()).unwrap();
    join("m", "m", cluster.invitation.clone()).await.unwrap();

    // Who knows the fingerprint knows the scheduler; with another one, nobody is there.
    let tls = pinned_config(&cluster.invitation.fingerprint).unwrap();
    let shown = Shown { tls, token: None, headers: Vec::new() };
    let addr = cluster.scheduler.local_addr();
    let said = shown.ask(addr, SCHEDULER, "GET", "/health", &Value::Null).await;
    assert_eq!(said, Said::Answer(200, String::new()));
    let said = shown.ask(addr, "a1.node.kube-lite", "GET", "/health", &Value::Null).await;
    assert!(matches!(said, Said::Nothing(_)), "{said:?}");
    let _ = &cluster.authority;
    cluster.scheduler.shutdown().await;
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
