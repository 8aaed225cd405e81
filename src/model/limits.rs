//! What a container may use of its node: memory, CPUs, processes, log files, and
//! the files and directories that the node's own agent allows.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Processes and threads of a container, where its spec gives no number. Enough for
/// nearly anything, and too few for a fork bomb to take the node with it: a kernel
/// has some 32,000 in all.
pub const DEFAULT_PIDS: u32 = 4_096;
/// Bytes of one log file, where the spec says nothing.
pub const DEFAULT_LOG_SIZE: ByteSize = ByteSize(10_000_000);
/// Log files kept per container, where the spec says nothing. Without a bound, as
/// Docker has it, one talkative container fills the disk of its node.
pub const DEFAULT_LOG_FILES: u32 = 3;

/// What a container may use. What is not given is not limited, but for `pids`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Memory, swap included; a container that needs more is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// CPU time; a container that wants more has to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Processes and threads at a time; left out: [`DEFAULT_PIDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
}

impl Resources {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How much of a container's log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLimits {
    /// Bytes of one file; left out: [`DEFAULT_LOG_SIZE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<ByteSize>,
    /// Files kept, the current one included; left out: [`DEFAULT_LOG_FILES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u32>,
}

impl LogLimits {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A file or directory of the node, shown in the container. Nodes allow none but
/// those that their own command line names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where it is on the node, absolute.
    pub source: String,
    /// Where it is seen in the container, absolute.
    pub target: String,
    /// The container may not change it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// Environment variables that are kept on the nodes and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvSource {
    /// The name of a file of `NAME=value` lines in the agent's `--env-dir`.
    pub file: String,
}

/// A number of bytes: `268435456`, or with a unit, `"256Mi"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// As Kubernetes has them. `m` is a thousandth there and a million bytes nowhere.
const UNITS: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl ByteSize {
    /// Reads `4096`, `256Mi` or `512M`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let times = match unit {
            "" => 1,
            _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        number.parse::<u64>().ok()?.checked_mul(times).map(Self)
    }
}

/// With the largest unit that leaves it exact.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        match UNITS.iter().filter(exact).max_by_key(|(_, unit)| *unit) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl Visitor<'_> for Sizes {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a whole number of bytes, or one with a unit (Ki, Mi, Gi, Ti; k, M, G, T for \
                     powers of 1000) in quotes: 268435456 or \"256Mi\"",
                )
            }

            fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                let size = ByteSize::parse(text);
                size.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Sizes)
    }
}

/// A number of CPUs in thousandths: 500 is half a CPU. In JSON `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpus(pub u32);

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1_000.0)
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.is_multiple_of(1_000) {
            true => serializer.serialize_u32(self.0 / 1_000),
            false => serializer.serialize_f64(f64::from(self.0) / 1_000.0),
        }
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = Cpus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a number of CPUs with at most three decimals, without quotes: 0.5 or 2",
                )
            }

            fn visit_u64<E: Error>(self, cpus: u64) -> Result<Cpus, E> {
                let milli = cpus.checked_mul(1_000).and_then(|milli| u32::try_from(milli).ok());
                milli.map(Cpus).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(cpus), &self))
            }

            fn visit_f64<E: Error>(self, cpus: f64) -> Result<Cpus, E> {
                let milli = (cpus * 1_000.0).round();
                let fits = (0.0..=f64::from(u32::MAX)).contains(&milli)
                    && (milli / 1_000.0 - cpus).abs() < 1e-9;
                match fits {
                    true => Ok(Cpus(milli as u32)),
                    false => Err(E::invalid_value(Unexpected::Float(cpus), &self)),
                }
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        // As given, in bytes, as shown.
        let cases = [
            (json!(0), 0, "0"),
            (json!(1_000), 1_000, "1k"),
            (json!(1_025), 1_025, "1025"),
            (json!("4096"), 4_096, "4Ki"),
            (json!("256Mi"), 256 << 20, "256Mi"),
            (json!("1024Mi"), 1 << 30, "1Gi"),
            (json!("1Gi"), 1 << 30, "1Gi"),
            (json!("512M"), 512_000_000, "512M"),
            (json!("10k"), 10_000, "10k"),
            (json!("3T"), 3_000_000_000_000, "3T"),
        ];
        for (given, bytes, shown) in cases {
            let size: ByteSize = serde_json::from_value(given.clone()).unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{given}");
            let again: ByteSize = serde_json::from_value(json!(size)).unwrap();
            assert_eq!(again, size, "{given}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let cases = [
            json!(""),
            json!("Mi"),
            json!("256m"),
            json!("256MB"),
            json!("256 Mi"),
            json!("1.5Gi"),
            json!("-1"),
            json!("99999999999999999999"),
            json!("99999999999Ti"),
            json!(-1),
            json!(1.5),
            json!(true),
            json!([]),
        ];
        for given in cases {
            let read = serde_json::from_value::<ByteSize>(given.clone());
            let error = read.expect_err(&given.to_string()).to_string();
            assert!(error.contains("256Mi") && error.contains("powers of 1000"), "{error}");
        }
    }

    #[test]
    fn cpus_are_read_and_shown() {
        for (given, milli) in
            [(json!(0.5), 500), (json!(2), 2_000), (json!(0.001), 1), (json!(1.234), 1_234)]
        {
            let cpus: Cpus = serde_json::from_value(given.clone()).unwrap();
            assert_eq!(cpus.0, milli);
            assert_eq!((json!(cpus), cpus.to_string()), (given.clone(), given.to_string()));
        }
        for given in
            [json!(-1), json!(-0.5), json!(0.0001), json!(1e300), json!("0.5"), Value::Bool(true)]
        {
            let read = serde_json::from_value::<Cpus>(given.clone());
            let error = read.expect_err(&given.to_string()).to_string();
            assert!(error.contains("three decimals"), "{error}");
        }
    }
}
