//! Who is who: people by tokens, nodes and the scheduler by certificates of the
//! cluster's own authority. There is no other PKI to run.
//!
//! ```text
//!  access       what a caller may do (pure)          ledger       who is known (pure)
//!  token        secrets as people carry them (pure)  credentials  the file `ctl` uses
//!  sessions     browsers that are signed in (pure)
//!  authority    the authority: signs certificates    tls          what both ends of a connection check
//!  keeper       the scheduler's side: judges, admits, renews, revokes; owns the files
//!  membership   the agent's side: joins, renews
//! ```
//!
//! Without `kube-lite scheduler --init` nothing of this is in use: a server is then
//! reached from its own machine only, and everybody there may do everything.

pub mod access;
pub mod authority;
pub mod credentials;
mod files;
pub mod keeper;
pub mod ledger;
pub mod membership;
pub mod message;
pub mod sessions;
pub mod tls;
pub mod token;

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, as certificates count them.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
