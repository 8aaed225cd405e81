//! Starting what is missing, within the bounds: where it goes, what it waits
//! for, and which host ports it takes.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::core::Core;
use super::placement::{Placer, Refusals};

use super::state::{Delivery, Instance, Replica, Rollout, Share, Workload};
use super::waves::Bounds;
use crate::model::wire::DockerState;
use crate::model::{InstanceId, NodeId, Protocol, PublishedPort, Reason, Why, WorkloadId};
use crate::planted::{Fault, planted};

impl Core {
    pub(super) fn start_missing(&mut self, name: &WorkloadId, workload: &Workload) {
        if workload.missing.is_empty() {
            self.hold(name, None);
            return;
        }
        // While it changes, the surge is there for whoever needs it most: what has
        // crashed must not wait until a wave is through.
        let is_open = workload.rollout.as_ref().is_some_and(Rollout::is_open);
        let changes = is_open || !workload.transit.is_empty();
        let surge = Bounds::of(&workload.spec.strategy, workload.desired()).surge;
        let bound =
            workload.desired() - workload.done.len() as u32 + if changes { surge } else { 0 };
        let mut placer: Option<Placer> = None;
        let mut held = None;
        // What one revision asks for finds no room: the others of it need not try.
        let mut refused: BTreeMap<u64, Why> = BTreeMap::new();
        for number in self.missing_in_order(workload) {
            let Some(replica) = workload.replicas.get(&number) else { continue };
            if self.live_in(replica).any(|i| self.state.is_current(workload, replica, &i)) {
                // It was filed as missing before its revision was decided anew.
                continue;
            }
            let tally = self.state.tally(name);
            let replaces = self.live_in(replica).next().is_some();
            if replaces && self.is_frozen_in(workload, replica) {
                continue;
            }
            if self.is_overtaken(workload, number) {
                continue;
            }
            if tally.occupied() >= bound + u32::from(planted(Fault::SurgeOffByOne)) {
                if replaces && self.start_in_place(name, workload, number, false).is_ok_and(|s| s) {
                    continue;
                }
                held.get_or_insert(Why::new(
                    Reason::WaitingForStops,
                    match tally.stopping {
                        0 if workload.is_frozen() => {
                            "its rollout is paused and takes all of maxSurge".to_owned()
                        }
                        0 => "the wave before must be ready first".to_owned(),
                        count => format!("{count} instance(s) must be gone first"),
                    },
                ));
                if changes {
                    // What may not surge goes once there is room elsewhere.
                    self.agenda.starved.insert(name.clone());
                    continue;
                }
                break;
            }
            let placer = placer.get_or_insert_with(|| Placer::new(name));
            if let Some(why) = self.waits_for_its_node(replica) {
                held = Some(why);
                self.agenda.starved.insert(name.clone());
                continue;
            }
            let wants = workload.asked_ports(replica.revision);
            let known = refused.get(&replica.revision).filter(|_| replica.pin.is_none());
            let placed = match known {
                Some(why) => Err(why.clone()),
                None => placer
                    .place(&self.state, &wants, replica.pin.as_ref())
                    .map_err(|refusals| no_room(&refusals)),
            };
            match placed {
                Ok(node) => self.start_instance(name, workload, number, node, &wants, None),
                Err(mut why) => {
                    refused.insert(replica.revision, why.clone());
                    if replaces && why.reason == Reason::PortTaken {
                        match self.start_in_place(name, workload, number, true) {
                            Ok(true) => continue,
                            Ok(false) => {}
                            Err(reason) => why.message = format!("{}; {reason}", why.message),
                        }
                    }
                    held = Some(why);
                    self.agenda.starved.insert(name.clone());
                    // Others may be of another revision, or have a place to take over.
                    if !changes {
                        break;
                    }
                }
            }
        }
        self.hold(name, held);
    }

    /// Missing replicas: those that have nothing at all before those that only
    /// move on.
    fn missing_in_order(&self, workload: &Workload) -> Vec<u32> {
        if workload.transit.is_empty() {
            return workload.missing.iter().copied().collect();
        }
        let has_something = |number: &u32| {
            workload.replicas.get(number).is_some_and(|r| self.live_in(r).next().is_some())
        };
        let (moving, bare): (Vec<u32>, Vec<u32>) =
            workload.missing.iter().copied().partition(has_something);
        bare.into_iter().chain(moving).collect()
    }

    /// Starts a replacement in the place of what it replaces, to be launched when
    /// that is gone. Says whether it did; an error is why it may not.
    fn start_in_place(
        &mut self,
        name: &WorkloadId,
        workload: &Workload,
        number: u32,
        surge_is_impossible: bool,
    ) -> Result<bool, String> {
        let Some(replica) = workload.replicas.get(&number) else { return Ok(false) };
        let found = self.place_in_place(workload, replica, surge_is_impossible)?;
        let Some((old, node)) = found else { return Ok(false) };
        let wants = workload.asked_ports(replica.revision);
        self.note_instance(
            &old,
            "ReplacedInPlace",
            format!(
                "there is no room beside {} on {}: its replacement is prepared on {node} and \
                 takes its place, so one replica less is ready for a moment",
                old.id, old.node
            ),
        );
        self.start_instance(name, workload, number, node, &wants, Some(old.id.clone()));
        Ok(true)
    }

    /// A crash restart stays on its node: when that is not able just now but not
    /// lost either, it is waited for.
    fn waits_for_its_node(&self, replica: &Replica) -> Option<Why> {
        let node = replica.pin.as_ref().and_then(|id| self.state.nodes.get(id))?;
        if node.lost || node.able() || node.draining {
            return None;
        }
        let (reason, what) = match node.docker.state {
            DockerState::Ok if node.unreachable => (Reason::NoRoom, "does not answer orders"),
            DockerState::Ok => (Reason::NoRoom, "has not reported yet"),
            _ => (Reason::DockerUnavailable, "has a Docker that does not answer"),
        };
        let mut why =
            Why::new(reason, format!("to be restarted on {}, where it ran, which {what}", node.id));
        why.node_id = Some(node.id.clone());
        Some(why)
    }

    /// Notes why missing replicas are not started; says each reason once, not
    /// each change of its wording.
    pub(super) fn hold(&mut self, name: &WorkloadId, why: Option<Why>) {
        let Some(workload) = self.state.workloads.get(name) else { return };
        if workload.held == why {
            return;
        }
        let is_news = workload.held.as_ref().map(|w| w.reason) != why.as_ref().map(|w| w.reason);
        if let Some(slot) = self.state.workloads.get_mut(name) {
            Arc::make_mut(slot).held = why.clone();
            // Who finds no room holds up nobody else's move.
            if is_news && !(slot.outdated.is_empty() && slot.transit.is_empty()) {
                self.agenda.workloads.insert(name.clone());
            }
        }
        if let Some(why) = why.filter(|why| is_news && why.reason != Reason::WaitingForStops) {
            self.note_workload(name, "ReplicasWaiting", format!("{name} waits: {}", why.message));
        }
    }

    fn start_instance(
        &mut self,
        name: &WorkloadId,
        workload: &Workload,
        number: u32,
        node: NodeId,
        wants: &[(u16, Protocol)],
        after: Option<InstanceId>,
    ) {
        let Some(replica) = workload.replicas.get(&number) else { return };
        let id = loop {
            let id = InstanceId::new(name, replica.revision, self.draws.draw());
            if !self.state.instances.contains_key(&id) {
                break id;
            }
        };
        let why = match (&replica.follows, &replica.last_failure) {
            (Some(old), Some(failure)) if failure.instance == *old => {
                format!("replacing {old} ({})", failure.message)
            }
            _ => self.why_missing(workload, number, replica),
        };
        let instance = Instance {
            id: id.clone(),
            workload: name.clone(),
            replica: number,
            revision: replica.revision,
            node: node.clone(),
            replaces: replica.follows.clone(),
            after,
            restarts: replica.restarts,
            step: replica.step,
            binds_asked_ports: workload.desired() == 1,
            holds_ports: !wants.is_empty(),
            since: self.state.now,
            run: Delivery::Due(0),
            stop: None,
            seen: None,
            ready: false,
            proven_in: None,
            last_ready: None,
            share: Share::default(),
        };
        self.note_instance(
            &instance,
            "InstanceOrdered",
            format!("starting {id} on {node} as replica {number}: {why}"),
        );
        if !wants.is_empty()
            && !planted(Fault::PortNotReserved)
            && let Some(daemon) = self.state.nodes.get(&node).map(|n| n.daemon())
        {
            for (port, protocol) in wants {
                self.state.host_ports.insert((daemon.clone(), *port, *protocol, id.clone()));
            }
        }
        self.insert_instance(instance);
        self.edit_replica(name, number, |replica| {
            replica.instances.push(id.clone());
            replica.not_before = None;
            replica.unaccounted = false;
            // Where it ran before means nothing any more once it has moved.
            if replica.pin.as_ref().is_some_and(|pin| *pin != node) {
                replica.pin = None;
            }
        });
        self.agenda.orders.insert(id);
    }

    fn why_missing(&self, workload: &Workload, number: u32, replica: &Replica) -> String {
        let mut known = replica.instances.iter().filter_map(|id| self.state.instances.get(id));
        match known.rfind(|i| !i.is_over()) {
            Some(old) if self.state.is_lost(old) => {
                format!("replacing {}, whose node is lost", old.id)
            }
            Some(old) if old.revision != replica.revision => {
                format!("moving on from {} to revision {}", old.id, replica.revision)
            }
            Some(old) if !self.state.is_current(workload, replica, old) => {
                format!("moving {} off {}, which is being drained", old.id, old.node)
            }
            Some(old) => format!("replacing {}", old.id),
            None => format!("replica {number} had none"),
        }
    }

    /// Whose host ports an adopted instance binds, by what Docker says, or is to bind.
    /// Where nobody knows any more which it asked for, it is all that it has.
    pub(super) fn claim_asked_ports(&mut self, id: &InstanceId, asked: &[PublishedPort]) {
        let Some(instance) = self.state.instances.get(id).cloned() else { return };
        let workload = self.state.workloads.get(&instance.workload);
        let template = workload.and_then(|workload| workload.template(instance.revision));
        let Some(daemon) = self.state.nodes.get(&instance.node).map(|n| n.daemon()) else { return };
        let mut bound = instance.seen.as_ref().map(|s| s.ports.clone()).unwrap_or_default();
        bound.extend_from_slice(asked);
        let is_bound =
            |port, protocol| bound.iter().any(|b| b.host_port == port && b.protocol == protocol);
        let holds: Vec<_> = match template {
            Some(template) => template
                .ports
                .iter()
                .filter(|asked| asked.host_port != 0)
                .filter(|asked| asked.fixed || is_bound(asked.host_port, asked.protocol))
                .map(|asked| (asked.host_port, asked.protocol))
                .collect(),
            None => bound.iter().map(|b| (b.host_port, b.protocol)).collect(),
        };
        let held: Vec<_> = holds
            .into_iter()
            .map(|(port, protocol)| (daemon.clone(), port, protocol, id.clone()))
            .collect();
        if held.is_empty() || instance.is_over() {
            return;
        }
        self.state.host_ports.extend(held);
        if let Some(slot) = self.state.instances.get_mut(id) {
            Arc::make_mut(slot).holds_ports = true;
        }
    }
}

impl Workload {
    /// The host ports an instance started now has to get by number: those that
    /// are fixed, and those asked for by a single replica.
    pub(super) fn asked_ports(&self, revision: u64) -> Vec<(u16, Protocol)> {
        let single = self.desired() == 1;
        self.template(revision)
            .map_or(&self.spec.ports, |template| &template.ports)
            .iter()
            .filter(|port| port.host_port != 0 && (port.fixed || single))
            .map(|port| (port.host_port, port.protocol))
            .collect()
    }
}

fn no_room(refusals: &Refusals) -> Why {
    if refusals.total == 0 {
        return Why::new(
            Reason::NoNodes,
            "no node is registered; start an agent with `kube-lite agent --scheduler URL`",
        );
    }
    let reason = if refusals.only_ports() { Reason::PortTaken } else { Reason::NoRoom };
    Why::new(reason, refusals.to_string())
}
