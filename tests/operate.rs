//! What an operator sees of both roles: metrics, logs, request ids, and what systemd is
//! told. Real processes; the containers are simulated.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use kube_lite_testkit::{Process, SHORT, http, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BIN: &str = env!("CARGO_BIN_EXE_kube-lite");

/// `host:port` of a role, which says so in its log.
async fn address(process: &Process) -> String {
    until("it to listen", SHORT, || async {
        let output = process.output();
        let said = output.split_once("listens on http://");
        let url = said.and_then(|(_, rest)| rest.split(['"', ' ', ',', '\n']).next());
        url.map(str::to_owned).ok_or(output)
    })
    .await
}

/// A role that logs everything, as JSON.
fn role(arguments: &[&str]) -> Process {
    let mut command = Command::new("env");
    command.arg("RUST_LOG=debug").arg(BIN).args(arguments).args(["--log-format", "json"]);
    Process::start(arguments[0], &mut command)
}

/// Waits until this line, among others, is on a page of metrics.
async fn tells(address: &str, line: &str) {
    until(&format!("{address} to tell {line}"), SHORT, || async {
        let page = http::get(address, "/metrics").await.map_err(|e| e.to_string())?;
        if page.body.lines().any(|said| said == line) { Ok(()) } else { Err(page.body) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_logs_and_request_ids_of_both_roles() {
    let scheduler = role(&["scheduler", "--listen", "127.0.0.1:0", "--in-memory"]);
    let at = address(&scheduler).await;
    let url = format!("http://{at}");
    let agent = role(&[
        "agent",
        "--scheduler",
        &url,
        "--listen",
        "127.0.0.1:0",
        "--node-id",
        "pretended",
        "--runtime",
        "simulated",
    ]);
    tells(&at, "kube_lite_nodes{status=\"alive\"} 1").await;
    tells(&at, "kube_lite_nodes{status=\"dead\"} 0").await;
    let spec = json!({"name": "web", "image": "any", "replicas": 3}).to_string();
    let deployed = http::send(&at, "POST", "/deploy", Some(&spec)).await.unwrap();
    assert_eq!(deployed.status, 200, "{deployed:?}");
    for line in [
        "kube_lite_workload_desired{workload=\"web\"} 3",
        "kube_lite_workload_ready{workload=\"web\"} 3",
        "kube_lite_instances{phase=\"running\"} 3",
        "kube_lite_orders_total 3",
        "kube_lite_orders_in_flight 0",
        "kube_lite_requests_total{route=\"Deploy\",status=\"200\"} 1",
    ] {
        tells(&at, line).await;
    }
    let nodes = http::get(&at, "/nodes").await.unwrap().json();
    let node = nodes[0]["address"].as_str().unwrap().to_owned();
    tells(&node, "kube_lite_agent_instances{phase=\"running\"} 3").await;
    tells(&node, "kube_lite_agent_orders_total 3").await;
    tells(&node, "kube_lite_agent_docker_up 1").await;

    // One id through both hops.
    let instances = http::get(&at, "/instances").await.unwrap().json();
    let instance = instances[0]["id"].as_str().unwrap();
    let mut stream = tokio::net::TcpStream::connect(&at).await.unwrap();
    let asked = format!(
        "GET /logs/{instance} HTTP/1.1\r\nHost: {at}\r\nX-Request-Id: both-hops.1\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("x-request-id: both-hops.1\r\n"), "{answer}");
    for process in [&scheduler, &agent] {
        until("the id in both logs", SHORT, || async {
            let output = process.output();
            let lines = output.lines().map(|line| {
                serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"))
            });
            let named = |line: &Value| line["id"] == "both-hops.1";
            if lines.filter(named).count() == 1 { Ok(()) } else { Err(output.clone()) }
        })
        .await;
    }
    // Of an order that goes alone it is the instance's.
    let more = json!({"replicas": 4}).to_string();
    let scaled = http::send(&at, "PUT", "/workloads/web/scale", Some(&more)).await.unwrap();
    assert_eq!(scaled.status, 200, "{scaled:?}");
    tells(&at, "kube_lite_workload_ready{workload=\"web\"} 4").await;
    let known = instances.as_array().unwrap();
    let all = http::get(&at, "/instances").await.unwrap().json();
    let is_new = |one: &&Value| known.iter().all(|old| old["id"] != one["id"]);
    let new = all.as_array().unwrap().iter().find(is_new).unwrap();
    assert!(agent.output().contains(&format!("\"id\":{}", new["id"])), "{}", agent.output());

    // What goes wrong can be found in the log.
    for (method, path, status) in [("GET", "/workloads/nothing", 404), ("PUT", "/health", 405)] {
        let refused = http::send(&at, method, path, None).await.unwrap();
        assert_eq!(refused.status, status, "{refused:?}");
        let id = refused.json()["requestId"].as_str().expect("the id of the request").to_owned();
        until("the id in the log", SHORT, || async {
            let output = scheduler.output();
            if output.contains(&format!("\"id\":\"{id}\"")) { Ok(()) } else { Err(output) }
        })
        .await;
    }
    let said =
        Command::new(BIN).args(["ctl", "--server", &url, "status", "nothing"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let id = said.rsplit_once("[request ").and_then(|(_, rest)| rest.split_once(']'));
    let (id, _) = id.unwrap_or_else(|| panic!("no id in: {said}"));
    assert!(scheduler.output().contains(id), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_of_the_start_of_life_and_of_the_end() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let heard = UnixDatagram::bind(&path).unwrap();
    heard.set_read_timeout(Some(SHORT)).unwrap();
    let next = || {
        let mut buffer = [0; 64];
        let length = heard.recv(&mut buffer).expect("a word to systemd");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    for arguments in [
        vec!["scheduler", "--listen", "127.0.0.1:0", "--in-memory"],
        vec!["agent", "--scheduler", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"],
    ] {
        let data = directory.path().join("agent");
        let mut command = Command::new(BIN);
        command.args(&arguments).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "4000000");
        if arguments[0] == "agent" {
            command.arg("--data-dir").arg(data);
        }
        let mut process = Process::start(arguments[0], &mut command);
        assert_eq!(next(), "READY=1");
        assert_eq!(next(), "WATCHDOG=1");
        process.signal(Signal::SIGTERM);
        let last = loop {
            match next() {
                word if word == "WATCHDOG=1" => {}
                word => break word,
            }
        };
        assert_eq!(last, "STOPPING=1");
        assert!(process.wait(SHORT).success());
    }
}
