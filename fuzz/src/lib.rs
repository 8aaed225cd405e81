//! What must hold of every parser of outside bytes, whatever the bytes: a function
//! for each, which panics where it does not. The fuzz targets (`fuzz_targets/`) call
//! them with what libFuzzer thinks of, `cargo test` with all that is kept in
//! `corpus/` (real examples, to begin from) and `found/` (what once made one panic).
//!
//! "It does not panic" alone says little. So each asserts more: what is taken is
//! written and read again as the same; what is refused is said in words, at a place;
//! what is taken can be acted on, by the real cores.

#![forbid(unsafe_code)]

mod docker;
mod http;
mod identity;
mod machines;
mod node;
mod people;
mod stored;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use docker::{docker_list, docker_logs, env_file, log_line};
pub use http::request;
pub use identity::{certificate, credentials, token};
pub use machines::{heartbeat, message};
pub use node::order;
pub use people::{spec, spec_file};
pub use stored::{backup, recording, records};

/// A parser's check.
pub type Check = fn(&[u8]);

/// All there are. A name is that of a target, of its file in `fuzz_targets/`, and of its
/// directories in `corpus/` and `found/`.
pub const TARGETS: &[(&str, Check)] = &[
    ("spec", spec),
    ("spec_file", spec_file),
    ("message", message),
    ("heartbeat", heartbeat),
    ("order", order),
    ("token", token),
    ("credentials", credentials),
    ("certificate", certificate),
    ("request", request),
    ("docker_list", docker_list),
    ("docker_logs", docker_logs),
    ("env_file", env_file),
    ("log_line", log_line),
    ("records", records),
    ("backup", backup),
    ("recording", recording),
];

/// What is written is read as the same.
#[track_caller]
fn survives_writing<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_vec(value).expect("it can be written");
    let again: T = match serde_json::from_slice(&text) {
        Ok(again) => again,
        Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&text)),
    };
    assert_eq!(*value, again, "{}", String::from_utf8_lossy(&text));
}

/// A sentence for people: it says something, and nothing in it forges a line of a log
/// or colours a terminal.
#[track_caller]
fn is_a_sentence(text: &str) {
    assert!(text.len() > 10, "it says nothing: {text:?}");
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

/// The lines of an input that stands for several messages.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn here(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn entries(path: PathBuf) -> Vec<PathBuf> {
        let all = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut all: Vec<PathBuf> = all.map(|entry| entry.path()).collect();
        all.sort();
        all
    }

    fn names(path: &str) -> BTreeSet<String> {
        let stems =
            entries(here(path)).into_iter().filter_map(|path| path.file_stem().map(Into::into));
        stems.filter_map(|stem: std::ffi::OsString| stem.into_string().ok()).collect()
    }

    #[test]
    fn what_is_kept_holds() {
        for (name, check) in TARGETS {
            let examples = entries(here("corpus").join(name));
            assert!(!examples.is_empty(), "{name} has nothing to begin from");
            for path in examples.into_iter().chain(entries(here("found").join(name))) {
                let bytes = std::fs::read(&path).expect("an input");
                let held = std::panic::catch_unwind(|| check(&bytes));
                assert!(held.is_ok(), "{}: see above", path.display());
            }
        }
    }

    #[test]
    fn no_target_is_forgotten() {
        let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("fuzz_targets"), known);
        assert_eq!(names("corpus"), known);
        assert!(names("found").is_subset(&known), "{:?}", names("found"));
        let manifest = std::fs::read_to_string(here("Cargo.toml")).expect("the manifest");
        for name in known {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
            let target = here("fuzz_targets").join(format!("{name}.rs"));
            let target = std::fs::read_to_string(target).expect("the target");
            assert!(target.contains(&format!("kube_lite_fuzz::{name}(bytes)")), "{name}");
        }
    }
}
