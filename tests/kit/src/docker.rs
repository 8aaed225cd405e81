//! Docker's own view, which is the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use bollard::query_parameters::{
    EventsOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use kube_lite::model::wire::labels;

/// A container as Docker lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Docker's id.
    pub id: String,
    /// Its name: the instance's id.
    pub name: String,
    /// `running`, `exited`, `created` …
    pub state: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Container {
    /// A label, or nothing.
    pub fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }
}

/// Docker's view of one cluster. Removes what is left of it when dropped.
#[derive(Debug)]
pub struct Truth {
    /// The client.
    pub docker: Docker,
    /// The cluster looked at.
    pub cluster: String,
    /// The socket of another daemon than the usual one.
    socket: Option<String>,
}

impl Truth {
    /// Docker at `DOCKER_HOST` or the default socket.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(cluster: &str) -> Self {
        Self::at(None, cluster)
    }

    /// Another daemon than the usual one.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(socket: Option<String>, cluster: &str) -> Self {
        let docker = connect(socket.as_deref()).expect("a Docker client");
        Self { docker, cluster: cluster.to_owned(), socket }
    }

    /// All containers of the cluster, dead ones included, by name.
    ///
    /// # Panics
    /// When Docker does not answer.
    pub async fn all(&self) -> Vec<Container> {
        list(&self.docker, &self.cluster).await.expect("Docker lists containers")
    }

    /// Those that run.
    pub async fn running(&self) -> Vec<Container> {
        self.all().await.into_iter().filter(|c| c.state == "running").collect()
    }

    /// Those of a workload that run.
    pub async fn running_of(&self, workload: &str) -> Vec<Container> {
        self.running().await.into_iter().filter(|c| c.label(labels::WORKLOAD) == workload).collect()
    }

    /// `docker kill`.
    pub async fn kill(&self, container: &str) {
        let options = KillContainerOptionsBuilder::default().signal("KILL").build();
        self.docker.kill_container(container, Some(options)).await.expect("docker kill");
    }

    /// `docker stop -t 1`.
    pub async fn stop(&self, container: &str) {
        let options = StopContainerOptionsBuilder::default().t(1).build();
        self.docker.stop_container(container, Some(options)).await.expect("docker stop");
    }

    /// `docker rm -f`.
    pub async fn remove(&self, container: &str) {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        self.docker.remove_container(container, Some(options)).await.expect("docker rm -f");
    }

    /// Follows Docker's event stream from now on.
    pub async fn watch(&self) -> Watch {
        Watch::start(&self.docker, &self.cluster).await
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        let (cluster, socket) = (self.cluster.clone(), self.socket.take());
        // Dropping is not asynchronous; a thread with a runtime of its own is.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (Ok(runtime), Ok(docker)) = (runtime, connect(socket.as_deref())) else {
                return;
            };
            runtime.block_on(clean(&docker, &cluster));
        });
        let _ = cleaner.join();
    }
}

/// Removes what is left of a cluster. What was being created when its agent was
/// killed appears a moment later, so it looks until two looks find nothing.
async fn clean(docker: &Docker, cluster: &str) {
    let mut clear = 0;
    for _ in 0..50 {
        let left = list(docker, cluster).await.unwrap_or_default();
        clear = if left.is_empty() { clear + 1 } else { 0 };
        if clear == 2 {
            return;
        }
        for container in left {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let _ = docker.remove_container(&container.id, Some(options)).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
    eprintln!("not everything of cluster {cluster} could be removed");
}

fn connect(socket: Option<&str>) -> Result<Docker, bollard::errors::Error> {
    match socket {
        Some(path) => Docker::connect_with_unix(path, 60, API_DEFAULT_VERSION),
        None => Docker::connect_with_defaults(),
    }
}

async fn list(docker: &Docker, cluster: &str) -> Result<Vec<Container>, bollard::errors::Error> {
    let filter = HashMap::from([("label", vec![format!("{}={cluster}", labels::CLUSTER)])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
    let mut found: Vec<Container> = docker
        .list_containers(Some(options))
        .await?
        .into_iter()
        .map(|summary| Container {
            id: summary.id.unwrap_or_default(),
            name: summary
                .names
                .and_then(|names| names.first().map(|n| n.trim_start_matches('/').to_owned()))
                .unwrap_or_default(),
            state: summary
                .state
                .map(|state| format!("{state:?}").to_lowercase())
                .unwrap_or_default(),
            labels: summary.labels.unwrap_or_default().into_iter().collect(),
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// One event of Docker's.
#[derive(Clone, Debug)]
pub struct DockerEvent {
    /// Nanoseconds since 1970, by Docker's clock.
    pub at_ns: i64,
    /// `create`, `start`, `die`, `destroy` …
    pub action: String,
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// Its workload.
    pub workload: String,
}

/// Docker's event stream for one cluster, recorded.
#[derive(Debug)]
pub struct Watch {
    events: Arc<Mutex<Vec<DockerEvent>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    async fn start(docker: &Docker, cluster: &str) -> Self {
        // Docker replays what happened since this moment, so nothing is missed
        // between here and the stream's first byte.
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or_else(
            |_| "0".to_owned(),
            |since| format!("{}.{:09}", since.as_secs(), since.subsec_nanos()),
        );
        let filter = HashMap::from([
            ("type", vec!["container".to_owned()]),
            ("label", vec![format!("{}={cluster}", labels::CLUSTER)]),
        ]);
        let options = EventsOptionsBuilder::default().since(&since).filters(&filter).build();
        let events = Arc::new(Mutex::new(Vec::new()));
        let (docker, sink) = (docker.clone(), Arc::clone(&events));
        let task = tokio::spawn(async move {
            let mut stream = docker.events(Some(options));
            while let Some(Ok(event)) = stream.next().await {
                let actor = event.actor.unwrap_or_default();
                let attributes = actor.attributes.unwrap_or_default();
                let event = DockerEvent {
                    at_ns: event.time_nano.unwrap_or(0),
                    action: event.action.unwrap_or_default(),
                    container: actor.id.unwrap_or_default(),
                    name: attributes.get("name").cloned().unwrap_or_default(),
                    workload: attributes.get(labels::WORKLOAD).cloned().unwrap_or_default(),
                };
                sink.lock().unwrap_or_else(|e| e.into_inner()).push(event);
            }
        });
        Self { events, task }
    }

    /// What has happened so far, in Docker's order.
    pub fn events(&self) -> Vec<DockerEvent> {
        self.events.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Starts of containers of a workload.
    pub fn starts(&self, workload: &str) -> Vec<DockerEvent> {
        self.events()
            .into_iter()
            .filter(|e| e.action == "start" && e.workload == workload)
            .collect()
    }

    /// Instances to which this happened more than once.
    pub fn repeated(&self, action: &str) -> Vec<String> {
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        for event in self.events().into_iter().filter(|event| event.action == action) {
            *times.entry(event.name).or_default() += 1;
        }
        times.into_iter().filter(|(_, times)| *times > 1).map(|(name, _)| name).collect()
    }

    /// Whatever happened to these containers.
    pub fn happened_to(&self, containers: &[Container]) -> Vec<DockerEvent> {
        let is_one = |event: &DockerEvent| containers.iter().any(|c| c.id == event.container);
        self.events().into_iter().filter(is_one).collect()
    }

    /// The largest number of containers of a workload that ran at once, given
    /// how many ran when the watch began.
    pub fn most_at_once(&self, workload: &str, at_the_beginning: &[Container]) -> usize {
        let mut up: BTreeSet<String> = at_the_beginning.iter().map(|c| c.id.clone()).collect();
        let mut most = up.len();
        for event in self.events().into_iter().filter(|e| e.workload == workload) {
            match event.action.as_str() {
                "start" => {
                    up.insert(event.container);
                    most = most.max(up.len());
                }
                "die" => {
                    up.remove(&event.container);
                }
                _ => {}
            }
        }
        most
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
