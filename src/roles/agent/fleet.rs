//! Many simulated nodes in one process: an agent each, one pool of connections to
//! the scheduler for all, and a power cut now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep_until};

use super::message::Ending;
use super::runtime::Runtime;
use super::simulated::SimulatedHandle;
use super::simulated::fate::{Chance, Settings};
use super::{AgentConfig, RunningAgent, start};
use crate::client::Client;
use crate::model::{NodeId, Timing};

/// Connections to the scheduler that are kept although nobody uses them. A burst
/// of news takes one per node.
const CONNECTIONS: usize = 1_024;
/// Whether an agent has ended by itself is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// The fleet is gone after this long, whatever holds it up.
const END: Duration = Duration::from_secs(10);

/// What a fleet is told at its start.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Where the scheduler is: `http://host:port`.
    pub scheduler_url: String,
    /// The address all agents listen on, each with a port of its own.
    pub listen: String,
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// How their Dockers and their power behave.
    pub settings: Settings,
    /// All intervals.
    pub timing: Timing,
    /// Listen also where others could reach them unprotected.
    pub insecure: bool,
}

/// Simulated nodes that run.
#[derive(Debug)]
pub struct Fleet {
    template: AgentConfig,
    docker: SimulatedHandle,
    agents: BTreeMap<NodeId, RunningAgent>,
    /// Nodes without power: when it is back, and where they listened.
    dark: BTreeMap<NodeId, (Instant, String)>,
    chance: Chance,
}

impl Fleet {
    /// Starts all of them.
    ///
    /// # Errors
    /// When one cannot listen. Those that had started are gone, then.
    pub async fn start(config: FleetConfig) -> anyhow::Result<Self> {
        let host = config.listen.rsplit_once(':').map(|(host, _)| host);
        let host = host
            .with_context(|| format!("--listen takes HOST:PORT, not {:?}", config.listen))?
            .to_owned();
        let chance = Chance::of(config.settings.seed, &["power"]);
        let docker = SimulatedHandle::new(config.settings);
        let mut fleet = Self {
            template: AgentConfig {
                scheduler: Client::with_connections(&config.scheduler_url, CONNECTIONS)?,
                listen: format!("{host}:0"),
                advertise: None,
                node_id: None,
                data_dir: None,
                runtime: Runtime::Simulated(docker.clone()),
                timing: SimulatedHandle::timing(config.timing),
                insecure: config.insecure,
                member: None,
            },
            docker,
            agents: BTreeMap::new(),
            dark: BTreeMap::new(),
            chance,
        };
        for node in config.nodes {
            if let Err(error) = fleet.power_up(&node, None).await {
                fleet.kill();
                return Err(error);
            }
        }
        Ok(fleet)
    }

    async fn power_up(&mut self, node: &NodeId, listen: Option<String>) -> anyhow::Result<()> {
        let listen = listen.unwrap_or_else(|| self.template.listen.clone());
        let node_id = Some(node.clone());
        let agent = start(AgentConfig { listen, node_id, ..self.template.clone() }).await?;
        self.agents.insert(node.clone(), agent);
        Ok(())
    }

    /// Cuts power and gives it back, and says which agents have ended, for as long
    /// as it is polled.
    pub async fn live(&mut self) {
        let mut next_look = Instant::now() + LOOK;
        let mut next_cut = self.next_cut();
        loop {
            let back = self.dark.iter().map(|(node, (at, _))| (*at, node.clone())).min();
            let first = [next_cut, back.as_ref().map(|(at, _)| *at)].into_iter().flatten().min();
            sleep_until(first.map_or(next_look, |first| first.min(next_look))).await;
            let now = Instant::now();
            if next_look <= now {
                self.look().await;
                next_look = now + LOOK;
            }
            if next_cut.is_some_and(|at| at <= now) {
                self.cut_power();
                next_cut = self.next_cut();
            }
            if let Some((_, node)) = back.filter(|(at, _)| *at <= now)
                && let Some((_, address)) = self.dark.remove(&node)
            {
                self.come_back(node, address, now).await;
            }
        }
    }

    /// The same machine: known by its address.
    async fn come_back(&mut self, node: NodeId, address: String, now: Instant) {
        if let Err(error) = self.power_up(&node, Some(address.clone())).await {
            tracing::warn!("{node} does not come back yet: {error:#}");
            self.dark.insert(node, (now + LOOK, address));
        }
    }

    /// The power of one node fails now and then, of many more often.
    fn next_cut(&mut self) -> Option<Instant> {
        let all = self.docker.settings().outages_per_minute * self.agents.len().max(1) as f64;
        self.chance.until_next(all).map(|ms| Instant::now() + Duration::from_millis(ms))
    }

    fn cut_power(&mut self) {
        let count = self.agents.len().max(1) as u64;
        let unlucky = self.chance.next() % count;
        let Some(node) = self.agents.keys().nth(unlucky as usize).cloned() else { return };
        let Some(agent) = self.agents.remove(&node) else { return };
        let address = agent.local_addr().to_string();
        agent.kill();
        self.docker.lose_power(&node);
        let gone_ms = self.chance.around(self.docker.settings().outage_ms);
        self.dark.insert(node, (Instant::now() + Duration::from_millis(gone_ms), address));
    }

    async fn look(&mut self) {
        let ended = self.agents.iter().filter(|(_, agent)| agent.has_ended());
        let ended: Vec<NodeId> = ended.map(|(node, _)| node.clone()).collect();
        for node in ended {
            let Some(mut agent) = self.agents.remove(&node) else { continue };
            match agent.ended().await {
                Ending::Superseded(why) | Ending::Failed(why) => {
                    tracing::error!("the agent of {node} has ended: {why}");
                }
                Ending::Asked | Ending::LeftOver(_) => {}
            }
        }
    }

    /// Ends all of them. What they had goes with the process.
    pub async fn end(self) {
        let agents = self.agents.into_values().map(|agent| agent.shutdown(false));
        let _ = tokio::time::timeout(END, futures_util::future::join_all(agents)).await;
    }

    fn kill(self) {
        self.agents.into_values().for_each(RunningAgent::kill);
    }
}
