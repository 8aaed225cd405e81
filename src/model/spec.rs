//! What the user wants: [`WorkloadSpec`], and the part of it that makes a
//! revision: [`Template`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{EnvSource, LogLimits, Mount, Resources, WorkloadId};

/// A workload as its user writes it (DESIGN section 5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// DNS label; identifies the workload.
    pub name: WorkloadId,
    /// Accepted for symmetry with what is read back; must equal `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<WorkloadId>,
    /// How many replicas are wanted. Left out: 1 on create, unchanged on update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Seconds an instance must have been running and healthy to count as ready.
    #[serde(default)]
    pub min_ready_seconds: u32,
    /// How a change of the template is carried out.
    #[serde(default)]
    pub strategy: Strategy,
    // The rest is the template, spelled out rather than flattened: serde cannot
    // report unknown fields or positions through a flattened struct.
    /// See [`Template::image`].
    pub image: String,
    /// See [`Template::command`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// See [`Template::args`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// See [`Template::env`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_keys")]
    pub env: BTreeMap<String, String>,
    /// See [`Template::ports`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// See [`Template::restart_policy`].
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// See [`Template::health_check`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckSpec>,
    /// See [`Template::pull_policy`].
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// See [`Template::stop_grace_period_seconds`].
    #[serde(default = "ten")]
    pub stop_grace_period_seconds: u32,
    /// See [`Template::resources`].
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// See [`Template::logs`].
    #[serde(default, skip_serializing_if = "LogLimits::is_empty")]
    pub logs: LogLimits,
    /// See [`Template::mounts`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// See [`Template::env_from`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvSource>,
    /// See [`Template::restarted_at`]. Left out on update: unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
}

impl WorkloadSpec {
    /// The part of it that makes a revision.
    pub fn template(&self) -> Template {
        Template {
            image: self.image.clone(),
            command: self.command.clone(),
            args: self.args.clone(),
            env: self.env.clone(),
            ports: self.ports.clone(),
            restart_policy: self.restart_policy,
            health_check: self.health_check.clone(),
            pull_policy: self.pull_policy,
            stop_grace_period_seconds: self.stop_grace_period_seconds,
            resources: self.resources,
            logs: self.logs,
            mounts: self.mounts.clone(),
            env_from: self.env_from.clone(),
            restarted_at: self.restarted_at.clone(),
        }
    }

    /// What it may use and is shown of its node, in words; `None`: nothing is said.
    pub fn limits_text(&self) -> Option<String> {
        let Resources { memory, cpus, pids } = self.resources;
        let mut limits = Vec::new();
        limits.extend(memory.map(|memory| format!("{memory} of memory")));
        limits.extend(cpus.map(|cpus| format!("{cpus} CPUs")));
        limits.extend(pids.map(|pids| format!("{pids} processes")));
        limits.extend(self.logs.max_size.map(|size| format!("log files of {size}")));
        limits.extend(self.logs.max_files.map(|files| format!("{files} log files")));
        let mut parts = Vec::new();
        if !limits.is_empty() {
            parts.push(format!("at most {}", limits.join(", ")));
        }
        for Mount { source, target, read_only } in &self.mounts {
            let how = if *read_only { " to read" } else { "" };
            parts.push(format!("{source} at {target}{how}"));
        }
        for from in &self.env_from {
            parts.push(format!("variables from {}", from.file));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// The same workload made of another template.
    pub fn with_template(self, template: Template) -> Self {
        let Self { name, id, replicas, min_ready_seconds, strategy, .. } = self;
        let Template {
            image,
            command,
            args,
            env,
            ports,
            restart_policy,
            health_check,
            pull_policy,
            stop_grace_period_seconds,
            resources,
            logs,
            mounts,
            env_from,
            restarted_at,
        } = template;
        Self {
            name,
            id,
            replicas,
            min_ready_seconds,
            strategy,
            image,
            command,
            args,
            env,
            ports,
            restart_policy,
            health_check,
            pull_policy,
            stop_grace_period_seconds,
            resources,
            logs,
            mounts,
            env_from,
            restarted_at,
        }
    }
}

/// The part of a spec whose change makes a new revision: all of it but
/// `replicas`, `minReadySeconds` and `strategy`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Image reference, e.g. `nginx:1.27` or `registry:5000/app@sha256:…`.
    pub image: String,
    /// Replaces the image's entry point when not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Replaces the image's default arguments when not empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "unique_keys")]
    pub env: BTreeMap<String, String>,
    /// Ports to expose and publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// What happens when a container ends by itself.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// How its health is probed; without, it is healthy once running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckSpec>,
    /// When the registry is asked for the image.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Seconds between SIGTERM and SIGKILL.
    #[serde(default = "ten")]
    pub stop_grace_period_seconds: u32,
    /// What it may use of its node. This and what follows was added to the format:
    /// where nothing is said, it is written as it was before.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// How much of its log is kept.
    #[serde(default, skip_serializing_if = "LogLimits::is_empty")]
    pub logs: LogLimits,
    /// Files and directories of the node that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Files on the node with further environment variables. Of two with the same
    /// variable the later one counts, and [`Template::env`] before either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvSource>,
    /// When a restart was last asked for, RFC 3339. Nothing but a mark: it makes
    /// a template that is otherwise the same another one, hence a new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
}

/// A port of the container, published on a port of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The port the process in the container listens on.
    pub container_port: u16,
    /// The port asked for on the host; 0: Docker picks one.
    #[serde(default)]
    pub host_port: u16,
    /// `tcp` or `udp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Exactly `hostPort` or nothing: at most one replica per Docker daemon.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
}

/// Transport protocol of a port.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `"tcp"` or `"udp"`, as Docker spells them.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// An HTTP probe from the agent to the container's own address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheckSpec {
    /// Path of the GET; 2xx and 3xx pass.
    #[serde(default = "slash")]
    pub path: String,
    /// A port of the container; it need not be published.
    pub port: u16,
    /// Seconds between two probes.
    #[serde(default = "five")]
    pub interval_seconds: u32,
    /// Seconds until a probe without an answer has failed.
    #[serde(default = "two")]
    pub timeout_seconds: u32,
    /// Failures in a row that make it unhealthy; as many again: a restart.
    #[serde(default = "three")]
    pub failure_threshold: u32,
    /// Seconds it may take until the first success.
    #[serde(default = "sixty")]
    pub startup_seconds: u32,
}

/// What happens when a container ends by itself.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum RestartPolicy {
    /// It is replaced whatever its exit code.
    #[default]
    Always,
    /// It is replaced when its exit code is not 0; otherwise it is done.
    OnFailure,
    /// It is done whatever its exit code.
    Never,
}

/// When the registry is asked for the image.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum PullPolicy {
    /// Only when it is not on the node.
    #[default]
    IfNotPresent,
    /// Before each start.
    Always,
    /// Never; it must be on the node.
    Never,
}

/// How a change of the template is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// How many instances more than desired may exist meanwhile.
    #[serde(default = "extent_one")]
    pub max_surge: Extent,
    /// How many fewer than desired may be ready meanwhile. Left out: 0, but 1
    /// where a surge is impossible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Extent>,
    /// Seconds a new instance has, once running, to become ready.
    #[serde(default = "sixty")]
    pub progress_deadline_seconds: u32,
    /// Seconds between leaving `/discover` and SIGTERM.
    #[serde(default = "one")]
    pub drain_seconds: u32,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            max_surge: extent_one(),
            max_unavailable: None,
            progress_deadline_seconds: sixty(),
            drain_seconds: one(),
        }
    }
}

/// A number of replicas, absolute or as a share of those desired:
/// `2` or `"25%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So many replicas.
    Count(u32),
    /// So many percent of the desired replicas, 0 to 100.
    Percent(u8),
}

impl Serialize for Extent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Extent::Count(count) => serializer.serialize_u32(*count),
            Extent::Percent(percent) => serializer.collect_str(&format_args!("{percent}%")),
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Extent;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number such as 1, or a percentage from \"0%\" to \"100%\"")
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Extent, E> {
                u32::try_from(value)
                    .map(Extent::Count)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Extent, E> {
                text.strip_suffix('%')
                    .and_then(|digits| digits.parse().ok())
                    .filter(|percent| *percent <= 100)
                    .map(Extent::Percent)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A map whose keys are all different: JSON allows a key twice, and the last
/// one silently winning is not what anybody meant.
fn unique_keys<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut access: A,
        ) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = access.next_entry::<String, String>()? {
                if map.insert(key.clone(), value).is_some() {
                    return Err(serde::de::Error::custom(format!("duplicate field `{key}`")));
                }
            }
            Ok(map)
        }
    }
    deserializer.deserialize_map(Visitor)
}

fn slash() -> String {
    "/".to_owned()
}
fn one() -> u32 {
    1
}
fn two() -> u32 {
    2
}
fn three() -> u32 {
    3
}
fn five() -> u32 {
    5
}
fn ten() -> u32 {
    10
}
fn sixty() -> u32 {
    60
}
fn extent_one() -> Extent {
    Extent::Count(1)
}
