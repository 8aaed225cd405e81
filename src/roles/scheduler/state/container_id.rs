//! Docker's id of a container, kept small: there is one per instance.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// Docker's id of a container; empty until that is created. Docker's own are 64
/// hexadecimal digits and take half of that here; any other text is kept as it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ContainerId(Kept);

#[derive(Clone, PartialEq, Eq)]
enum Kept {
    Hash([u8; 32]),
    Text(Box<str>),
}

impl ContainerId {
    /// That of what is not created yet.
    pub fn none() -> Self {
        Self(Kept::Text(Box::default()))
    }

    /// Whether the container is yet to be created.
    pub fn is_none(&self) -> bool {
        matches!(&self.0, Kept::Text(text) if text.is_empty())
    }
}

impl From<String> for ContainerId {
    fn from(text: String) -> Self {
        match hash_of(text.as_bytes()) {
            Some(hash) => Self(Kept::Hash(hash)),
            None => Self(Kept::Text(text.into())),
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kept::Hash(hash) => hash.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Kept::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes of 64 hexadecimal digits in lower case; `None`: it is something else.
fn hash_of(text: &[u8]) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    if pairs.len() != hash.len() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        let hash = "0123456789abcdef".repeat(4);
        for text in ["", "a", "c-web-r1-x7k2p", &hash, &hash.to_uppercase(), &hash[1..]] {
            let id = ContainerId::from(text.to_owned());
            assert_eq!(id.to_string(), text);
            assert_eq!(id.is_none(), text.is_empty());
            assert_eq!(id, ContainerId::from(text.to_owned()));
        }
        assert!(matches!(ContainerId::from(hash).0, Kept::Hash(_)));
        assert_eq!(size_of::<ContainerId>(), 40);
    }
}
