//! The scheduler's process: the real core in a shell that does what
//! `roles/scheduler/driver.rs` does, and that can die at every step of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use kube_lite::model::wire::{RunRequest, StopRequest};
use kube_lite::model::{ApiError, InstanceId, NodeId};
use kube_lite::planted::{Fault, planted};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::durable::{FORMAT, META, Meta, put};
use kube_lite::roles::scheduler::message::{
    Input, Moment, Order, OrderAnswer, OrderBody, OrderKind, Record, Reply, Ticket, UserCall,
};
use kube_lite::roles::scheduler::state::State;

use crate::agent::CallBody;
use crate::clock::{Monotonic, Time, Wall};
use crate::disk::Disk;
use crate::world::{Event, Packet, World};
use crate::{mutter, tell};

/// What a scheduler's clock shows when it starts; see `driver.rs`.
const LONG_AGO_MS: u64 = 10 * 365 * 24 * 3_600_000;
/// Inputs taken in one batch.
const BATCH: usize = 1024;
/// After the disk has refused, time alone makes it try again only then.
const DISK_RETRY_MS: u64 = 1_000;
/// The name of the cluster.
pub const CLUSTER: &str = "sim";

/// Where the process dies next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// It has decided, and nothing was written yet.
    Decided,
    /// While it writes: the disk has the batch or has not.
    Writing,
    /// It is written, and nobody was told.
    Written,
    /// Some were told, and some not.
    Telling,
    /// All were told, with orders among it.
    Told,
}

/// The scheduler's machine.
#[derive(Debug)]
pub struct Scheduler {
    /// What outlives the process.
    pub disk: Disk,
    /// What its wall clock shows.
    pub wall: Wall,
    /// The process, while it runs.
    pub process: Option<Process>,
    /// Where it dies, if it is to.
    pub dies_at: Option<CrashPoint>,
    /// For how long it is down then.
    pub down_ms: u64,
}

/// The process.
#[derive(Debug)]
pub struct Process {
    /// Which life of it.
    pub life: u64,
    /// What decides.
    pub core: Core,
    /// What readers see.
    pub published: State,
    clock: Monotonic,
    inbox: VecDeque<Input>,
    run_planned: bool,
    committing: Option<Batch>,
    /// It gets no steps.
    pub frozen: bool,
    /// It has had its first step.
    pub decides: bool,
    waiting: BTreeMap<Ticket, Caller>,
    tickets: Ticket,
    orders: BTreeMap<u64, Sent>,
    refused_at: Option<Time>,
    wake_at: Option<Time>,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    /// An agent.
    Agent {
        /// Its machine.
        machine: usize,
        /// Its life.
        life: u64,
        /// Its call.
        call: u64,
    },
    /// A person.
    Person {
        /// What was asked.
        op: u64,
    },
}

/// An order that is out.
#[derive(Debug)]
struct Sent {
    node: NodeId,
    id: InstanceId,
    kind: OrderKind,
    incarnation: u64,
}

/// What a batch of inputs came to.
#[derive(Debug)]
struct Batch {
    before: State,
    heard: Vec<(NodeId, u64)>,
    records: Vec<Record>,
    orders: Vec<Order>,
    replies: Vec<(Ticket, Result<Reply, ApiError>)>,
}

impl Scheduler {
    /// A machine with an empty disk.
    pub fn new() -> Self {
        Self {
            disk: Disk::default(),
            wall: Wall::default(),
            process: None,
            dies_at: None,
            down_ms: 0,
        }
    }

    /// What its core holds, while it runs.
    pub fn state(&self) -> Option<&State> {
        self.process.as_ref().map(|process| &process.core.state)
    }
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    // ---- what reaches it ----

    /// An agent calls.
    pub fn scheduler_called(&mut self, machine: usize, life: u64, call: u64, body: CallBody) {
        let peer: IpAddr = self.machines[machine].ip.into();
        let ticket = self.ticket(Caller::Agent { machine, life, call });
        let input = match body {
            CallBody::Register(request) => {
                let request = self.over_the_wire("registration", request);
                Input::Register { ticket, peer, request }
            }
            CallBody::Heartbeat(request) => {
                let request = self.over_the_wire("heartbeat", request);
                Input::Heartbeat { ticket, request }
            }
        };
        self.scheduler_input(input);
    }

    /// A person asks.
    pub fn scheduler_asked(&mut self, op: u64, call: UserCall) {
        let ticket = self.ticket(Caller::Person { op });
        self.scheduler_input(Input::User { ticket, by: "sim".to_owned(), call });
    }

    fn ticket(&mut self, caller: Caller) -> Ticket {
        let Some(process) = &mut self.scheduler.process else { return 0 };
        process.tickets += 1;
        process.waiting.insert(process.tickets, caller);
        process.tickets
    }

    fn scheduler_input(&mut self, input: Input) {
        let Some(process) = &mut self.scheduler.process else { return };
        process.inbox.push_back(input);
        self.scheduler_soon();
    }

    /// It has something to do.
    fn scheduler_soon(&mut self) {
        let Some(process) = &mut self.scheduler.process else { return };
        if !process.run_planned && !process.frozen && process.committing.is_none() {
            process.run_planned = true;
            let life = process.life;
            self.plan(0, Event::SchedulerRuns { life });
        }
    }

    /// A deadline of its own.
    pub fn scheduler_wakes(&mut self, life: u64, at: Time) {
        let Some(process) = &mut self.scheduler.process else { return };
        if process.life == life && process.wake_at == Some(at) {
            process.wake_at = None;
            self.scheduler_soon();
        }
    }

    // ---- a batch ----

    fn moment(&mut self) -> Moment {
        let now = self.now;
        let clock = self.scheduler.process.as_ref().map(|process| process.clock);
        Moment {
            now: clock.map_or(0, |clock| clock.read(now)),
            wall: self.scheduler.wall.read(now),
            draw: self.rng.draw(),
        }
    }

    /// Takes what has arrived, or the time.
    pub fn scheduler_runs(&mut self, life: u64) {
        let Some(process) = &mut self.scheduler.process else { return };
        if process.life != life {
            return;
        }
        process.run_planned = false;
        if process.frozen || process.committing.is_some() {
            return;
        }
        let count = process.inbox.len().min(BATCH);
        let mut inputs: Vec<Input> = process.inbox.drain(..count).collect();
        if inputs.is_empty() {
            inputs.push(Input::Tick);
        }
        let mut batch = Batch {
            before: process.core.state.clone(),
            heard: inputs.iter().filter_map(heard).collect(),
            records: Vec::new(),
            orders: Vec::new(),
            replies: Vec::new(),
        };
        let refuses = self.scheduler.disk.refuses_until > self.now;
        self.judge.may_roll_back(refuses);
        for input in inputs {
            self.decide(input, &mut batch);
        }
        if planted(Fault::AcknowledgedBeforeWritten) {
            for (ticket, reply) in std::mem::take(&mut batch.replies) {
                self.scheduler_answers(ticket, reply);
            }
        }
        if self.scheduler.dies_at == Some(CrashPoint::Decided) && !batch.records.is_empty() {
            return self.scheduler_dies("between deciding and writing");
        }
        if batch.records.is_empty() {
            self.judge.persisted(&self.scheduler);
            return self.release(batch);
        }
        if refuses {
            return self.roll_back(batch);
        }
        let takes = self.rng.range(1, 2) + self.scheduler.disk.slow_by_ms;
        if let Some(process) = &mut self.scheduler.process {
            process.committing = Some(batch);
        }
        if self.scheduler.dies_at == Some(CrashPoint::Writing) {
            return self.scheduler_dies("while writing");
        }
        self.plan(takes, Event::Committed { life });
    }

    fn decide(&mut self, input: Input, batch: &mut Batch) {
        let moment = self.moment();
        self.steps += 1;
        let Some(process) = &mut self.scheduler.process else { return };
        let before = process.core.state.clone();
        let visits = process.core.visits;
        let watched = self.judge.scheduler_hears(&before, moment, &input, &process.waiting);
        process.decides = true;
        let step = process.core.step(moment, input);
        let changed = visits != process.core.visits || !step.events.is_empty();
        if self.trace.wants(crate::trace::Detail::Story) {
            for event in &step.events {
                let (now, kind) = (self.now, &event.kind);
                self.trace.line(now, "scheduler", format_args!("{kind}: {}", event.message));
            }
        }
        self.judge_step(&before, moment, watched, &step, changed);
        batch.records.extend(step.records);
        batch.orders.extend(step.orders);
        batch.replies.extend(step.replies);
    }

    /// The batch is on the disk; now others may know.
    pub fn committed(&mut self, life: u64) {
        let Some(process) = &mut self.scheduler.process else { return };
        if process.life != life {
            return;
        }
        if process.frozen {
            // The disk is done; the process does not know yet.
            return self.plan(5, Event::Committed { life });
        }
        let Some(batch) = process.committing.take() else { return };
        self.scheduler.disk.apply(&batch.records);
        self.judge.persisted(&self.scheduler);
        mutter!(self, "scheduler", "wrote {:?}", keys(&batch.records));
        if self.scheduler.dies_at == Some(CrashPoint::Written) {
            return self.scheduler_dies("between writing and telling");
        }
        self.release(batch);
    }

    fn roll_back(&mut self, batch: Batch) {
        tell!(self, "scheduler", "the disk refuses {:?}", keys(&batch.records));
        let now = self.now;
        let Some(process) = &mut self.scheduler.process else { return };
        let shows = process.clock.read(now);
        process.core.roll_back(batch.before, &batch.heard, shows);
        let left = process.core.state.clone();
        process.refused_at = Some(now);
        let refusal = ApiError::unavailable("StorageFailed", "the disk refuses", 5);
        self.judge.rolled_back(&left, &batch.heard, shows);
        for (ticket, _) in batch.replies {
            self.scheduler_answers(ticket, Err(refusal.clone()));
        }
        self.scheduler_sleeps();
    }

    fn release(&mut self, batch: Batch) {
        let Some(process) = &mut self.scheduler.process else { return };
        process.refused_at = None;
        process.published = process.core.state.clone();
        let life = process.life;
        let told = batch.replies.len() + batch.orders.len();
        let orders = !batch.orders.is_empty();
        let mut left = match self.scheduler.dies_at {
            Some(CrashPoint::Telling) if told > 0 => self.rng.below(told as u64) as usize,
            _ => usize::MAX,
        };
        for (ticket, reply) in batch.replies {
            if left == 0 {
                return self.scheduler_dies("while telling");
            }
            left -= 1;
            self.scheduler_answers(ticket, reply);
        }
        for order in batch.orders {
            if left == 0 {
                return self.scheduler_dies("while telling");
            }
            left -= 1;
            self.scheduler_orders(life, order);
        }
        if self.scheduler.dies_at == Some(CrashPoint::Told) && orders {
            return self.scheduler_dies("after telling");
        }
        self.scheduler_sleeps();
    }

    fn scheduler_sleeps(&mut self) {
        let now = self.now;
        let sweep_ms = self.timing.sweep_ms;
        let Some(process) = &mut self.scheduler.process else { return };
        if !process.inbox.is_empty() {
            return self.scheduler_soon();
        }
        let due = process.core.wake_at().min(process.core.state.now + sweep_ms);
        let mut at = process.clock.when(due, now);
        if let Some(refused) = process.refused_at {
            at = at.max(refused + DISK_RETRY_MS);
        }
        if process.wake_at == Some(at) {
            return;
        }
        process.wake_at = Some(at);
        let life = process.life;
        self.queue.plan(at, Event::SchedulerWakes { life, at });
    }

    // ---- what leaves it ----

    fn scheduler_answers(&mut self, ticket: Ticket, reply: Result<Reply, ApiError>) {
        let Some(process) = &mut self.scheduler.process else { return };
        let Some(caller) = process.waiting.remove(&ticket) else { return };
        let reply = match reply {
            Ok(Reply::Registered(done)) => {
                Ok(Reply::Registered(self.over_the_wire("answer", done)))
            }
            Ok(Reply::Beat(done)) => Ok(Reply::Beat(self.over_the_wire("answer", done))),
            Ok(other) => Ok(other),
            Err(error) => Err(self.error_over_the_wire(error)),
        };
        match caller {
            Caller::Agent { machine, life, call } => {
                let packet = Packet::CallAnswer { machine, life, call, answer: Some(reply) };
                self.send_down(machine, packet);
            }
            Caller::Person { op } => {
                self.judge.acknowledges(op, &reply);
                self.send_around(Packet::Told { op, answer: Some(reply) });
            }
        }
    }

    fn scheduler_orders(&mut self, life: u64, order: Order) {
        let (id, kind) = match &order.body {
            OrderBody::Run(run) => (run.id.clone(), OrderKind::Run),
            OrderBody::Stop { id, .. } => (id.clone(), OrderKind::Stop),
        };
        tell!(self, "scheduler", "orders {} to {kind:?} {id}", order.fence.node);
        let number = self.number();
        let sent =
            Sent { node: order.fence.node.clone(), id, kind, incarnation: order.fence.incarnation };
        let timeout = self.timing.order_timeout_ms;
        let machine = self.machines.iter().position(|m| m.address() == order.address);
        if let Some(process) = &mut self.scheduler.process {
            process.orders.insert(number, sent);
        }
        self.plan(timeout, Event::OrderTimesOut { life, number });
        if let Some(machine) = machine {
            self.send_down(machine, Packet::Order { life, number, order: Box::new(order) });
        }
    }

    /// An order reaches the address it was sent to.
    pub fn order_arrives(&mut self, life: u64, number: u64, order: Order) {
        let Some(machine) = self.machines.iter().position(|m| m.address() == order.address) else {
            return;
        };
        if !self.machines[machine].powered {
            return;
        }
        if self.machines[machine].agent.is_none() {
            return self.send_up(machine, Packet::OrderAnswer { life, number, answer: None });
        }
        let Order { fence, body, .. } = order;
        match body {
            OrderBody::Run(run) => {
                let request = RunRequest { fence, order: *run };
                let request = self.over_the_wire("order to run", request);
                self.agent_ordered_to_run(machine, life, number, request);
            }
            OrderBody::Stop { id, drain_ms, why } => {
                let request = StopRequest { fence, drain_ms, why };
                let request = self.over_the_wire("order to stop", request);
                self.agent_ordered_to_stop(machine, life, number, id, request);
            }
        }
    }

    /// What came of an order; the first answer counts.
    pub fn order_answered(
        &mut self,
        life: u64,
        number: u64,
        answer: Option<Result<kube_lite::model::wire::OrderAccepted, ApiError>>,
        otherwise: &str,
    ) {
        let Some(process) = &mut self.scheduler.process else { return };
        if process.life != life {
            return;
        }
        let Some(Sent { node, id, kind, incarnation }) = process.orders.remove(&number) else {
            return;
        };
        let answer = match answer {
            Some(Ok(accepted)) => OrderAnswer::Accepted(accepted),
            Some(Err(error)) => OrderAnswer::Refused(error),
            None => OrderAnswer::Unanswered(otherwise.to_owned()),
        };
        self.scheduler_input(Input::Answered { node, id, kind, incarnation, answer });
    }

    // ---- its life ----

    /// kill -9.
    pub fn scheduler_dies(&mut self, when: &str) {
        let Some(mut process) = self.scheduler.process.take() else { return };
        self.scheduler.dies_at = None;
        let ended = process.life;
        let mut disk_has = "";
        if let Some(batch) = process.committing.take() {
            // Torn: the store promises all of it or nothing.
            if self.rng.chance(500) {
                self.scheduler.disk.apply(&batch.records);
                self.scheduler.process = Some(process);
                self.judge.persisted(&self.scheduler);
                self.scheduler.process = None;
                disk_has = ", its last batch is on the disk";
            } else {
                disk_has = ", its last batch is lost";
            }
        }
        self.scheduler.disk.outlives();
        tell!(self, "scheduler", "is killed {when}{disk_has}");
        self.judge.scheduler_died();
        let down_ms = self.scheduler.down_ms;
        self.plan(down_ms, Event::SchedulerStarts);
        // Some of what it sent outlives it on the way, well into its next life.
        let back_at = self.now + down_ms;
        self.queue.put_off(|event| match event {
            Event::Arrives(Packet::Order { life, number, .. })
                if *life == ended && number % 2 == 0 =>
            {
                Some(back_at + 200 + number * 37 % 4_000)
            }
            _ => None,
        });
    }

    /// A new life, from what the disk has; see `open` in `roles/scheduler.rs`.
    pub fn scheduler_starts(&mut self) {
        if self.scheduler.process.is_some() {
            return;
        }
        let (meta, records) = match self.scheduler.disk.load(self.setup.encodes) {
            Ok(loaded) => loaded,
            Err(error) => return self.judge.object("4 durable", error),
        };
        let meta: Option<Meta> = meta.and_then(|value| serde_json::from_value(value).ok());
        let meta = match meta {
            Some(meta) => Meta { epoch: meta.epoch + 1, ..meta },
            None => Meta { format: FORMAT, cluster: CLUSTER.into(), epoch: 1 },
        };
        let clock = Monotonic::start(self.now, LONG_AGO_MS);
        let moment = Moment {
            now: clock.read(self.now),
            wall: self.scheduler.wall.read(self.now),
            draw: self.rng.draw(),
        };
        let core = match Core::recover(&meta, &records, self.timing.clone(), moment) {
            Ok(core) => core,
            Err(error) => {
                return self.judge.object("4 durable", format!("it does not start: {error}"));
            }
        };
        if self.scheduler.disk.refuses_until > self.now || self.rng.chance(30) {
            tell!(self, "scheduler", "does not come up this time");
            return self.plan(700, Event::SchedulerStarts);
        }
        let first = [put(META.to_owned(), &meta)];
        self.scheduler.disk.apply(&first);
        tell!(self, "scheduler", "starts, epoch {}", meta.epoch);
        let life = self.number();
        self.judge.recovered(&core.state, moment, &records);
        self.scheduler.process = Some(Process {
            life,
            published: core.state.clone(),
            core,
            clock,
            inbox: VecDeque::new(),
            run_planned: false,
            committing: None,
            frozen: false,
            decides: false,
            waiting: BTreeMap::new(),
            tickets: 0,
            orders: BTreeMap::new(),
            refused_at: None,
            wake_at: None,
        });
        self.scheduler_soon();
    }

    /// SIGSTOP. When the whole machine sleeps, its clock stands still, too.
    pub fn freeze_scheduler(&mut self) {
        if let Some(process) = &mut self.scheduler.process {
            process.frozen = true;
        }
    }

    /// SIGCONT, after so long.
    pub fn thaw_scheduler(&mut self, slept_ms: u64) {
        if let Some(process) = &mut self.scheduler.process
            && process.frozen
        {
            process.frozen = false;
            process.clock.stand_still(slept_ms);
            process.wake_at = None;
            self.scheduler_soon();
        }
    }

    /// What its monotonic clock shows, while it runs.
    pub fn scheduler_time(&self) -> Option<u64> {
        self.scheduler.process.as_ref().map(|process| process.clock.read(self.now))
    }
}

/// Who is heard in an input.
fn heard(input: &Input) -> Option<(NodeId, u64)> {
    match input {
        Input::Heartbeat { request, .. } => Some((request.node_id.clone(), request.incarnation)),
        _ => None,
    }
}

fn keys(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.key.as_str()).collect()
}
