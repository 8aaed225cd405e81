//! The made-up network, the agents at its ends, and time.

use super::*;

impl World {
    /// Sends a message; false when it gets lost.
    pub(super) fn post(&mut self, packet: Packet) -> bool {
        let Network { lost, doubled, delayed, delay_ms } = self.network;
        if self.rng.below(1000) < lost {
            return false;
        }
        let copies = if self.rng.below(1000) < doubled { 2 } else { 1 };
        for _ in 0..copies {
            let late = if self.rng.below(1000) < delayed { self.rng.below(delay_ms) } else { 0 };
            self.post_at(self.now + LATENCY_MS + late, packet.clone());
        }
        true
    }

    pub(super) fn post_at(&mut self, at: u64, packet: Packet) {
        self.packet_count += 1;
        self.packets.insert((at, self.packet_count), packet);
    }

    pub(super) fn unanswered(&mut self, life: u64, order: &Order) {
        let input = answered(order, OrderAnswer::Unanswered("timed out".to_owned()));
        let at = self.now + self.timing.order_timeout_ms;
        self.post_at(at, Packet::ToScheduler { life, from: None, input });
    }

    pub(super) fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::ToScheduler { life, from, mut input } => {
                if let Some((node, incarnation)) = from {
                    // A connection to whichever scheduler listens.
                    if !self.scheduler_up || self.agents[&node].cut {
                        return;
                    }
                    self.tickets += 1;
                    self.waiting.insert(self.tickets, (node, incarnation));
                    match &mut input {
                        Input::Register { ticket, .. } | Input::Heartbeat { ticket, .. } => {
                            *ticket = self.tickets;
                        }
                        _ => {}
                    }
                } else if life != self.life {
                    return;
                }
                if self.scheduler_frozen {
                    self.post_at(self.now + 1, Packet::ToScheduler { life, from: None, input });
                    return;
                }
                self.feed(input);
            }
            Packet::ToAgent { node, incarnation, reply } => {
                self.agent_hears(&node, incarnation, reply);
            }
            Packet::Order { life, order } => self.order_arrives(life, order),
        }
    }

    pub(super) fn agent_hears(
        &mut self,
        node: &NodeId,
        incarnation: u64,
        reply: Result<Reply, ApiError>,
    ) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(node) else { return };
        if !agent.up || agent.frozen || agent.cut || agent.incarnation != incarnation {
            return;
        }
        match reply {
            Ok(Reply::Registered(done)) => {
                agent.registered = Some(done.epoch);
                agent.dirty = true;
                agent.telling = agent.telling.take().map(|_| Default::default());
            }
            Ok(Reply::Beat(response)) => {
                if let Some(telling) = &mut agent.telling {
                    agent.dirty |= telling.answered(response.seq);
                }
            }
            Ok(_) => {}
            Err(error) if error.status == 422 => {
                agent.registered = None;
                agent.register_at = now;
            }
            Err(error) if error.reason == "Superseded" => {
                agent.superseded = true;
                agent.up = false;
            }
            Err(_) => {}
        }
    }

    pub(super) fn order_arrives(&mut self, life: u64, order: Order) {
        let now = self.now;
        let node = order.fence.node.clone();
        let Some(agent) = self.agents.get_mut(&node) else {
            self.unanswered(life, &order);
            return;
        };
        let hears = agent.up && !agent.frozen && !agent.cut && !agent.deaf;
        if !hears || agent.address != order.address {
            self.unanswered(life, &order);
            return;
        }
        let answer = if order.fence.incarnation != agent.incarnation
            || Some(order.fence.epoch) != agent.registered
        {
            OrderAnswer::Refused(ApiError::new(409, "StaleFence", "not for me"))
        } else {
            let (incarnation, seq) = (agent.incarnation, agent.seq);
            let accepted =
                |id: InstanceId, seq| OrderAnswer::Accepted(OrderAccepted { incarnation, seq, id });
            match &order.body {
                OrderBody::Run(run) => {
                    let known = agent.noted.get(&run.id).cloned();
                    let exists = self.docker.get(&run.id).map(|c| is_same(&c.order, run));
                    if let Some((first, noted_at)) = known {
                        if is_same(&first, run) {
                            if run.after.is_none()
                                && let Some(queued) = agent.queue.get_mut(&run.id)
                            {
                                queued.order.after = None;
                            }
                            accepted(run.id.clone(), noted_at)
                        } else {
                            OrderAnswer::Refused(ApiError::new(409, "OtherContents", "differs"))
                        }
                    } else if exists == Some(true) {
                        accepted(run.id.clone(), 0)
                    } else if exists == Some(false) {
                        OrderAnswer::Refused(ApiError::new(409, "OtherContents", "differs"))
                    } else if agent.stops.contains(&run.id) {
                        OrderAnswer::Refused(ApiError::new(409, "Stopped", "stopped before"))
                    } else {
                        let order = run.as_ref().clone();
                        agent.noted.insert(run.id.clone(), (order.clone(), seq));
                        agent.queue.insert(
                            run.id.clone(),
                            Queued { order, start_at: now + START_MS, prepared: false },
                        );
                        agent.dirty = true;
                        accepted(run.id.clone(), seq)
                    }
                }
                OrderBody::Stop { id, drain_ms, .. } => {
                    agent.stops.insert(id.clone());
                    agent.queue.remove(id);
                    if self.docker.contains_key(id) {
                        agent.stopping.entry(id.clone()).or_insert(now + drain_ms + STOP_MS);
                    }
                    agent.dirty = true;
                    accepted(id.clone(), seq)
                }
            }
        };
        let input = answered(&order, answer);
        if !self.post(Packet::ToScheduler { life, from: None, input }) {
            self.unanswered(life, &order);
        }
    }

    // ---- time ----

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            self.act();
            let next = self.next_at();
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
        }
    }

    /// Lets time pass until `what` holds, for at most `ms`.
    pub fn until(&mut self, ms: u64, what: &str, mut holds: impl FnMut(&World) -> bool) {
        let end = self.now + ms;
        while !holds(self) {
            assert!(self.now < end, "not within {ms} ms: {what}\n{}", self.story());
            self.run_for(5);
        }
    }

    /// Until every workload has what it wants.
    pub fn settle(&mut self) {
        self.until(30_000, "every workload has what it wants", World::is_settled);
    }

    pub fn is_settled(&self) -> bool {
        self.core.state.workloads.iter().all(|(name, _)| {
            let view = self.view(name.as_str());
            view.ready + view.done == view.desired
                && view.stopping == 0
                && self.live(name.as_str()).len() as u32 + view.done == view.desired
                && !matches!(self.state_of(name.as_str()).as_str(), "rolling" | "aborting")
        })
    }

    /// For this long, nothing at all is ordered or written.
    pub fn nothing_happens_for(&mut self, ms: u64) {
        let (orders, recorded, from) = (self.orders, self.recorded, self.log.len());
        self.run_for(ms);
        assert_eq!(
            (self.orders, self.recorded),
            (orders, recorded),
            "something happened:\n{}",
            self.log[from..].join("\n")
        );
    }

    /// The same, but only after this long.
    pub fn nothing_happens_after(&mut self, first: u64, ms: u64) {
        self.run_for(first);
        self.nothing_happens_for(ms);
    }

    /// For this long, nothing is ordered; nodes may come and go.
    pub fn nothing_happens_for_orders(&mut self, ms: u64) {
        let (orders, from) = (self.orders, self.log.len());
        self.run_for(ms);
        assert_eq!(self.orders, orders, "ordered:\n{}", self.log[from..].join("\n"));
    }

    /// Until every workload has what it wants, not counting what runs unseen on
    /// these nodes.
    pub fn settle_except(&mut self, nodes: &[&str]) {
        self.until(30_000, "every workload has what it wants", |w| {
            w.core.state.workloads.keys().all(|name| {
                let view = w.view(name.as_str());
                let live = w.live(name.as_str());
                let seen = live.iter().filter(|id| !nodes.contains(&w.docker[*id].node.as_str()));
                view.ready + view.done == view.desired
                    && view.stopping == 0
                    && seen.count() as u32 + view.done == view.desired
            })
        });
    }

    pub(super) fn wake_at(&self) -> u64 {
        let core = (self.core.wake_at() + self.origin).saturating_sub(LONG_AGO_MS);
        core.min(self.stepped_at + self.timing.sweep_ms)
    }

    pub(super) fn next_at(&self) -> u64 {
        let mut next = u64::MAX;
        if self.scheduler_up && !self.scheduler_frozen {
            next = next.min(self.wake_at());
        }
        if let Some(((at, _), _)) = self.packets.first_key_value() {
            next = next.min(*at);
        }
        for agent in self.agents.values().filter(|a| a.up && !a.frozen) {
            next = next.min(agent.next_beat);
            if agent.registered.is_none() {
                next = next.min(agent.register_at);
            }
            if agent.docker == DockerState::Ok {
                next = next.min(
                    agent
                        .queue
                        .values()
                        .filter(|q| !q.prepared)
                        .map(|q| q.start_at)
                        .min()
                        .unwrap_or(next),
                );
                next = next.min(agent.stopping.values().min().copied().unwrap_or(next));
            }
            if agent.synced_at > self.now {
                next = next.min(agent.synced_at);
            }
        }
        for container in self.docker.values() {
            if let Some((at, _)) = container.ends_at() {
                next = next.min(at);
            }
            if container.phase == Phase::Running
                && container.order.template.health_check.is_some()
                && self.healthy_at(container) > self.now
            {
                next = next.min(self.healthy_at(container));
            }
        }
        next.max(self.now + 1)
    }

    /// When its first probe since its agent started succeeds.
    pub(super) fn healthy_at(&self, container: &Container) -> u64 {
        if container.order.template.health_check.is_none() {
            return container.started_at;
        }
        let probed = self.agents.get(&container.node).map_or(0, |agent| agent.probes_from);
        container.started_at.max(probed) + PROBE_MS
    }

    /// Everything that is due now.
    pub(super) fn act(&mut self) {
        let now = self.now;
        let ends: Vec<(InstanceId, i64)> = self
            .docker
            .iter()
            .filter_map(|(id, c)| {
                c.ends_at().filter(|(at, _)| *at <= now).map(|e| (id.clone(), e.1))
            })
            .collect();
        for (id, code) in ends {
            self.crash(&id, code);
        }
        let probed: Vec<NodeId> = self
            .docker
            .values()
            .filter(|c| c.order.template.health_check.is_some())
            .filter(|c| c.phase == Phase::Running && self.healthy_at(c) == now)
            .map(|c| c.node.clone())
            .collect();
        for node in probed {
            self.changed_on(&node);
        }
        let ids: Vec<NodeId> = self.agents.keys().cloned().collect();
        for id in ids {
            self.agent_acts(&id);
        }
        while let Some(((at, _), _)) = self.packets.first_key_value() {
            if *at > now {
                break;
            }
            let Some((_, packet)) = self.packets.pop_first() else { break };
            self.deliver(packet);
        }
        if self.scheduler_up && !self.scheduler_frozen && self.wake_at() <= now {
            self.feed(Input::Tick);
        }
    }

    pub(super) fn agent_acts(&mut self, id: &NodeId) {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(id) else { return };
        if !agent.up || agent.frozen {
            return;
        }
        if agent.docker == DockerState::Ok {
            let end: Vec<InstanceId> = agent
                .stopping
                .iter()
                .filter(|(_, at)| **at <= now)
                .map(|(id, _)| id.clone())
                .collect();
            for id in &end {
                agent.stopping.remove(id);
                agent.dirty = true;
            }
            for id in end {
                self.docker.remove(&id);
            }
            let mut due = Vec::new();
            let queue: BTreeSet<InstanceId> = agent.queue.keys().cloned().collect();
            for (id, queued) in agent.queue.iter_mut().filter(|(_, q)| q.start_at <= now) {
                // What it follows may be on another node: then it waits for the word.
                let is_gone = |id: &InstanceId| match self.docker.get(id) {
                    Some(before) => !before.is_live() && before.node == agent.id,
                    None => agent.noted.contains_key(id) && !queue.contains(id),
                };
                let waits = queued.order.after.as_ref().is_some_and(|id| !is_gone(id))
                    && queued.order.template.image != "nopull";
                if !waits {
                    due.push(id.clone());
                } else if !queued.prepared {
                    queued.prepared = true;
                    agent.dirty = true;
                }
            }
            let begin: Vec<RunOrder> =
                due.iter().filter_map(|id| agent.queue.remove(id)).map(|q| q.order).collect();
            if !begin.is_empty() {
                agent.dirty = true;
            }
            let (node, daemon) = (agent.id.clone(), agent.daemon.clone());
            for order in begin {
                self.start_container(&node, &daemon, order);
            }
            self.prune_dead(&node);
        }
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.registered.is_none() {
            if agent.register_at <= now {
                agent.register_at = now + 1_000;
                let request = RegisterRequest {
                    node_id: agent.id.clone(),
                    key: agent.key.clone(),
                    incarnation: agent.incarnation,
                    advertise: Some(agent.address.clone()),
                    port: 8081,
                    docker: docker_status(agent, now),
                    version: String::new(),
                };
                let peer: IpAddr = "10.0.0.1".parse().expect("an address");
                self.call(id, Input::Register { ticket: 0, peer, request });
            }
            return;
        }
        if agent.synced_at == now {
            agent.dirty = true;
        }
        if agent.dirty || agent.next_beat <= now {
            let jitter = self.rng.below(300);
            let mut request = self.report(id);
            if let Some(agent) = self.agents.get_mut(id) {
                agent.dirty = false;
                agent.next_beat = now + self.timing.heartbeat_ms - jitter;
                if let Some(telling) = &mut agent.telling {
                    request = telling.shorten(request, now);
                }
            }
            self.call(id, Input::Heartbeat { ticket: 0, request });
        }
    }

    pub(super) fn call(&mut self, id: &NodeId, input: Input) {
        let agent = &self.agents[id];
        if agent.cut {
            return;
        }
        let from = Some((id.clone(), agent.incarnation));
        self.post(Packet::ToScheduler { life: 0, from, input });
    }

    /// The snapshot an agent would send now.
    pub fn report(&mut self, id: &NodeId) -> HeartbeatRequest {
        let now = self.now;
        let Some(agent) = self.agents.get_mut(id) else { panic!("no agent {id}") };
        agent.seq += 1;
        let agent = &self.agents[id];
        let synced = agent.synced_at <= now;
        let queued = agent.queue.values().map(|q| {
            let reason = q.prepared.then_some(Reason::Prepared);
            ContainerInstance { reason, ..blank(&agent.id, &q.order) }
        });
        let mut containers: Vec<ContainerInstance> = queued.collect();
        if synced {
            for container in self.docker.values().filter(|c| c.node == *id) {
                let mut report = described(container, now, self.healthy_at(container));
                report.stopping = agent.stopping.contains_key(&container.order.id);
                containers.push(report);
            }
        }
        HeartbeatRequest {
            node_id: id.clone(),
            incarnation: agent.incarnation,
            epoch: agent.registered.unwrap_or(0),
            seq: agent.seq,
            synced,
            docker: docker_status(agent, now),
            same_as: None,
            gone: Vec::new(),
            containers,
        }
    }

    pub(super) fn start_container(&mut self, node: &NodeId, daemon: &DaemonId, order: RunOrder) {
        assert!(!self.docker.contains_key(&order.id), "{} started twice", order.id);
        assert!(self.started.insert(order.id.clone()), "{} lives twice", order.id);
        let wanted: Vec<_> = order.template.ports.iter().filter(|p| p.host_port != 0).collect();
        let clash = self.docker.iter().find(|(_, c)| {
            c.is_live()
                && order.template.image != "nopull"
                && c.daemon == *daemon
                && c.ports.iter().any(|p| {
                    wanted.iter().any(|w| w.host_port == p.host_port && w.protocol == p.protocol)
                })
        });
        if let Some((other, container)) = clash {
            let holder_lost = self.core.state.nodes.get(&container.node).is_none_or(|n| n.lost);
            let restarted = self.epoch > 1;
            assert!(
                holder_lost || restarted || !self.core.state.instances.contains_key(other),
                "{} was ordered onto a port that {other} holds\n{}",
                order.id,
                self.story()
            );
        }
        let failed = if clash.is_some() {
            Some((Reason::PortTaken, "port is already allocated"))
        } else if order.template.image == "nopull" {
            Some((Reason::ImageNotFound, "there is no such image"))
        } else if order.template.image == "nostart" {
            Some((Reason::StartFailed, "exec format error"))
        } else if self.full.contains(daemon) {
            Some((Reason::NoRoom, "no space left on device"))
        } else {
            None
        };
        let ports = order
            .template
            .ports
            .iter()
            .map(|p| PublishedPort {
                container_port: p.container_port,
                host_port: if p.host_port == 0 {
                    32_768 + (self.started.len() % 20_000) as u16
                } else {
                    p.host_port
                },
                protocol: p.protocol,
            })
            .collect();
        let container = Container {
            node: node.clone(),
            daemon: daemon.clone(),
            order: order.clone(),
            phase: if failed.is_some() { Phase::Failed } else { Phase::Running },
            exit_code: None,
            reason: failed.map(|f| f.0),
            message: failed.map(|f| f.1.to_owned()),
            started_at: self.now,
            ended_at: self.now,
            ill: false,
            restart_due: false,
            ports: if failed.is_some() { Vec::new() } else { ports },
            ghost: failed.is_some(),
        };
        if failed.is_none() {
            self.ran.insert((order.id.clone(), order.revision));
        }
        self.docker.insert(order.id, container);
    }

    /// Agents keep the last two dead containers per workload.
    pub(super) fn prune_dead(&mut self, node: &NodeId) {
        let mut dead: BTreeMap<WorkloadId, Vec<(u64, InstanceId)>> = BTreeMap::new();
        for (id, container) in self.docker.iter().filter(|(_, c)| c.node == *node && !c.is_live()) {
            let of = dead.entry(container.order.workload.clone()).or_default();
            of.push((container.ended_at, id.clone()));
        }
        for mut of in dead.into_values() {
            of.sort();
            let excess = of.len().saturating_sub(self.timing.dead_kept);
            for (_, id) in of.into_iter().take(excess) {
                self.docker.remove(&id);
            }
        }
    }
}

fn answered(order: &Order, answer: OrderAnswer) -> Input {
    let (id, kind) = match &order.body {
        OrderBody::Run(run) => (run.id.clone(), OrderKind::Run),
        OrderBody::Stop { id, .. } => (id.clone(), OrderKind::Stop),
    };
    Input::Answered {
        node: order.fence.node.clone(),
        id,
        kind,
        incarnation: order.fence.incarnation,
        answer,
    }
}

fn docker_status(agent: &Agent, now: u64) -> DockerStatus {
    DockerStatus {
        state: agent.docker,
        for_ms: now - agent.docker_since,
        daemon: Some(agent.daemon.clone()),
        message: None,
    }
}

fn blank(node: &NodeId, order: &RunOrder) -> ContainerInstance {
    ContainerInstance {
        id: order.id.clone(),
        container_id: String::new(),
        workload_id: order.workload.clone(),
        replica: order.replica,
        revision: order.revision,
        node_id: node.clone(),
        image: order.template.image.clone(),
        phase: Phase::Pending,
        health: Health::Unknown,
        ready: false,
        stopping: false,
        lost: false,
        exit_code: None,
        ip: None,
        ports: Vec::new(),
        asked_ports: order.asked_ports(),
        restarts: order.restarts,
        backoff_step: order.backoff_step,
        started_at: None,
        reason: None,
        message: None,
        replaces: order.replaces.clone(),
        after: order.after.clone(),
        running_for_ms: None,
        healthy_for_ms: None,
        restart_due: false,
    }
}

fn described(container: &Container, now: u64, healthy_at: u64) -> ContainerInstance {
    let mut report = blank(&container.node, &container.order);
    report.phase = container.phase;
    report.container_id = format!("c-{}", container.order.id);
    report.exit_code = container.exit_code;
    report.reason = container.reason;
    report.message = container.message.clone();
    let running = container.phase == Phase::Running;
    if !container.ghost {
        let until = if running { now } else { container.ended_at };
        report.running_for_ms = Some(until - container.started_at);
    }
    if running {
        report.ports = container.ports.clone();
        report.health = match () {
            () if container.ill => Health::Unhealthy,
            () if container.order.template.image == "unwell" => {
                // As an agent has it: `starting`, but not for ever.
                let probe = container.order.template.health_check.clone();
                let allowed = u64::from(probe.unwrap_or_else(super::probe).startup_seconds) * 1000;
                if now < healthy_at + allowed { Health::Starting } else { Health::Unhealthy }
            }
            () if healthy_at > now => Health::Starting,
            () => Health::Healthy,
        };
        if report.health == Health::Healthy {
            report.healthy_for_ms = Some(now - healthy_at);
        }
        report.restart_due = container.restart_due;
    }
    report
}

/// The same order, whether or not what it follows is gone by now.
fn is_same(first: &RunOrder, second: &RunOrder) -> bool {
    let whatever = |order: &RunOrder| RunOrder { after: None, ..order.clone() };
    whatever(first) == whatever(second)
}
