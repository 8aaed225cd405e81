//! kube-lite: a mini Kubernetes in one binary.
//!
//! Two roles do the work; each has a *core* that decides (synchronous, no clock,
//! no I/O, no randomness: all of that comes in as arguments) and *shells* that
//! carry out. Each core is owned by exactly one task.
//!
//! ```text
//!  ctl, curl, agents ──HTTP──▶ http::server ──▶ scheduler::server
//!                                                    │  Input + oneshot   (bounded inbox)
//!                                                    ▼
//!                      scheduler::driver ── owns ── scheduler::core      one task
//!        store ◀── records ──┤ (one fsync per batch, before anything else leaves)
//!     recorder ◀── copies ───┤ (a thread, if asked for; bounded, never waited for)
//!      readers ◀── Snapshot ─┤ (watch channel; a structure-sharing clone)
//!       agents ◀── orders ───┘ (scheduler::dispatch, a task each; answers come back as Input)
//!
//!  scheduler ──orders──▶ agent::server ──▶ agent::driver ── owns ── agent::core   one task
//!                                             │   ▲
//!                                     actions │   │ outcomes, Docker's events, probe results
//!                                             ▼   │
//!                          agent::docker, agent::health, agent::heartbeat   a task per action
//! ```
//!
//! | to learn about | read |
//! |---|---|
//! | what is said between the parts | [`model`], [`model::wire`] |
//! | how the gap between desired and actual is closed | `roles/scheduler/reconcile.rs` |
//! | how a change goes without downtime | [`roles::scheduler::rollout`], [`roles::scheduler::waves`] |
//! | where a new instance goes, and why not elsewhere | [`roles::scheduler::placement`] |
//! | what follows when a container ends | [`roles::scheduler::replica`] |
//! | what a live page is told | `roles/scheduler/changes.rs`, `…/server/live.rs`; the page itself is in `ui/` |
//! | who is alive | `roles/scheduler/registry.rs` |
//! | how what was decided is recorded and decided again | [`roles::scheduler::recording`], [`roles::scheduler::replay`] |
//! | how an agent turns orders into containers | [`roles::agent`] |
//! | limits, timeouts and errors of both servers | [`http`] |
//! | who is who, and who may do what | [`identity`], [`identity::access`] |
//! | what is told to Prometheus and to systemd | [`metrics`], [`notify`] |

pub mod cli;
pub mod client;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod model;
pub mod notify;
pub mod paths;
pub mod planted;
pub mod roles;

/// This build: its version, and the commit it was made of where that is known.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("KUBE_LITE_COMMIT"));
