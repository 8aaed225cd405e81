//! Listing a node's containers: one call, and one more for each container that
//! has changed since it was last looked at.

use std::collections::{BTreeMap, HashMap};

use bollard::Docker;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, PortMap};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};

use super::trouble::{Trouble, within};
use super::{DockerRuntime, LIST, LOOK, lock};
use crate::model::wall::unix_ms;
use crate::model::wire::labels;
use crate::model::{ClusterId, NodeId, Protocol, PublishedPort};
use crate::roles::agent::message::{ContainerState, Facts, Observed};

/// Ours begin with this.
const OUR_LABELS: &str = "kube-lite.";

impl DockerRuntime {
    /// All containers of this node in this cluster.
    pub(super) async fn list(
        &self,
        cluster: &ClusterId,
        node: &NodeId,
    ) -> Result<Vec<Observed>, Trouble> {
        let client = self.daemon.client().await?;
        let filters = HashMap::from([(
            "label".to_owned(),
            vec![
                format!("{}={}", labels::SCHEMA, labels::SCHEMA_VERSION),
                format!("{}={cluster}", labels::CLUSTER),
                format!("{}={node}", labels::NODE),
            ],
        )]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let summaries = within(LIST, client.list_containers(Some(options))).await?;

        let known = std::mem::take(&mut *lock(&self.seen));
        let mut seen = BTreeMap::new();
        let mut observed = Vec::with_capacity(summaries.len());
        for summary in summaries {
            let id = summary.id.unwrap_or_default();
            let state = summary.state.map(|state| state.to_string()).unwrap_or_default();
            let facts = match known.get(&id).filter(|(before, _)| *before == state) {
                Some((_, facts)) => facts.clone(),
                None => match inspect(&client, &id).await {
                    Ok(facts) => facts,
                    Err(trouble) if trouble.is_not_found() => continue,
                    Err(trouble) => return Err(trouble),
                },
            };
            seen.insert(id, (state, facts.clone()));
            let name = summary.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            let labels = summary.labels.unwrap_or_default();
            observed.push(Observed {
                name: name.trim_start_matches('/').to_owned(),
                image: summary.image.unwrap_or_default(),
                labels: labels.into_iter().filter(|(key, _)| key.starts_with(OUR_LABELS)).collect(),
                facts,
            });
        }
        *lock(&self.seen) = seen;
        Ok(observed)
    }
}

/// The ids of all containers that carry our schema and these labels.
pub(super) async fn ids(client: &Docker, with: &[String]) -> Result<Vec<String>, Trouble> {
    let mut wanted = vec![format!("{}={}", labels::SCHEMA, labels::SCHEMA_VERSION)];
    wanted.extend(with.iter().cloned());
    let filters = HashMap::from([("label".to_owned(), wanted)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = client.list_containers(Some(options)).await?;
    Ok(found.into_iter().filter_map(|summary| summary.id).collect())
}

/// The state of one container.
pub(super) async fn inspect(client: &Docker, container_id: &str) -> Result<Facts, Trouble> {
    let none = None::<InspectContainerOptions>;
    Ok(facts(within(LOOK, client.inspect_container(container_id, none)).await?))
}

/// What an inspection says.
pub(super) fn facts(said: ContainerInspectResponse) -> Facts {
    let state = said.state.unwrap_or_default();
    let network = said.network_settings.unwrap_or_default();
    let how_far = state_of(state.status);
    let addresses = network.networks.unwrap_or_default();
    let ip = addresses.into_values().filter_map(|end| end.ip_address).find(|ip| !ip.is_empty());
    let running = how_far == ContainerState::Running;
    Facts {
        container_id: said.id.unwrap_or_default(),
        state: how_far,
        exit_code: state.exit_code.filter(|_| how_far == ContainerState::Ended),
        oom_killed: state.oom_killed.unwrap_or(false),
        started_at_ms: state.started_at.as_deref().and_then(unix_ms),
        finished_at_ms: state.finished_at.as_deref().and_then(unix_ms),
        ip: ip.filter(|_| running),
        ports: if running { published(network.ports) } else { Vec::new() },
    }
}

fn state_of(status: Option<ContainerStateStatusEnum>) -> ContainerState {
    use ContainerStateStatusEnum as Status;
    match status {
        Some(Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING) => {
            ContainerState::Running
        }
        Some(Status::EXITED | Status::DEAD | Status::REMOVING) => ContainerState::Ended,
        Some(Status::CREATED | Status::EMPTY) | None => ContainerState::Created,
    }
}

/// `{"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]}` in order.
fn published(ports: Option<PortMap>) -> Vec<PublishedPort> {
    let mut all: Vec<PublishedPort> = ports
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(port, bindings)| {
            let (container_port, protocol) = port.split_once('/')?;
            let host_port = bindings?.into_iter().find_map(|binding| binding.host_port)?;
            Some(PublishedPort {
                container_port: container_port.parse().ok()?,
                host_port: host_port.parse().ok()?,
                protocol: if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp },
            })
        })
        .collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspection_is_read() {
        let said = serde_json::json!({
            "Id": "c1",
            "State": {"Status": "running", "StartedAt": "2024-01-02T03:04:05.678901234Z",
                      "FinishedAt": "0001-01-01T00:00:00Z", "ExitCode": 0, "OOMKilled": false},
            "NetworkSettings": {
                "Ports": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}],
                          "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}], "90/tcp": null},
                "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
            },
        });
        let facts = facts(serde_json::from_value(said).unwrap());
        assert_eq!((facts.state, facts.exit_code), (ContainerState::Running, None));
        assert_eq!(facts.started_at_ms, Some(1_704_164_645_678));
        assert_eq!(facts.finished_at_ms, None);
        assert_eq!(facts.ip.as_deref(), Some("172.17.0.2"));
        let ports: Vec<_> = facts.ports.iter().map(|p| (p.container_port, p.host_port)).collect();
        assert_eq!(ports, [(53, 5353), (80, 32768)]);
    }
}
