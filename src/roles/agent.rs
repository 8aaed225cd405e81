//! The agent: owns Docker on one node, carries out the scheduler's orders, and
//! reports what it has.

mod adopt;
mod autonomy;
mod contact;
pub mod core;
pub mod docker;
mod images;
pub mod instance;
mod launch;
mod lifecycle;
pub mod message;
mod orders;
pub mod probe;
mod retention;
pub mod runtime;
mod snapshot;

#[cfg(test)]
mod tests;
