//! A scheduler that only listens and does as it is told, and agents against it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use kube_lite::client::{AgentClient, ByteStream, ClientError};
use kube_lite::http::{self, Access, Handler, Reply, Request, Route};
use kube_lite::model::wire::{
    DockerState, DockerStatus, Fence, HeartbeatRequest, HeartbeatResponse, OrderAccepted,
    RegisterRequest, RegisterResponse, RunOrder, RunRequest, StopRequest,
};
use kube_lite::model::{ApiError, ContainerInstance, InstanceId, Timing};
use kube_lite::roles::agent::docker::{DockerHandle, Endpoint};
use kube_lite::roles::agent::message::Ending;
use kube_lite::roles::agent::runtime::Runtime;
use kube_lite::roles::agent::{AgentConfig, RunningAgent, start};
use kube_lite_testkit::http::Answer;
use kube_lite_testkit::{SHORT, Truth, until};
use serde_json::{Value, json};

const EPOCH: u64 = 1;

/// A template of the sample app, with these fields set.
pub fn hello(with: Value) -> Value {
    let mut template = json!({
        "image": "kube-lite/hello:v1",
        "ports": [{"containerPort": 8080}],
        "stopGracePeriodSeconds": 2,
    });
    for (name, value) in with.as_object().unwrap() {
        template[name] = value.clone();
    }
    template
}

/// An order for an instance `WORKLOAD-r1-xxxxx`.
pub fn order(id: &str, template: Value) -> RunOrder {
    let workload = id.split("-r1-").next().unwrap();
    serde_json::from_value(
        json!({"id": id, "workload": workload, "revision": 1, "replica": 0, "template": template}),
    )
    .unwrap()
}

/// What agents have told the scheduler.
#[derive(Debug, Default)]
struct Heard {
    registrations: BTreeMap<String, Vec<RegisterRequest>>,
    beats: BTreeMap<String, HeartbeatRequest>,
}

/// A scheduler that registers everybody and orders nothing by itself.
#[derive(Clone, Debug)]
pub struct StubScheduler {
    cluster: String,
    heard: Arc<Mutex<Heard>>,
    status: Arc<AtomicU16>,
}

#[derive(Clone, Copy, Debug)]
pub enum Say {
    Register,
    Heartbeat,
}

impl Handler for StubScheduler {
    type Call = Say;

    const ROUTES: &'static [Route<Say>] = &[
        Route::new(Method::POST, "/register", Say::Register, Access::Agent, "").body(1 << 20),
        Route::new(Method::POST, "/heartbeat", Say::Heartbeat, Access::Agent, "").body(1 << 24),
    ];

    async fn handle(&self, request: Request<Say>) -> Result<Reply, ApiError> {
        let mut heard = self.heard.lock().unwrap();
        match request.call {
            Say::Register => {
                let hello: RegisterRequest = serde_json::from_slice(&request.body).unwrap();
                let address = format!("{}:{}", request.peer.ip(), hello.port);
                let node = hello.node_id.to_string();
                heard.registrations.entry(node).or_default().push(hello);
                let cluster = self.cluster.as_str().into();
                Ok(Reply::json(200, &RegisterResponse { cluster, epoch: EPOCH, address }))
            }
            Say::Heartbeat => {
                let beat: HeartbeatRequest = serde_json::from_slice(&request.body).unwrap();
                let seq = beat.seq;
                heard.beats.insert(beat.node_id.to_string(), beat);
                match self.status.swap(0, Ordering::SeqCst) {
                    0 => Ok(Reply::json(
                        200,
                        &HeartbeatResponse { epoch: EPOCH, seq, digests: false, changes: false },
                    )),
                    status => Err(ApiError::new(status, "Test", "as the test says")),
                }
            }
        }
    }
}

impl StubScheduler {
    /// The next heartbeat gets this status.
    pub fn answer_heartbeats_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// How often this node registered.
    pub fn registrations(&self, node: &str) -> usize {
        self.heard.lock().unwrap().registrations.get(node).map_or(0, Vec::len)
    }

    fn incarnation(&self, node: &str) -> Option<u64> {
        Some(self.heard.lock().unwrap().registrations.get(node)?.last()?.incarnation)
    }

    /// The last snapshot of this node's present incarnation.
    fn beat(&self, node: &str) -> Option<HeartbeatRequest> {
        let incarnation = self.incarnation(node)?;
        let heard = self.heard.lock().unwrap();
        heard.beats.get(node).filter(|beat| beat.incarnation == incarnation).cloned()
    }
}

/// A cluster of the test's own: its scheduler, and one Docker for all its nodes.
pub struct Bench {
    cluster: String,
    scheduler: StubScheduler,
    url: String,
    docker: DockerHandle,
}

impl Bench {
    pub async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cluster = format!("agent-test-{}-{number}", std::process::id());
        let scheduler = StubScheduler {
            cluster: cluster.clone(),
            heard: Arc::default(),
            status: Arc::default(),
        };
        let listener = http::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let never = std::future::pending();
        tokio::spawn(http::serve(listener, scheduler.clone(), http::Options::default(), never));
        let docker = DockerHandle::new(Endpoint::from_env().unwrap(), timing());
        Self { cluster, scheduler, url, docker }
    }

    pub fn truth(&self) -> Truth {
        Truth::of(&self.cluster)
    }

    /// A registered agent.
    pub async fn node(&self, name: &str) -> Node {
        self.node_in(name, None).await
    }

    /// The same, with a data directory.
    pub async fn node_in(&self, name: &str, home: Option<PathBuf>) -> Node {
        let node = self.launch(name, home, self.docker.clone()).await;
        node.until_docker(DockerState::Ok).await;
        node
    }

    /// An agent whose Docker is somewhere else, or nowhere.
    pub async fn node_at(&self, name: &str, docker_host: &str) -> Node {
        let docker = DockerHandle::new(Endpoint::parse(docker_host).unwrap(), timing());
        self.launch(name, None, docker).await
    }

    async fn launch(&self, name: &str, home: Option<PathBuf>, docker: DockerHandle) -> Node {
        let before = self.scheduler.registrations(name);
        let agent = start(AgentConfig {
            scheduler: kube_lite::client::Client::new(&self.url).unwrap(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            node_id: Some(name.into()),
            data_dir: home,
            runtime: Runtime::Docker(docker),
            timing: timing(),
            insecure: false,
            member: None,
        })
        .await
        .unwrap();
        let node = Node {
            name: name.to_owned(),
            address: agent.local_addr().to_string(),
            truth: self.truth(),
            scheduler: self.scheduler.clone(),
            agent: Some(agent),
            client: AgentClient::new(Duration::from_secs(10)),
        };
        until("the agent to register", SHORT, || async {
            let times = self.scheduler.registrations(name);
            if times > before { Ok(()) } else { Err("not yet") }
        })
        .await;
        node
    }
}

/// The usual constants, but impatient with Docker.
fn timing() -> Timing {
    Timing { docker_ping_ms: 200, docker_hung_after_ms: 1_000, ..Timing::default() }
}

/// One agent.
pub struct Node {
    pub name: String,
    pub address: String,
    pub scheduler: StubScheduler,
    pub agent: Option<RunningAgent>,
    client: AgentClient,
    pub truth: Truth,
}

impl Node {
    /// One in a cluster of its own.
    pub async fn start() -> Self {
        Bench::new().await.node("n1").await
    }

    fn fence(&self) -> Fence {
        Fence {
            cluster: self.scheduler.cluster.as_str().into(),
            node: self.name.as_str().into(),
            incarnation: self.scheduler.incarnation(&self.name).unwrap(),
            epoch: EPOCH,
        }
    }

    pub fn run_request(&self, order: &RunOrder) -> RunRequest {
        RunRequest { fence: self.fence(), order: order.clone() }
    }

    pub async fn run(&self, order: &RunOrder) -> Result<OrderAccepted, ClientError> {
        self.client.run(&self.address, &self.run_request(order)).await
    }

    pub async fn stop(&self, id: &str, drain_ms: u64) -> Result<OrderAccepted, ClientError> {
        let request = StopRequest { fence: self.fence(), drain_ms, why: "test".to_owned() };
        self.client.stop(&self.address, &InstanceId::from(id), &request).await
    }

    /// Waits until the scheduler was told so about an instance.
    pub async fn until(
        &self,
        id: &str,
        holds: impl Fn(&ContainerInstance) -> bool,
    ) -> ContainerInstance {
        until(&format!("{id} to be as wanted"), SHORT, || async {
            let beat = self.scheduler.beat(&self.name).ok_or("no heartbeat yet".to_owned())?;
            let told = beat.containers.iter().find(|told| told.id.as_str() == id);
            match told {
                Some(told) if holds(told) => Ok(told.clone()),
                other => Err(format!("{other:?}, docker {:?}", beat.docker)),
            }
        })
        .await
    }

    /// Waits until a synced snapshot no longer has an instance.
    pub async fn until_gone(&self, id: &str) {
        until(&format!("{id} to be gone"), SHORT, || async {
            let beat = self.scheduler.beat(&self.name).ok_or("no heartbeat yet".to_owned())?;
            match beat.containers.iter().find(|told| told.id.as_str() == id) {
                None if beat.synced => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until the scheduler was told so about Docker.
    pub async fn until_docker(&self, state: DockerState) -> DockerStatus {
        until(&format!("Docker to be {state:?}"), SHORT, || async {
            let beat = self.scheduler.beat(&self.name).ok_or("no heartbeat yet".to_owned())?;
            let settled = beat.docker.state == state && (state != DockerState::Ok || beat.synced);
            if settled { Ok(beat.docker) } else { Err(format!("{:?}", beat.docker)) }
        })
        .await
    }

    pub async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let body = (!body.is_empty()).then_some(body);
        kube_lite_testkit::http::send(&self.address, method, path, body).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    /// Follows an instance's log from here on.
    pub async fn follow(&self, id: &str) -> Follower {
        let stream = self.client.logs(&self.address, id, Some(0), true).await.unwrap();
        Follower { stream, read: Vec::new() }
    }

    /// Ends the agent.
    pub async fn end(mut self, stop_containers: bool) {
        let ending = self.agent.take().unwrap().shutdown(stop_containers).await;
        assert_eq!(ending, Ending::Asked);
        if !stop_containers {
            // Whatever runs on is for the test to look at.
            std::mem::forget(self.truth);
        }
    }
}

/// Reads a log as it comes.
pub struct Follower {
    stream: ByteStream,
    read: Vec<Bytes>,
}

impl Follower {
    pub async fn read_until(&mut self, text: &str) {
        let reading = async {
            while !self.read.concat().windows(text.len()).any(|window| window == text.as_bytes()) {
                let piece = self.stream.next_chunk().await.unwrap().expect("the log goes on");
                self.read.push(piece);
            }
        };
        tokio::time::timeout(SHORT, reading).await.expect("the line in time");
    }
}
