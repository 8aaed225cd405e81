//! To be written.
use super::WorkloadSpec;
/// stub
pub fn port_warnings(_spec: &WorkloadSpec, _desired: u32) -> Vec<String> {
    Vec::new()
}
