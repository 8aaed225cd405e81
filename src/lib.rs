//! kube-lite.
