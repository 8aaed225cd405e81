//! The thin layer over hyper that the scheduler and the agent share.
//!
//! A server is a [`Handler`]: a table of [`Route`]s and one function that
//! answers a [`Request`] with a [`Reply`] or an [`ApiError`]. Everything that
//! must hold for every request, however broken, is done here, once:
//!
//! ```text
//! exposure   whether it may listen there
//! server     accept, time out slow headers, drain at the end
//!   crowd    who is connected, and who makes room when all places are taken
//!   wire     one TCP connection: slow readers, lingering close
//!   dispatch one request: route → guard → query → body → handler → reply
//!     route    the table, and matching a path against it
//!     guard    who may pass: names of this server, browser origins, credentials
//!     cookie   a browser's session, and the page that it is good for
//!     body     read at most so much, for at most so long, and only JSON
//!     request  what a handler gets
//!     reply    what a handler gives: a value, bytes or a stream
//! ```
//!
//! Limits come from the table, so access tests and documentation can be
//! generated from it and a new route cannot be forgotten.

mod body;
pub mod cookie;
mod crowd;
mod dispatch;
pub mod exposure;
pub mod guard;
pub mod reply;
pub mod request;
pub mod route;
pub mod server;
mod wire;

pub use guard::{Caller, Hosts, Origins};
pub use reply::{Outflow, Reply};
pub use request::{Query, Request};
pub use route::{Access, Route, Timeouts, route_docs};
pub use server::{Limits, Options, Tls, bind, serve};

use crate::model::ApiError;

/// What a server does, apart from HTTP.
pub trait Handler: Send + Sync + 'static {
    /// Names each route, so that `handle` is one exhaustive `match`.
    type Call: Copy + std::fmt::Debug + Send + Sync + 'static;

    /// Where to turn with what is not to be had here.
    const ELSEWHERE: &'static str = "GET / of the scheduler lists what there is";

    /// Everything that can be asked.
    const ROUTES: &'static [Route<Self::Call>];

    /// Answers one request. It has passed the guard, its ids are well-formed,
    /// its query holds known parameters only and its body is within limits.
    fn handle(
        &self,
        request: Request<Self::Call>,
    ) -> impl Future<Output = Result<Reply, ApiError>> + Send;
}
