//! The world: everything there is, and what is going to happen in it. Each file
//! beside this one adds what one kind of thing does.

use std::collections::BTreeMap;

use kube_lite::model::wire::OrderAccepted;
use kube_lite::model::{ApiError, Timing};
use kube_lite::roles::agent::message::{DockerReport, Input as AgentInput};
use kube_lite::roles::scheduler::message::{Order, Reply, UserCall};

use crate::agent::{CallBody, Machine};
use crate::clock::{Queue, Time};
use crate::docker::{Daemon, Job, News, Stage};
use crate::faults::{Faults, Mend};
use crate::judge::Judge;
use crate::network::Network;
use crate::rng::Rng;
use crate::scheduler::Scheduler;
use crate::setup::Setup;
use crate::trace::Trace;
use crate::users::Users;

/// Something that is going to happen. Numbers are indexes of machines and daemons,
/// and lives of processes: what is meant for a life that is over comes to nothing.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Event {
    /// A message arrives.
    Arrives(Packet),
    /// The scheduler takes a batch of inputs, if this is still its life.
    SchedulerRuns { life: u64 },
    /// The scheduler wanted to be woken.
    SchedulerWakes { life: u64, at: Time },
    /// A batch is on the disk.
    Committed { life: u64 },
    /// The scheduler's process is started.
    SchedulerStarts,
    /// An order got no answer in time.
    OrderTimesOut { life: u64, number: u64 },
    /// An agent's process is started.
    AgentStarts { machine: usize },
    /// An agent wanted to be woken.
    AgentWakes { machine: usize, life: u64, at: Time },
    /// A call to the scheduler got no answer in time.
    CallTimesOut { machine: usize, life: u64, call: u64 },
    /// An agent's shell is told what it waited for.
    Outcome { machine: usize, life: u64, job: Option<u64>, input: AgentInput },
    /// An agent looks for its Docker daemon.
    Meets { machine: usize, life: u64 },
    /// An agent notices how its Docker daemon is.
    Notices { machine: usize, life: u64, stream: u64, report: DockerReport },
    /// Docker's event stream brings news.
    Streams { machine: usize, life: u64, stream: u64, news: News },
    /// Docker does the next part of what it was asked.
    Docker { job: u64, stage: Stage },
    /// A process in a container ends.
    Ends { daemon: usize, container: String, run: u32, code: i64 },
    /// A person does something.
    UserActs,
    /// A person stops waiting for an answer.
    UserGivesUp { op: u64 },
    /// Something breaks.
    Strikes,
    /// What broke is whole again.
    Mends(Mend),
}

/// A message on its way.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Packet {
    /// An agent calls the scheduler.
    Call { machine: usize, life: u64, call: u64, body: Box<CallBody> },
    /// The scheduler answers; `None`: nobody listens.
    CallAnswer { machine: usize, life: u64, call: u64, answer: Option<Result<Reply, ApiError>> },
    /// The scheduler orders.
    Order { life: u64, number: u64, order: Box<Order> },
    /// An agent answers.
    OrderAnswer { life: u64, number: u64, answer: Option<Result<OrderAccepted, ApiError>> },
    /// A person asks.
    Ask { op: u64, call: Box<UserCall> },
    /// The scheduler answers a person; `None`: nobody listens.
    Told { op: u64, answer: Option<Result<Reply, ApiError>> },
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// Time.
    pub now: Time,
    /// What is going to happen.
    pub queue: Queue<Event>,
    /// Chance of latencies and draws.
    pub rng: Rng,
    /// What the seed has decided beforehand.
    pub setup: Setup,
    /// Every constant of the cores.
    pub timing: Timing,
    /// The network.
    pub network: Network,
    /// The scheduler, its disk and its process.
    pub scheduler: Scheduler,
    /// Machines with agents.
    pub machines: Vec<Machine>,
    /// Docker daemons.
    pub daemons: Vec<Daemon>,
    /// What Docker was asked to do and has not answered.
    pub jobs: BTreeMap<u64, Job>,
    /// People.
    pub users: Users,
    /// What is broken, and what will be.
    pub faults: Faults,
    /// Who watches that what must hold holds.
    pub judge: Judge,
    /// What is told.
    pub trace: Trace,
    /// Steps of both cores so far.
    pub steps: u64,
    numbers: u64,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(setup: Setup, mut rng: Rng, trace: Trace) -> Self {
        let users = Users::new(&setup, rng.fork());
        let faults = Faults::new(&setup, rng.fork());
        let mut world = Self {
            now: 1_000,
            queue: Queue::new(),
            rng,
            timing: Timing::default(),
            network: Network::default(),
            scheduler: Scheduler::new(),
            machines: Vec::new(),
            daemons: Vec::new(),
            jobs: BTreeMap::new(),
            users,
            faults,
            judge: Judge::default(),
            trace,
            steps: 0,
            numbers: 0,
            setup,
        };
        world.scheduler.disk.tape = world.setup.tapes.then(Vec::new);
        world.set_up();
        world
    }

    /// A number that was never given out: of a life, a call, a job, a stream.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// This happens so much later.
    pub fn plan(&mut self, after: u64, event: Event) {
        self.queue.plan(self.now + after, event);
    }

    /// Lets the next thing happen, unless it is later than `until`. False when
    /// nothing does any more.
    pub fn tick(&mut self, until: Time) -> bool {
        match self.queue.next_at() {
            Some(at) if at <= until => {
                let Some((at, event)) = self.queue.pop() else { return false };
                self.now = self.now.max(at);
                self.happens(event);
                true
            }
            _ => {
                self.now = until;
                false
            }
        }
    }

    /// Lets time pass.
    pub fn run_until(&mut self, until: Time) {
        while self.judge.is_content() && self.tick(until) {}
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives(packet) => self.arrives(packet),
            Event::SchedulerRuns { life } => self.scheduler_runs(life),
            Event::SchedulerWakes { life, at } => self.scheduler_wakes(life, at),
            Event::Committed { life } => self.committed(life),
            Event::SchedulerStarts => self.scheduler_starts(),
            Event::OrderTimesOut { life, number } => {
                self.order_answered(life, number, None, "not answered within 5 s");
            }
            Event::AgentStarts { machine } => self.agent_starts(machine),
            Event::AgentWakes { machine, life, at } => self.agent_wakes(machine, life, at),
            Event::CallTimesOut { machine, life, call } => {
                self.call_answered(machine, life, call, None, "not answered within 3 s");
            }
            Event::Outcome { machine, life, job, input } => {
                self.outcome(machine, life, job, input);
            }
            Event::Meets { machine, life } => self.meets(machine, life),
            Event::Notices { machine, life, stream, report } => {
                self.notices(machine, life, stream, report);
            }
            Event::Streams { machine, life, stream, news } => {
                self.streams(machine, life, stream, news);
            }
            Event::Docker { job, stage } => self.docker_does(job, stage),
            Event::Ends { daemon, container, run, code } => {
                self.process_ends(daemon, &container, run, code);
            }
            Event::UserActs => self.user_acts(),
            Event::UserGivesUp { op } => self.user_gives_up(op),
            Event::Strikes => self.strikes(),
            Event::Mends(mend) => self.mends(mend),
        }
    }
}
