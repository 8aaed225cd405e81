//! A `kube-lite` of the test's own: `dev` in one process, or a scheduler and
//! agents in several.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use kube_lite::client::Client;
use kube_lite::model::ContainerInstance;
use kube_lite::model::view::{DiscoverView, EventView, NodeView, WorkloadView};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::docker::{Container, Truth};
use crate::http;
use crate::process::Process;
use crate::wait::{LONG, SHORT, until};

/// The sample image.
pub const IMAGE: &str = "kube-lite/hello:v1";

/// A workload made of the sample app, to be changed before it is deployed.
pub fn hello(name: &str, replicas: u32) -> Value {
    json!({
        "name": name,
        "image": IMAGE,
        "replicas": replicas,
        "ports": [{"containerPort": 8080}],
        "stopGracePeriodSeconds": 2,
        "strategy": {"drainSeconds": 0}
    })
}

/// The same with a health probe that is quick to decide.
pub fn hello_probed(name: &str, replicas: u32) -> Value {
    let mut spec = hello(name, replicas);
    spec["healthCheck"] = json!({
        "path": "/healthz", "port": 8080, "intervalSeconds": 1, "timeoutSeconds": 1,
        "failureThreshold": 3, "startupSeconds": 20
    });
    spec
}

/// A running scheduler to talk to, and Docker's view of its cluster.
#[derive(Debug)]
pub struct Api {
    /// `http://host:port`.
    pub url: String,
    /// The typed client.
    pub client: Client,
    /// Docker's view.
    pub truth: Truth,
}

impl Api {
    /// `host:port`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Deploys; the answer is durable.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn deploy(&self, spec: &Value) {
        self.client.deploy(Bytes::from(spec.to_string())).await.expect("deploy");
    }

    /// Waits until a workload is exactly as wanted: ready, and nothing more.
    pub async fn ready(&self, workload: &str, count: u32) -> WorkloadView {
        until(&format!("{workload} to have {count} ready"), LONG, || async {
            let view = self.client.workload(workload).await.map_err(|e| e.to_string())?;
            let settled = view.ready == count && view.desired == count && view.stopping == 0;
            if settled { Ok(view) } else { Err(format!("{view:?}")) }
        })
        .await
    }

    /// Waits until exactly so many containers of a workload run, by Docker.
    pub async fn runs(&self, workload: &str, count: usize) -> Vec<Container> {
        until(&format!("Docker to run {count} of {workload}"), LONG, || async {
            let running = self.truth.running_of(workload).await;
            if running.len() == count { Ok(running) } else { Err(format!("{running:?}")) }
        })
        .await
    }

    /// Waits until Docker has no container of the cluster left, dead or alive.
    pub async fn nothing_left(&self) {
        until("no container of the cluster to be left", SHORT, || async {
            let left = self.truth.all().await;
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }

    /// The workload as the API shows it.
    pub async fn workload(&self, name: &str) -> WorkloadView {
        self.client.workload(name).await.expect("workload")
    }

    /// Its instances as the API shows them.
    pub async fn instances(&self, name: &str) -> Vec<ContainerInstance> {
        let all: Value = self.get_json(&format!("/instances?workload={name}")).await;
        serde_json::from_value(all).expect("instances")
    }

    /// The nodes as the API shows them.
    pub async fn nodes(&self) -> Vec<NodeView> {
        self.client.nodes().await.expect("nodes")
    }

    /// The endpoints of a workload.
    pub async fn discover(&self, name: &str) -> DiscoverView {
        self.client.discover(name).await.expect("discover")
    }

    /// A GET whose answer must be 200 and JSON.
    pub async fn get_json(&self, path: &str) -> Value {
        let answer = http::get(self.address(), path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// A POST that must be granted; its answer.
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string);
        let answer = http::send(self.address(), "POST", path, body.as_deref()).await;
        let answer = answer.expect("an answer");
        assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
        answer.json()
    }

    /// Rolls a workload to another image.
    pub async fn roll(&self, workload: &str, image: &str) {
        self.post(&format!("/workloads/{workload}/rollout"), Some(&json!({"image": image}))).await;
    }

    /// `pause`, `resume`, `abort` or `undo` of a rollout.
    pub async fn rollout(&self, workload: &str, step: &str) {
        self.post(&format!("/workloads/{workload}/rollout/{step}"), None).await;
    }

    /// Waits until a workload's rollout has come to this state.
    pub async fn rollout_is(&self, workload: &str, state: &str) -> WorkloadView {
        until(&format!("the rollout of {workload} to be {state}"), LONG, || async {
            let view = self.client.workload(workload).await.map_err(|e| e.to_string())?;
            let is = view.rollout.as_ref().is_some_and(|rollout| rollout.state == state);
            if is { Ok(view) } else { Err(format!("{view:?}")) }
        })
        .await
    }

    /// Waits until so many replicas at least have been rolled.
    pub async fn rolled(&self, workload: &str, count: u32) {
        until(&format!("{count} of {workload} to be rolled"), LONG, || async {
            let view = self.client.workload(workload).await.map_err(|e| e.to_string())?;
            let updated = view.rollout.as_ref().map_or(0, |rollout| rollout.updated);
            if updated >= count { Ok(()) } else { Err(format!("{view:?}")) }
        })
        .await;
    }

    /// What happened to a workload, oldest first.
    pub async fn events(&self, workload: &str) -> Vec<EventView> {
        self.events_from(&format!("/events?workload={workload}")).await
    }

    /// The same, only what came after this number.
    ///
    /// # Panics
    /// When not all of that is kept any more.
    pub async fn events_since(&self, workload: &str, since: u64) -> Vec<EventView> {
        self.events_from(&format!("/events?workload={workload}&since={since}")).await
    }

    async fn events_from(&self, path: &str) -> Vec<EventView> {
        let answer = http::get(self.address(), path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let lines = answer.body.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).expect("an event")).collect()
    }

    /// Waits until so many nodes are alive and may get instances.
    pub async fn able(&self, count: usize) {
        until(&format!("{count} able nodes"), LONG, || async {
            let nodes = self.client.nodes().await.map_err(|e| e.to_string())?;
            let able = nodes
                .iter()
                .filter(|n| n.status.as_str() == "alive" && n.message.is_none())
                .count();
            if able == count { Ok(()) } else { Err(format!("{nodes:?}")) }
        })
        .await;
    }
}

/// A `kube-lite dev` in a process of its own.
#[derive(Debug)]
pub struct Sandbox {
    // Dropped in this order: first what would replace a container that goes, then
    // what removes those that are left.
    /// The process.
    pub process: Process,
    /// The way to it.
    pub api: Api,
    /// Its data directory.
    pub directory: TempDir,
}

impl std::ops::Deref for Sandbox {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Sandbox {
    /// Starts `dev` with three nodes and waits until all are able.
    pub async fn start(binary: &str) -> Self {
        let sandbox = Self::start_with(binary, &["--nodes", "3"], &[]).await;
        sandbox.able(3).await;
        sandbox
    }

    /// Starts `dev` with these arguments and environment; waits for its API.
    pub async fn start_with(binary: &str, arguments: &[&str], env: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a directory");
        Self::start_in(binary, directory, arguments, env).await
    }

    /// Starts `dev` over an existing data directory.
    pub async fn start_in(
        binary: &str,
        directory: TempDir,
        arguments: &[&str],
        env: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(binary);
        command.args(["dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.path());
        command.args(arguments).envs(env.iter().copied());
        let process = Process::start("kube-lite dev", &mut command);
        let url = announced(&process, "API at ").await;
        let cluster = std::fs::read_to_string(directory.path().join("cluster-id"))
            .expect("dev has written its cluster id");
        let api = Api {
            client: Client::new(&url).expect("a client"),
            truth: Truth::of(cluster.trim()),
            url,
        };
        Self { api, process, directory }
    }

    /// Ctrl-C, and waits for the end.
    pub fn interrupt(&mut self) -> std::process::ExitStatus {
        self.process.signal(Signal::SIGINT);
        self.process.wait(SHORT)
    }
}

/// The URL that a process announces behind `words`.
async fn announced(process: &Process, words: &str) -> String {
    until(&format!("the process to say {words:?}"), SHORT, || async {
        let output = process.output();
        output
            .split_once(words)
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .map(|url| url.trim_end_matches([')', ',']).to_owned())
            .ok_or(output)
    })
    .await
}

/// A scheduler and agents, each in a process of its own, on one Docker daemon.
#[derive(Debug)]
pub struct Fleet {
    // Dropped in this order, as for `Sandbox`.
    /// The scheduler.
    pub scheduler: Process,
    /// The agents by node id.
    pub agents: BTreeMap<String, Process>,
    /// The way to the scheduler.
    pub api: Api,
    /// Where all of them keep their state.
    pub directory: TempDir,
    binary: String,
}

impl std::ops::Deref for Fleet {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Fleet {
    /// Starts a scheduler and `nodes` agents, and waits until all are able.
    pub async fn start(binary: &str, nodes: usize) -> Self {
        let mut fleet = Self::scheduler_only(binary).await;
        for number in 1..=nodes {
            fleet.start_agent(&format!("n{number}"), &[]).await;
        }
        fleet.able(nodes).await;
        fleet
    }

    /// Starts a scheduler and nothing else.
    pub async fn scheduler_only(binary: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let scheduler = scheduler(binary, directory.path(), "127.0.0.1:0");
        let url = announced(&scheduler, "listens on ").await;
        let health =
            http::get(url.trim_start_matches("http://"), "/health").await.expect("health").json();
        let cluster = health["cluster"].as_str().expect("the cluster's id").to_owned();
        let api =
            Api { client: Client::new(&url).expect("a client"), truth: Truth::of(&cluster), url };
        Self { api, scheduler, agents: BTreeMap::new(), directory, binary: binary.to_owned() }
    }

    /// Starts (or starts again) the agent of a node, over its data directory, and
    /// waits until it listens.
    pub async fn start_agent(&mut self, node: &str, env: &[(&str, &str)]) {
        let directory = self.directory.path().join(node);
        let process = self.agent_process(node, &directory, &self.api.url, env).await;
        self.agents.insert(node.to_owned(), process);
    }

    /// A process that claims to be the agent of a node, over this data directory,
    /// and reports to this scheduler. Listens when this returns.
    pub async fn agent_process(
        &self,
        node: &str,
        directory: &Path,
        scheduler: &str,
        env: &[(&str, &str)],
    ) -> Process {
        let mut command = Command::new(&self.binary);
        command
            .args(["agent", "--scheduler", scheduler, "--listen", "127.0.0.1:0"])
            .args(["--node-id", node, "--data-dir"])
            .arg(directory)
            .envs(env.iter().copied());
        let process = Process::start(&format!("agent {node}"), &mut command);
        announced(&process, "listens on ").await;
        process
    }

    /// The agent of a node.
    ///
    /// # Panics
    /// When there is none.
    pub fn agent(&mut self, node: &str) -> &mut Process {
        self.agents.get_mut(node).expect("an agent of this name")
    }

    /// Kills the scheduler the hard way and starts it again at the same address
    /// over the same data.
    pub async fn restart_scheduler(&mut self) {
        self.scheduler.kill();
        self.start_scheduler().await;
    }

    /// Starts the scheduler, which must have ended, again at the same address over
    /// the same data, and waits until it listens.
    pub async fn start_scheduler(&mut self) {
        self.scheduler = self.scheduler_process();
        announced(&self.scheduler, "listens on ").await;
    }

    /// A scheduler at the same address over the same data, just started.
    pub fn scheduler_process(&self) -> Process {
        scheduler(&self.binary, self.directory.path(), self.api.address())
    }

    /// The scheduler's epoch.
    pub async fn epoch(&self) -> u64 {
        let health = self.get_json("/health").await;
        health["epoch"].as_u64().expect("an epoch")
    }
}

fn scheduler(binary: &str, directory: &Path, listen: &str) -> Process {
    let mut command = Command::new(binary);
    command.args(["scheduler", "--listen", listen, "--data-dir"]).arg(directory.join("scheduler"));
    Process::start("scheduler", &mut command)
}
