//! The roles the binary can take.

pub mod ctl;
pub mod scheduler;
