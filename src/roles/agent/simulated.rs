//! Stands in for Docker: everything takes its time and may fail, and nothing runs.
//! The rest of an agent, and all of the scheduler, cannot tell the difference.
//!
//! Pure: [`fate`] (what becomes of a container), [`machine`] (what a Docker
//! remembers), `diary` (logs). This file waits and reports.

mod diary;
pub mod fate;
pub mod machine;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use super::message::{DockerAction, DockerReport, Input, Launch, LaunchOutcome, Probe, PullError};
use super::runtime::{LogLine, LogQuery, LogSource, Report};
use crate::model::{ApiError, DaemonId, NodeId, Reason, Timing};
use fate::{Chance, Fate, Settings, Temper};
use machine::Machine;

/// A log is shown from so many lines before its end, if nothing is said.
const LINES: u64 = 10_000;
/// Nothing is ever missed here; one look now and then keeps that code alive.
const RESYNC_MS: u64 = 600_000;

/// The Dockers of all simulated nodes of this process. Cheap to clone. What a
/// node has outlives its agent, as it does with Docker, but not the process.
#[derive(Clone, Debug)]
pub struct SimulatedHandle {
    settings: Arc<Settings>,
    nodes: Arc<Mutex<BTreeMap<NodeId, Arc<Docker>>>>,
}

/// One node's Docker.
#[derive(Debug)]
struct Docker {
    machine: Mutex<Machine>,
    /// Pulls that nobody wants any more.
    cancelled: Mutex<BTreeSet<String>>,
    /// Told whenever something is different.
    changed: Notify,
}

/// A simulated Docker as its agent sees it.
#[derive(Debug)]
pub struct SimulatedRuntime {
    settings: Arc<Settings>,
    node: NodeId,
    docker: Arc<Docker>,
}

impl SimulatedHandle {
    /// Dockers that behave like this.
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), nodes: Arc::default() }
    }

    /// How they behave.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The intervals of an agent whose Docker never loses an event.
    pub fn timing(timing: Timing) -> Timing {
        Timing { docker_resync_ms: RESYNC_MS, ..timing }
    }

    /// The Docker of one node.
    pub fn for_node(&self, node: NodeId) -> SimulatedRuntime {
        let docker = lock(&self.nodes)
            .entry(node.clone())
            .or_insert_with(|| Arc::new(Docker::new(node.clone())))
            .clone();
        SimulatedRuntime { settings: self.settings.clone(), node, docker }
    }

    /// Everything that runs on this node ends.
    pub fn lose_power(&self, node: &NodeId) {
        let docker = lock(&self.nodes).get(node).cloned();
        if let Some(docker) = docker {
            lock(&docker.machine).lose_power(now());
            docker.changed.notify_waiters();
        }
    }
}

impl Docker {
    fn new(node: NodeId) -> Self {
        Self {
            machine: Mutex::new(Machine::new(node)),
            cancelled: Mutex::default(),
            changed: Notify::new(),
        }
    }
}

impl SimulatedRuntime {
    /// Said before an action is handed to a task of its own.
    pub fn expect(&self, action: &DockerAction) {
        if let DockerAction::Pull { image } = action {
            lock(&self.docker.cancelled).remove(image);
        }
    }

    /// Reports that it is there, and what ends by itself.
    pub async fn watch(&self, report: &Report) {
        let daemon = DaemonId::from(format!("simulated-{}", self.node));
        if report.send(Input::Docker(DockerReport::Ok { daemon })).await.is_err() {
            return;
        }
        loop {
            let changed = self.docker.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let events = lock(&self.docker.machine).ended_by(now());
            for event in events {
                if report.send(Input::Event(event)).await.is_err() {
                    return;
                }
            }
            let next = lock(&self.docker.machine).next_end();
            tokio::select! {
                () = report.closed() => return,
                () = changed => {}
                () = until(next) => {}
            }
        }
    }

    /// Carries out one action and reports its outcome.
    pub async fn carry_out(&self, action: DockerAction, report: &Report) {
        let outcome = match action {
            DockerAction::CheckImage { image } => {
                let outcome = Ok(lock(&self.docker.machine).has_image(&image));
                Input::ImageChecked { image, outcome }
            }
            DockerAction::Pull { image } => {
                let outcome = self.pull(&image).await;
                Input::Pulled { image, outcome }
            }
            DockerAction::CancelPull { image } => {
                lock(&self.docker.cancelled).insert(image);
                return self.docker.changed.notify_waiters();
            }
            DockerAction::Launch(launch) => {
                let outcome = self.launch(&launch).await;
                Input::Launched { id: launch.id, outcome }
            }
            DockerAction::Stop { container_id, grace_seconds } => {
                self.stop(&container_id, grace_seconds, report).await;
                Input::Stopped { container_id, outcome: Ok(()) }
            }
            DockerAction::Remove { container_id } => {
                lock(&self.docker.machine).remove(&container_id, now());
                self.docker.changed.notify_waiters();
                Input::Removed { container_id, outcome: Ok(()) }
            }
            DockerAction::List { number, cluster, node: _ } => {
                let outcome = Ok(lock(&self.docker.machine).list(&cluster));
                Input::Listed { number, outcome }
            }
        };
        // An error means that the agent has ended.
        let _ = report.send(outcome).await;
    }

    async fn pull(&self, image: &str) -> Result<(), PullError> {
        let mut chance = Chance::of(self.settings.seed, &[self.node.as_str(), image]);
        let there = tokio::time::sleep(ms(chance.around(self.settings.pull_ms)));
        tokio::pin!(there);
        loop {
            let changed = self.docker.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if lock(&self.docker.cancelled).remove(image) {
                return Err(PullError::Cancelled);
            }
            tokio::select! {
                () = &mut there => break,
                () = changed => {}
            }
        }
        if Temper::of(image) == Temper::Missing {
            let message = format!("there is no image {image} in the simulated registry");
            return Err(PullError::Final { reason: Reason::ImageNotFound, message });
        }
        lock(&self.docker.machine).add_image(image);
        Ok(())
    }

    async fn launch(&self, launch: &Launch) -> LaunchOutcome {
        let fate = Fate::of(&self.settings, &self.node, launch);
        tokio::time::sleep(ms(fate.start_ms)).await;
        let outcome = lock(&self.docker.machine).launch(launch, fate, now());
        self.docker.changed.notify_waiters();
        outcome
    }

    async fn stop(&self, container_id: &str, grace_seconds: u32, report: &Report) {
        let fate = lock(&self.docker.machine).container(container_id).map(|c| c.fate);
        let Some(fate) = fate else { return };
        tokio::time::sleep(ms(fate.stop_ms.min(u64::from(grace_seconds) * 1_000))).await;
        let event = lock(&self.docker.machine).stop(container_id, now());
        self.docker.changed.notify_waiters();
        if let Some(event) = event {
            let _ = report.send(Input::Event(event)).await;
        }
    }

    /// One health probe, answered without a socket.
    ///
    /// # Errors
    /// In one sentence why it failed.
    pub fn probe(&self, probe: &Probe) -> Result<(), String> {
        let outcome = lock(&self.docker.machine).probe(&probe.container_id, now());
        let url = format_args!("http://{}:{}{}", probe.ip, probe.port, probe.path);
        outcome.map_err(|why| format!("GET {url}: {why} (simulated)"))
    }

    /// A container's log.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn logs(&self, container_id: &str, query: LogQuery) -> Result<LogSource, ApiError> {
        let machine = lock(&self.docker.machine);
        let Some(container) = machine.container(container_id) else {
            return Err(ApiError::not_found("Its container is gone, and its log with it."));
        };
        let there = container.lines(now());
        let reader = Reader {
            docker: self.docker.clone(),
            container_id: container_id.to_owned(),
            query,
            next: there.saturating_sub(query.tail.unwrap_or(LINES).min(LINES)),
        };
        let pieces = futures_util::stream::unfold(reader, |mut reader| async move {
            let piece = reader.read().await?;
            Some((Ok(piece.into()), reader))
        });
        Ok(LogSource::new(pieces))
    }
}

/// Somebody reads a log.
struct Reader {
    docker: Arc<Docker>,
    container_id: String,
    query: LogQuery,
    /// The number of the next line.
    next: u64,
}

impl Reader {
    /// What has been written since the last time; `None` at the end.
    async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            let changed = self.docker.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (written, next_at) = {
                let machine = lock(&self.docker.machine);
                let container = machine.container(&self.container_id)?;
                let mut written = Vec::new();
                for number in self.next..container.lines(now()) {
                    self.tell(container.line(number), &mut written);
                    self.next = number + 1;
                }
                let over = container.ended.is_some() || !self.query.follow;
                if written.is_empty() && over {
                    return None;
                }
                (written, container.line(self.next).at)
            };
            if !written.is_empty() {
                return Some(written);
            }
            tokio::select! {
                () = changed => {}
                () = until(Some(next_at)) => {}
            }
        }
    }

    fn tell(&self, line: diary::Line, into: &mut Vec<u8>) {
        let wanted = if line.is_error { self.query.stderr } else { self.query.stdout };
        if !wanted {
            return;
        }
        if self.query.lines {
            let at = i64::try_from(line.at)
                .ok()
                .and_then(|at| jiff::Timestamp::from_millisecond(at).map(|at| at.to_string()).ok());
            let stream = if line.is_error { "stderr" } else { "stdout" };
            LogLine { stream, at: &at.unwrap_or_default(), line: &line.text }.write(into);
        } else {
            into.extend_from_slice(line.text.as_bytes());
            into.push(b'\n');
        }
    }
}

async fn until(at: Option<u64>) {
    match at {
        // A clock that is set back does not hold anything up for long.
        Some(at) => tokio::time::sleep(ms(at.saturating_sub(now()).clamp(1, 60_000))).await,
        None => std::future::pending().await,
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Locks what is only ever held for a moment, never across an await.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
