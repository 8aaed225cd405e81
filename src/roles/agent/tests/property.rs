//! Whatever happens, in whatever order: no panic, no order forgotten, never two
//! launches of one id at once, phases that only move forward; and when it becomes
//! quiet, everything settles and no action repeats for ever.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::world::*;
use crate::model::wire::{HeartbeatResponse, RegisterResponse, RunOrder, RunRequest, StopRequest};
use crate::model::{ContainerInstance, InstanceId, Phase, Reason, Timing};
use crate::roles::agent::core::{AgentCore, Identity};
use crate::roles::agent::message::*;

/// One thing that happens to an agent.
#[derive(Clone, Debug)]
enum Happening {
    Order(u8),
    Stop(u8, u16),
    Pass(u16),
    /// An open action ends like this.
    Answer(u8, Fate),
    Die(u8, u8),
    /// A person removes a container.
    Remove(u8),
    /// A person starts a dead container.
    Revive(u8),
    Docker(bool),
    Scheduler(bool),
    /// The image disappears from the node.
    Prune,
    /// The agent is killed and started again.
    Restart,
}

/// How an action ends.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    Failed,
    /// Done, but the answer is lost; for others than launches: failed.
    DoneUnanswered,
    /// Not done, and no answer.
    Lost,
}

struct Container {
    order: RunOrder,
    state: ContainerState,
}

struct Sim {
    core: AgentCore,
    now: Millis,
    wake_at: Option<Millis>,
    incarnation: u64,
    open: Vec<(Action, Vec<Observed>)>,
    containers: BTreeMap<String, Container>,
    image_present: bool,
    docker_up: bool,
    scheduler_up: bool,
    next_container: u32,
    /// Accepted by this incarnation, not stopped, not yet reported as over.
    owed: BTreeSet<InstanceId>,
    /// Reported as over.
    told: BTreeSet<InstanceId>,
    stopped: BTreeSet<InstanceId>,
    phases: BTreeMap<InstanceId, Phase>,
    actions: u64,
    /// Nothing gets lost any more.
    calmed: bool,
    /// What the scheduler believes: the number of the report that last said something,
    /// what there was then, and when that was.
    believed: (u64, Vec<ContainerInstance>, u64),
}

fn web(number: u8) -> RunOrder {
    let pull_policy = ["ifNotPresent", "always", "never"][usize::from(number % 3)];
    let restart_policy = ["always", "onFailure", "never"][usize::from(number / 3 % 3)];
    let mut made = order(
        &format!("web-r1-{number}"),
        json!({
            "pullPolicy": pull_policy,
            "restartPolicy": restart_policy,
            "healthCheck": number.is_multiple_of(2).then(|| json!({"port": 80})),
        }),
    );
    made.replica = u32::from(number);
    made
}

fn start(incarnation: u64, now: Millis) -> AgentCore {
    let identity = Identity { incarnation, ..identity() };
    AgentCore::new(identity, Timing::default(), Some(remembered()), now)
}

/// The same container so much later, if nothing happens.
fn aged(container: ContainerInstance, by: u64) -> ContainerInstance {
    let by = if container.phase == Phase::Running { by } else { 0 };
    ContainerInstance {
        running_for_ms: container.running_for_ms.map(|age| age + by),
        healthy_for_ms: container.healthy_for_ms.map(|age| age + by),
        ..container
    }
}

impl Sim {
    fn new() -> Self {
        let mut sim = Self {
            core: start(1, 0),
            now: 0,
            wake_at: Some(0),
            incarnation: 1,
            open: Vec::new(),
            containers: BTreeMap::new(),
            image_present: true,
            docker_up: true,
            scheduler_up: true,
            next_container: 0,
            owed: BTreeSet::new(),
            told: BTreeSet::new(),
            stopped: BTreeSet::new(),
            phases: BTreeMap::new(),
            actions: 0,
            calmed: false,
            believed: (0, Vec::new(), 0),
        };
        sim.report_docker();
        sim
    }

    fn report_docker(&mut self) {
        self.give(Input::Docker(match self.docker_up {
            true => DockerReport::Ok { daemon: "d1".into() },
            false => DockerReport::Away("gone".into()),
        }));
    }

    fn give(&mut self, input: Input) {
        let moment = Moment { now_ms: self.now, wall_ms: WALL + self.now, draw: self.now ^ 0x5EED };
        let step = self.core.step(moment, input);
        self.wake_at = step.wake_at;
        for (ticket, reply) in step.replies {
            if let (Ok(accepted), true) = (reply, ticket == 1)
                && !self.told.contains(&accepted.id)
            {
                self.owed.insert(accepted.id);
            }
        }
        for action in step.actions {
            self.actions += 1;
            match action {
                Action::Remember(_) => {}
                Action::Register(_) => self.answer_register(),
                Action::Heartbeat(beat) => {
                    let outcome = self.deliver(&beat);
                    self.give(Input::Beat { seq: beat.seq, outcome });
                }
                action => {
                    let listing = self.listing();
                    self.open.push((action, listing));
                }
            }
        }
        self.check();
    }

    fn answer_register(&mut self) {
        let outcome = match self.scheduler_up {
            true => Ok(Registration {
                response: RegisterResponse {
                    cluster: CLUSTER.into(),
                    epoch: EPOCH,
                    address: "127.0.0.1:1".into(),
                },
                bind_ip: "127.0.0.1".parse().unwrap(),
            }),
            false => Err(CallError::Unreachable("refused".into())),
        };
        self.give(Input::Registered(outcome));
    }

    /// The scheduler takes in a snapshot. What it was told is over is no longer
    /// owed.
    fn deliver(
        &mut self,
        beat: &crate::model::wire::HeartbeatRequest,
    ) -> Result<HeartbeatResponse, CallError> {
        if !self.scheduler_up {
            return Err(CallError::Unreachable("refused".into()));
        }
        let answer =
            |seq| Ok(HeartbeatResponse { epoch: EPOCH, seq, digests: true, changes: true });
        // Some get lost on the way, and so do some answers.
        let lost = Err(CallError::Unreachable("lost".into()));
        if !self.calmed && beat.seq % 7 == 3 {
            return lost;
        }
        if beat.same_as.is_some_and(|base| base != self.believed.0) {
            return answer(beat.seq - 1);
        }
        // Whether told in full or not, what is believed is what is.
        let (_, told, at) = std::mem::take(&mut self.believed);
        let passed = self.now - at;
        let mut believed: BTreeMap<InstanceId, ContainerInstance> = BTreeMap::new();
        if beat.same_as.is_some() {
            believed.extend(told.into_iter().map(|told| (told.id.clone(), aged(told, passed))));
            believed.retain(|id, _| !beat.gone.contains(id));
        }
        believed.extend(beat.containers.iter().map(|told| (told.id.clone(), told.clone())));
        let believed: Vec<_> = believed.into_values().collect();
        assert_eq!(believed, self.core.snapshot().containers, "{beat:?}");
        let says_nothing = beat.containers.is_empty() && beat.gone.is_empty();
        let known_in = beat.same_as.filter(|_| says_nothing).unwrap_or(beat.seq);
        self.believed = (known_in, believed, self.now);
        if !self.calmed && beat.seq % 7 == 5 {
            return lost;
        }
        for told in &beat.containers {
            if told.phase.is_final() {
                self.owed.remove(&told.id);
                self.told.insert(told.id.clone());
            }
        }
        answer(beat.seq)
    }

    fn listing(&self) -> Vec<Observed> {
        let all = self.containers.iter();
        all.map(|(id, container)| observed(&container.order, facts(id, container.state))).collect()
    }

    fn check(&mut self) {
        let mut busy = BTreeSet::new();
        for (action, _) in &self.open {
            let about = match action {
                Action::Docker(DockerAction::Launch(launch)) => launch.id.to_string(),
                Action::Docker(DockerAction::Stop { container_id, .. })
                | Action::Docker(DockerAction::Remove { container_id }) => container_id.clone(),
                Action::Docker(DockerAction::Pull { image }) => format!("pull {image}"),
                Action::Docker(DockerAction::CheckImage { image }) => format!("check {image}"),
                Action::Probe(probe) => format!("probe {}", probe.id),
                Action::Docker(DockerAction::List { .. }) => "list".to_owned(),
                _ => continue,
            };
            assert!(busy.insert(about.clone()), "twice at once: {about}");
        }
        let snapshot = self.core.snapshot();
        let mut present = BTreeSet::new();
        for told in snapshot.containers {
            let before = self.phases.insert(told.id.clone(), told.phase).unwrap_or_default();
            assert!(told.phase >= before, "{} went from {before:?} to {:?}", told.id, told.phase);
            let fine = told.phase == Phase::Running && !told.stopping;
            assert!(fine || told.reason.is_some(), "{} does not say why", told.id);
            present.insert(told.id);
        }
        for id in &self.owed {
            // One that the agent itself succeeded is told by its successor.
            let own = format!("{id}-a");
            let succeeded = present.iter().any(|other| other.as_str().starts_with(&own));
            assert!(succeeded || present.contains(id), "{id} was forgotten: {present:?}");
        }
    }

    fn order(&mut self, number: u8) {
        let request = Box::new(RunRequest { fence: self.fence(), order: web(number) });
        self.give(Input::Run { ticket: 1, request });
    }

    fn fence(&self) -> crate::model::wire::Fence {
        crate::model::wire::Fence { incarnation: self.incarnation, ..fence() }
    }

    fn stop(&mut self, id: InstanceId, drain_ms: u16) {
        if self.core.epoch().is_none() {
            return;
        }
        self.owed.remove(&id);
        self.stopped.insert(id.clone());
        let drain_ms = drain_ms.into();
        let request = StopRequest { fence: self.fence(), drain_ms, why: String::new() };
        self.give(Input::Stop { ticket: 2, id, request });
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.now = at;
            self.give(Input::Tick);
        }
        self.now = end;
    }

    fn event(&mut self, container_id: &str, kind: EventKind) {
        if !self.docker_up {
            return;
        }
        let Some(container) = self.containers.get(container_id) else { return };
        let id = container.order.id.clone();
        let (container_id, cluster) = (container_id.into(), CLUSTER.into());
        self.give(Input::Event(ContainerEvent { container_id, cluster, id, kind }));
    }

    fn nth(&self, number: u8, state: ContainerState) -> Option<String> {
        let matching = self.containers.iter().filter(|(_, container)| container.state == state);
        matching.map(|(id, _)| id.clone()).nth(number.into())
    }

    fn die(&mut self, container_id: &str, exit_code: i64) {
        if let Some(container) = self.containers.get_mut(container_id)
            && container.state == ContainerState::Running
        {
            container.state = ContainerState::Ended;
            self.event(container_id, EventKind::Die { exit_code });
        }
    }

    fn destroy(&mut self, container_id: &str) {
        self.die(container_id, 137);
        self.event(container_id, EventKind::Destroy);
        self.containers.remove(container_id);
    }

    /// Docker does what a launch asks for and returns the container's id.
    fn make(&mut self, launch: &Launch) -> String {
        let order: RunOrder = serde_json::from_str(&launch.labels["kube-lite.order"]).unwrap();
        let known = self.containers.iter_mut().find(|(_, made)| made.order.id == launch.id);
        if let Some((id, made)) = known {
            assert_eq!(made.order, order, "an own container of that name");
            made.state = ContainerState::Running;
            return id.clone();
        }
        self.next_container += 1;
        let id = format!("c{:03}", self.next_container);
        let state = ContainerState::Running;
        self.containers.insert(id.clone(), Container { order, state });
        self.event(&id, EventKind::Start);
        id
    }

    fn answer(&mut self, index: usize, fate: Fate) {
        if index >= self.open.len() {
            return;
        }
        let (action, listing) = self.open.remove(index);
        let done = matches!(fate, Fate::Done) && self.docker_up;
        let outcome = |done: bool| if done { Ok(()) } else { Err("no".to_owned()) };
        match action {
            Action::Probe(Probe { id, container_id, .. }) => {
                let outcome = outcome(matches!(fate, Fate::Done));
                self.give(Input::Probed { id, container_id, outcome });
            }
            Action::Docker(DockerAction::CheckImage { image }) => {
                let outcome = if done { Ok(self.image_present) } else { Err("no".into()) };
                self.give(Input::ImageChecked { image, outcome });
            }
            Action::Docker(DockerAction::Pull { image }) => {
                self.image_present |= done;
                let outcome = match fate {
                    Fate::Done if done => Ok(()),
                    Fate::Failed => Err(PullError::Final {
                        reason: Reason::ImageNotFound,
                        message: "none".into(),
                    }),
                    _ => Err(PullError::Transient("reset".into())),
                };
                self.give(Input::Pulled { image, outcome });
            }
            Action::Docker(DockerAction::CancelPull { image }) => {
                let pull = Action::Docker(DockerAction::Pull { image: image.clone() });
                if let Some(at) = self.open.iter().position(|(action, _)| *action == pull) {
                    self.open.remove(at);
                    self.give(Input::Pulled { image, outcome: Err(PullError::Cancelled) });
                }
            }
            Action::Docker(DockerAction::List { number, .. }) => {
                let outcome = if done { Ok(listing) } else { Err("no".into()) };
                self.give(Input::Listed { number, outcome });
            }
            Action::Docker(DockerAction::Launch(launch)) => {
                let effect = self.docker_up && matches!(fate, Fate::Done | Fate::DoneUnanswered);
                let missing = !self.image_present;
                let outcome = if effect && !missing {
                    let id = self.make(&launch);
                    match fate {
                        Fate::Done => {
                            LaunchOutcome::Started(facts(&id, self.containers[&id].state))
                        }
                        _ => LaunchOutcome::Unknown("no answer".into()),
                    }
                } else if self.docker_up && !matches!(fate, Fate::Lost) {
                    let reason = if missing { Reason::ImageNotFound } else { Reason::PortTaken };
                    let message = "no".to_owned();
                    // A container of an earlier attempt goes with the failure.
                    self.containers.retain(|_, made| made.order.id != launch.id);
                    LaunchOutcome::Failed { reason, message, left_over: None }
                } else {
                    LaunchOutcome::Unknown("no answer".into())
                };
                self.give(Input::Launched { id: launch.id, outcome });
            }
            Action::Docker(DockerAction::Stop { container_id, .. }) => {
                if done {
                    self.die(&container_id, 143);
                }
                self.give(Input::Stopped { container_id, outcome: outcome(done) });
            }
            Action::Docker(DockerAction::Remove { container_id }) => {
                if done {
                    self.destroy(&container_id);
                }
                self.give(Input::Removed { container_id, outcome: outcome(done) });
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn restart(&mut self) {
        self.open.clear();
        self.owed.clear();
        self.told.clear();
        self.stopped.clear();
        // A start that died with the agent before its container was reported, or
        // an end that was not told, begins again with what Docker has.
        self.phases.clear();
        self.incarnation += 1;
        self.core = start(self.incarnation, self.now);
        self.wake_at = Some(self.now);
        self.report_docker();
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Order(number) => self.order(number),
            Happening::Stop(number, drain_ms) => self.stop(web(number).id, drain_ms),
            Happening::Pass(ms) => self.pass(ms.into()),
            Happening::Answer(index, fate) => {
                let index = usize::from(index) % self.open.len().max(1);
                self.answer(index, fate);
            }
            Happening::Die(number, code) => {
                if let Some(id) = self.nth(number, ContainerState::Running) {
                    self.die(&id, code.into());
                }
            }
            Happening::Remove(number) => {
                if let Some(id) = self.containers.keys().nth(number.into()).cloned() {
                    self.destroy(&id);
                }
            }
            Happening::Revive(number) => {
                if let Some(id) = self.nth(number, ContainerState::Ended) {
                    if let Some(container) = self.containers.get_mut(&id) {
                        container.state = ContainerState::Running;
                    }
                    self.event(&id, EventKind::Start);
                }
            }
            Happening::Docker(up) => {
                if self.docker_up != up {
                    self.docker_up = up;
                    self.report_docker();
                }
            }
            Happening::Scheduler(up) => self.scheduler_up = up,
            Happening::Prune => self.image_present = false,
            Happening::Restart => self.restart(),
        }
    }

    /// Faults stop and every action succeeds, for so long.
    fn calm(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            for _ in 0..1_000 {
                if self.open.is_empty() {
                    break;
                }
                self.answer(0, Fate::Done);
            }
            assert!(self.open.is_empty(), "never done: {:?}", self.open);
            self.pass(100);
        }
    }

    fn settle(&mut self) {
        self.scheduler_up = true;
        self.docker_up = true;
        self.calmed = true;
        self.report_docker();
        self.calm(300_000);
        assert!(self.core.is_settled(), "{:#?}", self.core.snapshot());

        let snapshot = self.core.snapshot();
        for told in &snapshot.containers {
            assert!(!self.stopped.contains(&told.id), "{} was stopped", told.id);
            if told.phase == Phase::Running {
                let made = self.containers.get(&told.container_id).expect("what runs exists");
                assert_eq!(made.state, ContainerState::Running);
            }
        }
        for (id, made) in &self.containers {
            let told = snapshot.containers.iter().find(|told| told.container_id == *id);
            let told = told.unwrap_or_else(|| panic!("{} is nobody's", made.order.id));
            assert_eq!(
                made.state == ContainerState::Running,
                told.phase == Phase::Running,
                "{} is {:?} and said to be {:?}",
                told.id,
                made.state,
                told.phase
            );
        }
        // From now on: heartbeats, listings and probes, and nothing else.
        let (before, start) = (self.actions, self.now);
        self.calm(60_000);
        let probed = snapshot.containers.iter().filter(|told| told.phase == Phase::Running).count();
        let most = 23 + 5 + 13 * probed as u64;
        let actions = self.actions - before;
        assert!(actions <= most, "{actions} actions in {} ms of quiet", self.now - start);
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    let fate = prop_oneof![
        6 => Just(Fate::Done),
        1 => Just(Fate::Failed),
        1 => Just(Fate::DoneUnanswered),
        1 => Just(Fate::Lost),
    ];
    prop_oneof![
        6 => (0..12u8).prop_map(Happening::Order),
        3 => (0..12u8, prop_oneof![Just(0), 0..3_000u16]).prop_map(|(n, ms)| Happening::Stop(n, ms)),
        6 => (0..8_000u16).prop_map(Happening::Pass),
        16 => (any::<u8>(), fate).prop_map(|(n, fate)| Happening::Answer(n, fate)),
        3 => (0..8u8, 0..3u8).prop_map(|(n, code)| Happening::Die(n, code)),
        1 => (0..8u8).prop_map(Happening::Remove),
        1 => (0..8u8).prop_map(Happening::Revive),
        2 => any::<bool>().prop_map(Happening::Docker),
        2 => any::<bool>().prop_map(Happening::Scheduler),
        1 => Just(Happening::Prune),
        1 => Just(Happening::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_it_keeps_its_promises_and_settles(
        happenings in prop::collection::vec(happening(), 0..120)
    ) {
        let mut sim = Sim::new();
        for happening in happenings {
            sim.happen(happening);
        }
        sim.settle();
    }
}
