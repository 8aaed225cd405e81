//! The roles the binary can take.

pub mod agent;
pub mod ctl;
pub mod scheduler;
pub mod signals;
