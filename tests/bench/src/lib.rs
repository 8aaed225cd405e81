//! Benchmarks. Each puts what it measures beside its floor (what could not be
//! beaten) or a peer, from the same run. Nothing here is a test; `--smoke` only
//! shows that each still runs.
//!
//! - [`docker`]: deploy, scale and delete beside the raw Docker API
//! - [`healing`]: from `die` to the replacement's `start`; rolling updates
//! - [`swarm`]: the same beside Swarm, on a Docker daemon of its own
//! - [`small`]: cold start, memory, size
//! - [`api`]: reads and durable writes
//! - [`core`]: the pure core's passes from 10³ to 10⁶ instances
//! - [`million`]: 5,000 simulated nodes, 1,000,000 containers
//! - [`page`]: the dashboard
//! - [`abuse`]: thousands of callers that do not mean well

pub mod abuse;
pub mod api;
pub mod core;
pub mod daemon;
pub mod docker;
pub mod healing;
pub mod million;
pub mod page;
pub mod plot;
pub mod publish;
pub mod report;
pub mod run;
pub mod small;
pub mod swarm;

use std::time::{Duration, Instant};

use clap::ValueEnum;

use report::{Group, attempt};
use run::Plan;

/// No benchmark takes longer than this, or it is given up.
const LIMIT: Duration = Duration::from_secs(900);

/// The benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// Deploy, scale, delete
    Docker,
    /// Replacement and rolling update
    Healing,
    /// Cold start, memory, size
    Small,
    /// Reads and durable writes
    Api,
    /// The pure core
    Core,
    /// Beside Swarm
    Swarm,
    /// A million simulated containers
    Million,
    /// The dashboard
    Page,
    /// Thousands of callers that do not mean well
    Abuse,
}

impl Bench {
    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Bench::Docker => "docker",
            Bench::Healing => "healing",
            Bench::Small => "small",
            Bench::Api => "api",
            Bench::Core => "core",
            Bench::Swarm => "swarm",
            Bench::Million => "million",
            Bench::Page => "page",
            Bench::Abuse => "abuse",
        }
    }

    /// Measures. What cannot be measured says why in its row.
    pub async fn run(self, plan: &Plan) -> Group {
        let (at, load_before, began) = (
            jiff::Timestamp::now().strftime("%F %H:%M UTC").to_string(),
            run::load(),
            Instant::now(),
        );
        let mut curves = Vec::new();
        let part = async {
            match self {
                Bench::Docker => docker::run(plan).await,
                Bench::Healing => healing::run(plan).await,
                Bench::Small => small::run(plan).await,
                Bench::Api => api::run(plan).await,
                Bench::Core => core::run(plan, &mut curves).await,
                Bench::Swarm => swarm::run(plan).await,
                Bench::Million => million::run(plan).await,
                Bench::Page => page::run(plan).await,
                Bench::Abuse => abuse::run(plan).await,
            }
        };
        let rows = attempt(self.name(), LIMIT, part).await;
        Group { at, load_before, took: began.elapsed().as_secs_f64(), rows, curves }
    }
}
