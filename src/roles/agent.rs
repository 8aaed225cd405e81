//! The agent: owns Docker on one node, carries out the scheduler's orders, and
//! reports what it has.

mod adopt;
mod autonomy;
mod contact;
pub mod core;
mod images;
pub mod instance;
mod launch;
mod lifecycle;
pub mod message;
mod orders;
pub mod probe;
mod retention;
mod snapshot;

#[cfg(test)]
mod tests;
