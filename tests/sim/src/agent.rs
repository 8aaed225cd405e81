//! A machine with an agent on it: the real core in a shell that does what
//! `roles/agent/driver.rs` does, and that can die at every step of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use kube_lite::model::wire::{
    HeartbeatRequest, OrderAccepted, RegisterRequest, RunRequest, StopRequest,
};
use kube_lite::model::{ApiError, InstanceId, NodeId};
use kube_lite::roles::agent::core::{AgentCore, Identity};
use kube_lite::roles::agent::message::{
    Action, CallError, Ending, Facts, Input, Moment, Registration, Remembered, Step, Ticket,
};
use kube_lite::roles::scheduler::message::Reply;

use crate::clock::{Monotonic, Time};
use crate::network::Link;
use crate::world::{Event, Packet, World};
use crate::{mutter, tell};

/// A call to the scheduler that takes longer has failed.
const CALL_MS: u64 = 3_000;
/// The port agents listen on.
const PORT: u16 = 8081;

/// Where an agent's process dies next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// In the middle of what one step asked for.
    Acting,
    /// It has noted an order, and did not answer it yet.
    Noted,
    /// Docker has done something, and it was not told yet.
    Done,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// The name its agent claims.
    pub node: NodeId,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its agent's data directory.
    pub home: Home,
    /// Which Docker daemon it uses.
    pub daemon: usize,
    /// Its way to the scheduler.
    pub link: Link,
    /// It is on.
    pub powered: bool,
    /// It says where it wants to be reached, rather than letting the scheduler see.
    pub advertises: bool,
    /// It was a mistake: a clone of another one.
    pub clone: bool,
    /// It never comes back.
    pub destroyed: bool,
    /// Its agent, while it runs.
    pub agent: Option<Process>,
    /// Where that dies, if it is to.
    pub dies_at: Option<CrashPoint>,
    /// For how long it is down then.
    pub down_ms: u64,
    /// Its agent was told that another one has taken over.
    pub superseded: bool,
}

/// What an agent keeps on its disk.
#[derive(Clone, Debug)]
pub struct Home {
    /// Its secret.
    pub key: String,
    /// The cluster it belongs to, as written.
    pub remembered: Option<String>,
}

/// An agent's process.
#[derive(Debug)]
pub struct Process {
    /// Which life of it.
    pub life: u64,
    /// The same, as others know it.
    pub incarnation: u64,
    /// What decides.
    pub core: AgentCore,
    clock: Monotonic,
    /// What reaches it while it gets no steps.
    inbox: VecDeque<Input>,
    /// It gets no steps.
    pub frozen: bool,
    wake_at: Option<Time>,
    calls: BTreeMap<u64, Call>,
    tickets: Ticket,
    waiting: BTreeMap<Ticket, (u64, u64)>,
    /// How it hears of its Docker daemon.
    pub watch: Watch,
    /// What Docker said of containers in this state; see `docker/list.rs`.
    pub seen: BTreeMap<String, Facts>,
    /// Launches that Docker works on, and those that wait for their turn.
    pub launches: (usize, VecDeque<u64>),
    /// What this life has promised and done.
    pub record: Record,
}

/// What one life of an agent has promised and done, for the judge.
#[derive(Debug, Default)]
pub struct Record {
    /// Orders to run that were accepted and whose end was not acknowledged.
    pub owed: BTreeSet<InstanceId>,
    /// Those whose end was acknowledged: an order repeated after that promises nothing.
    pub acknowledged_over: BTreeSet<InstanceId>,
    /// Reported as over, in this snapshot.
    pub told_over: BTreeMap<InstanceId, u64>,
    /// Orders to stop that were accepted.
    pub stopped: BTreeSet<InstanceId>,
    /// Ids that came back as refused because they are over.
    pub forgotten: BTreeSet<InstanceId>,
    /// Instances that have a successor.
    pub replaced: BTreeSet<InstanceId>,
    /// What there was as of the last report.
    pub listed: BTreeSet<InstanceId>,
    /// The same as of each report that a later one may refer to.
    pub reports: BTreeMap<u64, BTreeSet<InstanceId>>,
    /// Launches in flight.
    pub launching: BTreeSet<InstanceId>,
}

/// The connection to a Docker daemon's event stream.
#[derive(Debug, Default)]
pub struct Watch {
    /// Which connection; none while it looks for the daemon.
    pub stream: Option<u64>,
    /// What it brings last arrives then.
    pub last_at: Time,
    /// It has said that the daemon hangs.
    pub said_hung: bool,
}

#[derive(Debug)]
enum Call {
    Register,
    Heartbeat(u64),
}

/// What an agent says to the scheduler.
#[derive(Clone, Debug)]
pub enum CallBody {
    /// `POST /register`.
    Register(RegisterRequest),
    /// `POST /heartbeat`.
    Heartbeat(HeartbeatRequest),
}

impl Machine {
    /// Where its agent is reached.
    pub fn address(&self) -> String {
        format!("{}:{PORT}", self.ip)
    }

    /// Whether somebody is there to hear a message.
    pub fn hears(&self) -> bool {
        self.powered && self.agent.is_some()
    }
}

impl World {
    /// How a machine is called in the story.
    pub fn name_of(&self, machine: usize) -> String {
        let known = &self.machines[machine];
        let tick = if known.clone { "'" } else { "" };
        format!("agent {}{tick}", known.node)
    }

    fn process(&mut self, machine: usize, life: u64) -> Option<&mut Process> {
        self.machines[machine].agent.as_mut().filter(|process| process.life == life)
    }

    // ---- its life ----

    /// A new life of the agent on this machine.
    pub fn agent_starts(&mut self, machine: usize) {
        let life = self.number();
        let incarnation = self.rng.draw() >> 11;
        let name = self.name_of(machine);
        let here = &self.machines[machine];
        if here.agent.is_some() || !here.powered || here.superseded || here.destroyed {
            return;
        }
        let remembered = match &here.home.remembered {
            None => None,
            Some(text) => match serde_json::from_str::<Remembered>(text) {
                Ok(remembered) => Some(remembered),
                Err(error) => {
                    return self
                        .judge
                        .object("wire", format!("{name} cannot read {text}: {error}"));
                }
            },
        };
        let identity = Identity {
            node: here.node.clone(),
            key: here.home.key.clone(),
            incarnation,
            advertise: here.advertises.then(|| here.address()),
            port: PORT,
            version: "sim".to_owned(),
        };
        tell!(self, name, "starts, incarnation {incarnation}");
        self.judge.agent_is_new(machine);
        let core = AgentCore::new(identity, self.timing.clone(), remembered, 0);
        self.machines[machine].agent = Some(Process {
            life,
            incarnation,
            core,
            clock: Monotonic::start(self.now, 0),
            inbox: VecDeque::new(),
            frozen: false,
            wake_at: None,
            calls: BTreeMap::new(),
            tickets: 0,
            waiting: BTreeMap::new(),
            watch: Watch::default(),
            seen: BTreeMap::new(),
            launches: (0, VecDeque::new()),
            record: Record::default(),
        });
        let meets_after = self.rng.range(1, 8);
        self.plan(meets_after, Event::Meets { machine, life });
        self.agent_input(machine, Input::Tick);
    }

    /// kill -9, or the power is gone.
    pub fn agent_dies(&mut self, machine: usize, when: &str) {
        let name = self.name_of(machine);
        let here = &mut self.machines[machine];
        here.dies_at = None;
        let Some(process) = here.agent.take() else { return };
        let (down_ms, life) = (here.down_ms, process.life);
        tell!(self, name, "is killed {when}");
        for job in self.jobs.values_mut().filter(|job| job.life == life) {
            job.client_left = true;
        }
        self.plan(down_ms, Event::AgentStarts { machine });
    }

    /// SIGSTOP.
    pub fn freeze_agent(&mut self, machine: usize) {
        if let Some(process) = &mut self.machines[machine].agent {
            process.frozen = true;
        }
    }

    /// SIGCONT; its clock has stood still for so long.
    pub fn thaw_agent(&mut self, machine: usize, slept_ms: u64) {
        let Some(process) = &mut self.machines[machine].agent else { return };
        if !process.frozen {
            return;
        }
        process.frozen = false;
        process.clock.stand_still(slept_ms);
        let (life, inputs) = (process.life, std::mem::take(&mut process.inbox));
        for input in inputs {
            if self.process(machine, life).is_some() {
                self.agent_input(machine, input);
            }
        }
        if self.process(machine, life).is_some() {
            self.agent_input(machine, Input::Tick);
        }
    }

    // ---- a step ----

    /// A deadline of its own.
    pub fn agent_wakes(&mut self, machine: usize, life: u64, at: Time) {
        let Some(process) = self.process(machine, life) else { return };
        if process.wake_at == Some(at) && !process.frozen {
            process.wake_at = None;
            self.agent_input(machine, Input::Tick);
        }
    }

    /// What it waited for.
    pub fn outcome(&mut self, machine: usize, life: u64, job: Option<u64>, input: Input) {
        if let Some(job) = job {
            self.jobs.remove(&job);
        }
        if self.process(machine, life).is_none() {
            return;
        }
        if job.is_some() && self.machines[machine].dies_at == Some(CrashPoint::Done) {
            return self.agent_dies(machine, "before Docker's answer reached it");
        }
        if let Input::Launched { id, .. } = &input
            && let Some(process) = self.process(machine, life)
        {
            process.record.launching.remove(id);
        }
        self.agent_input(machine, input);
    }

    /// One step of its core.
    pub fn agent_input(&mut self, machine: usize, input: Input) {
        let now = self.now;
        let wall_ms = self.daemons[self.machines[machine].daemon].wall.read(now);
        let draw = self.rng.draw();
        let Some(process) = &mut self.machines[machine].agent else { return };
        if process.frozen {
            return process.inbox.push_back(input);
        }
        self.steps += 1;
        let now_ms = process.clock.read(now);
        if self.trace.wants(crate::trace::Detail::Everything) {
            let name = format!("agent {}", self.machines[machine].node);
            self.trace.line(now, &name, format_args!("takes {input:?}"));
        }
        let Some(process) = &mut self.machines[machine].agent else { return };
        let life = process.life;
        let step = process.core.step(Moment { now_ms, wall_ms, draw }, input);
        let wake_at = step.wake_at.map(|at| process.clock.when(at, now));
        if wake_at != process.wake_at {
            process.wake_at = wake_at;
            if let Some(at) = wake_at {
                self.queue.plan(at, Event::AgentWakes { machine, life, at });
            }
        }
        self.carry_out(machine, life, step);
    }

    fn carry_out(&mut self, machine: usize, life: u64, step: Step) {
        let Step { actions, replies, .. } = step;
        if !replies.is_empty() && self.machines[machine].dies_at == Some(CrashPoint::Noted) {
            return self.agent_dies(machine, "between noting an order and answering");
        }
        for (ticket, reply) in replies {
            self.agent_answers(machine, life, ticket, reply);
        }
        let survives = match self.machines[machine].dies_at {
            Some(CrashPoint::Acting) if !actions.is_empty() => {
                self.rng.below(actions.len() as u64) as usize
            }
            _ => usize::MAX,
        };
        for (number, action) in actions.into_iter().enumerate() {
            if number == survives {
                return self.agent_dies(machine, "in the middle of acting");
            }
            self.act(machine, life, action);
        }
    }

    fn act(&mut self, machine: usize, life: u64, action: Action) {
        match action {
            Action::Register(request) => {
                self.agent_calls(machine, life, Call::Register, CallBody::Register(*request));
            }
            Action::Heartbeat(request) => {
                self.judge_heartbeat(machine, &request);
                let call = Call::Heartbeat(request.seq);
                self.agent_calls(machine, life, call, CallBody::Heartbeat(*request));
            }
            Action::Docker(action) => self.ask_docker(machine, life, action),
            Action::Probe(probe) => self.probe(machine, life, probe),
            Action::Remember(remembered) => {
                let text = serde_json::to_string(&remembered).unwrap_or_default();
                self.machines[machine].home.remembered = Some(text);
            }
            Action::Halt(ending) => {
                let name = self.name_of(machine);
                tell!(self, name, "ends: {ending:?}");
                let here = &mut self.machines[machine];
                here.agent = None;
                here.superseded = matches!(ending, Ending::Superseded(_));
                for job in self.jobs.values_mut().filter(|job| job.life == life) {
                    job.client_left = true;
                }
            }
        }
    }

    // ---- calls to the scheduler ----

    fn agent_calls(&mut self, machine: usize, life: u64, call: Call, body: CallBody) {
        let number = self.number();
        let Some(process) = self.process(machine, life) else { return };
        process.calls.insert(number, call);
        self.plan(CALL_MS, Event::CallTimesOut { machine, life, call: number });
        self.send_up(machine, Packet::Call { machine, life, call: number, body: Box::new(body) });
    }

    /// What came of a call; the first answer counts.
    pub fn call_answered(
        &mut self,
        machine: usize,
        life: u64,
        call: u64,
        answer: Option<Result<Reply, ApiError>>,
        otherwise: &str,
    ) {
        let Some(process) = self.process(machine, life) else { return };
        let Some(call) = process.calls.remove(&call) else { return };
        let failed = |answer: Option<Result<Reply, ApiError>>| match answer {
            Some(Err(error)) => CallError::Refused { status: error.status, message: error.error },
            _ => CallError::Unreachable(otherwise.to_owned()),
        };
        let input = match (call, answer) {
            (Call::Register, Some(Ok(Reply::Registered(response)))) => {
                let host = response.address.rsplit_once(':').map_or("", |(host, _)| host);
                let bind_ip = host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                Input::Registered(Ok(Registration { response, bind_ip }))
            }
            (Call::Register, answer) => Input::Registered(Err(failed(answer))),
            (Call::Heartbeat(seq), Some(Ok(Reply::Beat(response)))) => {
                if response.seq >= seq {
                    process.record.acknowledged(seq);
                }
                Input::Beat { seq, outcome: Ok(response) }
            }
            (Call::Heartbeat(seq), answer) => Input::Beat { seq, outcome: Err(failed(answer)) },
        };
        if let Input::Registered(Err(error)) | Input::Beat { outcome: Err(error), .. } = &input {
            let name = self.name_of(machine);
            mutter!(self, name, "the scheduler did not take it: {error:?}");
        }
        self.agent_input(machine, input);
    }

    // ---- orders ----

    /// `POST /run`.
    pub fn agent_ordered_to_run(
        &mut self,
        machine: usize,
        life: u64,
        number: u64,
        request: RunRequest,
    ) {
        let Some(process) = &mut self.machines[machine].agent else { return };
        process.tickets += 1;
        let ticket = process.tickets;
        process.waiting.insert(ticket, (life, number));
        let (fence, replaces) = (request.fence.clone(), request.order.replaces.as_ref());
        self.judge.order_reaches(machine, ticket, fence, &request.order.id, replaces, true);
        self.agent_input(machine, Input::Run { ticket, request: Box::new(request) });
    }

    /// `POST /stop/{id}`.
    pub fn agent_ordered_to_stop(
        &mut self,
        machine: usize,
        life: u64,
        number: u64,
        id: InstanceId,
        request: StopRequest,
    ) {
        let Some(process) = &mut self.machines[machine].agent else { return };
        process.tickets += 1;
        let ticket = process.tickets;
        process.waiting.insert(ticket, (life, number));
        self.judge.order_reaches(machine, ticket, request.fence.clone(), &id, None, false);
        self.agent_input(machine, Input::Stop { ticket, id, request });
    }

    fn agent_answers(
        &mut self,
        machine: usize,
        own_life: u64,
        ticket: Ticket,
        reply: Result<OrderAccepted, ApiError>,
    ) {
        let name = self.name_of(machine);
        self.judge_answer(machine, ticket, &reply);
        let Some(process) = self.process(machine, own_life) else { return };
        let Some((life, number)) = process.waiting.remove(&ticket) else { return };
        match &reply {
            Ok(accepted) => tell!(self, name, "accepts the order for {}", accepted.id),
            Err(error) => tell!(self, name, "refuses an order: {}", error.error),
        }
        let reply = match reply {
            Ok(accepted) => Ok(self.over_the_wire("acceptance", accepted)),
            Err(error) => Err(self.error_over_the_wire(error)),
        };
        self.send_up(machine, Packet::OrderAnswer { life, number, answer: Some(reply) });
    }
}

impl Record {
    /// The scheduler has taken in snapshot `seq`.
    fn acknowledged(&mut self, seq: u64) {
        let (owed, over) = (&mut self.owed, &mut self.acknowledged_over);
        self.told_over.retain(|id, told| {
            let taken = *told <= seq;
            if taken {
                owed.remove(id);
                over.insert(id.clone());
            }
            !taken
        });
    }
}
