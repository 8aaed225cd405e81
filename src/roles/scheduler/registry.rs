//! Who is alive: registration, silence, Docker trouble, and the guard against
//! taking a broken network for a hundred broken machines.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdSet, Vector};

use super::core::{Core, Deadline};
use super::state::{Delivery, MassLoss, Node};
use crate::model::ids::dns_label_problem;
use crate::model::view::NodeStatus;
use crate::model::wire::{DockerState, DockerStatus, RegisterRequest, RegisterResponse};
use crate::model::{ApiError, InstanceId, NodeId};
use crate::planted::{Fault, planted};

/// Former incarnations remembered per node.
const FORMER_KEPT: usize = 16;

impl Core {
    /// An agent introduces itself: a new node, a known one back, or a claim to a
    /// name that somebody else holds.
    pub(super) fn register(
        &mut self,
        peer: IpAddr,
        request: RegisterRequest,
    ) -> Result<RegisterResponse, ApiError> {
        let id = request.node_id.clone();
        if let Some(problem) = dns_label_problem(id.as_str()) {
            return Err(ApiError::invalid_field(
                "nodeId",
                format!("node id {id:?} {problem}; choose another with --node-id"),
            ));
        }
        let address = advertised_address(&request, peer)?;
        let (now, epoch) = (self.state.now, self.state.epoch);
        match self.state.nodes.get(&id).cloned() {
            None => {
                let node = Node {
                    id: id.clone(),
                    key: request.key,
                    address: address.clone(),
                    incarnation: request.incarnation,
                    former: Vector::new(),
                    seq: 0,
                    synced: false,
                    known_in: None,
                    unlisted: OrdSet::new(),
                    status: NodeStatus::Alive,
                    heard_at: now,
                    heard: true,
                    status_since: now,
                    alive_from: now,
                    schedulable: true,
                    draining: false,
                    lost: false,
                    docker_since: now.saturating_sub(request.docker.for_ms),
                    docker: request.docker,
                    unanswered: 0,
                    unanswered_at: 0,
                    unanswered_from: 0,
                    unreachable: false,
                    short_until: 0,
                    version: request.version,
                    instances: OrdSet::new(),
                    placed: 0,
                };
                self.state.nodes.insert(id.clone(), Arc::new(node));
                self.note_node(&id, "NodeRegistered", format!("node {id} joined at {address}"));
            }
            Some(known) => {
                self.claim(&known, &request, &address)?;
                let restarted = known.incarnation != request.incarnation;
                let was = known.status;
                self.edit_node(&id, |node| {
                    node.known_in = None;
                    if restarted {
                        node.former.retain(|former| *former != request.incarnation);
                        if node.incarnation != 0 {
                            node.former.push_back(node.incarnation);
                        }
                        while node.former.len() > FORMER_KEPT {
                            node.former.pop_front();
                        }
                        node.seq = 0;
                        node.synced = false;
                    }
                    node.incarnation = request.incarnation;
                    node.key = request.key;
                    node.address = address.clone();
                    node.version = request.version;
                    (node.unanswered, node.unreachable) = (0, false);
                    node.heard_at = now;
                    node.heard = true;
                    set_docker(node, request.docker, now);
                    set_alive(node, now);
                });
                self.renew_deliveries(&id);
                let message = match was {
                    NodeStatus::Dead => format!("node {id} is back at {address}"),
                    _ if restarted && known.incarnation != 0 => {
                        format!("the agent of node {id} started again")
                    }
                    _ => format!("node {id} registered again"),
                };
                self.note_node(&id, "NodeRegistered", message);
                if was == NodeStatus::Dead {
                    self.review_mass_loss();
                }
            }
        }
        self.agenda.node_at(&id, now + self.timing.dead_after_ms);
        self.review_docker(&id);
        self.record_node(&id);
        Ok(RegisterResponse { cluster: self.state.cluster.clone(), epoch, address })
    }

    /// Whether this agent may have the name: the same key or address is the same
    /// machine restarted; another one, or a life that had to give way, may take over
    /// only from the dead.
    fn claim(
        &self,
        known: &Node,
        request: &RegisterRequest,
        address: &str,
    ) -> Result<(), ApiError> {
        let is_same = known.key == request.key && known.address == address;
        if known.status == NodeStatus::Dead {
            return Ok(());
        }
        if known.former.contains(&request.incarnation)
            && !(is_same && known.may_be_a_ghost(request.incarnation))
        {
            return Err(superseded(known));
        }
        if known.key == request.key || known.address == address || known.status != NodeStatus::Alive
        {
            return Ok(());
        }
        Err(ApiError::new(
            409,
            "NodeIdTaken",
            format!(
                "node id {:?} is taken by a living agent at {} with another data directory; this \
                 one is at {address}. Give one of them another --node-id, or stop the other first",
                known.id.as_str(),
                known.address
            ),
        ))
    }

    /// Orders to an agent that has just registered are sent (again). Only those
    /// that the former life may have noted wait for its successor's first
    /// snapshot, which tells.
    fn renew_deliveries(&mut self, id: &NodeId) {
        let Some(node) = self.state.nodes.get(id).cloned() else { return };
        for instance in &node.instances {
            self.agenda.orders.insert(instance.clone());
            let stop_is_open = self
                .state
                .instances
                .get(instance)
                .and_then(|i| i.stop.as_ref())
                .is_some_and(|stop| stop.delivery != Delivery::Due(0));
            if stop_is_open {
                // Stopping twice is safe and a forgotten stop is not.
                self.touch(instance, |i| {
                    if let Some(stop) = &mut i.stop {
                        stop.delivery = Delivery::Due(0);
                    }
                });
            }
        }
    }

    /// A node's deadline: has it been silent for too long, or its Docker?
    pub(super) fn look_at_node(&mut self, id: &NodeId) {
        let Some(node) = self.state.nodes.get(id).cloned() else { return };
        let now = self.state.now;
        if node.status != NodeStatus::Dead {
            let dead_at = node.heard_at + self.timing.dead_after_ms;
            if dead_at <= now {
                self.mark_dead(&node);
            } else {
                self.agenda.node_at(id, dead_at);
            }
        }
        self.review_docker(id);
        let tried_again_at = node.unanswered_at + 2 * self.timing.unreachable_ms;
        if node.unreachable && tried_again_at > now {
            self.agenda.node_at(id, tried_again_at);
        } else if node.unreachable {
            self.edit_node(id, |node| (node.unanswered, node.unreachable) = (0, false));
        }
    }

    /// An order to a node was answered, or was not. One that is heard but cannot
    /// be reached would keep for ever what is placed on it.
    pub(super) fn note_reachable(&mut self, id: &NodeId, answered: bool) {
        let Some(node) = self.state.nodes.get(id) else { return };
        if answered && node.unanswered == 0 {
            return;
        }
        let (now, was) = (self.state.now, node.unreachable);
        let unanswered = if answered { 0 } else { node.unanswered.saturating_add(1) };
        // One that has stopped answers neither orders nor is it heard: only who is
        // heard after it did not answer cannot be reached.
        let first = if node.unanswered == 0 { now } else { node.unanswered_from };
        let unreachable =
            unanswered >= self.timing.unreachable_after && (was || node.heard_at > first);
        self.edit_node(id, |node| {
            node.unanswered_from = first;
            node.unanswered = unanswered;
            node.unreachable = unreachable;
            node.unanswered_at = now;
        });
        if unreachable {
            self.agenda.node_at(id, now + 2 * self.timing.unreachable_ms);
        }
        if unreachable != was {
            let address = self.state.nodes.get(id).map_or_else(String::new, |n| n.address.clone());
            let message = if unreachable {
                format!(
                    "node {id} is heard but does not answer orders at {address}; it gets nothing \
                     new. Is --advertise right, is the port open?"
                )
            } else {
                format!("node {id} answers orders at {address} again")
            };
            self.note_node(
                id,
                if unreachable { "NodeUnreachable" } else { "NodeReachable" },
                message,
            );
        }
    }

    fn mark_dead(&mut self, node: &Node) {
        let (id, now) = (node.id.clone(), self.state.now);
        let silent = (now - node.heard_at) / 1000;
        self.edit_node(&id, |node| {
            node.status = NodeStatus::Dead;
            node.status_since = now;
        });
        let message = if node.heard {
            format!("node {id} is dead: nothing heard for {silent} s")
        } else {
            format!("node {id} is dead: not heard since the scheduler started {silent} s ago")
        };
        self.note_node(&id, "NodeDead", message);
        self.node_answered_for(&id);
        self.review_mass_loss();
        self.lose(&id);
        self.record_node(&id);
    }

    /// From now on the node's instances do not count, and starts it has not
    /// confirmed are withdrawn. Should it report one of them after all, that is
    /// judged like any returned instance.
    fn lose(&mut self, id: &NodeId) {
        let Some(node) = self.state.nodes.get(id).cloned() else { return };
        self.edit_node(id, |node| {
            node.lost = !planted(Fault::DeadNodeCounts);
            node.synced = false;
            node.known_in = None;
        });
        for instance in &node.instances {
            let unseen = self.state.instances.get(instance).is_some_and(|i| i.seen.is_none());
            if unseen {
                self.withdraw(instance, "its node is lost");
            }
        }
    }

    /// Takes back an order of which nothing was seen.
    pub(super) fn withdraw(&mut self, id: &InstanceId, why: &str) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        self.note_instance(&instance, "InstanceWithdrawn", format!("{id} was withdrawn: {why}"));
        self.forget_instance(id);
    }

    /// A snapshot from the node was taken in: its instances count again once it
    /// has listed them all and its Docker answers.
    pub(super) fn node_heard(&mut self, id: &NodeId, docker: DockerStatus, seq: u64, synced: bool) {
        let now = self.state.now;
        let Some(before) = self.state.nodes.get(id).cloned() else { return };
        let back = before.status != NodeStatus::Alive;
        let was_out_of_sight = self.is_out_of_sight(&before);
        let full = synced && docker.state == DockerState::Ok;
        self.edit_node(id, |node| {
            node.heard_at = now;
            node.heard = true;
            node.seq = seq;
            set_docker(node, docker, now);
            set_alive(node, now);
            if full {
                node.synced = true;
                node.lost = false;
            }
        });
        if back {
            self.note_node(id, "NodeBack", format!("node {id} is heard again"));
            self.agenda.node_at(id, now + self.timing.dead_after_ms);
            self.record_node(id);
            // Orders that could not be sent while it was away.
            self.agenda.orders.extend(before.instances.iter().cloned());
        }
        if was_out_of_sight && (back || self.state.mass_loss.is_some()) {
            self.review_mass_loss();
        }
        let after = self.state.nodes.get(id).map(|n| n.docker.state);
        if after != Some(before.docker.state) {
            let message = match after {
                Some(DockerState::Ok) => format!("Docker on node {id} answers"),
                Some(DockerState::Hung) => {
                    format!("Docker on node {id} does not answer; its instances keep their state")
                }
                _ => format!("Docker on node {id} is away; its instances keep their state"),
            };
            self.note_node(id, "DockerState", message);
        }
        self.review_docker(id);
    }

    /// Docker away or hung for a minute: its instances are treated as on a dead
    /// node.
    fn review_docker(&mut self, id: &NodeId) {
        let Some(node) = self.state.nodes.get(id).cloned() else { return };
        if node.docker.state == DockerState::Ok || node.lost {
            return;
        }
        let unable_at = node.docker_since + self.timing.docker_unable_after_ms;
        if unable_at > self.state.now {
            self.agenda.node_at(id, unable_at);
            return;
        }
        self.lose(id);
        let seconds = (self.state.now - node.docker_since) / 1000;
        let message = format!(
            "Docker on node {id} has not answered for {seconds} s: its instances are treated as lost"
        );
        self.note_node(id, "DockerUnavailable", message);
        self.node_answered_for(id);
    }

    /// One node less to wait for after the scheduler's restart; with the last
    /// one, everything is looked at.
    pub(super) fn node_answered_for(&mut self, id: &NodeId) {
        if self.state.awaited.remove(id).is_some() && self.state.awaited.is_empty() {
            self.note(
                "Recovered",
                "every node that was alive before the restart has reported or is dead".to_owned(),
            );
            self.judge_adopted_ends();
            self.look_at_everything();
        }
    }

    /// Dead, or silent for so long that it may well be: when a network breaks,
    /// its nodes are found dead one after the other, within a heartbeat's time.
    /// Whoever waited for the last of them would replace half of them first.
    fn is_out_of_sight(&self, node: &Node) -> bool {
        node.status == NodeStatus::Dead
            || node.heard_at + self.timing.dead_after_ms / 2 <= self.state.now
    }

    /// When over half of ten or more nodes are lost at once, it is more likely
    /// the network than the machines: nothing is replaced until half of them are
    /// back, five minutes have passed, or nodes were removed.
    pub(super) fn review_mass_loss(&mut self) {
        let now = self.state.now;
        let gone = |core: &Self, members: &OrdSet<NodeId>| {
            let nodes = members.iter().filter_map(|id| core.state.nodes.get(id));
            nodes.filter(|node| core.is_out_of_sight(node)).count()
        };
        if let Some(guard) = self.state.mass_loss.clone() {
            let members: OrdSet<NodeId> = guard
                .members
                .iter()
                .filter(|id| self.state.nodes.contains_key(*id))
                .cloned()
                .collect();
            let dead = gone(self, &members);
            let over = now >= guard.since + self.timing.mass_loss_hold_ms;
            let half_back_since =
                (dead * 2 <= members.len()).then(|| guard.half_back_since.unwrap_or(now));
            let half_back = half_back_since.is_some_and(|since| {
                // A person's word is not waited on.
                members.len() < guard.members.len() || now >= since + self.timing.dead_after_ms
            });
            if over || half_back || dead == 0 {
                self.state.mass_loss = None;
                let why = if over { "it has lasted long enough" } else { "half of them are back" };
                self.note(
                    "MassNodeLossOver",
                    format!("replacing lost instances again: {why} ({dead} still silent)"),
                );
                self.look_at_everything();
            } else {
                let again =
                    (now + self.timing.sweep_ms).min(guard.since + self.timing.mass_loss_hold_ms);
                self.agenda.deadlines.insert((again, Deadline::MassLoss));
                self.state.mass_loss =
                    Some(MassLoss { since: guard.since, members, half_back_since });
            }
            return;
        }
        let since = now.saturating_sub(self.timing.mass_loss_window_ms);
        let members: OrdSet<NodeId> = self
            .state
            .nodes
            .values()
            .filter(|n| {
                n.alive_from <= since && (n.status != NodeStatus::Dead || n.status_since > since)
            })
            .map(|n| n.id.clone())
            .collect();
        let dead = gone(self, &members);
        if members.len() < self.timing.mass_loss_min_nodes || dead * 2 <= members.len() {
            return;
        }
        self.note(
            "MassNodeLoss",
            format!(
                "{dead} of {} nodes fell silent at once: more likely the network than the machines. \
                 Nothing is replaced until half are back, {} s have passed, or `kube-lite ctl node \
                 remove`",
                members.len(),
                self.timing.mass_loss_hold_ms / 1000
            ),
        );
        let again = now + self.timing.sweep_ms.min(self.timing.mass_loss_hold_ms);
        self.agenda.deadlines.insert((again, Deadline::MassLoss));
        self.state.mass_loss = Some(MassLoss { since: now, members, half_back_since: None });
        // What is lost already and found no room yet is not replaced any more.
        self.look_at_everything();
    }
}

impl Node {
    /// Whether this former life may be the one that lives: it is the last before
    /// the present one, which registered and never reported. A registration can be
    /// overtaken by that of the agent's next life, when this scheduler was paused
    /// meanwhile; stopping the one that lives for it would be for good.
    pub(super) fn may_be_a_ghost(&self, former: u64) -> bool {
        self.seq == 0 && self.former.last() == Some(&former)
    }
}

/// The answer to a former life of an agent, which stops for good on it.
pub(super) fn superseded(node: &Node) -> ApiError {
    ApiError::new(
        409,
        "Superseded",
        format!(
            "node {:?} was taken over by a newer agent at {}; this one has been replaced",
            node.id.as_str(),
            node.address
        ),
    )
}

fn set_alive(node: &mut Node, now: u64) {
    if node.status == NodeStatus::Dead {
        node.alive_from = now;
    }
    if node.status != NodeStatus::Alive {
        node.status = NodeStatus::Alive;
        node.status_since = now;
    }
}

fn set_docker(node: &mut Node, docker: DockerStatus, now: u64) {
    node.docker_since = now.saturating_sub(docker.for_ms);
    node.docker = following(&node.docker, docker);
}

/// A status as kept. The daemon's name stays while it cannot be asked for it.
fn following(before: &DockerStatus, docker: DockerStatus) -> DockerStatus {
    let daemon = docker.daemon.clone().or_else(|| before.daemon.clone());
    DockerStatus { daemon, for_ms: 0, ..docker }
}

/// Where the agent is reached: what it advertises, else where it came from.
/// Never a wildcard, which is no address.
fn advertised_address(request: &RegisterRequest, peer: IpAddr) -> Result<String, ApiError> {
    let Some(advertised) = &request.advertise else {
        let peer = match peer {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(peer, IpAddr::V4),
            v4 => v4,
        };
        return Ok(std::net::SocketAddr::new(peer, request.port).to_string());
    };
    let host = advertised.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    let wildcard = host
        .as_ref()
        .is_some_and(|(h, _)| matches!(*h, "" | "0.0.0.0" | "[::]" | "*" | "::" | "[::0]"));
    match host {
        Some((_, Ok(port))) if port != 0 && !wildcard => Ok(advertised.clone()),
        _ => Err(ApiError::invalid_field(
            "advertise",
            format!(
                "cannot reach an agent at {advertised:?}; --advertise takes HOST:PORT with an \
                 address of this machine (no wildcard, port not 0)"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(advertise: Option<&str>) -> RegisterRequest {
        RegisterRequest {
            node_id: "n".into(),
            key: "k".into(),
            incarnation: 1,
            advertise: advertise.map(str::to_owned),
            port: 8081,
            docker: DockerStatus::default(),
            version: String::new(),
        }
    }

    #[test]
    fn a_daemon_keeps_its_name_while_it_does_not_answer() {
        let known = docker(DockerState::Ok, Some("d1"), 0);
        let hung = following(&known, docker(DockerState::Hung, None, 2_000));
        assert_eq!(hung, docker(DockerState::Hung, Some("d1"), 0));
        let another = docker(DockerState::Ok, Some("d2"), 0);
        assert_eq!(following(&hung, another.clone()), another);
    }

    fn docker(state: DockerState, daemon: Option<&str>, for_ms: u64) -> DockerStatus {
        DockerStatus { state, for_ms, daemon: daemon.map(Into::into), message: None }
    }

    #[test]
    fn addresses() {
        let peer: IpAddr = "10.1.2.3".parse().unwrap();
        assert_eq!(advertised_address(&request(None), peer).unwrap(), "10.1.2.3:8081");
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(advertised_address(&request(None), mapped).unwrap(), "10.1.2.3:8081");
        let six: IpAddr = "fd00::1".parse().unwrap();
        assert_eq!(advertised_address(&request(None), six).unwrap(), "[fd00::1]:8081");
        assert_eq!(advertised_address(&request(Some("box:9")), peer).unwrap(), "box:9");
        for bad in ["box", "box:0", "0.0.0.0:81", "[::]:81", ":81", "box:x", ""] {
            let error = advertised_address(&request(Some(bad)), peer).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("advertise"), "{bad}");
        }
    }
}
