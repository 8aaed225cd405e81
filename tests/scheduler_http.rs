//! The scheduler's routes over real sockets, with the real core behind them and
//! a made-up agent beside it.

mod support;

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use kube_lite::http::reply::TEXT;
use kube_lite::http::{Access, Handler, Reply, Request, Route};
use kube_lite::model::wire::RunRequest;
use kube_lite::model::{ApiError, Timing};
use serde_json::{Value, json};
use support::raw::{PATIENCE, connect, read_to_end, request};
use support::scheduler::{Scheduler, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

#[derive(Clone, Copy, Debug)]
enum AgentCall {
    Run,
    Logs,
}

/// An agent that notes orders and makes up logs.
struct Agent {
    orders: mpsc::UnboundedSender<String>,
    reader_left: Arc<Notify>,
}

impl Handler for Agent {
    type Call = AgentCall;
    const ROUTES: &'static [Route<AgentCall>] = &[
        Route::new(Method::POST, "/run", AgentCall::Run, Access::Scheduler, "Runs").body(1 << 20),
        Route::new(Method::GET, "/logs/{id}", AgentCall::Logs, Access::Scheduler, "Logs")
            .query(&["tail", "follow"])
            .streaming(),
    ];

    async fn handle(&self, request: Request<AgentCall>) -> Result<Reply, ApiError> {
        match request.call {
            AgentCall::Run => {
                let run: RunRequest = serde_json::from_slice(&request.body).unwrap();
                let id = run.order.id;
                let _ = self.orders.send(id.to_string());
                Ok(Reply::json(202, &json!({"incarnation": 7, "seq": 1, "id": id})))
            }
            AgentCall::Logs if request.query.get("tail") == Some("0") => {
                Err(ApiError::not_found("this agent has no such log"))
            }
            AgentCall::Logs => {
                let follow = request.query.flag("follow")?;
                let first = format!("log of {}\n", request.param("id"));
                let (out, reply) =
                    if follow { Reply::live_stream(TEXT) } else { Reply::stream(TEXT) };
                let reader_left = self.reader_left.clone();
                tokio::spawn(async move {
                    let _ = out.send(first).await;
                    if follow {
                        out.reader_left().await;
                        reader_left.notify_one();
                    }
                });
                Ok(reply)
            }
        }
    }
}

async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut all = String::new();
    timeout(PATIENCE, async {
        while !all.contains(text) {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await.unwrap();
            assert_ne!(count, 0, "ended before {text:?}: {all}");
            all.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    })
    .await
    .unwrap_or_else(|_| panic!("no {text:?}"));
    all
}

const WEB: &str = r#"{"name": "web", "image": "nginx", "replicas": 2,
    "ports": [{"containerPort": 80, "hostPort": 8080}]}"#;

fn web() -> Value {
    serde_json::from_str(WEB).unwrap()
}

#[tokio::test]
async fn a_workload_from_deploy_to_delete() {
    let scheduler = Scheduler::start().await;
    assert_eq!(scheduler.get("/workloads").await.body, "[]\n");

    let answer = scheduler.send("POST", "/deploy", &web()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let deployed = answer.json();
    assert_eq!((&deployed["id"], &deployed["revision"]), (&json!("web"), &json!(1)));
    assert!(deployed["warnings"][0].as_str().unwrap().contains("discover web"), "{deployed}");

    let view = scheduler.get("/workloads/web").await.json();
    assert_eq!((&view["desired"], &view["running"]), (&json!(2), &json!(0)));
    assert_eq!(scheduler.get("/workloads").await.json().as_array().unwrap().len(), 1);
    assert!(scheduler.get("/workloads/web/explain").await.json()["wanted"].is_string());
    let history = scheduler.get("/workloads/web/history").await.json();
    assert_eq!(history[0]["by"], "somebody from 127.0.0.1");
    assert_eq!(scheduler.get("/discover/web").await.json()["endpoints"], json!([]));
    assert_eq!(scheduler.get("/instances?workload=web").await.status, 200);

    let answer = scheduler.send("PUT", "/workloads/web/scale", &json!({"replicas": 5})).await;
    assert_eq!((answer.status, &answer.json()["id"]), (200, &json!("web")));
    assert_eq!(scheduler.get("/workloads/web").await.json()["desired"], 5);

    let answer = scheduler.send("DELETE", "/workloads/web", &Value::Null).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(scheduler.get("/workloads/web").await.status, 404);
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let scheduler = Scheduler::start().await;
    for path in [
        "/workloads/nope",
        "/workloads/nope/explain",
        "/workloads/nope/history",
        "/discover/nope",
        "/instances?workload=nope",
        "/logs/nope-r1-xxxxx",
    ] {
        let answer = scheduler.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(answer.json()["error"].as_str().unwrap().contains("nope"), "{path}: {answer:?}");
    }
    let scale = json!({"replicas": 1});
    for (method, path, body) in [
        ("PUT", "/workloads/nope/scale", &scale),
        ("DELETE", "/workloads/nope", &Value::Null),
        ("POST", "/nodes/nope/cordon", &Value::Null),
        ("POST", "/nodes/nope/uncordon", &Value::Null),
        ("DELETE", "/nodes/nope", &Value::Null),
    ] {
        let answer = scheduler.send(method, path, body).await;
        assert_eq!(answer.status, 404, "{method} {path}: {answer:?}");
    }
    let beat = json!({"nodeId": "n1", "incarnation": 1, "epoch": 1, "seq": 1, "synced": false,
        "docker": {"state": "ok"}, "containers": []});
    assert_eq!(scheduler.send("POST", "/heartbeat", &beat).await.status, 422);
}

#[tokio::test]
async fn bad_specs_change_nothing() {
    let scheduler = Scheduler::start().await;
    let answer = scheduler.send("POST", "/deploy", &json!({"name": "web", "imag": "x"})).await;
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("imag")));
    let answer = scheduler.send("POST", "/deploy", &json!({"name": "Web", "image": "x"})).await;
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("name")));
    assert_eq!(scheduler.get("/workloads").await.body, "[]\n");
    scheduler.send("POST", "/deploy", &web()).await;
    let answer = scheduler.send("PUT", "/workloads/web/scale", &json!({"replicas": 100_001})).await;
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("replicas")));
    assert_eq!(scheduler.get("/workloads/web").await.json()["desired"], 2);
}

#[tokio::test]
async fn nodes_come_and_go() {
    let timing = Timing { dead_after_ms: 300, sweep_ms: 20, ..Timing::default() };
    let scheduler = Scheduler::with(timing).await;
    scheduler.register("n1", 1).await;
    let nodes = scheduler.get("/nodes").await.json();
    assert_eq!((&nodes[0]["id"], &nodes[0]["schedulable"]), (&json!("n1"), &json!(true)));
    assert_eq!(scheduler.send("POST", "/nodes/n1/cordon", &Value::Null).await.status, 200);
    assert_eq!(scheduler.get("/nodes").await.json()[0]["schedulable"], false);
    assert_eq!(scheduler.send("POST", "/nodes/n1/uncordon", &Value::Null).await.status, 200);
    assert_eq!(scheduler.get("/nodes").await.json()[0]["schedulable"], true);
    // It is refused while the node is alive, and soon it is not.
    timeout(PATIENCE, async {
        loop {
            let answer = scheduler.send("DELETE", "/nodes/n1", &Value::Null).await;
            match answer.status {
                200 => break,
                409 => tokio::time::sleep(Duration::from_millis(20)).await,
                _ => panic!("{answer:?}"),
            }
        }
    })
    .await
    .expect("it dies");
    assert_eq!(scheduler.get("/nodes").await.body, "[]\n");
}

#[tokio::test]
async fn the_front_page_and_health() {
    let scheduler = Scheduler::start().await;
    let page = scheduler.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/plain"));
    assert!(page.body.contains("/discover/{name}") && !page.body.contains("/heartbeat"));
    let health = scheduler.get("/health").await.json();
    assert_eq!((&health["status"], &health["cluster"]), (&json!("ok"), &json!("test")));
}

#[tokio::test]
async fn events_are_kept_and_followed() {
    let scheduler = Scheduler::start().await;
    scheduler.send("POST", "/deploy", &web()).await;
    let kept = scheduler.get("/events").await;
    assert_eq!(kept.header("content-type"), Some("application/x-ndjson"));
    let last: Value = serde_json::from_str(kept.body.lines().last().unwrap()).unwrap();
    let last = last["seq"].as_u64().unwrap();
    assert_eq!(scheduler.get(&format!("/events?since={last}")).await.body, "");
    assert_eq!(scheduler.get("/events?workload=other").await.body, "");
    for (query, field) in [("since=-1", "since"), ("since=x", "since"), ("follow=7", "follow")] {
        let answer = scheduler.get(&format!("/events?{query}")).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!(field)), "{answer:?}");
    }

    let mut follower = connect(scheduler.addr).await;
    let path = format!("/events?follow=true&workload=other&since={last}");
    follower.write_all(&request("GET", &path, &[], "")).await.unwrap();
    read_until(&mut follower, "\r\n\r\n").await;
    scheduler.send("PUT", "/workloads/web/scale", &json!({"replicas": 3})).await;
    scheduler.send("POST", "/deploy", &json!({"name": "other", "image": "nginx"})).await;
    let seen = read_until(&mut follower, "\"other\"").await;
    assert!(!seen.contains("\"web\""), "{seen}");
}

#[tokio::test]
async fn events_that_are_gone_are_said_to_be() {
    let timing = Timing { events_kept: 10, ..Timing::default() };
    let scheduler = Scheduler::with(timing).await;
    scheduler.send("POST", "/deploy", &web()).await;
    for replicas in 3..30 {
        scheduler.send("PUT", "/workloads/web/scale", &json!({"replicas": replicas})).await;
    }
    for follow in ["", "&follow=true"] {
        let answer = scheduler.get(&format!("/events?since=1{follow}")).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (410, &json!("Gone")), "{answer:?}");
    }
    assert_eq!(scheduler.get("/events").await.body.lines().count(), 10);

    // A scheduler that keeps no state counts from 1 again when it is started anew.
    let kept = scheduler.get("/events").await.body;
    let last: Value = serde_json::from_str(kept.lines().last().unwrap()).unwrap();
    let last = last["seq"].as_u64().unwrap();
    for follow in ["", "&follow=true"] {
        let answer = scheduler.get(&format!("/events?since={}{follow}", last + 1)).await;
        assert_eq!((answer.status, &answer.json()["reason"]), (410, &json!("Gone")), "{answer:?}");
    }
    assert_eq!(scheduler.get(&format!("/events?since={last}")).await.status, 200);
}

#[tokio::test]
async fn logs_are_handed_on_from_the_agent() {
    let (orders, mut ordered) = mpsc::unbounded_channel();
    let reader_left = Arc::new(Notify::new());
    let agent = serve(Agent { orders, reader_left: reader_left.clone() }).await;
    let scheduler = Scheduler::start().await;
    scheduler.register("n1", agent.port()).await;
    scheduler.send("POST", "/deploy", &web()).await;
    let id = timeout(PATIENCE, ordered.recv()).await.expect("an order").unwrap();

    let answer = scheduler.get(&format!("/logs/{id}?tail=5")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains(&format!("log of {id}\n")), "{answer:?}");
    assert!(answer.body.ends_with("0\r\n\r\n"), "complete: {answer:?}");

    // What the agent refuses is refused in its words.
    let answer = scheduler.get(&format!("/logs/{id}?tail=0")).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (404, &json!("this agent has no such log"))
    );

    // Following ends at the agent, too, when the reader leaves.
    let mut follower = connect(scheduler.addr).await;
    let path = format!("/logs/{id}?follow=true");
    follower.write_all(&request("GET", &path, &[], "")).await.unwrap();
    read_until(&mut follower, "log of").await;
    drop(follower);
    timeout(PATIENCE, reader_left.notified()).await.expect("the agent noticed");
}

#[tokio::test]
async fn an_agent_that_cannot_be_asked_is_named() {
    // It takes the order to start something, and then is gone.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let scheduler = Scheduler::start().await;
    scheduler.register("n1", port).await;
    let deploy = json!({"name": "web", "image": "nginx"});
    scheduler.send("POST", "/deploy", &deploy).await;
    let (mut order, _) = timeout(PATIENCE, listener.accept()).await.expect("an order").unwrap();
    let id = timeout(PATIENCE, async {
        loop {
            let instances = scheduler.get("/instances").await.json();
            if let Some(id) = instances[0]["id"].as_str() {
                break id.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("an instance");
    let _ = order.shutdown().await;
    drop((order, listener));
    let answer = scheduler.get(&format!("/logs/{id}")).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (503, &json!("AgentUnreachable")));
    let sentence = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(sentence.contains(&format!("127.0.0.1:{port}")), "{sentence}");
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn a_log_that_breaks_off_does_not_look_complete() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Takes the order, then begins an answer about the log and hangs up.
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut asked = vec![0; 65536];
                let count = stream.read(&mut asked).await.unwrap();
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it";
                if asked[..count].starts_with(b"GET /logs/") {
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.shutdown().await;
                } else {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    let scheduler = Scheduler::start().await;
    scheduler.register("n1", port).await;
    scheduler.send("POST", "/deploy", &json!({"name": "web", "image": "nginx"})).await;
    let instances = timeout(PATIENCE, async {
        loop {
            let instances = scheduler.get("/instances").await.json();
            if instances[0]["id"].is_string() {
                break instances;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let id = instances.await.expect("an instance")[0]["id"].as_str().unwrap().to_owned();
    let mut stream = connect(scheduler.addr).await;
    stream.write_all(&request("GET", &format!("/logs/{id}"), &[], "")).await.unwrap();
    let raw = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    assert!(raw.contains("half of it") && !raw.ends_with("0\r\n\r\n"), "{raw}");
}
