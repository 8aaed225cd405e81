//! An agent that is played: it takes the scheduler's orders and reports what a
//! real one would, without Docker. What an image does, its name says: `crash:…`
//! ends at once, `stuck:…` never gets healthy, `nopull:…` cannot be pulled, anything else
//! is healthy at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use kube_lite::client::Client;
use kube_lite::http::{Access, Handler, Reply, Request, Route};
use kube_lite::model::wire::{
    DockerState, DockerStatus, HeartbeatRequest, OrderAccepted, RunRequest,
};
use kube_lite::model::{ApiError, ContainerInstance, DaemonId, InstanceId};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::scheduler::{Scheduler, serve};

const INCARNATION: u64 = 7;
const BEAT: Duration = Duration::from_millis(40);

/// What it can be asked.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    Run,
    Stop,
}

#[derive(Default)]
struct Has {
    seq: u64,
    instances: BTreeMap<InstanceId, ContainerInstance>,
}

struct Agent {
    node: String,
    has: Arc<Mutex<Has>>,
}

/// Starts one and lets it report until the test ends, or that is aborted.
pub async fn start(scheduler: &Scheduler, node: &str) -> JoinHandle<()> {
    let has: Arc<Mutex<Has>> = Arc::default();
    let at: SocketAddr = serve(Agent { node: node.to_owned(), has: has.clone() }).await;
    let docker = json!({"state": "ok", "daemon": format!("daemon of {node}")});
    let hello = json!({"nodeId": node, "key": node, "incarnation": INCARNATION, "port": at.port(),
        "docker": docker});
    let answer = scheduler.send("POST", "/register", &hello).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let epoch = answer.json()["epoch"].as_u64().expect("an epoch");
    let client = Client::new(&format!("http://{}", scheduler.addr)).expect("an address");
    let node = node.to_owned();
    let beat = move || {
        let mut has = has.lock().expect("no panic while held");
        has.seq += 1;
        HeartbeatRequest {
            node_id: node.as_str().into(),
            incarnation: INCARNATION,
            epoch,
            seq: has.seq,
            synced: true,
            docker: DockerStatus {
                state: DockerState::Ok,
                daemon: Some(DaemonId::from(format!("daemon of {node}").as_str())),
                ..DockerStatus::default()
            },
            same_as: None,
            gone: Vec::new(),
            containers: has.instances.values().cloned().collect(),
        }
    };
    client.heartbeat(&beat()).await.expect("taken");
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(BEAT).await;
            let _ = client.heartbeat(&beat()).await;
        }
    })
}

fn run(node: &str, order: &RunRequest) -> ContainerInstance {
    let order = &order.order;
    let image = &order.template.image;
    let state = match image.split(':').next() {
        Some("crash") => json!({"phase": "exited", "exitCode": 3}),
        Some("nopull") => json!({"phase": "pulling", "reason": "PullFailed",
            "message": "the registry\ndoes not answer; tried again in 1 s"}),
        Some("stuck") => json!({"phase": "running", "health": "starting"}),
        _ => json!({"phase": "running", "health": "healthy"}),
    };
    let mut instance = json!({
        "id": order.id, "containerId": format!("container of {}", order.id),
        "workloadId": order.workload, "replica": order.replica, "revision": order.revision,
        "nodeId": node, "image": image, "restarts": order.restarts,
        "runningForMs": 1,
    });
    let fields = instance.as_object_mut().expect("an object");
    fields.extend(state.as_object().expect("an object").clone());
    serde_json::from_value(instance).expect("an instance")
}

impl Handler for Agent {
    type Call = Ask;
    const ROUTES: &'static [Route<Ask>] = &[
        Route::new(Method::POST, "/run", Ask::Run, Access::Scheduler, "Run").body(1 << 20),
        Route::new(Method::POST, "/stop/{id}", Ask::Stop, Access::Scheduler, "Stop").body(1 << 20),
    ];

    async fn handle(&self, request: Request<Ask>) -> Result<Reply, ApiError> {
        let mut has = self.has.lock().expect("no panic while held");
        let id = match request.call {
            Ask::Run => {
                let order: RunRequest = serde_json::from_slice(&request.body).expect("an order");
                let instance = run(&self.node, &order);
                has.instances.entry(instance.id.clone()).or_insert(instance).id.clone()
            }
            Ask::Stop => {
                let id = InstanceId::from(request.param("id"));
                has.instances.remove(&id);
                id
            }
        };
        let accepted = OrderAccepted { incarnation: INCARNATION, seq: has.seq, id };
        Ok(Reply::json(202, &serde_json::to_value(accepted).unwrap_or(Value::Null)))
    }
}
