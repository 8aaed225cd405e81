//! The agent's decisions: a synchronous state machine over plain values.
//!
//! [`AgentCore::step`] takes one [`Input`] and says what is to be done about it.
//! It knows no clock, no socket and no Docker, so the same code runs in
//! production, in tests and under a simulator. Each file beside this one adds
//! the rules of one subject: [`contact`](super::contact) with the scheduler,
//! [`orders`](super::orders), [`images`](super::images),
//! [`lifecycle`](super::lifecycle) of instances, [`adopt`](super::adopt)ion,
//! [`retention`](super::retention), [`autonomy`](super::autonomy),
//! [`snapshot`](super::snapshot)s and what of them is [`report`](super::report)ed.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::{BTreeMap, BTreeSet};

use super::contact::Contact;
use super::images::ImageWork;
use super::lifecycle::Stray;
use super::message::{
    Action, DockerAction, DockerReport, Ending, Input, Millis, Moment, Observed, Remembered, Step,
};
use super::orders::Tombstones;
use super::report::Told;
use super::roster::Roster;
use crate::model::wire::{DockerState, DockerStatus};
use crate::model::{ClusterId, Draws, InstanceId, NodeId, Timing, WorkloadId};

/// Who an agent is, for one life of its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub node: NodeId,
    /// Secret of the data directory.
    pub key: String,
    /// Random per life, below 2^53.
    pub incarnation: u64,
    /// `host:port` where it wants to be reached.
    pub advertise: Option<String>,
    /// The port it listens on.
    pub port: u16,
    /// Version of the binary.
    pub version: String,
}

/// What is known about Docker.
#[derive(Clone, Debug)]
pub(super) struct DockerWatch {
    pub(super) status: DockerStatus,
    pub(super) since: Millis,
    /// The number of the listing under way.
    listing: Option<u64>,
    pub(super) list_wanted: bool,
    list_at: Millis,
}

/// The state of an agent. See the module's documentation.
#[derive(Clone, Debug)]
pub struct AgentCore {
    pub(super) identity: Identity,
    pub(super) timing: Timing,
    pub(super) cluster: Option<Remembered>,
    pub(super) contact: Contact,
    pub(super) told: Told,
    pub(super) docker: DockerWatch,
    /// A complete listing of this cluster's containers has been taken in.
    pub(super) synced: bool,
    pub(super) instances: Roster,
    /// Whose container it is.
    pub(super) by_container: BTreeMap<String, InstanceId>,
    /// When which instance is to be looked at again.
    pub(super) due: BTreeSet<(Millis, InstanceId)>,
    pub(super) images: BTreeMap<String, ImageWork>,
    /// Images that were seen on the node. A launch may prove it outdated.
    pub(super) images_seen: BTreeSet<String>,
    /// Containers that are nobody's and are being removed.
    pub(super) strays: BTreeMap<String, Stray>,
    pub(super) tombstones: Tombstones,
    /// Deaths the scheduler has not taken in, by the snapshot that tells first.
    pub(super) unacknowledged: BTreeSet<(u64, u64, InstanceId)>,
    /// Dead ones per workload that may be retired, oldest first.
    pub(super) dead: BTreeMap<WorkloadId, Vec<InstanceId>>,
    /// Dead ones that policy would restart, and when.
    pub(super) crashed: BTreeMap<InstanceId, Millis>,
    /// Ending: no later than then.
    closing: Option<Millis>,
    ended: bool,
    /// Counts steps, to tell older observations from newer knowledge.
    pub(super) steps: u64,
    pub(super) moment: Moment,
    draws: Draws,
    pub(super) out: Step,
}

impl AgentCore {
    /// An agent that has just started and knows nothing but what it remembers.
    pub fn new(
        identity: Identity,
        timing: Timing,
        remembered: Option<Remembered>,
        now: Millis,
    ) -> Self {
        Self {
            identity,
            timing,
            cluster: remembered,
            contact: Contact::new(now),
            told: Told::default(),
            docker: DockerWatch {
                status: DockerStatus {
                    state: DockerState::Away,
                    message: Some("Docker has not been reached yet".to_owned()),
                    ..DockerStatus::default()
                },
                since: now,
                listing: None,
                list_wanted: true,
                list_at: now,
            },
            synced: false,
            instances: Roster::default(),
            by_container: BTreeMap::new(),
            due: BTreeSet::new(),
            images: BTreeMap::new(),
            images_seen: BTreeSet::new(),
            strays: BTreeMap::new(),
            tombstones: Tombstones::default(),
            unacknowledged: BTreeSet::new(),
            dead: BTreeMap::new(),
            crashed: BTreeMap::new(),
            closing: None,
            ended: false,
            steps: 0,
            moment: Moment { now_ms: now, ..Moment::default() },
            draws: Draws::default(),
            out: Step::default(),
        }
    }

    /// Takes one input and says what is to be done about it.
    pub fn step(&mut self, moment: Moment, input: Input) -> Step {
        self.steps += 1;
        self.draws = Draws::new(moment.draw);
        self.moment = Moment { now_ms: moment.now_ms.max(self.moment.now_ms), ..moment };
        if self.ended {
            self.refuse_when_ended(input);
            return std::mem::take(&mut self.out);
        }
        self.notice_pause();
        self.take(input);
        if !self.ended {
            self.pass_time();
        }
        let mut step = std::mem::take(&mut self.out);
        step.wake_at = if self.ended { None } else { self.wake_at() };
        debug_assert!(step.wake_at.is_none_or(|at| at > self.now()), "wakes up in the past");
        self.contact.promised = step.wake_at;
        step
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => {}
            Input::Registered(outcome) => self.on_registered(outcome),
            Input::Beat { seq, outcome } => self.on_beat(seq, outcome),
            Input::Run { ticket, request } => {
                let reply = self.accept_run(*request);
                self.out.replies.push((ticket, reply));
            }
            Input::Stop { ticket, id, request } => {
                let reply = self.accept_stop(&id, request);
                self.out.replies.push((ticket, reply));
            }
            Input::Docker(report) => self.on_docker(report),
            Input::Event(event) => self.on_event(event),
            Input::Listed { number, outcome } => self.on_listed(number, outcome),
            Input::ImageChecked { image, outcome } => self.on_image_checked(&image, outcome),
            Input::PullProgress { image } => self.on_pull_progress(&image),
            Input::Pulled { image, outcome } => self.on_pulled(&image, outcome),
            Input::Launched { id, outcome } => self.on_launched(&id, outcome),
            Input::Stopped { container_id, outcome } => self.on_stopped(&container_id, outcome),
            Input::Removed { container_id, outcome } => self.on_removed(&container_id, outcome),
            Input::Probed { id, container_id, outcome } => {
                self.on_probed(&id, &container_id, outcome);
            }
            Input::Shutdown { stop_containers } => self.on_shutdown(stop_containers),
        }
    }

    /// Whatever is due by now.
    fn pass_time(&mut self) {
        let now = self.now();
        while let Some((at, id)) = self.due.first().cloned() {
            if at > now {
                break;
            }
            self.reschedule(&id, None);
            self.advance(&id);
        }
        self.pass_time_for_images();
        self.pass_time_for_strays();
        self.heal_alone();
        self.list_if_due();
        self.end_if_done();
        if !self.ended {
            self.talk();
        }
    }

    fn wake_at(&self) -> Option<Millis> {
        let instances = self.due.first().map(|(at, _)| *at);
        [
            instances,
            self.images_wake_at(),
            self.strays_wake_at(),
            self.autonomy_wake_at(),
            self.list_wake_at(),
            self.closing,
            self.contact.wake_at(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Now, from the monotonic clock.
    pub(super) fn now(&self) -> Millis {
        self.moment.now_ms
    }

    /// Whether Docker answers.
    pub(super) fn docker_ok(&self) -> bool {
        self.docker.status.state == DockerState::Ok
    }

    /// Another random number from this step's one draw.
    pub(super) fn draw(&mut self) -> u64 {
        self.draws.draw()
    }

    pub(super) fn emit(&mut self, action: DockerAction) {
        self.out.actions.push(Action::Docker(action));
    }

    /// Sets when an instance is to be looked at again.
    pub(super) fn reschedule(&mut self, id: &InstanceId, at: Option<Millis>) {
        let Some(instance) = self.instances.get_mut_unmarked(id) else { return };
        if instance.due == at {
            return;
        }
        let before = std::mem::replace(&mut instance.due, at);
        if let Some(before) = before {
            self.due.remove(&(before, id.clone()));
        }
        if let Some(at) = at {
            self.due.insert((at, id.clone()));
        }
    }

    /// Looks at every instance: something that concerns all of them changed.
    pub(super) fn advance_all(&mut self) {
        let ids: Vec<InstanceId> = self.instances.keys().cloned().collect();
        for id in &ids {
            self.advance(id);
        }
    }

    // --- Docker as a whole -------------------------------------------------

    fn on_docker(&mut self, report: DockerReport) {
        let (state, message) = match report {
            DockerReport::Ok { daemon } => {
                self.docker.status.daemon = Some(daemon);
                self.docker.list_wanted = true;
                (DockerState::Ok, None)
            }
            DockerReport::Away(message) => (DockerState::Away, Some(message)),
            DockerReport::Hung(message) => (DockerState::Hung, Some(message)),
        };
        let status = &mut self.docker.status;
        status.message = message;
        if status.state != state {
            status.state = state;
            self.docker.since = self.moment.now_ms;
            self.news();
            if state == DockerState::Ok {
                self.forgive_stalls();
            }
            self.advance_all();
        }
    }

    fn list_if_due(&mut self) {
        let now = self.now();
        let Some(known) = &self.cluster else { return };
        let due = self.docker.list_wanted || self.docker.list_at <= now;
        if !due || self.docker.listing.is_some() || self.docker.status.state != DockerState::Ok {
            return;
        }
        let (number, cluster) = (self.steps, known.cluster.clone());
        self.docker.listing = Some(number);
        self.docker.list_wanted = false;
        self.emit(DockerAction::List { number, cluster, node: self.identity.node.clone() });
    }

    fn list_wake_at(&self) -> Option<Millis> {
        let idle = self.docker.listing.is_none() && self.docker_ok() && self.cluster.is_some();
        idle.then_some(self.docker.list_at)
    }

    fn on_listed(&mut self, number: u64, outcome: Result<Vec<Observed>, String>) {
        if self.docker.listing != Some(number) {
            return;
        }
        self.docker.listing = None;
        match outcome {
            Ok(observed) => {
                self.docker.list_at = self.now() + self.timing.docker_resync_ms;
                self.reconcile(number, observed);
            }
            Err(_) => self.docker.list_at = self.now() + self.timing.docker_ping_ms,
        }
    }

    // --- the cluster and the end -------------------------------------------

    /// The agent belongs to this cluster from now on. What another cluster left
    /// here is none of its business.
    pub(super) fn belong_to(&mut self, now_known: Remembered) {
        if self.cluster.as_ref() == Some(&now_known) {
            return;
        }
        let other = self.cluster.as_ref().map(|before| &before.cluster) != Some(&now_known.cluster);
        self.cluster = Some(now_known.clone());
        self.out.actions.push(Action::Remember(now_known));
        if !other {
            return;
        }
        let pulling: Vec<String> = self.images.keys().cloned().collect();
        for image in pulling {
            self.abandon_image(&image);
        }
        self.instances.clear();
        self.forget_reports();
        self.by_container.clear();
        self.due.clear();
        self.unacknowledged.clear();
        self.dead.clear();
        self.crashed.clear();
        self.strays.clear();
        self.tombstones = Tombstones::default();
        self.synced = false;
        self.docker.listing = None;
        self.docker.list_wanted = true;
    }

    /// The cluster it belongs to, once known.
    pub fn cluster(&self) -> Option<&ClusterId> {
        self.cluster.as_ref().map(|known| &known.cluster)
    }

    fn on_shutdown(&mut self, stop_containers: bool) {
        if !stop_containers {
            return self.end(Ending::Asked);
        }
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(self.now() + self.timing.shutdown_ms);
        let ids: Vec<InstanceId> = self.instances.keys().cloned().collect();
        for id in &ids {
            self.leave_at_the_end(id);
        }
    }

    /// Whether it is ending and takes no new orders.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some() || self.ended
    }

    fn end_if_done(&mut self) {
        let Some(deadline) = self.closing else { return };
        let knows_all = self.synced || self.cluster.is_none() || !self.docker_ok();
        if self.instances.is_empty() && self.strays.is_empty() && knows_all {
            self.end(Ending::Asked);
        } else if deadline <= self.now() {
            let left = self.instances.keys().cloned().collect();
            self.end(Ending::LeftOver(left));
        }
    }

    pub(super) fn end(&mut self, ending: Ending) {
        self.ended = true;
        self.out.actions.push(Action::Halt(ending));
    }
}
