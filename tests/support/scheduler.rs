//! A scheduler in this process: the real core and the real routes, on a port of
//! its own.

use std::net::SocketAddr;
use std::sync::Arc;

use kube_lite::http::{Handler, Options};
use kube_lite::model::{ClusterId, Timing};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::driver::{Clock, Driver};
use kube_lite::roles::scheduler::server::SchedulerServer;
use kube_lite::roles::scheduler::state::State;
use kube_lite::roles::scheduler::store::Store;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::raw::{Answer, ask};

/// A scheduler that keeps nothing.
pub struct Scheduler {
    /// Where it listens.
    pub addr: SocketAddr,
    _stop: watch::Sender<bool>,
}

impl Scheduler {
    /// With the usual constants.
    pub async fn start() -> Self {
        Self::with(Timing::default()).await
    }

    /// With other constants.
    pub async fn with(timing: Timing) -> Self {
        let core = Core::new(State::new(ClusterId::from("test"), 1), timing);
        let (driver, handle) = Driver::new(core, Arc::new(Store::Memory), Clock::start());
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(driver.run(handle.clone(), stopped));
        let addr = serve(SchedulerServer::new(handle)).await;
        Self { addr, _stop: stop }
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Answer {
        ask(self.addr, "GET", path, &[], "").await
    }

    /// Writes; `null` is no body.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let header = ["Content-Type: application/json"];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        ask(self.addr, method, path, if body.is_empty() { &[] } else { &header }, &body).await
    }

    /// Registers an agent that listens at `port`, and lets it report.
    pub async fn register(&self, node: &str, port: u16) {
        let docker = json!({"state": "ok", "daemon": "d1"});
        let hello = json!({"nodeId": node, "key": node, "incarnation": 7, "port": port,
            "docker": docker, "news": "from a later release"});
        let answer = self.send("POST", "/register", &hello).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let epoch = answer.json()["epoch"].clone();
        let beat = json!({"nodeId": node, "incarnation": 7, "epoch": epoch, "seq": 1,
            "synced": true, "docker": docker, "containers": []});
        let answer = self.send("POST", "/heartbeat", &beat).await;
        assert_eq!((answer.status, &answer.json()["seq"]), (200, &json!(1)), "{answer:?}");
    }
}

/// Serves on a port of its own, for as long as the test runs.
pub async fn serve<H: Handler>(handler: H) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let forever = std::future::pending();
    tokio::spawn(kube_lite::http::serve(listener, handler, Options::default(), forever));
    addr
}
