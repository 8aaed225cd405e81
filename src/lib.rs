//! kube-lite: a mini Kubernetes in one binary.

pub mod client;
pub mod http;
pub mod model;
pub mod roles;
