//! `kube_lite_fuzz::heartbeat`
#![cfg_attr(any(fuzzing, feature = "libfuzzer"), no_main)]

#[cfg(any(fuzzing, feature = "libfuzzer"))]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kube_lite_fuzz::heartbeat(bytes));

#[cfg(not(any(fuzzing, feature = "libfuzzer")))]
fn main() {}
