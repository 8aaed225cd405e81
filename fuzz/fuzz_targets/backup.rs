//! `kube_lite_fuzz::backup`
#![cfg_attr(any(fuzzing, feature = "libfuzzer"), no_main)]

#[cfg(any(fuzzing, feature = "libfuzzer"))]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kube_lite_fuzz::backup(bytes));

#[cfg(not(any(fuzzing, feature = "libfuzzer")))]
fn main() {}
