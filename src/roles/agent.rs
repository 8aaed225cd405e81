//! The agent: owns Docker on one node, carries out the scheduler's orders, and
//! reports what it has.
//!
//! ```text
//!  scheduler ──HTTP──▶ server ──calls──▶ ┌────────┐ ──actions──▶ Docker · probes
//!  scheduler ◀──HTTP── heartbeat ◀────── │ driver │ ◀──reports── outcomes · events
//!                                        └────────┘
//!                                  one task, owns the core
//! ```
//!
//! Pure: [`core`] and the files of rules beside it. Shells: [`driver`] (the
//! task), [`docker`] (the daemon), [`simulated`] (what may stand in for it),
//! [`fleet`] (many simulated nodes in one process), `health` (probes), `heartbeat` (calls to the
//! scheduler), [`server`] (calls from it), `home` (the data directory).

mod adopt;
mod autonomy;
mod contact;
pub mod core;
pub mod docker;
pub mod driver;
pub mod fleet;
mod health;
mod heartbeat;
mod home;
mod images;
pub mod instance;
pub mod launch;
mod lifecycle;
pub mod message;
mod orders;
pub mod probe;
mod report;
mod retention;
mod roster;
pub mod runtime;
pub mod server;
pub mod simulated;
mod snapshot;
pub mod vitals;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cli::{AgentArgs, SERVER_VARIABLE};
use crate::client::Client;
use crate::http::{self, Hosts, Tls, exposure};
use crate::identity::membership::Membership;
use crate::identity::token::Invitation;
use crate::model::ids::dns_label_problem;
use crate::model::{NodeId, Timing};
use crate::notify;
use crate::paths::state_dir;
use crate::roles::signals::StopSignal;
use core::{AgentCore, Identity};
use docker::DockerHandle;
use docker::connect::Endpoint;
use driver::{AgentInbox, Driver};
use fleet::{Fleet, FleetConfig};
use home::Home;
use message::Ending;
use runtime::Runtime;
use server::AgentServer;
use simulated::SimulatedHandle;
use simulated::fate::Settings;
use vitals::Vitals;

/// Numbers that only identify stay exact in any JSON reader below this.
const INCARNATION_BITS: u32 = 53;
/// Beyond the core's own limit for an orderly end, the process goes anyway.
const SPARE: Duration = Duration::from_secs(2);
/// A call to the scheduler that takes longer has failed; a third of the time
/// after which it takes this node for dead.
const CALL: Duration = Duration::from_secs(3);

/// What to do instead of being open to everybody.
const REMEDY: &str = "To be part of a safe cluster, let the scheduler's machine print a join line:
    kube-lite scheduler --init, or later: kube-lite ctl token create --role join
and start the agent with it:
    kube-lite agent --join TOKEN@HOST:PORT --listen :8081
To be reached from this machine only:
    kube-lite agent --listen 127.0.0.1:8081";

/// What an agent is told at its start.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The way to the scheduler; many agents may share its connections.
    pub scheduler: Client,
    /// Where to listen: `host:port`, or `:port` for every interface; port 0: any.
    pub listen: String,
    /// `host:port` where others reach it, if that is something else.
    pub advertise: Option<String>,
    /// The node's name; `None`: the host's.
    pub node_id: Option<NodeId>,
    /// Where it keeps who it is; `None`: it is a new machine at each start.
    pub data_dir: Option<PathBuf>,
    /// What runs its containers; shared by all agents of one process.
    pub runtime: Runtime,
    /// All intervals.
    pub timing: Timing,
    /// Listen also where others could reach it unprotected.
    pub insecure: bool,
    /// Its place in a cluster with identities; `None`: everybody may order it.
    pub member: Option<Arc<Membership>>,
}

/// An agent that runs in tasks of its own.
#[derive(Debug)]
pub struct RunningAgent {
    node: NodeId,
    address: SocketAddr,
    inbox: AgentInbox,
    driver: JoinHandle<Ending>,
    server: JoinHandle<()>,
    stop_server: Option<oneshot::Sender<()>>,
    longest_end: Duration,
    fresh: Option<JoinHandle<()>>,
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        if let Some(fresh) = &self.fresh {
            fresh.abort();
        }
    }
}

/// Starts an agent. It needs neither the scheduler nor Docker to be there yet.
///
/// # Errors
/// When what it was told makes no sense, it cannot listen, or its data directory
/// cannot be used.
pub async fn start(config: AgentConfig) -> anyhow::Result<RunningAgent> {
    let node = match config.node_id {
        Some(node) => node,
        None => host_name().context("the host's name cannot be used; give --node-id")?,
    };
    if let Some(problem) = dns_label_problem(node.as_str()) {
        anyhow::bail!("the node id {:?} {problem}", node.as_str());
    }
    let client = config.scheduler.with_timeout(CALL);
    let tls = match &config.member {
        Some(member) => Some(Tls { config: member.server_config()?, doorkeeper: member.clone() }),
        None => None,
    };
    let listener = http::bind(&config.listen).await?;
    let address = listener.local_addr().context("the listening socket has no address")?;
    let warning =
        exposure::check(address, tls.is_some(), config.insecure, REMEDY).map_err(Error::msg)?;
    let hosts = Hosts::parse(config.advertise.as_slice())
        .map_err(|_| Error::msg("--advertise takes HOST:PORT"))?;
    let home = Home::open(config.data_dir)?;
    let incarnation = getrandom::u64().context("the system has no random numbers")?
        >> (u64::BITS - INCARNATION_BITS);
    let identity = Identity {
        node: node.clone(),
        key: home.key().to_owned(),
        incarnation,
        advertise: config.advertise,
        port: address.port(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let longest_end = Duration::from_millis(config.timing.shutdown_ms) + SPARE;
    let core = AgentCore::new(identity, config.timing, home.remembered(), 0);
    let runtime = config.runtime.for_node(node.clone());
    let fresh = config.member.map(|member| tokio::spawn(member.stay_fresh(client.clone())));
    let vitals = Vitals::default();
    let (driver, inbox) = Driver::new(core, node.to_string(), home, client, runtime.clone());
    let driver = driver.measured_by(vitals.clone());
    if let Some(warning) = warning {
        tracing::warn!(node = node.as_str(), "{warning}");
    }
    let server = AgentServer::new(inbox.clone(), runtime, vitals).warning_of(warning);
    let options = http::Options { hosts, tls, ..http::Options::default() };
    let (stop_server, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await; // dropped counts too
    };
    Ok(RunningAgent {
        node,
        address,
        inbox,
        driver: tokio::spawn(driver.run()),
        server: tokio::spawn(http::serve(listener, server, options, shutdown)),
        stop_server: Some(stop_server),
        longest_end,
        fresh,
    })
}

impl RunningAgent {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The node's name.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        self.driver.is_finished()
    }

    /// Ends it as a power cut would: nothing is told to anybody.
    pub fn kill(self) {
        self.driver.abort();
        self.server.abort();
    }

    /// Waits until the agent ends by itself: another one has taken over its node.
    /// Can be dropped and called again.
    pub async fn ended(&mut self) -> Ending {
        let ending = (&mut self.driver).await;
        ending.unwrap_or_else(|error| Ending::Failed(format!("its task ended: {error}")))
    }

    /// Ends the agent within a bounded time. Its containers run on, unless they
    /// are to be stopped and removed first (`dev`).
    pub async fn shutdown(mut self, stop_containers: bool) -> Ending {
        self.inbox.shut_down(stop_containers).await;
        let ending = match tokio::time::timeout(self.longest_end, self.ended()).await {
            Ok(ending) => ending,
            Err(_) => {
                self.driver.abort();
                Ending::Failed(format!("it did not end within {:?}", self.longest_end))
            }
        };
        drop(self.stop_server.take());
        let drain = http::Limits::default().drain + SPARE;
        if tokio::time::timeout(drain, &mut self.server).await.is_err() {
            self.server.abort();
        }
        ending
    }
}

/// `kube-lite agent`: runs until told to stop, or until another agent has taken
/// over its node.
///
/// # Errors
/// When it cannot start, or was taken over.
pub async fn run(args: AgentArgs) -> anyhow::Result<()> {
    let mut stop = StopSignal::listen()?;
    let settings = args.runtime.simulated()?;
    if settings.is_some() {
        args.allow.nothing()?;
    }
    // In a file of settings it may be left empty.
    let join = args.join.clone().filter(|text| !text.is_empty());
    let joins = join.is_some() || args.data_dir.is_some();
    if let Some(settings) = settings.clone().filter(|_| !joins) {
        let (scheduler, _) = scheduler_of(args.scheduler.as_deref())?;
        return simulate(args, scheduler, settings, stop).await;
    }
    if args.nodes.is_some() {
        anyhow::bail!(
            "--nodes takes --runtime simulated, and neither --join nor --data-dir: a machine that \
             keeps who it is is one node"
        );
    }
    let node = match args.node_id {
        Some(node) => NodeId::from(node),
        None => host_name().context("the host's name cannot be used; give --node-id")?,
    };
    let data_dir = match args.data_dir {
        Some(directory) => directory,
        None => state_dir(&format!("agent-{node}"))?,
    };
    let member = match &join {
        Some(text) => {
            let invitation = Invitation::parse(text).map_err(Error::msg)?;
            Some(Membership::join(&data_dir, &node, &invitation).await?)
        }
        None => Membership::open(&data_dir, &node)?,
    };
    let (scheduler, from, client) = match &member {
        Some(member) => {
            let given = args.scheduler.as_deref().unwrap_or(member.scheduler());
            let client = Client::secured(given, member.client_config()?)?;
            (given.to_owned(), "the join", client)
        }
        None => {
            let (scheduler, from) = scheduler_of(args.scheduler.as_deref())?;
            let client = Client::new(&scheduler)?;
            (scheduler, from, client)
        }
    };
    let scheme = if member.is_some() { "https" } else { "http" };
    let (runtime, timing) = match settings {
        Some(settings) => {
            let simulated = SimulatedHandle::new(settings);
            (Runtime::Simulated(simulated), SimulatedHandle::timing(Timing::default()))
        }
        None => {
            let timing = Timing::default();
            let docker = DockerHandle::new(Endpoint::from_env()?, timing.clone());
            let docker = docker.allowing(args.allow.allowed()?);
            (Runtime::Docker(docker), timing)
        }
    };
    let mut agent = start(AgentConfig {
        scheduler: client,
        listen: args.listen,
        advertise: args.advertise,
        node_id: Some(node),
        data_dir: Some(data_dir.clone()),
        runtime,
        timing,
        insecure: args.insecure,
        member,
    })
    .await?;
    tracing::info!(
        "agent of node {} listens on {scheme}://{}, reports to {scheduler} (from {from}); its key is \
         kept in {}",
        agent.node(),
        agent.local_addr(),
        data_dir.display()
    );
    notify::ready();
    let inbox = agent.inbox.clone();
    tokio::spawn(notify::keep_alive(move || {
        let inbox = inbox.clone();
        async move { inbox.health().await.is_ok() }
    }));
    tokio::select! {
        () = stop.told() => {
            notify::stopping();
            tracing::info!("stopping; containers run on");
            agent.shutdown(false).await;
            Ok(())
        }
        ending = agent.ended() => match ending {
            Ending::Superseded(why) => Err(Replaced(why).into()),
            Ending::Failed(why) => anyhow::bail!("the agent ended: {why}"),
            Ending::Asked | Ending::LeftOver(_) => Ok(()),
        },
    }
}

/// Another agent has taken over this one's node: starting again would take it back,
/// and so on for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this agent has been replaced: {0}")]
pub struct Replaced(String);

impl Replaced {
    /// What the process ends with, so that whoever started it can tell.
    pub const EXIT_CODE: u8 = 4;
}

/// Whom to report to, and who says so.
fn scheduler_of(given: Option<&str>) -> anyhow::Result<(String, &'static str)> {
    let set = std::env::var(SERVER_VARIABLE).ok().filter(|text| !text.is_empty());
    match (given, set) {
        (Some(given), _) => Ok((given.to_owned(), "--scheduler")),
        (None, Some(set)) => Ok((set, SERVER_VARIABLE)),
        (None, None) => anyhow::bail!(
            "no scheduler to report to; say where it is: --scheduler http://HOST:8080, or set \
             {SERVER_VARIABLE}"
        ),
    }
}

/// `kube-lite agent --runtime simulated`: one node or many, until told to stop.
async fn simulate(
    args: AgentArgs,
    scheduler: String,
    settings: Settings,
    mut stop: StopSignal,
) -> anyhow::Result<()> {
    if args.advertise.is_some() {
        anyhow::bail!(
            "simulated nodes are known by the address they come from; leave out --advertise"
        );
    }
    let name = match args.node_id {
        Some(name) => name,
        None => host_name()?.to_string(),
    };
    let nodes = match args.nodes {
        None => vec![name.into()],
        Some(count) => (1..=count).map(|number| format!("{name}-{number}").into()).collect(),
    };
    let count = nodes.len();
    let mut fleet = Fleet::start(FleetConfig {
        scheduler_url: scheduler.clone(),
        listen: args.listen,
        nodes,
        settings,
        timing: Timing::default(),
        insecure: args.insecure,
    })
    .await?;
    tracing::info!("simulating {count} nodes, which report to {}", scheduler);
    tokio::select! {
        () = stop.told() => tracing::info!("stopping; the simulated containers go with it"),
        () = fleet.live() => {}
    }
    fleet.end().await;
    Ok(())
}

/// The host's name as a node's: lower case, without its domain.
fn host_name() -> anyhow::Result<NodeId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let label = text.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    match dns_label_problem(&label) {
        None => Ok(label.into()),
        Some(problem) => anyhow::bail!("{label:?} {problem}"),
    }
}
