//! What several test binaries share; none uses all of it.
#![allow(dead_code)]

pub mod agent;
pub mod bad_requests;
pub mod raw;
pub mod scheduler;
