//! The scheduler: who is alive, what is desired, what is actual; closes the gap.
//!
//! Pure: [`core`] and the files it is spread over (`registry`, `intake`, `adoption`,
//! `credible`, `reconcile`, `rollout`, `placement`, `orders`, `users`, `replica`, `durable`, `state`,
//! `chronicle`), and for readers `views`, `explain` and `changes`. Shells: [`driver`]
//! (the task that owns the core), [`vitals`] (how it does), [`server`], [`store`], `dispatch`, `upkeep`
//! (`--check` and `--restore`), `founding` (`--init`). What was decided can be recorded and decided again:
//! `recording` and `replay` are pure, `recorder` and `rerun` (`--replay`) are shells.
//! This file puts them together.

mod adoption;
pub mod changes;
mod chronicle;
pub mod core;
mod credible;
mod dispatch;
pub mod driver;
pub mod durable;
mod explain;
mod founding;
mod intake;
mod maintenance;
pub mod message;
mod orders;
pub mod placement;
mod reconcile;
pub mod recorder;
pub mod recording;
mod registry;
pub mod replay;
pub mod replica;
mod rerun;
pub mod rollout;
pub mod server;
mod starting;
pub mod state;
pub mod store;
mod traffic;
mod upkeep;
mod users;
pub mod views;
pub mod vitals;
pub mod waves;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Error};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::core::Core;
use self::driver::{Clock, Driver, SchedulerHandle};
use self::durable::{FORMAT, META, Meta, put};
use self::message::Record;
use self::recorder::{Recorder, Ring};
use self::recording::Checkpoint;
use self::store::Store;
use crate::cli::SchedulerArgs;
use crate::client::AgentClient;
use crate::http::{self, Hosts, Options, Origins, Tls, exposure};
use crate::identity::keeper::{CERTIFICATE_LIFE, Keeper};
use crate::model::{ClusterId, NodeId, Timing};
use crate::notify;
use crate::paths::state_dir;
use crate::roles::signals::StopSignal;

/// What to do instead of being open to everybody.
const REMEDY: &str = "To make the cluster safe, once (NAME: how other machines call this one):
    kube-lite scheduler --init --host NAME
then start the scheduler as before; both with the same --data-dir, if there is one.
To be reached from this machine only:
    kube-lite scheduler --listen 127.0.0.1:8080";

/// All that a scheduler needs to know before it starts.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Where to listen.
    pub listen: String,
    /// Where state is kept; `None`: nowhere.
    pub data_dir: Option<PathBuf>,
    /// Browser origins that may use the API.
    pub cors_origins: Vec<String>,
    /// Names under which it is called, besides its address and `localhost`.
    pub hosts: Vec<String>,
    /// Listen also where others could reach it unprotected.
    pub insecure: bool,
    /// Every constant.
    pub timing: Timing,
    /// The cluster to be, if there is no state yet; a new one when not given.
    pub cluster: Option<ClusterId>,
    /// Of the nodes of the time before, remember only these: the sandbox makes its
    /// own, and waits for all of them before it places anything. `None`: all.
    pub only_nodes: Option<Vec<NodeId>>,
    /// Record what it decides in its data directory, so much of it; `None`: nothing.
    pub record: Option<Ring>,
    /// Who is who; `None`: everybody may everything.
    pub keeper: Option<Arc<Keeper>>,
    /// Hosts at which nodes may be called back although they come from elsewhere.
    pub allow_advertise: Vec<String>,
}

impl Default for SchedulerConfig {
    /// On any port of this machine, keeping nothing.
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            data_dir: None,
            cors_origins: Vec::new(),
            hosts: Vec::new(),
            insecure: false,
            timing: Timing::default(),
            cluster: None,
            only_nodes: None,
            record: None,
            keeper: None,
            allow_advertise: Vec::new(),
        }
    }
}

/// A scheduler that runs.
#[derive(Debug)]
pub struct RunningScheduler {
    address: SocketAddr,
    handle: SchedulerHandle,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    driver: JoinHandle<()>,
}

impl RunningScheduler {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The way to its core.
    pub fn handle(&self) -> &SchedulerHandle {
        &self.handle
    }

    /// From now on nothing is decided, and no new requests are taken.
    pub fn stop_deciding(&self) {
        let _ = self.stop.send(true);
    }

    /// Stops: no new requests, no more decisions. What is in flight has the
    /// server's drain time to end. Containers run on.
    pub async fn shutdown(self) {
        self.stop_deciding();
        let _ = self.server.await;
        let _ = self.driver.await;
    }
}

/// Starts a scheduler; when this returns, it listens.
///
/// # Errors
/// When the address is taken or the state cannot be read.
pub async fn start(config: SchedulerConfig) -> anyhow::Result<RunningScheduler> {
    let origins = Origins::parse(&config.cors_origins)
        .map_err(|problem| anyhow::anyhow!("--cors-origin: {problem}"))?;
    let own = config.keeper.as_ref().map_or(&[][..], |keeper| keeper.hosts());
    let hosts: Vec<&String> = config.hosts.iter().chain(own).collect();
    let hosts = Hosts::parse(&hosts).map_err(Error::msg)?;
    let listener = http::bind(&config.listen).await?;
    let address = listener.local_addr().context("cannot tell which port it listens on")?;
    let has_tls = config.keeper.is_some();
    let warning = exposure::check(address, has_tls, config.insecure, REMEDY).map_err(Error::msg)?;
    let (tls, agents, orders) = secured(config.keeper.as_ref())?;
    let (keeper, allow_advertise) = (config.keeper.clone(), config.allow_advertise.clone());
    let clock = Clock::start();
    let Opened { core, store, recorder } = {
        let (config, clock) = (config.clone(), clock.clone());
        tokio::task::spawn_blocking(move || open(&config, &clock, address)).await??
    };
    let (driver, handle) = Driver::new(core, Arc::new(store), clock);
    let driver = driver.recorded_by(recorder).secured_by(orders);
    let (stop, stopped) = watch::channel(false);
    let driver = tokio::spawn(driver.run(handle.clone(), stopped.clone()));
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    if let Some(keeper) = keeper.clone() {
        let mut told = stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = told.wait_for(|stop| *stop) => {}
                () = keeper.stay_fresh() => {}
            }
        });
    }
    let handler = server::SchedulerServer::new(handle.clone()).warning_of(warning).kept_by(
        keeper,
        agents,
        allow_advertise,
    );
    let options = Options { origins, hosts, tls, ..Options::default() };
    let mut told = stopped;
    let server = tokio::spawn(http::serve(listener, handler, options, async move {
        let _ = told.wait_for(|stop| *stop).await;
    }));
    Ok(RunningScheduler { address, handle, stop, server, driver })
}

/// What a scheduler with identities listens with, asks agents with and orders with.
type Secured = (Option<Tls>, AgentClient, Option<Arc<ClientConfig>>);

fn secured(keeper: Option<&Arc<Keeper>>) -> anyhow::Result<Secured> {
    let Some(keeper) = keeper else {
        return Ok((None, AgentClient::new(server::AGENT_TIMEOUT), None));
    };
    let tls = Tls { config: keeper.server_config()?, doorkeeper: keeper.clone() };
    let config = keeper.client_config()?;
    let agents = AgentClient::secured(server::AGENT_TIMEOUT, config.clone());
    Ok((Some(tls), agents, Some(config)))
}

/// A scheduler that is about to run.
struct Opened {
    core: Core,
    store: Store,
    recorder: Option<Recorder>,
}

/// Reads the state back and begins a new epoch, durably, before anything else.
fn open(config: &SchedulerConfig, clock: &Clock, address: SocketAddr) -> anyhow::Result<Opened> {
    let store = match &config.data_dir {
        None => Store::Memory,
        Some(directory) => Store::open(directory)?,
    };
    store.announce(address);
    let mut records = store.load()?;
    let wrong = || match &config.data_dir {
        Some(directory) => {
            format!("cannot go on from the state in {}; it was left as it is", directory.display())
        }
        None => String::new(),
    };
    let known = Meta::of(&records).with_context(wrong)?;
    if known.is_none() && !records.is_empty() {
        anyhow::bail!("{}: its first record, {META:?}, is missing", wrong());
    }
    records.remove(META);
    let mut first: Vec<Record> = Vec::new();
    if let Some(kept) = &config.only_nodes {
        let is_other = |key: &&String| {
            key.strip_prefix("node/").is_some_and(|id| kept.iter().all(|kept| kept.as_str() != id))
        };
        let nodes: Vec<String> = records.keys().filter(is_other).cloned().collect();
        for key in nodes {
            records.remove(&key);
            first.push(Record { key, value: None });
        }
    }
    let meta = match known {
        Some(meta) => Meta { epoch: meta.epoch + 1, ..meta },
        None => Meta {
            format: FORMAT,
            cluster: config.cluster.clone().unwrap_or_else(new_cluster),
            epoch: 1,
        },
    };
    if let Some(wanted) = config.cluster.as_ref().filter(|wanted| **wanted != meta.cluster) {
        anyhow::bail!(
            "{}: it is of cluster {}, and this is cluster {wanted}",
            wrong(),
            meta.cluster
        );
    }
    let moment = clock.moment();
    let core = Core::recover(&meta, &records, config.timing.clone(), moment).with_context(wrong)?;
    first.push(put(META.to_owned(), &meta));
    store.commit(&first)?;
    let recorder = match (&config.data_dir, config.record) {
        (Some(directory), Some(ring)) => {
            let (cluster, epoch) = (meta.cluster.clone(), meta.epoch);
            let timing = Box::new(config.timing.clone());
            let opened = Checkpoint::Opened { meta, records, timing, moment };
            Recorder::start(directory.join(recorder::DIRECTORY), ring, cluster, epoch, opened)
        }
        _ => None,
    };
    Ok(Opened { core, store, recorder })
}

/// A name for a new cluster.
pub fn new_cluster() -> ClusterId {
    format!("{:016x}", driver::draw()).into()
}

/// `kube-lite scheduler`: runs until told to stop.
///
/// # Errors
/// When it cannot start.
pub async fn run(args: SchedulerArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.replay {
        return rerun::run(path, &args);
    }
    let data_dir = match (args.in_memory, args.data_dir) {
        (true, _) => None,
        (false, Some(directory)) => Some(directory),
        (false, None) => Some(state_dir("scheduler")?),
    };
    if let Some(directory) = data_dir.as_ref().filter(|_| args.check || args.restore.is_some()) {
        return match &args.restore {
            Some(file) if args.check => upkeep::check_backup(file),
            Some(file) => upkeep::restore(file, directory, args.force),
            None => upkeep::check(directory),
        };
    }
    if args.init {
        let directory = data_dir.context("--init takes a data directory, and no --in-memory")?;
        return founding::found(&args.listen, &args.host, &directory);
    }
    let life = args.certificate_life.map_or(CERTIFICATE_LIFE, |life| life.as_secs().max(1));
    let keeper = match &data_dir {
        Some(directory) => Keeper::open(directory, &args.host, life)?,
        None => None,
    };
    let scheme = if keeper.is_some() { "https" } else { "http" };
    let mut stop = StopSignal::listen()?;
    match &data_dir {
        Some(directory) => tracing::info!("state is kept in {}", directory.display()),
        None => tracing::warn!("no state is kept (--in-memory): a restart forgets everything"),
    }
    let running = start(SchedulerConfig {
        listen: args.listen,
        data_dir,
        cors_origins: args.cors_origin,
        hosts: args.host,
        insecure: args.insecure,
        timing: Timing::default(),
        cluster: None,
        only_nodes: None,
        record: args.record.then(Ring::default),
        keeper,
        allow_advertise: args.allow_advertise,
    })
    .await?;
    tracing::info!("scheduler listens on {scheme}://{}", running.local_addr());
    notify::ready();
    // The task that owns the cluster looks at it at least every second.
    let vitals = running.handle().vitals();
    let mut before = vitals.passes.get();
    tokio::spawn(notify::keep_alive(move || {
        let passes = vitals.passes.get();
        std::future::ready(std::mem::replace(&mut before, passes) != passes)
    }));
    stop.told().await;
    notify::stopping();
    tracing::info!("stopping; containers run on");
    running.shutdown().await;
    Ok(())
}
