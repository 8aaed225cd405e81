//! The agent's HTTP side: orders from the scheduler, and a look at its instances
//! and their logs.

use std::time::Duration;

use hyper::Method;

use super::driver::AgentInbox;
use super::runtime::{LogQuery, NodeRuntime, pour};
use super::vitals::Vitals;
use crate::http::reply::{JSON_LINES, TEXT};
use crate::http::{Access, Handler, Reply, Request, Route, Timeouts};
use crate::metrics::{self, Requests};
use crate::model::parse::from_machine;
use crate::model::{ApiError, ContainerInstance};
use std::sync::Arc;

/// An order with every limit of a spec used up fits.
const LARGEST_ORDER: usize = 1 << 20;
/// So do as many as the scheduler sends at once.
const LARGEST_BATCH: usize = 8 << 20;
/// Lines of a log that can be asked for.
const LONGEST_TAIL: u64 = 1_000_000;
/// Orders are noted, not carried out, before they are answered.
const PROMPT: Timeouts =
    Timeouts { body_read: Duration::from_secs(10), handler: Some(Duration::from_secs(5)) };

/// What can be asked of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Run an instance.
    Run,
    /// Stop an instance.
    Stop,
    /// Several of these at once.
    Orders,
    /// One instance as the agent sees it.
    Status,
    /// The log of an instance.
    Logs,
    /// The agent itself.
    Health,
    /// Figures for Prometheus.
    Metrics,
}

/// Answers over HTTP for one agent.
#[derive(Debug)]
pub struct AgentServer {
    inbox: AgentInbox,
    runtime: Arc<NodeRuntime>,
    warning: Option<&'static str>,
    vitals: Vitals,
    requests: Requests,
}

impl AgentServer {
    /// Answers for the agent behind `inbox`.
    pub fn new(inbox: AgentInbox, runtime: Arc<NodeRuntime>, vitals: Vitals) -> Self {
        Self { inbox, runtime, warning: None, vitals, requests: Requests::new() }
    }

    /// The same, with something to be said in `GET /health`.
    pub fn warning_of(self, warning: Option<&'static str>) -> Self {
        Self { warning, ..self }
    }

    fn metrics(&self) -> Result<Reply, ApiError> {
        metrics::page("agent", |registry| {
            self.vitals.register(registry);
            self.requests.register(registry);
        })
    }

    async fn answer(&self, request: Request<Ask>) -> Result<Reply, ApiError> {
        match request.call {
            Ask::Run => {
                let order = from_machine("order to run an instance", &request.body)?;
                Ok(Reply::json(202, &self.inbox.run(order).await?))
            }
            Ask::Stop => {
                let order = from_machine("order to stop an instance", &request.body)?;
                let id = request.param("id").into();
                Ok(Reply::json(202, &self.inbox.stop(id, order).await?))
            }
            Ask::Orders => {
                let orders = from_machine("batch of orders", &request.body)?;
                Ok(Reply::json(200, &self.inbox.orders(orders).await?))
            }
            Ask::Status => Ok(Reply::json(200, &self.find(request.param("id")).await?)),
            Ask::Logs => self.logs(&request).await,
            Ask::Health => {
                let mut health = self.inbox.health().await?;
                health.warnings.extend(self.warning.map(str::to_owned));
                Ok(Reply::json(200, &health))
            }
            Ask::Metrics => self.metrics(),
        }
    }

    async fn find(&self, name: &str) -> Result<ContainerInstance, ApiError> {
        self.inbox.find(name).await?.ok_or_else(|| {
            ApiError::not_found(format!("There is no instance {name} on this node."))
        })
    }

    async fn logs(&self, request: &Request<Ask>) -> Result<Reply, ApiError> {
        let (stdout, stderr) = match request.query.get("stream") {
            None | Some("both") => (true, true),
            Some("stdout") => (true, false),
            Some("stderr") => (false, true),
            Some(_) => {
                let text = "The query parameter `stream` must be stdout, stderr or both.";
                return Err(ApiError::invalid_field("stream", text));
            }
        };
        let follow = request.query.flag("follow")?;
        let lines = request.query.flag("lines")?;
        let tail = request.query.number("tail", LONGEST_TAIL)?;
        let instance = self.find(request.param("id")).await?;
        if instance.container_id.is_empty() {
            let why = instance.message.unwrap_or_else(|| instance.phase.as_str().to_owned());
            let text = format!("{} has no log yet, as it has no container: {why}.", instance.id);
            return Err(ApiError::new(409, "NoLog", text));
        }
        let query = LogQuery { tail, follow, stdout, stderr, lines };
        let log = self.runtime.logs(&instance.container_id, query).await?;
        let kind = if lines { JSON_LINES } else { TEXT };
        let (outflow, reply) = if follow { Reply::live_stream(kind) } else { Reply::stream(kind) };
        tokio::spawn(pour(log, outflow));
        Ok(reply)
    }
}

impl Handler for AgentServer {
    type Call = Ask;
    const ELSEWHERE: &'static str = "this is an agent of kube-lite and not the scheduler, which \
        is at another address (usually with port 8080; an agent says at its start where)";

    const ROUTES: &'static [Route<Ask>] = &[
        Route::new(
            Method::POST,
            "/run",
            Ask::Run,
            Access::Scheduler,
            "Order an instance to run; 202 once the order is noted.",
        )
        .body(LARGEST_ORDER)
        .timeouts(PROMPT),
        Route::new(
            Method::POST,
            "/stop/{id}",
            Ask::Stop,
            Access::Scheduler,
            "Order an instance to stop; 202 once the order is noted.",
        )
        .body(LARGEST_ORDER)
        .timeouts(PROMPT),
        Route::new(
            Method::POST,
            "/orders",
            Ask::Orders,
            Access::Scheduler,
            "Order several instances to run or to stop; what became of each, once all are noted.",
        )
        .body(LARGEST_BATCH)
        .timeouts(PROMPT),
        Route::new(
            Method::GET,
            "/status/{id}",
            Ask::Status,
            Access::Viewer,
            "One instance as this agent sees it.",
        ),
        Route::new(
            Method::GET,
            "/logs/{id}",
            Ask::Logs,
            Access::Viewer,
            "The log of an instance: what is of `stream` in its last `tail` lines, and more with \
             `follow`; with `lines` as JSON that says which stream and when.",
        )
        .query(&["tail", "follow", "stream", "lines"])
        .streaming(),
        Route::new(Method::GET, "/health", Ask::Health, Access::Public, "How the agent itself is."),
        Route::new(
            Method::GET,
            "/metrics",
            Ask::Metrics,
            Access::Viewer,
            "Figures about the agent, for Prometheus.",
        ),
    ];

    async fn handle(&self, request: Request<Ask>) -> Result<Reply, ApiError> {
        let begun = self.requests.begin(request.call);
        begun.end(self.answer(request).await)
    }
}
