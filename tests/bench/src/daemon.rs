//! A Docker daemon, driven over its API with as many connections as serve best:
//! the floor. What happened, and when, is by the daemon's own events.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::run::{ms_between, until, wall_ns};

/// A container of ours that kube-lite knows nothing of has this label: of which run.
const OURS: &str = "kube-lite-bench";
/// And this one: who made it, so that nobody removes what another benchmark made.
const MADE_BY: &str = "kube-lite-bench.by";
/// Nothing measured here takes longer.
const LIMIT: Duration = Duration::from_secs(180);

/// Something that Docker says has happened to a container.
#[derive(Clone, Debug)]
pub struct Event {
    /// Nanoseconds since 1970.
    pub at: i64,
    /// `create`, `start`, `die`, `destroy` …
    pub action: String,
    /// The container's id.
    pub container: String,
    labels: HashMap<String, String>,
}

/// A daemon whose events are followed.
#[derive(Debug)]
pub struct Daemon {
    /// The way to it.
    pub docker: Docker,
    name: String,
    events: Arc<Mutex<Vec<Event>>>,
    follower: tokio::task::JoinHandle<()>,
}

impl Daemon {
    /// Follows this daemon's events from now on.
    pub fn follow(docker: Docker) -> Self {
        let since = format!("{}.0", wall_ns() / 1_000_000_000);
        let filter = HashMap::from([("type", vec!["container"])]);
        let options = EventsOptionsBuilder::default().since(&since).filters(&filter).build();
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let (source, sink) = (docker.clone(), Arc::clone(&events));
        let follower = tokio::spawn(async move {
            let mut stream = source.events(Some(options));
            while let Some(Ok(message)) = stream.next().await {
                let actor = message.actor.unwrap_or_default();
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(Event {
                    at: message.time_nano.unwrap_or_default(),
                    action: message.action.unwrap_or_default(),
                    container: actor.id.unwrap_or_default(),
                    labels: actor.attributes.unwrap_or_default(),
                });
            }
        });
        Self { docker, name: unique("bench"), events, follower }
    }

    /// What has happened since `since` to containers with this label.
    pub fn events(&self, label: (&str, &str), action: &str, since: i64) -> Vec<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = events.iter().filter(|event| {
            event.at >= since
                && event.action == action
                && event.labels.get(label.0).is_some_and(|value| value == label.1)
        });
        ours.cloned().collect()
    }

    /// Milliseconds from `since` until this had happened `count` times.
    ///
    /// # Errors
    /// When it does not.
    pub async fn took(
        &self,
        label: (&str, &str),
        action: &str,
        count: usize,
        since: i64,
    ) -> anyhow::Result<f64> {
        let what = format!("{count} × {action} of {}", label.1);
        let last = until(&what, LIMIT, Duration::from_millis(5), || async {
            Ok(self.events(label, action, since).get(count - 1).map(|event| event.at))
        })
        .await?;
        Ok(ms_between(since, last))
    }

    /// A container like that of kube-lite's with this label: the same image, ports,
    /// environment and labels, but none by which kube-lite would know it.
    ///
    /// # Errors
    /// When there is none.
    pub async fn like(&self, label: (&str, &str)) -> anyhow::Result<ContainerCreateBody> {
        let filter = HashMap::from([("label", vec![format!("{}={}", label.0, label.1)])]);
        let options = ListContainersOptionsBuilder::default().filters(&filter).build();
        let listed = self.docker.list_containers(Some(options)).await?;
        let id = listed.into_iter().next().and_then(|c| c.id).context("no container to copy")?;
        let found = self.docker.inspect_container(&id, None::<InspectContainerOptions>).await?;
        let config = found.config.context("a container without a configuration")?;
        let bindings = found.host_config.and_then(|host| host.port_bindings);
        let renamed = |(name, value): (String, String)| (name.replace("kube-lite", "bench"), value);
        Ok(ContainerCreateBody {
            image: config.image,
            env: config.env,
            labels: config.labels.map(|labels| labels.into_iter().map(renamed).collect()),
            exposed_ports: config.exposed_ports,
            stop_timeout: config.stop_timeout,
            host_config: Some(HostConfig { port_bindings: bindings, ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        })
    }

    /// Creates and starts so many containers, so many at a time. Returns how long
    /// it took until the last one had started, and their names.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn start(
        &self,
        body: &ContainerCreateBody,
        run: &str,
        count: usize,
        at_a_time: usize,
    ) -> anyhow::Result<(f64, Vec<String>)> {
        let mut body = body.clone();
        let labels = body.labels.get_or_insert_default();
        labels.insert(OURS.to_owned(), run.to_owned());
        labels.insert(MADE_BY.to_owned(), self.name.clone());
        let began = wall_ns();
        let names: Vec<String> = stream::iter(0..count)
            .map(|number| {
                let (name, body) = (format!("{OURS}-{run}-{number}"), body.clone());
                async move {
                    let options = CreateContainerOptionsBuilder::new().name(&name).build();
                    self.docker.create_container(Some(options), body).await?;
                    self.docker.start_container(&name, None::<StartContainerOptions>).await?;
                    anyhow::Ok(name)
                }
            })
            .buffer_unordered(at_a_time)
            .try_collect()
            .await?;
        Ok((self.took((OURS, run), "start", count, began).await?, names))
    }

    /// Stops and removes containers, so many at a time. Returns how long it took
    /// until the last was gone.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn end(
        &self,
        run: &str,
        names: Vec<String>,
        at_a_time: usize,
    ) -> anyhow::Result<f64> {
        let (began, count) = (wall_ns(), names.len());
        stream::iter(names)
            .map(|name| async move {
                let stop = StopContainerOptionsBuilder::new().t(2).build();
                self.docker.stop_container(&name, Some(stop)).await?;
                let remove = RemoveContainerOptionsBuilder::new().v(true).build();
                self.docker.remove_container(&name, Some(remove)).await
            })
            .buffer_unordered(at_a_time)
            .try_collect::<Vec<()>>()
            .await?;
        self.took((OURS, run), "destroy", count, began).await
    }

    /// The number of connections, of 2, 4, 8 and 16, that starts this many soonest.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn best_connections(
        &self,
        body: &ContainerCreateBody,
        count: usize,
        tries: &[usize],
    ) -> anyhow::Result<usize> {
        let mut best = (f64::INFINITY, 1);
        for at_a_time in tries {
            let run = unique("tune");
            let (took, names) = self.start(body, &run, count, *at_a_time).await?;
            self.end(&run, names, 4).await?;
            if took < best.0 {
                best = (took, *at_a_time);
            }
        }
        Ok(best.1)
    }

    /// Removes what is left of what was made here by hand.
    pub async fn clean(&self) {
        let filter = HashMap::from([("label", vec![format!("{MADE_BY}={}", self.name)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
        for container in self.docker.list_containers(Some(options)).await.unwrap_or_default() {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let id = container.id.unwrap_or_default();
            let _ = self.docker.remove_container(&id, Some(options)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// A name that no other run has, at the same time in any other process neither.
pub fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
