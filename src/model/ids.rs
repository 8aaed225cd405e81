//! Names of things. Each is a cheaply cloned string with a type of its own, so
//! that a node can never be passed where an instance is meant.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id_type! {
    /// A workload's name: a DNS label chosen by the user.
    WorkloadId
}
id_type! {
    /// A node's name: a DNS label, by default the host's name.
    NodeId
}
id_type! {
    /// One container's one life, e.g. `web-r3-x7k2p`. Given by the scheduler
    /// before the order is sent; also the Docker container's name.
    InstanceId
}
id_type! {
    /// One cluster: the scope in which epochs and instance ids mean anything.
    ClusterId
}
id_type! {
    /// One Docker daemon, as seen from outside: `hash(Docker ID, root dir, boot
    /// id)`. Host ports and start concurrency belong to it, not to a node.
    DaemonId
}

/// Letters of random suffixes: no vowels (no words), no look-alikes.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// How many letters a suffix has.
const SUFFIX_LETTERS: usize = 7;

/// A seven-letter suffix from a random draw (27^7, ten thousand million values): of
/// thousands of instances of one revision, over years, no two have the same.
pub fn suffix(mut draw: u64) -> String {
    let mut text = String::with_capacity(SUFFIX_LETTERS);
    for _ in 0..SUFFIX_LETTERS {
        let index = (draw % SUFFIX_ALPHABET.len() as u64) as usize;
        text.push(SUFFIX_ALPHABET[index] as char);
        draw /= SUFFIX_ALPHABET.len() as u64;
    }
    text
}

impl InstanceId {
    /// The id of a new instance of `workload` at `revision`.
    pub fn new(workload: &WorkloadId, revision: u64, draw: u64) -> Self {
        format!("{workload}-r{revision}-{}", suffix(draw)).into()
    }
}

/// Why `text` is no DNS label, in words that complete "… must …"; `None` when
/// it is one (RFC 1123: 1 to 63 of `a-z 0-9 -`, not starting or ending in `-`).
pub fn dns_label_problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("must not be empty");
    }
    if text.len() > 63 {
        return Some("must be at most 63 characters long");
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Some("must consist of lower-case letters a-z, digits and '-'");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Some("must start and end with a letter or digit");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels() {
        for good in ["a", "web", "web-1", "0", &"a".repeat(63)] {
            assert_eq!(dns_label_problem(good), None, "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", "a b", "../x", &"a".repeat(64)] {
            assert!(dns_label_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn suffixes_are_labels_and_differ() {
        let a = suffix(1);
        let b = suffix(2);
        assert_ne!(a, b);
        assert_eq!(a.len(), SUFFIX_LETTERS);
        assert_eq!(dns_label_problem(&a), None);
    }
}
