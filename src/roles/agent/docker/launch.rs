//! Creating and starting one container, so that doing it twice is doing it once
//! and a failure leaves nothing behind.

use std::collections::{BTreeMap, HashMap};

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigLogConfig, Mount,
    MountBindOptions, MountType, PortBinding,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};

use super::allowed::Refusal;
use super::list::{facts, inspect};
use super::trouble::{Trouble, create_reason, start_reason, within};
use super::{CHANGE, DockerRuntime, LOOK, lock, remove};
use crate::model::Reason;
use crate::roles::agent::message::{ContainerState, Launch, LaunchOutcome};

impl DockerRuntime {
    /// Creates and starts a container, and looks at what came of it.
    pub(super) async fn launch(&self, launch: &Launch) -> LaunchOutcome {
        let client = match self.daemon.client().await {
            Ok(client) => client,
            Err(trouble) => return LaunchOutcome::Unknown(trouble.to_string()),
        };
        let body = match self.prepare(launch).await {
            Ok(body) => body,
            Err(refusal) => return refuse(&client, launch, refusal).await,
        };
        let turn = self.daemon.starts.acquire().await;
        let started = match self.create(&client, launch, body).await {
            // What an earlier attempt started and what has ended since must not
            // run twice.
            Ok(made) if made.ended => Ok(made.id),
            Ok(made) => start(&client, launch, &made.id).await.map(|()| made.id),
            Err(outcome) => Err(outcome),
        };
        drop(turn); // what follows costs Docker next to nothing
        let container_id = match started {
            Ok(container_id) => container_id,
            Err(outcome) => return outcome,
        };
        match inspect(&client, &container_id).await {
            Ok(facts) => LaunchOutcome::Started(facts),
            Err(trouble) if trouble.is_not_found() => {
                let text = "its container was removed by somebody else right after its start";
                failed(Reason::Removed, text)
            }
            Err(trouble) => LaunchOutcome::Unknown(trouble.to_string()),
        }
    }

    /// What Docker is to be told, once the node allows what is asked of it.
    async fn prepare(&self, launch: &Launch) -> Result<ContainerCreateBody, Refusal> {
        if launch.mounts.is_empty() && launch.env_from.is_empty() {
            return Ok(body(launch, Vec::new(), BTreeMap::new()));
        }
        let (allowed, asked) = (self.allowed.clone(), launch.clone());
        // Files may lie on a disk that hangs, which must hold up nobody else.
        let looking = tokio::task::spawn_blocking(move || {
            let sources = asked.mounts.iter().map(|mount| allowed.source(mount));
            let sources = sources.collect::<Result<Vec<String>, Refusal>>()?;
            let variables = allowed.variables(&asked.env_from)?;
            Ok(body(&asked, sources, variables))
        });
        match tokio::time::timeout(LOOK, looking).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(Refusal {
                reason: Reason::NotOnNode,
                message: format!(
                    "the node did not tell within {} s what is in the files and directories it is \
                     to be given; a disk may hang",
                    LOOK.as_secs()
                ),
            }),
        }
    }

    /// Creates the container, or finds it created by the same order before.
    async fn create(
        &self,
        client: &Docker,
        launch: &Launch,
        body: ContainerCreateBody,
    ) -> Result<Made, LaunchOutcome> {
        let options = CreateContainerOptionsBuilder::new().name(launch.id.as_str()).build();
        match within(CHANGE, client.create_container(Some(options), body)).await {
            Ok(created) => {
                // A limit that this kernel cannot keep, for instance.
                for warning in created.warnings {
                    if lock(&self.daemon.warned).insert(warning.clone()) {
                        tracing::warn!(node = %self.node, "Docker warns of {}: {warning}", launch.id);
                    }
                }
                Ok(Made { id: created.id, ended: false })
            }
            Err(trouble) if trouble.is_conflict() => own_container(client, launch, &trouble).await,
            Err(trouble) => Err(match trouble.refusal() {
                None => LaunchOutcome::Unknown(trouble.to_string()),
                Some(said) if trouble.is_not_found() => failed(Reason::ImageNotFound, said),
                Some(said) => {
                    let (reason, text) = create_reason(said);
                    failed(reason, &text)
                }
            }),
        }
    }
}

/// A container that is there.
struct Made {
    id: String,
    ended: bool,
}

/// It is not to be started. What an earlier attempt has started is told of; what it
/// has only made goes.
async fn refuse(client: &Docker, launch: &Launch, refusal: Refusal) -> LaunchOutcome {
    let Refusal { reason, message } = refusal;
    let none = None::<InspectContainerOptions>;
    let found = match within(LOOK, client.inspect_container(launch.id.as_str(), none)).await {
        Ok(found) if is_ours(&found, launch) => facts(found),
        Err(trouble) if !trouble.is_not_found() => {
            return LaunchOutcome::Unknown(trouble.to_string());
        }
        Ok(_) | Err(_) => return failed(reason, &message),
    };
    if found.state != ContainerState::Created {
        return LaunchOutcome::Started(found);
    }
    let left_over = match remove(client, &found.container_id).await {
        Ok(()) => None,
        Err(_) => Some(found.container_id),
    };
    LaunchOutcome::Failed { reason, message, left_over }
}

/// Whether the container of our name was made for this order.
fn is_ours(found: &ContainerInspectResponse, launch: &Launch) -> bool {
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    labels.is_some_and(|labels| {
        launch.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    })
}

/// The container that has our name already: ours if it carries our labels.
async fn own_container(
    client: &Docker,
    launch: &Launch,
    conflict: &Trouble,
) -> Result<Made, LaunchOutcome> {
    let none = None::<InspectContainerOptions>;
    let found = match within(LOOK, client.inspect_container(launch.id.as_str(), none)).await {
        Ok(found) => found,
        // Gone again, or not to be asked: the next listing tells.
        Err(_) => return Err(LaunchOutcome::Unknown(conflict.to_string())),
    };
    if !is_ours(&found, launch) {
        let text = format!("there is another container called {} on the node", launch.id);
        return Err(failed(Reason::CreateFailed, &text));
    }
    let facts = facts(found);
    Ok(Made { ended: facts.state == ContainerState::Ended, id: facts.container_id })
}

/// Starts the container; one that cannot be started is removed.
async fn start(client: &Docker, launch: &Launch, container_id: &str) -> Result<(), LaunchOutcome> {
    let none = None::<StartContainerOptions>;
    let trouble = match within(CHANGE, client.start_container(container_id, none)).await {
        Ok(()) => return Ok(()),
        Err(trouble) => trouble,
    };
    let Some(said) = trouble.refusal() else {
        return Err(LaunchOutcome::Unknown(trouble.to_string()));
    };
    let (reason, message) = start_reason(said, &launch.ports);
    let left_over = match remove(client, container_id).await {
        Ok(()) => None,
        Err(_) => Some(container_id.to_owned()),
    };
    Err(LaunchOutcome::Failed { reason, message, left_over })
}

fn failed(reason: Reason, message: &str) -> LaunchOutcome {
    LaunchOutcome::Failed { reason, message: message.to_owned(), left_over: None }
}

/// What Docker is told about the container. `sources` are where its mounts lead,
/// `variables` what its files say; the spec's own and ours come before those.
fn body(
    launch: &Launch,
    sources: Vec<String>,
    mut variables: BTreeMap<String, String>,
) -> ContainerCreateBody {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let key = |port: &crate::roles::agent::message::BoundPort| {
        format!("{}/{}", port.container_port, port.protocol.as_str())
    };
    let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &launch.ports {
        let binding = PortBinding {
            host_ip: Some(port.host_ip.to_string()),
            host_port: Some(port.host_port.to_string()),
        };
        bindings.entry(key(port)).or_default().get_or_insert_default().push(binding);
    }
    for own in &launch.env {
        variables.remove(own.split_once('=').map_or(own.as_str(), |(name, _)| name));
    }
    let env = variables.into_iter().map(|(name, value)| format!("{name}={value}"));
    ContainerCreateBody {
        image: Some(launch.image.clone()),
        entrypoint: some(&launch.command),
        cmd: some(&launch.args),
        env: Some(env.chain(launch.env.iter().cloned()).collect()),
        labels: Some(launch.labels.clone().into_iter().collect()),
        exposed_ports: Some(launch.ports.iter().map(key).collect()),
        stop_timeout: Some(launch.stop_grace_period_seconds.into()),
        host_config: Some(host_config(launch, sources, bindings)),
        ..ContainerCreateBody::default()
    }
}

/// What the container may do to its node. Docker's own set of capabilities stays:
/// common images need some of it (`chown`, `setuid` to a lesser user, ports below
/// 1024); what it must not do is to gain more than it was started with.
fn host_config(
    launch: &Launch,
    sources: Vec<String>,
    bindings: HashMap<String, Option<Vec<PortBinding>>>,
) -> HostConfig {
    let limits = &launch.limits;
    let memory = limits.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let mounts = launch.mounts.iter().zip(sources).map(|(mount, source)| Mount {
        typ: Some(MountType::BIND),
        source: Some(source),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        // What is mounted below is not read-only with it: it is left out.
        bind_options: mount
            .read_only
            .then(|| MountBindOptions { non_recursive: Some(true), ..MountBindOptions::default() }),
        ..Mount::default()
    });
    let log =
        [("max-size", limits.log_size.to_string()), ("max-file", limits.log_files.to_string())];
    HostConfig {
        port_bindings: Some(bindings),
        memory,
        memory_swap: memory, // of both together; without it Docker adds as much swap
        nano_cpus: limits.milli_cpus.map(|milli| i64::from(milli) * 1_000_000),
        pids_limit: Some(i64::from(limits.pids)),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(log.map(|(name, value)| (name.to_owned(), value)).into()),
        }),
        mounts: Some(mounts.collect()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        ..HostConfig::default()
    }
}
