//! The scheduler's side of its calls to agents.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::transport::Transport;
use super::{ByteStream, ClientError, Lines, NO_BODY, exchange, no_tls, query};
use crate::model::view::HealthView;
use crate::model::wire::{OrderAccepted, OrderOutcome, OrdersRequest, RunRequest, StopRequest};
use crate::model::{InstanceId, NodeId};

/// An agent's answers to orders are small.
const LARGEST_AGENT_REPLY: usize = 1 << 20;

/// Talks to any number of agents, each named by its `host:port`. Cheap to
/// clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct AgentClient {
    transport: Transport,
    timeout: Duration,
    tls: bool,
}

impl AgentClient {
    /// A client whose calls each have to be answered within `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { transport: Transport::new(2, LARGEST_AGENT_REPLY, no_tls()), timeout, tls: false }
    }

    /// A client that speaks TLS as `config` says, and demands of each agent the
    /// certificate of its node.
    pub fn secured(timeout: Duration, config: Arc<ClientConfig>) -> Self {
        Self { transport: Transport::new(2, LARGEST_AGENT_REPLY, config), timeout, tls: true }
    }

    /// How to name the agent of `node` at `address` in the calls below.
    pub fn at(&self, node: &NodeId, address: &str) -> String {
        match self.tls {
            true => format!("{node}@{address}"),
            false => address.to_owned(),
        }
    }

    fn url(&self, agent: &str, path: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{agent}{path}")
    }

    /// The same client, whose calls are logged under this id at the other end, too.
    pub fn on_behalf_of(&self, request: &str) -> Self {
        let transport = self.transport.on_behalf_of(request);
        Self { transport, timeout: self.timeout, tls: self.tls }
    }

    /// Orders an instance to be run. Returns once the agent has noted it.
    pub async fn run(
        &self,
        address: &str,
        order: &RunRequest,
    ) -> Result<OrderAccepted, ClientError> {
        self.post(address, "/run", order).await
    }

    /// Orders an instance to be stopped. Returns once the agent has noted it.
    pub async fn stop(
        &self,
        address: &str,
        id: &InstanceId,
        order: &StopRequest,
    ) -> Result<OrderAccepted, ClientError> {
        let path = format!("/stop/{}", query::segment(id.as_str()));
        self.post(address, &path, order).await
    }

    /// Gives several orders at once. Returns what became of each.
    pub async fn orders(
        &self,
        address: &str,
        orders: &OrdersRequest,
    ) -> Result<Vec<OrderOutcome>, ClientError> {
        self.post(address, "/orders", orders).await
    }

    /// The log of an instance, as it arrives.
    pub async fn logs(
        &self,
        address: &str,
        instance: &str,
        tail: Option<u64>,
        follow: bool,
    ) -> Result<ByteStream, ClientError> {
        let path = query::logs(instance, tail, follow);
        self.transport.open(&self.url(address, &path), self.timeout).await
    }

    /// The same by lines of JSON, which say which stream wrote them and when.
    pub async fn log_lines(
        &self,
        address: &str,
        instance: &str,
        tail: Option<u64>,
        follow: bool,
    ) -> Result<Lines, ClientError> {
        let path = query::logs(instance, tail, follow);
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!("{}{mark}lines=true", self.url(address, &path));
        Ok(self.transport.open(&url, self.timeout).await?.lines())
    }

    /// What it tells Prometheus.
    pub async fn metrics(&self, address: &str) -> Result<ByteStream, ClientError> {
        self.transport.open(&self.url(address, "/metrics"), self.timeout).await
    }

    /// How the agent itself is.
    pub async fn health(&self, address: &str) -> Result<HealthView, ClientError> {
        let url = self.url(address, query::health().path());
        exchange(&self.transport, Method::GET, &url, NO_BODY, self.timeout).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        address: &str,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let url = self.url(address, path);
        exchange(&self.transport, Method::POST, &url, Some(body), self.timeout).await
    }
}
