//! The roles the binary can take.

pub mod scheduler;
