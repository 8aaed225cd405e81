//! Carries orders to agents. Each node has an outbox of its own, so that one slow
//! agent holds up nobody else. What collects in it while earlier orders are on
//! their way goes in one request: a single order leaves at once, a thousand take
//! a few requests.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::Semaphore;

use super::driver::Answers;
use super::message::{Input, Order, OrderAnswer, OrderBody, OrderKind};
use super::vitals::Vitals;
use crate::client::{AgentClient, ClientError};
use crate::model::wire::{Fence, OrderOutcome, OrdersRequest, RunRequest, StopRequest};
use crate::model::{ApiError, InstanceId, Timing};

/// Requests to one agent at a time: one that got lost must not hold up the rest.
const PER_NODE: usize = 2;
/// Requests to all agents at a time.
const IN_FLIGHT: usize = 256;
/// Orders in one request.
const BATCH: usize = 64;
/// About so many bytes make a request full.
const BATCH_BYTES: usize = 1 << 20;

/// Sends orders and reports their answers. Clones share the outboxes.
#[derive(Clone)]
pub struct Dispatcher {
    client: AgentClient,
    outboxes: Arc<Mutex<BTreeMap<String, Outbox>>>,
    in_flight: Arc<Semaphore>,
    vitals: Vitals,
}

/// What waits for one agent. Stops go first: what they free may be waited for.
#[derive(Default)]
struct Outbox {
    waiting: BTreeMap<(Reverse<OrderKind>, InstanceId), Order>,
    senders: usize,
    /// The agent is of a release that takes orders one by one only.
    takes_no_batches: bool,
}

impl Outbox {
    /// The orders of the next request; they all have one fence.
    fn take(&mut self) -> Vec<Order> {
        let most = if self.takes_no_batches { 1 } else { BATCH };
        let mut batch: Vec<Order> = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.waiting.first_entry() {
            let same_fence = batch.first().is_none_or(|first| first.fence == next.get().fence);
            bytes += next.get().body.size();
            let is_full = batch.len() >= most || bytes > BATCH_BYTES;
            if !batch.is_empty() && (!same_fence || is_full) {
                break;
            }
            batch.push(next.remove());
        }
        batch
    }
}

impl Dispatcher {
    /// A dispatcher whose exchanges take at most `order_timeout_ms`, over TLS if
    /// there is any.
    pub fn new(timing: &Timing, tls: Option<Arc<ClientConfig>>, vitals: Vitals) -> Self {
        let timeout = Duration::from_millis(timing.order_timeout_ms);
        let client = match tls {
            Some(config) => AgentClient::secured(timeout, config),
            None => AgentClient::new(timeout),
        };
        Self {
            client,
            outboxes: Arc::default(),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            vitals,
        }
    }

    /// Delivers orders; the answer to each goes to `answers`, always, but for one that
    /// was repeated before it left: that is one order.
    pub(super) fn send(&self, orders: Vec<Order>, answers: &Answers) {
        let mut outboxes = self.outboxes();
        for order in orders {
            let address = self.client.at(&order.fence.node, &order.address);
            let outbox = outboxes.entry(address.clone()).or_default();
            let key = (Reverse(order.body.kind()), order.body.id().clone());
            outbox.waiting.insert(key, order);
            if outbox.senders < PER_NODE {
                outbox.senders += 1;
                tokio::spawn(self.clone().empty(address, answers.clone()));
            }
        }
    }

    /// Sends what waits for one agent until nothing does.
    async fn empty(self, address: String, answers: Answers) {
        loop {
            // Who waits for a permit still collects.
            let Ok(_permit) = self.in_flight.acquire().await else { return };
            let batch = {
                let mut outboxes = self.outboxes();
                let Some(outbox) = outboxes.get_mut(&address) else { return };
                let batch = outbox.take();
                if batch.is_empty() {
                    outbox.senders -= 1;
                    if outbox.senders == 0 && !outbox.takes_no_batches {
                        outboxes.remove(&address);
                    }
                    return;
                }
                batch
            };
            self.deliver(&address, batch, &answers).await;
        }
    }

    async fn deliver(&self, address: &str, batch: Vec<Order>, to: &Answers) {
        let Some(Order { fence, .. }) = batch.first() else { return };
        let fence = fence.clone();
        let bodies: Vec<OrderBody> = batch.into_iter().map(|order| order.body).collect();
        let told: Vec<_> = bodies.iter().map(|body| (body.id().clone(), body.kind())).collect();
        let count = told.len();
        self.vitals.orders.inc_by(count as u64);
        self.vitals.in_flight.inc_by(count as i64);
        let answers = match <[OrderBody; 1]>::try_from(bodies) {
            Ok([body]) => vec![self.deliver_one(address, fence.clone(), body).await],
            Err(bodies) => self.deliver_all(address, fence.clone(), bodies).await,
        };
        self.vitals.in_flight.dec_by(count as i64);
        for ((id, kind), answer) in told.into_iter().zip(answers) {
            let (node, incarnation) = (fence.node.clone(), fence.incarnation);
            if let OrderAnswer::Unanswered(why) = &answer {
                self.vitals.unanswered.inc();
                tracing::debug!("order for {id} on {node} was not answered: {why}");
            }
            to.tell(Input::Answered { node, id, kind, incarnation, answer }).await;
        }
    }

    async fn deliver_one(&self, address: &str, fence: Fence, body: OrderBody) -> OrderAnswer {
        // One order is logged at both ends under the id of what it is about.
        let client = self.client.on_behalf_of(body.id().as_str());
        let answer = match body {
            OrderBody::Run(order) => {
                client.run(address, &RunRequest { fence, order: *order }).await
            }
            OrderBody::Stop { id, drain_ms, why } => {
                client.stop(address, &id, &StopRequest { fence, drain_ms, why }).await
            }
        };
        answer.map_or_else(not_taken, OrderAnswer::Accepted)
    }

    /// One answer for each of them.
    async fn deliver_all(
        &self,
        address: &str,
        fence: Fence,
        orders: Vec<OrderBody>,
    ) -> Vec<OrderAnswer> {
        let count = orders.len();
        let request = OrdersRequest { fence, orders };
        match self.client.orders(address, &request).await {
            Ok(outcomes) if outcomes.len() == count => {
                let answer = |outcome| match outcome {
                    OrderOutcome::Accepted(accepted) => OrderAnswer::Accepted(accepted),
                    OrderOutcome::Refused { status, error } => {
                        OrderAnswer::Refused(ApiError { status, ..error })
                    }
                };
                outcomes.into_iter().map(answer).collect()
            }
            Ok(outcomes) => {
                let why = format!("{} answers came for {count} orders", outcomes.len());
                vec![OrderAnswer::Unanswered(why); count]
            }
            Err(ClientError::Api(error)) if error.status == 404 => {
                if let Some(outbox) = self.outboxes().get_mut(address) {
                    outbox.takes_no_batches = true;
                }
                let mut answers = Vec::with_capacity(count);
                for body in request.orders {
                    answers.push(self.deliver_one(address, request.fence.clone(), body).await);
                }
                answers
            }
            Err(error) => vec![not_taken(error); count],
        }
    }

    fn outboxes(&self) -> MutexGuard<'_, BTreeMap<String, Outbox>> {
        self.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_taken(error: ClientError) -> OrderAnswer {
    match error {
        ClientError::Api(error) => OrderAnswer::Refused(error),
        error => OrderAnswer::Unanswered(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(id: &str, epoch: u64, why: usize) -> Order {
        let fence = Fence { cluster: "c".into(), node: "n1".into(), incarnation: 1, epoch };
        let body = OrderBody::Stop { id: id.into(), drain_ms: 0, why: "x".repeat(why) };
        Order { address: "a:1".to_owned(), fence, body }
    }

    fn outbox(orders: impl IntoIterator<Item = Order>) -> Outbox {
        let mut outbox = Outbox::default();
        for order in orders {
            outbox.waiting.insert((Reverse(order.body.kind()), order.body.id().clone()), order);
        }
        outbox
    }

    fn sizes(outbox: &mut Outbox) -> Vec<usize> {
        let mut taken = Vec::new();
        while !outbox.waiting.is_empty() {
            taken.push(outbox.take().len());
        }
        taken
    }

    #[test]
    fn requests_are_bounded_in_number_and_size() {
        let many = (0..150).map(|n| stop(&format!("i{n}"), 1, 1));
        assert_eq!(sizes(&mut outbox(many)), [64, 64, 22]);
        let large = (0..4).map(|n| stop(&format!("i{n}"), 1, 600_000));
        assert_eq!(sizes(&mut outbox(large)), [1, 1, 1, 1]);
        let mut old = outbox((0..3).map(|n| stop(&format!("i{n}"), 1, 1)));
        old.takes_no_batches = true;
        assert_eq!(sizes(&mut old), [1, 1, 1]);
    }

    #[test]
    fn one_request_has_one_fence_and_a_repeated_order_goes_once() {
        let mut both = outbox([stop("i1", 1, 1), stop("i2", 1, 1), stop("i3", 2, 1)]);
        assert_eq!(sizes(&mut both), [2, 1]);
        let mut twice = outbox([stop("i1", 1, 1), stop("i1", 2, 1)]);
        let taken = twice.take();
        assert_eq!(taken.iter().map(|order| order.fence.epoch).collect::<Vec<_>>(), [2]);
        assert!(twice.take().is_empty());
    }
}
