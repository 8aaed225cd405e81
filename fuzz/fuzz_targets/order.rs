//! `kube_lite_fuzz::order`
#![cfg_attr(any(fuzzing, feature = "libfuzzer"), no_main)]

#[cfg(any(fuzzing, feature = "libfuzzer"))]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kube_lite_fuzz::order(bytes));

#[cfg(not(any(fuzzing, feature = "libfuzzer")))]
fn main() {}
