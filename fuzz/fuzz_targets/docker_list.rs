//! `kube_lite_fuzz::docker_list`
#![cfg_attr(any(fuzzing, feature = "libfuzzer"), no_main)]

#[cfg(any(fuzzing, feature = "libfuzzer"))]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kube_lite_fuzz::docker_list(bytes));

#[cfg(not(any(fuzzing, feature = "libfuzzer")))]
fn main() {}
