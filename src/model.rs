//! The shared language of scheduler, agent and command line.
//!
//! Everything here is a plain value. Nothing reads a clock, draws a random
//! number or touches a socket, so every decision in the project can be written
//! as a function over these types.
//!
//! JSON is camelCase. What *people* send is parsed strictly ([`parse`]); what
//! machines send each other ignores fields it does not know, so that one
//! release of skew works in both directions.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

pub mod draws;
pub mod error;
pub mod ids;
pub mod instance;
pub mod limits;
pub mod parse;
pub mod reason;
pub mod spec;
pub mod timing;
pub mod validate;
pub mod view;
pub mod wall;
pub mod wire;

pub use draws::Draws;
pub use error::ApiError;
pub use ids::{ClusterId, DaemonId, InstanceId, NodeId, WorkloadId};
pub use instance::{ContainerInstance, Health, Phase, PublishedPort};
pub use limits::{ByteSize, Cpus, EnvSource, LogLimits, Mount, Resources};
pub use reason::{Reason, Why};
pub use spec::{
    Extent, HealthCheckSpec, PortMapping, Protocol, PullPolicy, RestartPolicy, Strategy, Template,
    WorkloadSpec,
};
pub use timing::Timing;
