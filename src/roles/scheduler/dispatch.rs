//! Carries orders to agents. Each in a task of its own: one slow agent holds up
//! nobody else.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::driver::SchedulerHandle;
use super::message::{Input, Order, OrderAnswer, OrderBody, OrderKind};
use crate::client::{AgentClient, ClientError};
use crate::model::Timing;
use crate::model::wire::{RunRequest, StopRequest};

/// Sends orders and reports their answers.
pub struct Dispatcher {
    client: AgentClient,
}

impl Dispatcher {
    /// A dispatcher whose exchanges take at most `order_timeout_ms`, over TLS if
    /// there is any.
    pub fn new(timing: &Timing, tls: Option<Arc<ClientConfig>>) -> Self {
        let timeout = Duration::from_millis(timing.order_timeout_ms);
        let client = match tls {
            Some(config) => AgentClient::secured(timeout, config),
            None => AgentClient::new(timeout),
        };
        Self { client }
    }

    /// Delivers an order; its answer goes to `handle`, always.
    pub fn send(&self, order: Order, handle: SchedulerHandle) {
        let client = self.client.clone();
        tokio::spawn(async move {
            let Order { address, fence, body } = order;
            let address = client.at(&fence.node, &address);
            let (node, incarnation) = (fence.node.clone(), fence.incarnation);
            let (id, kind, answer) = match body {
                OrderBody::Run(run) => {
                    let id = run.id.clone();
                    let answer = client.run(&address, &RunRequest { fence, order: *run }).await;
                    (id, OrderKind::Run, answer)
                }
                OrderBody::Stop { id, drain_ms, why } => {
                    let request = StopRequest { fence, drain_ms, why };
                    let answer = client.stop(&address, &id, &request).await;
                    (id, OrderKind::Stop, answer)
                }
            };
            let answer = match answer {
                Ok(accepted) => OrderAnswer::Accepted(accepted),
                Err(ClientError::Api(error)) => OrderAnswer::Refused(error),
                Err(error) => {
                    tracing::debug!("order for {id} on {node} was not answered: {error}");
                    OrderAnswer::Unanswered(error.to_string())
                }
            };
            handle.answered(Input::Answered { node, id, kind, incarnation, answer }).await;
        });
    }
}
