//! The scheduler: who is alive, desired versus actual, close the gap.

pub mod chronicle;
pub mod core;
mod dispatch;
pub mod driver;
pub mod durable;
mod explain;
mod intake;
pub mod message;
mod orders;
pub mod placement;
mod reconcile;
mod registry;
pub mod replica;
pub mod state;
pub mod store;
mod users;
pub mod views;
