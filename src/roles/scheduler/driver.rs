//! The one task that owns the cluster. Everything else sends it inputs over
//! bounded channels and gets its answer on a oneshot; readers take the published
//! snapshot and never ask. People have a channel of their own, and so have the
//! answers to orders: thousands of agents at once make nobody wait.
//!
//! The task steps the core over all that has arrived, writes the records of the
//! whole batch with one fsync, and only then publishes, answers and orders. If
//! the disk refuses, the batch never happened: the state goes back to what it
//! was, and whoever waits is told. The disk is tried again with the next records,
//! and every second; what needs no disk goes on meanwhile.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::core::Core;
use super::dispatch::Dispatcher;
use super::message::{Input, Moment, Order, Record, Reply, Step, Ticket, UserCall, heard};
use super::recorder::Recorder;
use super::store::Store;
use super::views::Snapshot;
use super::vitals::Vitals;
use crate::model::ApiError;
use crate::model::wire::{HeartbeatRequest, RegisterRequest};

/// What agents say that may wait for the task; more is answered 503.
const AGENTS: usize = 16_384;
/// The same for what people ask.
const PEOPLE: usize = 1024;
/// Answers to orders that may wait; who brings more waits, too.
const ANSWERS: usize = 4096;
/// Inputs taken in one batch, hence under one fsync.
const BATCH: usize = 1024;
/// After the disk has refused, nothing but inputs makes the task try again for
/// this long.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// What a clock shows at the start of the process: ten years.
const LONG_AGO_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// A clock and a source of draws: all that the core may not have.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Milliseconds since long before the start, so that what is older than this
    /// process, as containers are after a restart, has a time of its own.
    pub fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + LONG_AGO_MS
    }

    fn instant(&self, at: u64) -> Instant {
        self.started + Duration::from_millis(at.saturating_sub(LONG_AGO_MS))
    }

    /// The moment of a step.
    pub fn moment(&self) -> Moment {
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        Moment { now: self.now(), wall, draw: draw() }
    }
}

/// A random number; the operating system not having one is beyond repair, and
/// time is then as good a draw as any.
pub fn draw() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64)
    })
}

/// An input on its way, with whoever waits for its answer.
struct Mail {
    input: Input,
    waiter: Option<(Ticket, oneshot::Sender<Result<Reply, ApiError>>)>,
}

/// How everything else reaches the task.
#[derive(Clone, Debug)]
pub struct SchedulerHandle {
    people: mpsc::Sender<Mail>,
    answers: mpsc::Sender<Mail>,
    agents: mpsc::Sender<Mail>,
    store: Arc<Store>,
    published: watch::Receiver<Snapshot>,
    tickets: Arc<AtomicU64>,
    clock: Clock,
    vitals: Vitals,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("input", &self.input).finish_non_exhaustive()
    }
}

impl SchedulerHandle {
    /// An agent introduces itself from `peer`.
    ///
    /// # Errors
    /// What the core answers, or 503 when it is too busy.
    pub async fn register(
        &self,
        peer: IpAddr,
        request: RegisterRequest,
    ) -> Result<Reply, ApiError> {
        self.ask(&self.agents, |ticket| Input::Register { ticket, peer, request }).await
    }

    /// An agent reports.
    ///
    /// # Errors
    /// What the core answers, or 503 when it is too busy.
    pub async fn heartbeat(&self, request: HeartbeatRequest) -> Result<Reply, ApiError> {
        self.ask(&self.agents, |ticket| Input::Heartbeat { ticket, request }).await
    }

    /// A person asks for something. Answered once it is durable.
    ///
    /// # Errors
    /// What the core answers, or 503 when it is too busy or the disk refuses.
    pub async fn user(&self, by: String, call: UserCall) -> Result<Reply, ApiError> {
        self.ask(&self.people, |ticket| Input::User { ticket, by, call }).await
    }

    async fn ask(
        &self,
        inbox: &mpsc::Sender<Mail>,
        input: impl FnOnce(Ticket) -> Input,
    ) -> Result<Reply, ApiError> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        let mail = Mail { input: input(ticket), waiter: Some((ticket, sender)) };
        inbox.try_send(mail).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                let waiting = inbox.max_capacity();
                let text =
                    format!("the scheduler has {waiting} requests waiting; try again in a second");
                ApiError::unavailable("Busy", text, 1)
            }
            mpsc::error::TrySendError::Closed(_) => stopping(),
        })?;
        answer.await.map_err(|_| stopping())?
    }

    /// Where answers to orders go.
    pub(super) fn answers(&self) -> Answers {
        Answers(self.answers.clone())
    }

    /// What is, as of the last durable step.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.published.borrow().clone();
        snapshot.now = snapshot.now.max(self.clock.now());
        snapshot
    }

    /// How the task does.
    pub fn vitals(&self) -> Vitals {
        self.vitals.clone()
    }

    /// Inputs that wait for the task.
    pub fn waiting(&self) -> usize {
        [&self.people, &self.answers, &self.agents]
            .map(|lane| lane.max_capacity() - lane.capacity())
            .into_iter()
            .sum()
    }

    /// Where durable state is.
    pub(super) fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Told whenever a new snapshot is published.
    pub fn snapshots(&self) -> watch::Receiver<Snapshot> {
        self.published.clone()
    }
}

/// Tells the core what came of orders. It keeps nothing else of the scheduler, least of
/// all its store: who waits for an agent must not keep the next scheduler from that.
#[derive(Clone, Debug)]
pub(super) struct Answers(mpsc::Sender<Mail>);

impl Answers {
    /// Waits for room: an answer that got lost would only be asked for again.
    pub(super) async fn tell(&self, input: Input) {
        // A closed inbox means the scheduler ends, and with it the order's purpose.
        let _ = self.0.send(Mail { input, waiter: None }).await;
    }
}

fn stopping() -> ApiError {
    ApiError::unavailable("Stopping", "the scheduler is stopping; try again once it is back", 2)
}

/// What has arrived, by who sent it.
struct Inbox {
    people: mpsc::Receiver<Mail>,
    answers: mpsc::Receiver<Mail>,
    agents: mpsc::Receiver<Mail>,
}

impl Inbox {
    /// Waits for mail and takes a batch of it: some of each kind, people's first.
    /// False: there will be none any more.
    async fn receive(&mut self, batch: &mut Vec<Mail>) -> bool {
        let open = tokio::select! {
            biased;
            mail = self.people.recv() => mail.map(|mail| batch.push(mail)),
            mail = self.answers.recv() => mail.map(|mail| batch.push(mail)),
            mail = self.agents.recv() => mail.map(|mail| batch.push(mail)),
        };
        for (lane, share) in
            [(&mut self.people, BATCH), (&mut self.answers, BATCH / 2), (&mut self.agents, BATCH)]
        {
            for _ in 0..share.min(BATCH.saturating_sub(batch.len())) {
                let Ok(mail) = lane.try_recv() else { break };
                batch.push(mail);
            }
        }
        open.is_some()
    }
}

/// The task and its surroundings.
pub struct Driver {
    core: Core,
    store: Arc<Store>,
    clock: Clock,
    inbox: Inbox,
    publisher: watch::Sender<Snapshot>,
    dispatcher: Dispatcher,
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<Reply, ApiError>>>,
    disk_refused_at: Option<Instant>,
    recorder: Option<Recorder>,
    vitals: Vitals,
}

impl Driver {
    /// A driver for this core, and the handle to it.
    pub fn new(core: Core, store: Arc<Store>, clock: Clock) -> (Self, SchedulerHandle) {
        let (to_people, people) = mpsc::channel(PEOPLE);
        let (to_answers, answers) = mpsc::channel(ANSWERS);
        let (to_agents, agents) = mpsc::channel(AGENTS);
        let first = Snapshot { state: core.state.clone(), now: clock.now() };
        let (publisher, published) = watch::channel(first);
        let vitals = Vitals::new();
        let handle = SchedulerHandle {
            people: to_people,
            answers: to_answers,
            agents: to_agents,
            store: Arc::clone(&store),
            published,
            tickets: Arc::new(AtomicU64::new(1)),
            clock: clock.clone(),
            vitals: vitals.clone(),
        };
        let dispatcher = Dispatcher::new(&core.timing, None, vitals.clone());
        let driver = Self {
            core,
            store,
            clock,
            inbox: Inbox { people, answers, agents },
            publisher,
            dispatcher,
            waiting: BTreeMap::new(),
            disk_refused_at: None,
            recorder: None,
            vitals,
        };
        (driver, handle)
    }

    /// The same, and everything it decides is recorded.
    pub fn recorded_by(self, recorder: Option<Recorder>) -> Self {
        Self { recorder, ..self }
    }

    /// The same, with orders that go over TLS.
    pub fn secured_by(self, tls: Option<Arc<ClientConfig>>) -> Self {
        let dispatcher = Dispatcher::new(&self.core.timing, tls, self.vitals.clone());
        Self { dispatcher, ..self }
    }

    /// Runs until `stop` is told. Orders' answers go where `handle` leads.
    pub async fn run(mut self, handle: SchedulerHandle, stop: watch::Receiver<bool>) {
        let answers = handle.answers();
        drop(handle);
        self.attend(&answers, stop).await;
        if let Some(recorder) = self.recorder.take() {
            recorder.end().await;
        }
    }

    async fn attend(&mut self, answers: &Answers, mut stop: watch::Receiver<bool>) {
        let mut batch: Vec<Mail> = Vec::with_capacity(BATCH);
        loop {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                open = self.inbox.receive(&mut batch) => {
                    if !open {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            let mut inputs: Vec<Input> = Vec::with_capacity(batch.len() + 1);
            for mail in batch.drain(..) {
                if let Some((ticket, waiter)) = mail.waiter {
                    self.waiting.insert(ticket, waiter);
                }
                inputs.push(mail.input);
            }
            if inputs.is_empty() {
                inputs.push(Input::Tick);
            }
            self.take(inputs, answers).await;
        }
    }

    /// The core's next deadline, but at least once per sweep, so that a pause of
    /// this process is noticed as one.
    fn wake_at(&self) -> Instant {
        let timing = &self.core.timing;
        let at = self.core.wake_at().min(self.core.state.now + timing.sweep_ms);
        let wake = self.clock.instant(at);
        self.disk_refused_at.map_or(wake, |refused| wake.max(refused + DISK_RETRY))
    }

    async fn take(&mut self, inputs: Vec<Input>, answers: &Answers) {
        if let Some(recorder) = &mut self.recorder {
            recorder.before_batch(&self.core);
        }
        let before = self.core.state.clone();
        let heard = heard(&inputs);
        let began = Instant::now();
        let mut records: Vec<Record> = Vec::new();
        let mut orders: Vec<Order> = Vec::new();
        let mut events = Vec::new();
        let mut replies = Vec::new();
        for (index, input) in inputs.into_iter().enumerate() {
            let step = self.step(index == 0, input);
            records.extend(step.records);
            orders.extend(step.orders);
            events.extend(step.events);
            replies.extend(step.replies);
        }
        self.vitals.pass.observe(began.elapsed().as_secs_f64());
        self.vitals.passes.inc();
        if records.is_empty() {
            self.mend_disk().await;
        } else if let Err(error) = self.commit(records).await {
            tracing::error!("{error:#}; what was just asked for has not happened");
            let now = self.clock.now();
            if let Some(recorder) = &mut self.recorder {
                recorder.rolled_back(now, format!("{error:#}"));
            }
            self.vitals.refusals.inc();
            self.core.roll_back(before, &heard, now);
            self.disk_refused_at = Some(Instant::now());
            let refusal = ApiError::unavailable(
                "StorageFailed",
                format!("{error:#}; nothing was changed. Free or mend the disk, then try again"),
                5,
            );
            for (ticket, _) in replies {
                self.answer(ticket, Err(refusal.clone()));
            }
            return;
        } else {
            self.disk_took_it();
            if let Some(recorder) = &mut self.recorder {
                recorder.stored();
            }
        }
        for event in events {
            tracing::info!(target: "kube_lite::events", kind = %event.kind, "{}", event.message);
        }
        self.publisher
            .send_replace(Snapshot { state: self.core.state.clone(), now: self.clock.now() });
        for (ticket, reply) in replies {
            self.answer(ticket, reply);
        }
        self.dispatcher.send(orders, answers);
    }

    fn step(&mut self, first: bool, input: Input) -> Step {
        if matches!(input, Input::Heartbeat { .. }) {
            self.vitals.heartbeats.inc();
        }
        let moment = self.clock.moment();
        if let Some(recorder) = &mut self.recorder {
            recorder.before_step(first, moment, &input);
        }
        let step = self.core.step(moment, input);
        if let Some(recorder) = &mut self.recorder {
            recorder.decided(&step);
        }
        step
    }

    /// Tries a disk that has refused again from time to time, also when nobody
    /// wants anything written: what was refused must not be on it any more when
    /// this process ends.
    async fn mend_disk(&mut self) {
        if self.disk_refused_at.is_none_or(|at| at.elapsed() < DISK_RETRY) {
            return;
        }
        match self.commit(Vec::new()).await {
            Ok(()) => self.disk_took_it(),
            Err(error) => {
                tracing::warn!("the disk still refuses: {error:#}");
                self.disk_refused_at = Some(Instant::now());
            }
        }
    }

    fn disk_took_it(&mut self) {
        if self.disk_refused_at.take().is_some() {
            tracing::info!("the disk takes records again");
        }
    }

    async fn commit(&self, records: Vec<Record>) -> anyhow::Result<()> {
        if matches!(*self.store, Store::Memory) {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let began = Instant::now();
        let committed = tokio::task::spawn_blocking(move || store.commit(&records)).await;
        self.vitals.commit.observe(began.elapsed().as_secs_f64());
        Ok(committed??)
    }

    fn answer(&mut self, ticket: Ticket, reply: Result<Reply, ApiError>) {
        if let Some(waiter) = self.waiting.remove(&ticket) {
            // Whoever asked may have left; what was asked for stands.
            let _ = waiter.send(reply);
        }
    }
}
