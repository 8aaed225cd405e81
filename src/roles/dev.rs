//! The sandbox: a scheduler and N agents in one process, on one Docker daemon or
//! on none. It takes its containers with it when it ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::DevArgs;
use crate::client::Client;
use crate::model::view::{NodeStatus, WorkloadView};
use crate::model::{ClusterId, NodeId, Reason, Timing};
use crate::paths::state_dir;
use crate::roles::agent::docker::{DockerHandle, connect::Endpoint};
use crate::roles::agent::fleet::{Fleet, FleetConfig};
use crate::roles::agent::message::Ending;
use crate::roles::agent::runtime::Runtime;
use crate::roles::agent::simulated::fate::Settings;
use crate::roles::agent::{self, AgentConfig, RunningAgent};
use crate::roles::ctl::{render::words::count, spec_file};
use crate::roles::scheduler::durable::Meta;
use crate::roles::scheduler::recorder::{self, Ring};
use crate::roles::scheduler::store::{Store, StoreError};
use crate::roles::scheduler::{self, RunningScheduler, SchedulerConfig};
use crate::roles::signals::StopSignal;

/// One line on standard output. Whoever read it may have gone (`kube-lite dev | head`,
/// a closed terminal); the containers must be taken away all the same.
macro_rules! say {
    ($($line:tt)*) => {{
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, $($line)*).and_then(|()| out.flush());
    }};
}

/// More make sense without Docker only.
const MOST_ON_DOCKER: u32 = 1_000;
/// The end, containers included, takes at most this long.
const END: Duration = Duration::from_secs(14);

/// `kube-lite dev`: runs until told to stop.
///
/// # Errors
/// When the sandbox cannot start.
pub async fn run(args: DevArgs) -> anyhow::Result<()> {
    let settings = args.runtime.simulated()?;
    let simulated = settings.is_some();
    if settings.is_none() && args.nodes > MOST_ON_DOCKER {
        anyhow::bail!(
            "--nodes {} is too many for one Docker daemon, {MOST_ON_DOCKER} at most; nodes without \
             Docker: --runtime simulated",
            args.nodes
        );
    }
    let mut stop = StopSignal::listen()?.or_hang_up()?;
    let spec = match &args.deploy {
        None => None,
        Some(file) => Some(read_spec(file)?),
    };
    let began = Instant::now();
    let Some(mut sandbox) = Sandbox::start(&args, settings, &mut stop).await? else {
        say!("stopped before it had started");
        return Ok(());
    };
    let url = format!("http://{}", sandbox.scheduler.local_addr());
    say!(
        "kube-lite dev: {}, API at {url} ({} ms)",
        count(args.nodes.into(), if simulated { "simulated node" } else { "node" }),
        began.elapsed().as_millis()
    );
    if simulated {
        say!("nothing runs in fact; to see what would: {url}/");
    }
    say!("state is kept in {} (--fresh forgets it)", sandbox.directory.display());
    let outcome = tokio::select! {
        () = stop.told() => Ok(()),
        failed = attend(&url, &args, spec) => failed,
        () = sandbox.nodes.live() => Ok(()),
    };
    say!("stopping; the containers go with it (Ctrl-C again: leave at once)");
    tokio::select! {
        () = sandbox.end() => {}
        () = stop.told() => say!("left; the next `kube-lite dev` removes what remains"),
    }
    outcome
}

/// How to call `ctl` from where the user stands: as this program was called.
fn ctl_command() -> String {
    let program = std::env::args().next().unwrap_or_else(|| "kube-lite".to_owned());
    format!("{program} ctl")
}

/// Tells a terminal where this sandbox is, if it is not where `ctl` looks by
/// itself; after that all commands, also those that `ctl` suggests, find it.
fn say_where(url: &str) {
    if url != "http://127.0.0.1:8080" {
        say!("  export KUBE_LITE_SERVER={url}");
    }
}

/// Deploys what was asked for and then has nothing more to do than wait.
async fn attend(url: &str, args: &DevArgs, spec: Option<Bytes>) -> anyhow::Result<()> {
    let ctl = ctl_command();
    match spec {
        Some(bytes) => deploy(url, args.nodes, bytes, &ctl).await?,
        None => {
            let known = Client::new(url)?.workloads().await?;
            if !known.is_empty() {
                let names: Vec<&str> = known.iter().map(|view| view.spec.name.as_str()).collect();
                say!("deployed in an earlier run, starting again: {}", names.join(", "));
                say!("\nSee how they are, or deploy something else:");
                say_where(url);
                say!("  {ctl} workloads");
            } else {
                say!("\nDeploy something:");
                say_where(url);
            }
            say!("  {ctl} deploy -f examples/hello.json");
            say!("  {ctl} nodes");
            say!("  {ctl} events --follow\n");
        }
    }
    std::future::pending().await
}

async fn deploy(url: &str, nodes: u32, bytes: Bytes, ctl: &str) -> anyhow::Result<()> {
    let client = Client::new(url)?;
    all_alive(&client, nodes).await?;
    let deployed = client.deploy(bytes).await.context("the workload was not accepted")?;
    for warning in &deployed.warnings {
        say!("note: {warning}");
    }
    let name = deployed.id;
    say!("deployed {name}, revision {}", deployed.revision);
    let view = until_ready(&client, name.as_str()).await?;
    say!("\n{name} is up: {}/{} ready", view.ready, view.desired);
    for endpoint in client.discover(name.as_str()).await?.endpoints {
        say!("  http://{}  {} on {}", endpoint.address, endpoint.instance_id, endpoint.node_id);
    }
    say!("\nTry next, in another terminal:");
    say_where(url);
    say!("  {ctl} instances {name}");
    say!("  docker kill <one of them>, then: {ctl} explain {name}");
    say!("  {ctl} scale {name} 5\n");
    Ok(())
}

/// Waits until every node is alive and able.
async fn all_alive(client: &Client, nodes: u32) -> anyhow::Result<()> {
    let mut said = false;
    let began = Instant::now();
    loop {
        let views = client.nodes().await?;
        let alive = views.iter().filter(|n| n.status == NodeStatus::Alive && n.message.is_none());
        if alive.count() >= nodes as usize {
            return Ok(());
        }
        if !said && began.elapsed() > Duration::from_secs(2) {
            said = true;
            let why = views.iter().find_map(|n| n.message.clone()).unwrap_or_default();
            say!("not all {nodes} nodes can run containers yet: {why}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a workload is as wanted, saying what it waits for.
async fn until_ready(client: &Client, name: &str) -> anyhow::Result<WorkloadView> {
    let mut said = None;
    loop {
        let view = client.workload(name).await?;
        if view.ready + view.done >= view.desired && view.stopping == 0 {
            return Ok(view);
        }
        // The usual course of things is seen from the events.
        let usual = [
            Reason::Ordered,
            Reason::Queued,
            Reason::Pulling,
            Reason::Starting,
            Reason::HealthStarting,
        ];
        let why = view.reasons.into_iter().find(|why| !usual.contains(&why.reason));
        let word = why.as_ref().map(|why| why.reason);
        if let Some(why) = why.filter(|_| word != said) {
            say!("  {}/{} ready, {}: {}", view.ready, view.desired, why.reason, why.message);
        }
        said = word.or(said);
        sleep(Duration::from_millis(50)).await;
    }
}

/// The agents of a sandbox.
enum Nodes {
    /// All on one Docker daemon.
    Docker(Vec<RunningAgent>),
    /// On none.
    Simulated(Box<Fleet>),
}

impl Nodes {
    /// What they do by themselves, for as long as it is polled.
    async fn live(&mut self) {
        match self {
            Nodes::Docker(_) => std::future::pending().await,
            Nodes::Simulated(fleet) => fleet.live().await,
        }
    }

    /// Ends them and their containers.
    async fn end(self) -> Vec<Ending> {
        match self {
            Nodes::Docker(agents) => {
                let agents = agents.into_iter().map(|agent| agent.shutdown(true));
                futures_util::future::join_all(agents).await
            }
            Nodes::Simulated(fleet) => {
                fleet.end().await;
                vec![Ending::Asked]
            }
        }
    }
}

/// A scheduler and its agents.
struct Sandbox {
    scheduler: RunningScheduler,
    nodes: Nodes,
    directory: PathBuf,
}

impl Sandbox {
    /// Starts everything; `None` when told to stop before anything could run a
    /// container. What has been started when something fails is ended again.
    async fn start(
        args: &DevArgs,
        settings: Option<Settings>,
        stop: &mut StopSignal,
    ) -> anyhow::Result<Option<Self>> {
        let port = args.listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let port = port.with_context(|| {
            format!("--listen takes HOST:PORT, with a port up to 65535, not {:?}", args.listen)
        })?;
        let directory = match &args.data_dir {
            Some(directory) => directory.clone(),
            // What was deployed to a thousand pretended nodes must not come back
            // on the one real one.
            None if settings.is_some() => state_dir(&format!("simulated-{port}"))?,
            None => state_dir(&format!("dev-{port}"))?,
        };
        if settings.is_some() {
            args.allow.nothing()?;
        }
        let allowed = args.allow.allowed()?;
        let cluster = cluster_of(&directory, args.fresh)?;
        let timing = Timing::default();
        let endpoint = Endpoint::from_env();
        let endpoint = if settings.is_some() { endpoint.unwrap_or_default() } else { endpoint? };
        let scheduler = scheduler::start(SchedulerConfig {
            listen: args.listen.clone(),
            data_dir: Some(directory.clone()),
            cors_origins: args.cors_origin.clone(),
            hosts: args.host.clone(),
            insecure: args.insecure,
            timing: timing.clone(),
            cluster: Some(cluster.clone()),
            only_nodes: Some((1..=args.nodes).map(node_id).collect()),
            record: Some(Ring::default()),
            ..SchedulerConfig::default()
        })
        .await?;
        let url = format!("http://{}", scheduler.local_addr());
        if let Some(settings) = settings {
            let nodes = (1..=args.nodes).map(node_id).collect();
            let listen = "127.0.0.1:0".to_owned();
            let config = FleetConfig {
                scheduler_url: url,
                listen,
                nodes,
                settings,
                timing,
                insecure: false,
            };
            return match Fleet::start(config).await {
                Ok(fleet) => Ok(Some(Self {
                    scheduler,
                    nodes: Nodes::Simulated(Box::new(fleet)),
                    directory,
                })),
                Err(error) => {
                    scheduler.shutdown().await;
                    Err(error)
                }
            };
        }
        let docker = DockerHandle::new(endpoint, timing.clone()).allowing(allowed);
        let mut clearing = std::pin::pin!(remove_leftovers(&docker, &cluster));
        tokio::select! {
            () = &mut clearing => {}
            () = stop.told() => {
                // What an earlier run left goes all the same, if it can.
                let _ = timeout(END, clearing).await;
                scheduler.shutdown().await;
                return Ok(None);
            }
        }
        let client = Client::new(&url)?;
        let mut agents = Vec::new();
        for number in 1..=args.nodes {
            let listen = match port {
                0 => 0,
                port => port.checked_add(number as u16).unwrap_or(0),
            };
            let config = |port: u16| AgentConfig {
                scheduler: client.clone(),
                listen: format!("127.0.0.1:{port}"),
                advertise: None,
                node_id: Some(node_id(number)),
                data_dir: None,
                runtime: Runtime::Docker(docker.clone()),
                timing: timing.clone(),
                insecure: false,
                member: None,
            };
            let started = match agent::start(config(listen)).await {
                // Somebody else has that port; any other will do.
                Err(_) if listen != 0 => agent::start(config(0)).await,
                started => started,
            };
            match started {
                Ok(agent) => agents.push(agent),
                Err(error) => {
                    Self { scheduler, nodes: Nodes::Docker(agents), directory }.end().await;
                    return Err(error);
                }
            }
        }
        Ok(Some(Self { scheduler, nodes: Nodes::Docker(agents), directory }))
    }

    /// Stops deciding first, so that nothing is started again, and then all
    /// containers at once.
    async fn end(self) {
        self.scheduler.stop_deciding();
        let everything = async { tokio::join!(self.nodes.end(), self.scheduler.shutdown()).0 };
        let endings = timeout(END, everything).await.unwrap_or_default();
        let left: Vec<String> = endings
            .iter()
            .filter_map(|ending| match ending {
                Ending::LeftOver(ids) => Some(ids.iter().map(ToString::to_string)),
                _ => None,
            })
            .flatten()
            .collect();
        if endings.is_empty() || !left.is_empty() {
            let _ = writeln!(
                std::io::stderr(),
                "not everything was gone in time ({}); the next `kube-lite dev` removes what is left",
                if left.is_empty() { "no answer".to_owned() } else { left.join(", ") }
            );
        } else {
            say!("all gone");
        }
    }
}

/// The name of the sandbox's node of this number.
fn node_id(number: u32) -> NodeId {
    format!("node-{number}").into()
}

/// What an earlier run left behind when it was killed. Without Docker there is
/// nothing to be done now; the agents find it later and adopt or remove it.
async fn remove_leftovers(docker: &DockerHandle, cluster: &ClusterId) {
    match docker.remove_cluster(cluster).await {
        Ok(0) => {}
        Ok(left) => {
            say!("removed {} that an earlier run had left", count(left as u64, "container"));
        }
        Err(error) => say!("Docker does not answer yet ({error:#}); the nodes wait for it"),
    }
}

/// The sandbox's cluster id, kept over `--fresh`, so that what an earlier run
/// left behind is still known as its own.
fn cluster_of(directory: &Path, fresh: bool) -> anyhow::Result<ClusterId> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the data directory {}", directory.display()))?;
    let file = directory.join("cluster-id");
    if let Some(foreign) = foreign_state(directory, &file)? {
        anyhow::bail!(
            "{} holds {foreign}. A sandbox has a directory of its own: choose another with \
             --data-dir. Nothing was changed",
            directory.display()
        );
    }
    let cluster = match std::fs::read_to_string(&file) {
        Ok(text) if !text.trim().is_empty() => ClusterId::from(text.trim()),
        Ok(_) => write_cluster(&file)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_cluster(&file)?,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    };
    if fresh {
        Store::forget(directory)?;
        recorder::forget(directory)?;
    }
    Ok(cluster)
}

/// What a sandbox must not go on from, let alone forget: the state of a scheduler
/// that is none. Each sandbox marks its directory with its cluster's id.
fn foreign_state(directory: &Path, mark: &Path) -> anyhow::Result<Option<String>> {
    let is_marked = mark.symlink_metadata().is_ok();
    if !is_marked && Store::is_in(directory) {
        return Ok(Some("the state of a scheduler that is no sandbox".to_owned()));
    }
    // What is damaged may be forgotten; going on from it is refused later.
    let meta = match Store::look(directory) {
        Ok(found) => found.and_then(|found| Meta::of(&found.records).ok().flatten()),
        Err(error @ StoreError::InUse { .. }) => return Err(error.into()),
        Err(_) => None,
    };
    let own = std::fs::read_to_string(mark).unwrap_or_default();
    let other = meta.filter(|meta| !own.trim().is_empty() && meta.cluster.as_str() != own.trim());
    Ok(other.map(|meta| {
        format!("the state of cluster {}, and this is cluster {}", meta.cluster, own.trim())
    }))
}

fn write_cluster(file: &Path) -> anyhow::Result<ClusterId> {
    let cluster = scheduler::new_cluster();
    std::fs::write(file, format!("{cluster}\n"))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(cluster)
}

/// Reads the file before anything is started, so that a mistake in it is told
/// at once. The server checks it again.
fn read_spec(file: &Path) -> anyhow::Result<Bytes> {
    spec_file::load(file).map_err(|problem| anyhow::anyhow!(problem))
}
