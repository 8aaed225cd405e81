//! The `kube-lite` binary.
fn main() {}
