//! The roles the binary can take.

pub mod agent;
pub mod ctl;
pub mod dev;
pub mod scheduler;
pub mod signals;
