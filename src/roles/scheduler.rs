//! The scheduler: who is alive, desired versus actual, close the gap.

pub mod message;
