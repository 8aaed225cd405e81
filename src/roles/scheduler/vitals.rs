//! How the scheduler itself does: counted by the task that owns the cluster and by
//! what carries its orders, read by whoever asks for metrics.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::seconds;

/// The figures. Clones share them.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// Batches of inputs decided on.
    pub passes: Counter,
    /// What deciding on a batch took.
    pub pass: Histogram,
    /// What writing a batch's records took.
    pub commit: Histogram,
    /// Batches that the disk refused.
    pub refusals: Counter,
    /// Heartbeats that came to the task.
    pub heartbeats: Counter,
    /// Orders that were sent.
    pub orders: Counter,
    /// Orders that were sent and are not answered yet.
    pub in_flight: Gauge,
    /// Orders that got no answer.
    pub unanswered: Counter,
}

impl Vitals {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self {
            passes: Counter::default(),
            pass: seconds(),
            commit: seconds(),
            refusals: Counter::default(),
            heartbeats: Counter::default(),
            orders: Counter::default(),
            in_flight: Gauge::default(),
            unanswered: Counter::default(),
        }
    }

    /// Puts them onto a page.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("passes", "Batches of inputs decided on", self.passes.clone());
        registry.register_with_unit(
            "pass",
            "What deciding on a batch of inputs took",
            Unit::Seconds,
            self.pass.clone(),
        );
        registry.register_with_unit(
            "commit",
            "What writing a batch of records durably took",
            Unit::Seconds,
            self.commit.clone(),
        );
        registry.register(
            "storage_refusals",
            "Batches that the disk refused",
            self.refusals.clone(),
        );
        registry.register("heartbeats", "Heartbeats of agents taken in", self.heartbeats.clone());
        registry.register("orders", "Orders sent to agents", self.orders.clone());
        registry.register(
            "orders_in_flight",
            "Orders sent to agents and not answered yet",
            self.in_flight.clone(),
        );
        registry.register(
            "orders_unanswered",
            "Orders to which no answer came; they are repeated",
            self.unanswered.clone(),
        );
    }
}

impl Default for Vitals {
    fn default() -> Self {
        Self::new()
    }
}
