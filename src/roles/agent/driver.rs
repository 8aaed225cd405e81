//! The one task that owns the core. Everything else sends it mail over a bounded
//! channel; what the core decides is carried out in tasks of their own, so that a
//! slow pull, a hung daemon or a silent scheduler holds up nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::core::AgentCore;
use super::heartbeat;
use super::home::Home;
use super::message::{
    Action, CallError, ContainerEvent, DockerReport, Ending, EventKind, Input, LaunchOutcome,
    Millis, Moment, PullError, Ticket,
};
use super::runtime::{NodeRuntime, Report};
use super::vitals::Vitals;
use crate::client::Client;
use crate::model::view::HealthView;
use crate::model::wire::{
    DockerState, OrderAccepted, OrderBody, OrderOutcome, OrdersRequest, RunRequest, StopRequest,
};
use crate::model::{ApiError, ContainerInstance, InstanceId};

/// Mail that may wait for the task; orders beyond are answered 503.
const INBOX: usize = 4096;
/// Inputs taken in one go before the task looks at anything else.
const BATCH: usize = 256;

/// How everything else reaches the task.
#[derive(Clone, Debug)]
pub struct AgentInbox {
    calls: mpsc::Sender<Call>,
}

/// What is asked of the task from outside.
#[derive(Debug)]
enum Call {
    Run(Box<RunRequest>, oneshot::Sender<Result<OrderAccepted, ApiError>>),
    Stop(InstanceId, StopRequest, oneshot::Sender<Result<OrderAccepted, ApiError>>),
    Find(String, oneshot::Sender<Option<ContainerInstance>>),
    Health(oneshot::Sender<HealthView>),
    Shutdown { stop_containers: bool },
}

impl AgentInbox {
    /// `POST /run`.
    ///
    /// # Errors
    /// What the core answers, or 503 when the agent is too busy or has ended.
    pub async fn run(&self, request: RunRequest) -> Result<OrderAccepted, ApiError> {
        self.ask(|answer| Call::Run(Box::new(request), answer)).await?
    }

    /// `POST /stop/{id}`.
    ///
    /// # Errors
    /// What the core answers, or 503 when the agent is too busy or has ended.
    pub async fn stop(
        &self,
        id: InstanceId,
        request: StopRequest,
    ) -> Result<OrderAccepted, ApiError> {
        self.ask(|answer| Call::Stop(id, request, answer)).await?
    }

    /// `POST /orders`: what became of each.
    ///
    /// # Errors
    /// 503 when the agent has ended.
    pub async fn orders(&self, request: OrdersRequest) -> Result<Vec<OrderOutcome>, ApiError> {
        let OrdersRequest { fence, orders } = request;
        let mut answers = Vec::with_capacity(orders.len());
        for order in orders {
            let fence = fence.clone();
            let (answer, answered) = oneshot::channel();
            let call = match order {
                OrderBody::Run(order) => {
                    Call::Run(Box::new(RunRequest { fence, order: *order }), answer)
                }
                OrderBody::Stop { id, drain_ms, why } => {
                    Call::Stop(id, StopRequest { fence, drain_ms, why }, answer)
                }
            };
            self.calls.send(call).await.map_err(|_| ended())?;
            answers.push(answered);
        }
        let mut outcomes = Vec::with_capacity(answers.len());
        for answered in answers {
            outcomes.push(match answered.await.map_err(|_| ended())? {
                Ok(accepted) => OrderOutcome::Accepted(accepted),
                Err(error) => OrderOutcome::Refused { status: error.status, error },
            });
        }
        Ok(outcomes)
    }

    /// One instance, by its id or by a prefix of its container's.
    ///
    /// # Errors
    /// 503 when the agent is too busy or has ended.
    pub async fn find(&self, name: &str) -> Result<Option<ContainerInstance>, ApiError> {
        self.ask(|answer| Call::Find(name.to_owned(), answer)).await
    }

    /// How the agent is.
    ///
    /// # Errors
    /// 503 when the agent is too busy or has ended.
    pub async fn health(&self) -> Result<HealthView, ApiError> {
        self.ask(Call::Health).await
    }

    /// Asks the agent to end.
    pub async fn shut_down(&self, stop_containers: bool) {
        // An error means that it has.
        let _ = self.calls.send(Call::Shutdown { stop_containers }).await;
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.calls.try_send(call(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                ApiError::unavailable("Busy", "This agent has too much to do; try again soon.", 1)
            }
            mpsc::error::TrySendError::Closed(_) => ended(),
        })?;
        answered.await.map_err(|_| ended())
    }
}

fn ended() -> ApiError {
    ApiError::unavailable("ShuttingDown", "This agent is ending.", 5)
}

/// The task and what it needs to carry things out.
#[derive(Debug)]
pub struct Driver {
    core: AgentCore,
    node: String,
    home: Home,
    client: Client,
    runtime: Arc<NodeRuntime>,
    started: Instant,
    calls: mpsc::Receiver<Call>,
    reports: mpsc::Receiver<Input>,
    report: Report,
    tasks: JoinSet<()>,
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<OrderAccepted, ApiError>>>,
    next_ticket: Ticket,
    wake_at: Option<Millis>,
    /// What was last said about the scheduler, so that it is said once.
    last_trouble: Option<String>,
    /// Told to end: that nobody answers any more is no news then.
    ending: bool,
    vitals: Vitals,
}

impl Driver {
    /// A task for `core`, not running yet, and how to reach it.
    pub fn new(
        core: AgentCore,
        node: String,
        home: Home,
        client: Client,
        runtime: Arc<NodeRuntime>,
    ) -> (Self, AgentInbox) {
        let (calls_in, calls) = mpsc::channel(INBOX);
        let (report, reports) = mpsc::channel(INBOX);
        let driver = Self {
            core,
            node,
            home,
            client,
            runtime,
            started: Instant::now(),
            calls,
            reports,
            report,
            tasks: JoinSet::new(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            wake_at: Some(0),
            last_trouble: None,
            ending: false,
            vitals: Vitals::default(),
        };
        (driver, AgentInbox { calls: calls_in })
    }

    /// The same, and how it does is counted here.
    pub fn measured_by(self, vitals: Vitals) -> Self {
        Self { vitals, ..self }
    }

    /// Runs until the core says that it is over.
    pub async fn run(mut self) -> Ending {
        let (runtime, report) = (self.runtime.clone(), self.report.clone());
        self.tasks.spawn(async move { runtime.watch(&report).await });
        let mut inputs = Vec::new();
        loop {
            let deadline = self.wake_at.map(|at| self.started + Duration::from_millis(at));
            let asleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let ending = tokio::select! {
                Some(call) = self.calls.recv() => self.answer(call),
                _ = self.reports.recv_many(&mut inputs, BATCH) => {
                    inputs.drain(..).find_map(|input| self.step(input))
                }
                Some(_) = self.tasks.join_next() => None,
                () = asleep => self.step(Input::Tick),
            };
            if let Some(ending) = ending {
                // Whoever still waits is told so by their channel closing.
                self.tasks.abort_all();
                return ending;
            }
        }
    }

    fn answer(&mut self, call: Call) -> Option<Ending> {
        match call {
            Call::Run(request, answer) => {
                let ticket = self.ticket(answer);
                self.step(Input::Run { ticket, request })
            }
            Call::Stop(id, request, answer) => {
                let ticket = self.ticket(answer);
                self.step(Input::Stop { ticket, id, request })
            }
            Call::Find(name, answer) => {
                let _ = answer.send(self.core.find(&name));
                None
            }
            Call::Health(answer) => {
                let _ = answer.send(self.health());
                None
            }
            Call::Shutdown { stop_containers } => self.step(Input::Shutdown { stop_containers }),
        }
    }

    fn ticket(&mut self, answer: oneshot::Sender<Result<OrderAccepted, ApiError>>) -> Ticket {
        self.next_ticket += 1;
        self.waiting.insert(self.next_ticket, answer);
        self.next_ticket
    }

    fn step(&mut self, input: Input) -> Option<Ending> {
        self.mention(&input);
        self.count(&input);
        let step = self.core.step(self.moment(), input);
        self.wake_at = step.wake_at;
        for (ticket, reply) in step.replies {
            if let Some(answer) = self.waiting.remove(&ticket) {
                let _ = answer.send(reply); // whoever asked may have left
            }
        }
        let mut ending = None;
        for action in step.actions {
            ending = self.carry_out(action).or(ending);
        }
        ending
    }

    fn moment(&self) -> Moment {
        let elapsed = self.started.elapsed().as_millis();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment {
            now_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            // Only jitter depends on it, so the time will do where there is none.
            draw: getrandom::u64().unwrap_or_else(|_| u64::from(wall.subsec_nanos())),
        }
    }

    /// Starts an action; its outcome comes back as a report.
    fn carry_out(&mut self, action: Action) -> Option<Ending> {
        let (report, client) = (self.report.clone(), self.client.clone());
        match action {
            Action::Register(request) => self.tasks.spawn(async move {
                let _ = report.send(heartbeat::register(&client, &request).await).await;
            }),
            Action::Heartbeat(request) => {
                self.vitals.told(&request, &self.core);
                self.tasks.spawn(async move {
                    let _ = report.send(heartbeat::heartbeat(&client, &request).await).await;
                })
            }
            Action::Docker(action) => {
                let runtime = self.runtime.clone();
                runtime.expect(&action);
                self.tasks.spawn(async move { runtime.carry_out(action, &report).await })
            }
            Action::Probe(probe) => {
                let runtime = self.runtime.clone();
                self.tasks.spawn(async move {
                    let outcome = runtime.probe(&probe).await;
                    let (id, container_id) = (probe.id, probe.container_id);
                    let _ = report.send(Input::Probed { id, container_id, outcome }).await;
                })
            }
            Action::Remember(remembered) => {
                if let Err(error) = self.home.remember(remembered) {
                    tracing::warn!(node = self.node, "the cluster is not kept: {error:#}");
                }
                return None;
            }
            Action::Halt(ending) => return Some(ending),
        };
        None
    }

    fn health(&self) -> HealthView {
        let docker = self.core.docker_status();
        let status = match (docker.state, self.core.epoch()) {
            (DockerState::Ok, Some(_)) => "ok".to_owned(),
            (DockerState::Ok, None) => "not registered with the scheduler".to_owned(),
            _ => docker.message.unwrap_or_else(|| "Docker does not answer".to_owned()),
        };
        HealthView {
            status,
            cluster: self.core.cluster().map(ToString::to_string),
            epoch: self.core.epoch(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            warnings: Vec::new(),
        }
    }

    fn count(&self, input: &Input) {
        let vitals = &self.vitals;
        let counter = match input {
            Input::Registered(Err(_)) | Input::Beat { outcome: Err(_), .. } => &vitals.failed_calls,
            Input::Run { .. } | Input::Stop { .. } => &vitals.orders,
            Input::Launched { outcome: LaunchOutcome::Started(_), .. } => &vitals.started,
            Input::Launched { outcome: LaunchOutcome::Failed { .. }, .. } => &vitals.not_started,
            Input::Pulled { outcome: Err(_), .. } => &vitals.failed_pulls,
            _ => return,
        };
        counter.inc();
    }

    /// Says in the log what an operator wants to know, each change once.
    fn mention(&mut self, input: &Input) {
        let node = self.node.as_str();
        match input {
            Input::Shutdown { .. } => self.ending = true,
            Input::Registered(Err(_)) | Input::Beat { outcome: Err(_), .. } if self.ending => {}
            Input::Registered(Ok(registration)) => {
                let response = &registration.response;
                self.last_trouble = None;
                tracing::info!(
                    node,
                    "registered in cluster {} as {}, epoch {}",
                    response.cluster,
                    response.address,
                    response.epoch
                );
            }
            Input::Beat { outcome: Ok(_), .. } if self.last_trouble.take().is_some() => {
                tracing::info!(node, "the scheduler answers again");
            }
            Input::Registered(Err(error)) | Input::Beat { outcome: Err(error), .. } => {
                let text = match error {
                    CallError::Refused { status, message } => {
                        format!("the scheduler refused ({status}): {message}")
                    }
                    CallError::Unreachable(why) => format!("the scheduler is not reached: {why}"),
                };
                if self.last_trouble.as_ref() != Some(&text) {
                    tracing::warn!(node, "{text}; trying again");
                    self.last_trouble = Some(text);
                }
            }
            Input::Docker(DockerReport::Ok { daemon }) => {
                tracing::info!(node, "Docker answers (daemon {daemon})");
            }
            Input::Docker(DockerReport::Away(why) | DockerReport::Hung(why)) => {
                tracing::warn!(node, "Docker: {why}; trying again");
            }
            Input::Launched { id, outcome: LaunchOutcome::Started(_) } => {
                tracing::info!(node, "{id} started");
            }
            Input::Launched { id, outcome: LaunchOutcome::Failed { message, .. } } => {
                tracing::warn!(node, "{id} was not started: {message}");
            }
            Input::Launched { id, outcome: LaunchOutcome::Unknown(why) } => {
                tracing::warn!(node, "{id}: {why}; looking whether it was started");
            }
            Input::Pulled { image, outcome: Ok(()) } => tracing::info!(node, "pulled {image}"),
            Input::Pulled { image, outcome: Err(why) } => match why {
                PullError::Final { message, .. } => {
                    tracing::warn!(node, "{image} was not pulled: {message}");
                }
                PullError::Transient(why) => {
                    tracing::warn!(node, "{image} was not pulled: {why}; trying again");
                }
                PullError::Cancelled => {}
            },
            Input::Event(ContainerEvent { id, kind: EventKind::Die { exit_code }, .. }) => {
                tracing::info!(node, "{id} ended with exit code {exit_code}");
            }
            Input::Stopped { container_id, outcome: Err(why) }
            | Input::Removed { container_id, outcome: Err(why) } => {
                tracing::warn!(node, "container {container_id:.12}: {why}; trying again");
            }
            Input::Listed { outcome: Err(why), .. } => {
                tracing::warn!(node, "listing containers failed: {why}");
            }
            _ => {}
        }
    }
}
