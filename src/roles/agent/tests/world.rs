//! A core with everything around it played by the test: time passes when the
//! test says so, and every action waits until the test answers it.

use serde_json::{Value, json};

use crate::model::wire::{
    Fence, HeartbeatRequest, HeartbeatResponse, OrderAccepted, RegisterResponse, RunOrder,
    RunRequest, StopRequest,
};
use crate::model::{ApiError, ContainerInstance, Phase, PublishedPort, Reason, Timing};
use crate::roles::agent::core::{AgentCore, Identity};
use crate::roles::agent::launch::launch;
use crate::roles::agent::message::*;

pub const CLUSTER: &str = "c1";
pub const NODE: &str = "n1";
pub const INCARNATION: u64 = 7;
pub const EPOCH: u64 = 3;
/// Unix milliseconds at which the monotonic clock reads 0.
pub const WALL: u64 = 1_700_000_000_000;

pub struct World {
    pub core: AgentCore,
    pub now: Millis,
    /// The scheduler takes reports that nothing has changed, and of what has.
    pub digests: bool,
    pub changes: bool,
    /// The scheduler does not take the next one in.
    pub not_taken: bool,
    /// What each step draws.
    pub draw: u64,
    pub wake_at: Option<Millis>,
    /// Actions nobody has answered yet, in order. Heartbeats are answered at once
    /// while `scheduler_up`.
    pub open: Vec<Action>,
    pub last_beat: Option<HeartbeatRequest>,
    pub scheduler_up: bool,
    tickets: Ticket,
    beats: u64,
}

pub fn identity() -> Identity {
    Identity {
        node: NODE.into(),
        key: "k".into(),
        incarnation: INCARNATION,
        advertise: None,
        port: 8081,
        version: "test".into(),
    }
}

pub fn remembered() -> Remembered {
    Remembered { cluster: CLUSTER.into(), bind_ip: "127.0.0.1".parse().unwrap() }
}

pub fn order(id: &str, template: Value) -> RunOrder {
    let mut whole = json!({"image": "hello:1"});
    for (name, value) in template.as_object().unwrap() {
        whole[name] = value.clone();
    }
    serde_json::from_value(
        json!({"id": id, "workload": "web", "revision": 1, "replica": 0, "template": whole}),
    )
    .unwrap()
}

pub fn facts(container_id: &str, state: ContainerState) -> Facts {
    let running = state == ContainerState::Running;
    Facts {
        container_id: container_id.into(),
        state,
        exit_code: (state == ContainerState::Ended).then_some(1),
        started_at_ms: (state != ContainerState::Created).then_some(WALL),
        ip: running.then(|| "172.17.0.2".into()),
        ports: if running { vec![published()] } else { Vec::new() },
        ..Facts::default()
    }
}

pub fn published() -> PublishedPort {
    PublishedPort { container_port: 80, host_port: 32_768, protocol: Default::default() }
}

/// A container as a listing shows it, made from `order` by an agent like this.
pub fn observed(order: &RunOrder, facts: Facts) -> Observed {
    let made = launch(order, &CLUSTER.into(), &NODE.into(), "127.0.0.1".parse().unwrap());
    Observed { name: made.id.to_string(), image: made.image, labels: made.labels, facts }
}

pub fn fence() -> Fence {
    Fence { cluster: CLUSTER.into(), node: NODE.into(), incarnation: INCARNATION, epoch: EPOCH }
}

impl World {
    /// An agent that was just started and has met nobody.
    pub fn new() -> Self {
        Self::with(Timing::default(), Some(remembered()))
    }

    pub fn with(timing: Timing, remembered: Option<Remembered>) -> Self {
        let mut world = Self {
            core: AgentCore::new(identity(), timing, remembered, 0),
            now: 0,
            digests: false,
            changes: false,
            not_taken: false,
            draw: 0,
            wake_at: Some(0),
            open: Vec::new(),
            last_beat: None,
            scheduler_up: true,
            tickets: 0,
            beats: 0,
        };
        world.give(Input::Tick);
        world
    }

    /// Registered, Docker fine, and nothing on the node.
    pub fn ready() -> Self {
        Self::ready_with(Vec::new())
    }

    /// Registered, Docker fine, and these containers on the node.
    pub fn ready_with(containers: Vec<Observed>) -> Self {
        let mut world = Self::new();
        world.register();
        world.docker_ok();
        world.listed(containers);
        world
    }

    pub fn register(&mut self) {
        self.take(|action| matches!(action, Action::Register(_)));
        self.give(Input::Registered(Ok(Registration {
            response: RegisterResponse {
                cluster: CLUSTER.into(),
                epoch: EPOCH,
                address: "127.0.0.1:8081".into(),
            },
            bind_ip: "127.0.0.1".parse().unwrap(),
        })));
    }

    pub fn docker_ok(&mut self) {
        self.give(Input::Docker(DockerReport::Ok { daemon: "d1".into() }));
    }

    /// Answers the listing under way.
    pub fn listed(&mut self, containers: Vec<Observed>) {
        let listing =
            self.take(|action| matches!(action, Action::Docker(DockerAction::List { .. })));
        let Action::Docker(DockerAction::List { number, .. }) = listing else { unreachable!() };
        self.give(Input::Listed { number, outcome: Ok(containers) });
    }

    /// Has Docker list everything, and answers.
    pub fn resync(&mut self, containers: Vec<Observed>) {
        self.docker_ok();
        self.listed(containers);
    }

    /// Takes one step. Heartbeats are answered at once, or are lost.
    pub fn give(&mut self, input: Input) -> Vec<(Ticket, Result<OrderAccepted, ApiError>)> {
        let moment = Moment { now_ms: self.now, wall_ms: WALL + self.now, draw: self.draw };
        let step = self.core.step(moment, input);
        self.wake_at = step.wake_at;
        let mut replies = step.replies;
        for action in step.actions {
            let Action::Heartbeat(beat) = action else {
                self.open.push(action);
                continue;
            };
            let seq = beat.seq;
            self.beats += 1;
            self.last_beat = Some(*beat);
            let taken = seq - u64::from(std::mem::take(&mut self.not_taken));
            let outcome = match self.scheduler_up {
                true => Ok(HeartbeatResponse {
                    epoch: EPOCH,
                    seq: taken,
                    digests: self.digests,
                    changes: self.changes,
                }),
                false => Err(CallError::Unreachable("connection refused".into())),
            };
            replies.extend(self.give(Input::Beat { seq, outcome }));
        }
        replies
    }

    /// Lets time pass, waking the core whenever it asked for it.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.now = at;
            self.give(Input::Tick);
        }
        self.now = end;
        self.give(Input::Tick);
    }

    pub fn run(&mut self, order: &RunOrder) -> Result<OrderAccepted, ApiError> {
        self.run_fenced(order, fence())
    }

    pub fn run_fenced(
        &mut self,
        order: &RunOrder,
        fence: Fence,
    ) -> Result<OrderAccepted, ApiError> {
        let request = Box::new(RunRequest { fence, order: order.clone() });
        self.tickets += 1;
        let ticket = self.tickets;
        self.answer(Input::Run { ticket, request })
    }

    pub fn stop(&mut self, id: &str, drain_ms: u64) -> Result<OrderAccepted, ApiError> {
        let request = StopRequest { fence: fence(), drain_ms, why: "scaled down".into() };
        self.tickets += 1;
        let ticket = self.tickets;
        self.answer(Input::Stop { ticket, id: id.into(), request })
    }

    fn answer(&mut self, input: Input) -> Result<OrderAccepted, ApiError> {
        let ticket = self.tickets;
        let mut replies = self.give(input);
        assert_eq!(replies.len(), 1, "one answer per order");
        let (to, reply) = replies.remove(0);
        assert_eq!(to, ticket);
        reply
    }

    /// Removes the first open action that matches and returns it.
    pub fn take(&mut self, matches: impl Fn(&Action) -> bool) -> Action {
        match self.open.iter().position(matches) {
            Some(index) => self.open.remove(index),
            None => panic!("no such action is open, but: {:#?}", self.open),
        }
    }

    /// Nothing is waiting for an answer.
    pub fn assert_idle(&self) {
        assert_eq!(self.open, [], "actions nobody expected");
    }

    pub fn take_docker(&mut self, action: DockerAction) {
        self.take(|open| *open == Action::Docker(action.clone()));
    }

    pub fn take_launch(&mut self, id: &str) -> Launch {
        let action = self.take(|action| {
            matches!(action, Action::Docker(DockerAction::Launch(launch)) if launch.id.as_str() == id)
        });
        let Action::Docker(DockerAction::Launch(launch)) = action else { unreachable!() };
        *launch
    }

    pub fn take_probe(&mut self) -> Probe {
        let action = self.take(|action| matches!(action, Action::Probe(_)));
        let Action::Probe(probe) = action else { unreachable!() };
        probe
    }

    pub fn image_checked(&mut self, present: bool) {
        let image = "hello:1".to_owned();
        self.take_docker(DockerAction::CheckImage { image: image.clone() });
        self.give(Input::ImageChecked { image, outcome: Ok(present) });
    }

    /// Answers a launch: the container runs, as `c-<id>`.
    pub fn launched(&mut self, id: &str) {
        self.take_launch(id);
        let outcome = LaunchOutcome::Started(facts(&format!("c-{id}"), ContainerState::Running));
        self.give(Input::Launched { id: id.into(), outcome });
    }

    pub fn launch_failed(&mut self, id: &str, reason: Reason) {
        self.take_launch(id);
        let outcome =
            LaunchOutcome::Failed { reason, message: "docker said no".into(), left_over: None };
        self.give(Input::Launched { id: id.into(), outcome });
    }

    /// Orders and starts, with an image that is there.
    pub fn start(&mut self, order: &RunOrder) {
        self.run(order).unwrap();
        let checks =
            |action: &Action| matches!(action, Action::Docker(DockerAction::CheckImage { .. }));
        if self.open.iter().any(checks) {
            self.image_checked(true);
        }
        self.launched(order.id.as_str());
    }

    pub fn event(&mut self, id: &str, kind: EventKind) {
        let (container_id, cluster) = (format!("c-{id}"), CLUSTER.into());
        let event = ContainerEvent { container_id, cluster, id: id.into(), kind };
        self.give(Input::Event(event));
    }

    pub fn dies(&mut self, id: &str, exit_code: i64) {
        self.event(id, EventKind::Die { exit_code });
    }

    /// Answers the stop of `id`'s container, with its `die` event first.
    pub fn stopped(&mut self, id: &str, grace_seconds: u32) {
        let container_id = format!("c-{id}");
        self.take_docker(DockerAction::Stop { container_id: container_id.clone(), grace_seconds });
        self.dies(id, 143);
        self.give(Input::Stopped { container_id, outcome: Ok(()) });
    }

    pub fn removed(&mut self, id: &str) {
        let container_id = format!("c-{id}");
        self.take_docker(DockerAction::Remove { container_id: container_id.clone() });
        self.give(Input::Removed { container_id, outcome: Ok(()) });
    }

    /// What the core would report about an instance now.
    pub fn see(&self, id: &str) -> Option<ContainerInstance> {
        self.core.snapshot().containers.into_iter().find(|instance| instance.id.as_str() == id)
    }

    pub fn phase(&self, id: &str) -> Option<Phase> {
        self.see(id).map(|instance| instance.phase)
    }

    pub fn reason(&self, id: &str) -> Option<Reason> {
        self.see(id).and_then(|instance| instance.reason)
    }

    pub fn ids(&self) -> Vec<String> {
        self.core.instance_ids().map(ToString::to_string).collect()
    }

    /// How many heartbeats went out so far.
    pub fn beats(&self) -> u64 {
        self.beats
    }
}
