//! What the tests against the real thing share.
//!
//! - [`wait`]: bounded waits on conditions, the only way a test may wait
//! - [`process`]: real processes, killed with the test
//! - [`docker`]: Docker's own view of things, which is the truth; never ours
//! - [`census`]: whether Docker's view and the scheduler's agree
//! - [`chance`]: random moments from a seed that is printed
//! - [`sandbox`]: a `kube-lite dev` of the test's own
//! - [`hosts`]: several hosts, each with a network, a Docker daemon and an agent of its own
//! - [`network`]: network namespaces, wires between them, and what goes wrong on these
//! - [`second`]: a second Docker daemon in a network of its own
//! - [`siege`]: thousands of callers that do not mean well, and an honest one
//! - [`small_disk`]: a disk that is quickly full
//! - [`http`]: one-off HTTP requests to containers
//! - [`load`]: a client that picks endpoints and counts what fails
//! - [`machine`]: a machine that boots systemd
//! - [`replay`]: what was ready at every moment, by the scheduler's own events
//! - [`proxy`]: sockets that stall, throttle or vanish on demand
//! - [`registry`]: a registry on localhost

pub mod census;
pub mod chance;
pub mod docker;
pub mod hosts;
pub mod http;
pub mod load;
pub mod machine;
pub mod network;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod replay;
pub mod sandbox;
pub mod second;
pub mod siege;
pub mod small_disk;
pub mod wait;

pub use docker::Truth;
pub use hosts::Hosts;
pub use load::Load;
pub use process::Process;
pub use replay::Replay;
pub use sandbox::Sandbox;
pub use small_disk::SmallDisk;
pub use wait::{LONG, SHORT, until};
