//! What goes wrong: kinds of trouble, how each strikes, and how it ends.

mod containers;

use std::net::Ipv4Addr;

use crate::agent::CrashPoint as AgentCrash;
use crate::clock::Time;
use crate::docker::Fails;
use crate::network::Weather;
use crate::rng::Rng;
use crate::scheduler::CrashPoint;
use crate::setup::Setup;
use crate::tell;
use crate::world::{Event, World};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Messages are lost, doubled, delayed and reordered.
    Weather,
    /// A machine and the scheduler do not hear each other, or one does not hear
    /// the other.
    Partition,
    /// Most machines at once.
    Storm,
    /// The scheduler's process is killed, at any boundary.
    SchedulerCrash,
    /// The scheduler's process or machine stands still.
    SchedulerPause,
    /// A disk refuses, or is slow.
    Disk,
    /// A wall clock is set.
    Clock,
    /// An agent's process is killed, at any boundary.
    AgentCrash,
    /// An agent's process or machine stands still.
    AgentPause,
    /// A machine is switched off.
    Power,
    /// A machine comes back as a new one.
    Wipe,
    /// A machine is gone for good.
    Destroy,
    /// A machine has a new address.
    Address,
    /// A second machine claims the same name.
    Clone,
    /// Docker hangs.
    DockerHang,
    /// Docker is restarted, and its containers with it or not.
    DockerRestart,
    /// Docker says no, or does not say what it did.
    DockerFails,
    /// Docker is slow.
    DockerSlow,
    /// Docker's event stream breaks.
    Stream,
    /// A process in a container ends.
    Crash,
    /// A process in a container fails its probes.
    Sick,
    /// A person meddles with a container.
    Meddle,
    /// Somebody else takes a host port.
    Port,
    /// The registry does not answer.
    Registry,
    /// Images disappear from a node.
    Prune,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 25] = [
        Kind::Weather,
        Kind::Partition,
        Kind::Storm,
        Kind::SchedulerCrash,
        Kind::SchedulerPause,
        Kind::Disk,
        Kind::Clock,
        Kind::AgentCrash,
        Kind::AgentPause,
        Kind::Power,
        Kind::Wipe,
        Kind::Destroy,
        Kind::Address,
        Kind::Clone,
        Kind::DockerHang,
        Kind::DockerRestart,
        Kind::DockerFails,
        Kind::DockerSlow,
        Kind::Stream,
        Kind::Crash,
        Kind::Sick,
        Kind::Meddle,
        Kind::Port,
        Kind::Registry,
        Kind::Prune,
    ];
}

/// What ends by being mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mend {
    /// The network.
    Weather,
    /// The scheduler's process goes on; its clock stood still for so long.
    Scheduler { slept_ms: u64 },
    /// It was to die at its next boundary, and there was none.
    SchedulerDies,
    /// The scheduler's disk is as fast as before.
    DiskSpeed,
    /// An agent's process goes on; its clock stood still for so long.
    Agent { machine: usize, slept_ms: u64 },
    /// It was to die at its next boundary, and there was none.
    AgentDies { machine: usize },
    /// A daemon answers again.
    Docker { daemon: usize },
    /// A daemon makes no more mistakes than usual.
    DockerFails { daemon: usize },
    /// The machines of a daemon are switched on.
    Power { daemon: usize },
    /// A clone is found out.
    Clone { machine: usize },
    /// A host port is free again.
    Port { daemon: usize, port: u16 },
}

/// What is broken, and the chance of what will be.
#[derive(Debug)]
pub struct Faults {
    rng: Rng,
    kinds: Vec<Kind>,
    registry_away_until: Time,
    clones: u32,
    /// What struck, by kind.
    pub struck: u64,
}

impl Faults {
    /// Trouble, as this seed has it.
    pub fn new(setup: &Setup, rng: Rng) -> Self {
        let kinds = setup.kinds.clone();
        Self { rng, kinds, registry_away_until: 0, clones: 0, struck: 0 }
    }

    /// Whether the registry does not answer.
    pub fn registry_is_away(&self, now: Time) -> bool {
        self.registry_away_until > now
    }
}

impl World {
    /// Something breaks.
    pub fn strikes(&mut self) {
        if self.now >= self.setup.chaos_until || self.faults.kinds.is_empty() {
            return;
        }
        let every = self.setup.strikes_every_ms;
        let after = self.faults.rng.range(20, every * 2);
        self.plan(after, Event::Strikes);
        self.faults.struck += 1;
        let kind = *self.faults.rng.pick(&self.faults.kinds);
        match kind {
            Kind::Weather => self.weather_strikes(),
            Kind::Partition => self.partition_strikes(),
            Kind::Storm => self.storm_strikes(),
            Kind::SchedulerCrash => self.scheduler_crash_strikes(),
            Kind::SchedulerPause => self.scheduler_pause_strikes(),
            Kind::Disk => self.disk_strikes(),
            Kind::Clock => self.clock_strikes(),
            Kind::AgentCrash => self.agent_crash_strikes(),
            Kind::AgentPause => self.agent_pause_strikes(),
            Kind::Power => self.power_strikes(false),
            Kind::Wipe => self.power_strikes(true),
            Kind::Destroy => self.destroy_strikes(),
            Kind::Address => self.address_strikes(),
            Kind::Clone => self.clone_strikes(),
            Kind::DockerHang => self.docker_hang_strikes(),
            Kind::DockerRestart => self.docker_restart_strikes(),
            Kind::DockerFails => self.docker_failures_strike(),
            Kind::DockerSlow => self.docker_slowness_strikes(),
            Kind::Stream => {
                let machine = self.any_machine();
                tell!(self, "fault", "the event stream to {} breaks", self.machines[machine].node);
                self.break_stream(machine, "its event stream ended");
            }
            Kind::Crash => self.crash_strikes(),
            Kind::Sick => self.sickness_strikes(),
            Kind::Meddle => self.meddling_strikes(),
            Kind::Port => self.port_strikes(),
            Kind::Registry => {
                let ms = self.faults.rng.spell(500, 40_000);
                tell!(self, "fault", "the registry does not answer for {ms} ms");
                self.faults.registry_away_until = self.now + ms;
            }
            Kind::Prune => {
                let daemon = self.any_daemon();
                tell!(self, "fault", "{} loses its images", self.daemons[daemon].name);
                self.daemons[daemon].images.clear();
            }
        }
    }

    fn any_machine(&mut self) -> usize {
        self.faults.rng.below(self.machines.len() as u64) as usize
    }

    fn any_daemon(&mut self) -> usize {
        self.faults.rng.below(self.daemons.len() as u64) as usize
    }

    fn mend_after(&mut self, ms: u64, mend: Mend) {
        self.plan(ms, Event::Mends(mend));
    }

    // ---- the network ----

    fn weather_strikes(&mut self) {
        let rng = &mut self.faults.rng;
        let weather = Weather {
            lost: rng.below(250),
            doubled: rng.below(250),
            delayed: rng.below(400),
            delay_ms: rng.spell(100, 15_000),
        };
        let ms = rng.spell(1_000, 30_000);
        self.set_weather(weather);
        self.mend_after(ms, Mend::Weather);
    }

    fn partition_strikes(&mut self) {
        let machine = self.any_machine();
        let ms = self.faults.rng.spell(500, 40_000);
        let until = self.now + ms;
        let which = self.faults.rng.below(5);
        let link = &mut self.machines[machine].link;
        let what = match which {
            0 => {
                link.out_cut_until = until;
                "is not heard"
            }
            1 => {
                link.in_cut_until = until;
                "hears nothing"
            }
            2 => {
                link.deaf_until = until;
                "gets no orders"
            }
            _ => {
                link.out_cut_until = until;
                link.in_cut_until = until;
                "is cut off"
            }
        };
        tell!(self, "fault", "{} {what} for {ms} ms", self.machines[machine].node);
    }

    fn storm_strikes(&mut self) {
        let ms = self.faults.rng.spell(4_000, 40_000);
        let until = self.now + ms;
        for machine in 0..self.machines.len() {
            if self.faults.rng.chance(750) {
                let link = &mut self.machines[machine].link;
                link.out_cut_until = until;
                link.in_cut_until = until;
            }
        }
        tell!(self, "fault", "most machines are cut off for {ms} ms");
    }

    // ---- the scheduler ----

    fn scheduler_crash_strikes(&mut self) {
        let rng = &mut self.faults.rng;
        let point = rng.weighted(&[
            (2, None),
            (2, Some(CrashPoint::Decided)),
            (3, Some(CrashPoint::Writing)),
            (3, Some(CrashPoint::Written)),
            (2, Some(CrashPoint::Telling)),
            (2, Some(CrashPoint::Told)),
        ]);
        let down_ms = rng.spell(50, 25_000);
        self.scheduler.down_ms = down_ms;
        tell!(self, "fault", "the scheduler is to die {point:?}, and to be down for {down_ms} ms");
        match point {
            None => self.scheduler_dies("out of the blue"),
            Some(_) => {
                self.scheduler.dies_at = point;
                self.mend_after(6_000, Mend::SchedulerDies);
            }
        }
    }

    fn scheduler_pause_strikes(&mut self) {
        if self.scheduler.process.as_ref().is_none_or(|process| process.frozen) {
            return;
        }
        let ms = self.faults.rng.spell(500, 40_000);
        let slept_ms = if self.faults.rng.chance(300) { ms } else { 0 };
        tell!(self, "fault", "the scheduler stands still for {ms} ms, its clock for {slept_ms}");
        self.freeze_scheduler();
        self.mend_after(ms, Mend::Scheduler { slept_ms });
    }

    fn disk_strikes(&mut self) {
        let ms = self.faults.rng.spell(200, 10_000);
        if self.faults.rng.chance(600) {
            tell!(self, "fault", "the scheduler's disk refuses for {ms} ms");
            self.scheduler.disk.refuses_until = self.now + ms;
        } else {
            let by = self.faults.rng.spell(5, 3_000);
            tell!(self, "fault", "the scheduler's disk is slower by {by} ms for {ms} ms");
            self.scheduler.disk.slow_by_ms = by;
            self.mend_after(ms, Mend::DiskSpeed);
        }
    }

    fn clock_strikes(&mut self) {
        let rng = &mut self.faults.rng;
        let by = rng.spell(100, 4_000_000) as i64 * if rng.chance(500) { 1 } else { -1 };
        if rng.chance(400) {
            tell!(self, "fault", "the scheduler's wall clock jumps by {by} ms");
            self.scheduler.wall.off_by += by;
        } else {
            let daemon = self.any_daemon();
            tell!(self, "fault", "{}'s wall clock jumps by {by} ms", self.daemons[daemon].name);
            self.daemons[daemon].wall.off_by += by;
        }
    }

    // ---- agents and machines ----

    fn agent_crash_strikes(&mut self) {
        let machine = self.any_machine();
        let rng = &mut self.faults.rng;
        let point = rng.weighted(&[
            (3, None),
            (3, Some(AgentCrash::Acting)),
            (2, Some(AgentCrash::Noted)),
            (3, Some(AgentCrash::Done)),
        ]);
        let down_ms = rng.spell(20, 30_000);
        if !self.machines[machine].hears() {
            return;
        }
        let name = self.name_of(machine);
        tell!(self, "fault", "{name} is to die {point:?}, and to be down for {down_ms} ms");
        self.machines[machine].down_ms = down_ms;
        match point {
            None => self.agent_dies(machine, "out of the blue"),
            Some(_) => {
                self.machines[machine].dies_at = point;
                self.mend_after(6_000, Mend::AgentDies { machine });
            }
        }
    }

    fn agent_pause_strikes(&mut self) {
        let machine = self.any_machine();
        if self.machines[machine].agent.as_ref().is_none_or(|process| process.frozen) {
            return;
        }
        let ms = self.faults.rng.spell(500, 40_000);
        let slept_ms = if self.faults.rng.chance(300) { ms } else { 0 };
        let name = self.name_of(machine);
        tell!(self, "fault", "{name} stands still for {ms} ms, its clock for {slept_ms}");
        self.freeze_agent(machine);
        self.mend_after(ms, Mend::Agent { machine, slept_ms });
    }

    fn power_strikes(&mut self, wipes: bool) {
        let daemon = self.any_daemon();
        let users = self.machines_of(daemon);
        if users.iter().any(|machine| !self.machines[*machine].powered) || users.is_empty() {
            return;
        }
        let ms = self.faults.rng.spell(300, 40_000);
        let name = self.daemons[daemon].name.clone();
        tell!(self, "fault", "the machine of {name} is off for {ms} ms, wiped: {wipes}");
        self.switch_off(daemon);
        if wipes {
            self.wipe(daemon);
        }
        self.mend_after(ms, Mend::Power { daemon });
    }

    fn machines_of(&self, daemon: usize) -> Vec<usize> {
        (0..self.machines.len()).filter(|index| self.machines[*index].daemon == daemon).collect()
    }

    fn switch_off(&mut self, daemon: usize) {
        for machine in self.machines_of(daemon) {
            self.machines[machine].powered = false;
            self.agent_dies(machine, "with its machine");
        }
        self.docker_goes(daemon, true);
        self.end_all(daemon, 255);
        self.daemons[daemon].boot += 1;
    }

    fn wipe(&mut self, daemon: usize) {
        let gone: Vec<String> = self.daemons[daemon].containers.keys().cloned().collect();
        for id in gone {
            self.daemons[daemon].containers.remove(&id);
            self.judge.removed_by_others.insert(id);
        }
        self.daemons[daemon].images.clear();
        for machine in self.machines_of(daemon) {
            let key = format!("key-{:x}", self.faults.rng.draw());
            self.machines[machine].home = crate::agent::Home { key, remembered: None };
        }
    }

    fn destroy_strikes(&mut self) {
        let daemon = self.any_daemon();
        let users = self.machines_of(daemon);
        let left = self.machines.iter().filter(|m| !m.destroyed && !m.clone).count();
        let busy = users.iter().any(|machine| {
            let here = &self.machines[*machine];
            here.destroyed || here.clone || !here.powered
        });
        if busy || left < users.len() + 2 {
            return;
        }
        let name = self.daemons[daemon].name.clone();
        tell!(self, "fault", "the machine of {name} is destroyed");
        self.switch_off(daemon);
        self.wipe(daemon);
        for machine in users {
            self.machines[machine].destroyed = true;
        }
    }

    fn address_strikes(&mut self) {
        let machine = self.any_machine();
        if !self.machines[machine].hears() {
            return;
        }
        let number = self.faults.rng.range(1, 250) as u8;
        let ip = Ipv4Addr::new(10, 1, machine as u8, number);
        let down_ms = self.faults.rng.spell(20, 12_000);
        let name = self.name_of(machine);
        tell!(self, "fault", "{name} gets the new address {ip}");
        self.machines[machine].ip = ip;
        self.machines[machine].down_ms = down_ms;
        self.agent_dies(machine, "for its new address");
    }

    fn clone_strikes(&mut self) {
        let of = self.any_machine();
        if self.faults.clones >= 2 || self.machines[of].clone || self.machines[of].destroyed {
            return;
        }
        self.faults.clones += 1;
        let (node, home) = (self.machines[of].node.clone(), self.machines[of].home.clone());
        let same_key = self.faults.rng.chance(600);
        let mut daemon = crate::docker::Daemon::new(format!("d{}", self.daemons.len() + 1));
        daemon.images.insert("good:1".to_owned());
        self.daemons.push(daemon);
        let mut twin = self.machine(node.as_str(), self.daemons.len() - 1);
        twin.clone = true;
        if same_key {
            twin.home = home;
        }
        let machine = self.machines.len();
        self.machines.push(twin);
        let ms = self.faults.rng.spell(2_000, 60_000);
        tell!(
            self,
            "fault",
            "a second machine calls itself {node}, same key: {same_key}, for {ms} ms"
        );
        self.agent_starts(machine);
        self.mend_after(ms, Mend::Clone { machine });
    }

    // ---- Docker ----

    /// What broke is whole again.
    pub fn mends(&mut self, mend: Mend) {
        match mend {
            Mend::Weather => self.set_weather(Weather::default()),
            Mend::Scheduler { slept_ms } => self.thaw_scheduler(slept_ms),
            Mend::SchedulerDies => {
                if self.scheduler.dies_at.take().is_some() {
                    self.scheduler_dies("at last");
                }
            }
            Mend::DiskSpeed => self.scheduler.disk.slow_by_ms = 0,
            Mend::Agent { machine, slept_ms } => self.thaw_agent(machine, slept_ms),
            Mend::AgentDies { machine } => {
                if self.machines[machine].dies_at.take().is_some() {
                    self.agent_dies(machine, "at last");
                }
            }
            Mend::Docker { daemon } => {
                if self.machines_of(daemon).iter().all(|machine| self.machines[*machine].powered) {
                    tell!(self, "fault", "{} is back", self.daemons[daemon].name);
                    self.docker_comes(daemon);
                }
            }
            Mend::DockerFails { daemon } => {
                self.daemons[daemon].fails = Fails::default();
                self.daemons[daemon].slow_ms = 0;
            }
            Mend::Power { daemon } => self.switch_on(daemon),
            Mend::Clone { machine } => self.clone_ends(machine),
            Mend::Port { daemon, port } => {
                self.daemons[daemon].foreign_ports.remove(&port);
            }
        }
    }

    fn switch_on(&mut self, daemon: usize) {
        let users = self.machines_of(daemon);
        if users.iter().any(|machine| self.machines[*machine].destroyed) {
            return;
        }
        self.docker_comes(daemon);
        for machine in users {
            self.machines[machine].powered = true;
            self.plan(20, Event::AgentStarts { machine });
        }
    }

    /// A person finds that one machine was copied from another: the copy goes, and
    /// the other's agent is started again if it had to give way.
    fn clone_ends(&mut self, machine: usize) {
        if self.machines[machine].destroyed {
            return;
        }
        tell!(self, "fault", "the copy of {} is removed", self.machines[machine].node);
        let daemon = self.machines[machine].daemon;
        self.switch_off(daemon);
        self.wipe(daemon);
        self.machines[machine].destroyed = true;
        let node = self.machines[machine].node.clone();
        for original in 0..machine {
            if self.machines[original].node == node {
                self.machines[original].superseded = false;
                self.plan(500, Event::AgentStarts { machine: original });
            }
        }
    }

    /// Trouble is over: everything is whole, but what was destroyed.
    pub fn mend_everything(&mut self) {
        tell!(self, "fault", "everything is mended");
        self.faults.registry_away_until = 0;
        self.set_weather(Weather::default());
        self.scheduler.disk.refuses_until = 0;
        self.scheduler.disk.slow_by_ms = 0;
        self.scheduler.dies_at = None;
        self.thaw_scheduler(0);
        self.plan(1, Event::SchedulerStarts);
        for machine in 0..self.machines.len() {
            self.machines[machine].dies_at = None;
            self.machines[machine].link = crate::network::Link::default();
            if self.machines[machine].clone {
                self.clone_ends(machine);
            }
            self.thaw_agent(machine, 0);
        }
        for daemon in 0..self.daemons.len() {
            self.daemons[daemon].fails = Fails::default();
            self.daemons[daemon].slow_ms = 0;
            self.daemons[daemon].foreign_ports.clear();
            self.switch_on(daemon);
            for container in self.daemons[daemon].containers.values_mut() {
                container.sick_until = 0;
            }
        }
        for machine in 0..self.machines.len() {
            self.machines[machine].superseded = false;
            self.plan(30, Event::AgentStarts { machine });
        }
    }
}
