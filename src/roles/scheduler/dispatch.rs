//! Carries orders to agents. Each in a task of its own: one slow agent holds up
//! nobody else.

use std::time::Duration;

use super::driver::SchedulerHandle;
use super::message::{Input, Order, OrderAnswer, OrderBody, OrderKind};
use super::vitals::Vitals;
use crate::client::{AgentClient, ClientError};
use crate::model::Timing;
use crate::model::wire::{RunRequest, StopRequest};

/// Sends orders and reports their answers.
pub struct Dispatcher {
    client: AgentClient,
    vitals: Vitals,
}

impl Dispatcher {
    /// A dispatcher whose exchanges take at most `order_timeout_ms`.
    pub fn new(timing: &Timing, vitals: Vitals) -> Self {
        let client = AgentClient::new(Duration::from_millis(timing.order_timeout_ms));
        Self { client, vitals }
    }

    /// Delivers an order; its answer goes to `handle`, always.
    pub fn send(&self, order: Order, handle: SchedulerHandle) {
        let (client, vitals) = (self.client.clone(), self.vitals.clone());
        vitals.orders.inc();
        vitals.in_flight.inc();
        tokio::spawn(async move {
            let Order { address, fence, body } = order;
            let (node, incarnation) = (fence.node.clone(), fence.incarnation);
            let (id, kind, answer) = match body {
                OrderBody::Run(run) => {
                    let id = run.id.clone();
                    let client = client.on_behalf_of(id.as_str());
                    let answer = client.run(&address, &RunRequest { fence, order: *run }).await;
                    (id, OrderKind::Run, answer)
                }
                OrderBody::Stop { id, drain_ms, why } => {
                    let request = StopRequest { fence, drain_ms, why };
                    let client = client.on_behalf_of(id.as_str());
                    let answer = client.stop(&address, &id, &request).await;
                    (id, OrderKind::Stop, answer)
                }
            };
            vitals.in_flight.dec();
            let answer = match answer {
                Ok(accepted) => OrderAnswer::Accepted(accepted),
                Err(ClientError::Api(error)) => OrderAnswer::Refused(error),
                Err(error) => {
                    vitals.unanswered.inc();
                    tracing::debug!("order for {id} on {node} was not answered: {error}");
                    OrderAnswer::Unanswered(error.to_string())
                }
            };
            handle.answered(Input::Answered { node, id, kind, incarnation, answer }).await;
        });
    }
}
