//! The simulator: the real scheduler core and the real agent core, with Docker,
//! disks, network and people that are made up, in one thread on a virtual clock.
//! A seed is a run. See `docs/simulator.md`.
//!
//! | room | what is in it |
//! |---|---|
//! | [`world`] | everything there is, and what is going to happen |
//! | [`clock`], [`rng`], [`trace`] | time, chance, and what is told |
//! | [`scheduler`], [`disk`] | the scheduler's process around its core |
//! | [`agent`] | an agent's process around its core |
//! | [`docker`], [`image`] | daemons, containers, and how these behave |
//! | [`network`] | messages, and what happens to them on their way |
//! | [`users`] | people |
//! | [`setup`], [`faults`] | what a seed decides, and what goes wrong |
//! | [`judge`] | what must hold |
//! | [`run`], [`soak`] | a seed from start to end, and many of them |

pub mod agent;
pub mod clock;
pub mod disk;
pub mod docker;
pub mod faults;
pub mod image;
pub mod judge;
pub mod network;
pub mod rng;
pub mod run;
pub mod scheduler;
pub mod setup;
pub mod soak;
pub mod trace;
pub mod users;
pub mod world;
