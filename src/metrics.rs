//! What both servers tell Prometheus: `GET /metrics`, in its text format.
//!
//! Figures are counted where they arise, in values that everybody shares, or taken
//! from what is published anyway: nobody who asks is waited for by a task that decides.

use std::fmt::Debug;
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::http::Reply;
use crate::model::ApiError;

/// The content type of what [`page`] makes.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values, e.g. `status="alive"`.
pub type Labels<const N: usize> = [(&'static str, String); N];

/// A number of things of each kind, as of now.
pub type Gauges = Family<Labels<1>, Gauge>;

/// Sets the value of one kind.
pub fn set(gauges: &Gauges, label: &'static str, value: &str, number: u64) {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    gauges.get_or_create(&[(label, value.to_owned())]).set(number);
}

/// A histogram of seconds, from 10 µs to 10 s.
pub fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 4.0, 11))
}

/// A page of metrics of this program in this role.
///
/// # Errors
/// 500 when they cannot be written, which is a bug.
pub fn page(role: &str, fill: impl FnOnce(&mut Registry)) -> Result<Reply, ApiError> {
    let mut registry = Registry::with_prefix("kube_lite");
    let build = Gauges::default();
    set(&build, "version", crate::VERSION, 1);
    let help = format!("The program, a {role}; always 1");
    registry.register("build", help, build);
    fill(&mut registry);
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => Ok(Reply::bytes(200, OPEN_METRICS, text)),
        Err(error) => Err(ApiError::new(
            500,
            "Internal",
            format!("This is a bug in kube-lite: the metrics cannot be written ({error})."),
        )),
    }
}

/// The requests that a server has handled. Those that it turned away before (no such
/// path, not allowed, too large) are not among them. Clones share their counts.
#[derive(Clone)]
pub struct Requests {
    answered: Family<Labels<2>, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
}

impl Requests {
    /// None yet.
    pub fn new() -> Self {
        Self { answered: Family::default(), seconds: Family::new_with_constructor(seconds) }
    }

    /// One has come in, for this route.
    pub fn begin(&self, call: impl Debug) -> Begun {
        Begun { requests: self.clone(), call: format!("{call:?}"), at: Instant::now(), status: 0 }
    }

    /// Puts them onto a page.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests handled, by route and HTTP status; status 0: the caller left, or it took too long",
            self.answered.clone(),
        );
        registry.register(
            "request_seconds",
            "From a request, read to its end, to its answer; of streams, to their beginning",
            self.seconds.clone(),
        );
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

/// A request that is being handled. Counted when dropped, however it ends.
#[derive(Debug)]
pub struct Begun {
    requests: Requests,
    call: String,
    at: Instant,
    status: u16,
}

impl Begun {
    /// It has been answered.
    pub fn end(mut self, answer: Result<Reply, ApiError>) -> Result<Reply, ApiError> {
        self.status = match &answer {
            Ok(reply) => reply.status().as_u16(),
            Err(error) => error.status,
        };
        answer
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let by_route = [("route", std::mem::take(&mut self.call))];
        let took = self.at.elapsed().as_secs_f64();
        self.requests.seconds.get_or_create(&by_route).observe(took);
        let [route] = by_route;
        let status = ("status", self.status.to_string());
        self.requests.answered.get_or_create(&[route, status]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    enum Call {
        Nodes,
        Logs,
    }

    #[tokio::test]
    async fn requests_are_counted_however_they_end() {
        let requests = Requests::new();
        let _ = requests.begin(Call::Nodes).end(Ok(Reply::text(200, "")));
        let _ = requests.begin(Call::Nodes).end(Err(ApiError::not_found("no")));
        drop(requests.begin(Call::Logs));
        let mut reply = page("scheduler", |registry| requests.register(registry)).unwrap();
        let text = String::from_utf8(reply.next_piece().await.unwrap().to_vec()).unwrap();
        for line in [
            "kube_lite_requests_total{route=\"Nodes\",status=\"200\"} 1",
            "kube_lite_requests_total{route=\"Nodes\",status=\"404\"} 1",
            "kube_lite_requests_total{route=\"Logs\",status=\"0\"} 1",
            "kube_lite_request_seconds_count{route=\"Nodes\"} 2",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
