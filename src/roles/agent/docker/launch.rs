//! Creating and starting one container, so that doing it twice is doing it once
//! and a failure leaves nothing behind.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, PortBinding};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};

use super::list::{facts, inspect};
use super::trouble::{Trouble, create_reason, start_reason, within};
use super::{CHANGE, DockerRuntime, LOOK, remove};
use crate::model::Reason;
use crate::roles::agent::message::{ContainerState, Launch, LaunchOutcome};

impl DockerRuntime {
    /// Creates and starts a container, and looks at what came of it.
    pub(super) async fn launch(&self, launch: &Launch) -> LaunchOutcome {
        let client = match self.daemon.client().await {
            Ok(client) => client,
            Err(trouble) => return LaunchOutcome::Unknown(trouble.to_string()),
        };
        let turn = self.daemon.starts.acquire().await;
        let started = match create(&client, launch).await {
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
}

/// A container that is there.
struct Made {
    id: String,
    ended: bool,
}

/// Creates the container, or finds it created by the same order before.
async fn create(client: &Docker, launch: &Launch) -> Result<Made, LaunchOutcome> {
    let options = CreateContainerOptionsBuilder::new().name(launch.id.as_str()).build();
    match within(CHANGE, client.create_container(Some(options), body(launch))).await {
        Ok(created) => Ok(Made { id: created.id, ended: false }),
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
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    let ours = labels.is_some_and(|labels| {
        launch.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    });
    if !ours {
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

/// What Docker is told about the container.
fn body(launch: &Launch) -> ContainerCreateBody {
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
    ContainerCreateBody {
        image: Some(launch.image.clone()),
        entrypoint: some(&launch.command),
        cmd: some(&launch.args),
        env: Some(launch.env.clone()),
        labels: Some(launch.labels.clone().into_iter().collect()),
        exposed_ports: Some(launch.ports.iter().map(key).collect()),
        stop_timeout: Some(launch.stop_grace_period_seconds.into()),
        host_config: Some(HostConfig { port_bindings: Some(bindings), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    }
}
