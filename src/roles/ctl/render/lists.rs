//! Lists as tables; an empty list says what to do next.

use std::collections::BTreeMap;

use super::table::{Cell, Column, table};
use super::{Look, Tone, words};
use crate::model::view::{DiscoverView, NodeStatus, NodeView, RevisionView, WorkloadView};
use crate::model::wire::DockerState;
use crate::model::{ContainerInstance, Health, Phase, Protocol, RestartPolicy, WorkloadSpec};

/// All workloads.
pub fn workloads(list: &[WorkloadView], look: &Look) -> String {
    const COLUMNS: &[Column] = &[
        Column::words("WORKLOAD"),
        Column::words("READY"),
        Column::words("STATUS"),
        Column::numbers("RESTARTS"),
        Column::words("IMAGE"),
        Column::if_any("WHY"),
    ];
    const WIDE: &[Column] = &[
        Column::words("WORKLOAD"),
        Column::words("READY"),
        Column::words("STATUS"),
        Column::numbers("RESTARTS"),
        Column::numbers("REVISION"),
        Column::numbers("RUNNING"),
        Column::numbers("PENDING"),
        Column::numbers("WAITING"),
        Column::numbers("DONE"),
        Column::numbers("STOPPING"),
        Column::words("POLICY"),
        Column::words("IMAGE"),
        Column::if_any("REASON"),
        Column::if_any("MESSAGE"),
    ];
    if list.is_empty() {
        return "no workloads yet; try: kube-lite ctl deploy -f examples/hello.json\n".to_owned();
    }
    let row = |view: &WorkloadView| {
        let (tone, status) = workload_state(view);
        let mut row = vec![
            Cell::toned(Tone::Strong, &view.spec.name),
            Cell::new(format!("{}/{}", view.ready, view.desired)),
            Cell::toned(tone, status),
            Cell::new(view.restarts),
        ];
        let first = view.reasons.first();
        if look.wide {
            row.extend([
                Cell::new(view.revision),
                Cell::new(view.running),
                Cell::new(view.pending),
                Cell::new(view.waiting),
                Cell::new(view.done),
                Cell::new(view.stopping),
                Cell::new(policy(view.spec.restart_policy)),
                Cell::new(&view.spec.image),
                Cell::maybe(first.map(|why| why.reason)),
                Cell::maybe(first.map(|why| words::brief(&why.message)).filter(|_| look.ages)),
            ]);
        } else {
            row.extend([Cell::new(&view.spec.image), Cell::maybe(first_reason(view, look))]);
        }
        row
    };
    let mut sorted: Vec<&WorkloadView> = list.iter().collect();
    sorted.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let rows: Vec<_> = sorted.into_iter().map(row).collect();
    table(look, if look.wide { WIDE } else { COLUMNS }, &rows)
}

/// All nodes.
pub fn nodes(list: &[NodeView], look: &Look) -> String {
    const COLUMNS: &[Column] = &[
        Column::words("NODE"),
        Column::words("STATUS"),
        Column::numbers("INSTANCES"),
        Column::words("HEARD"),
        Column::words("DOCKER"),
        Column::words("ADDRESS"),
        Column::if_any("WHY"),
    ];
    const WIDE: &[Column] = &[
        Column::words("NODE"),
        Column::words("STATUS"),
        Column::numbers("INSTANCES"),
        Column::words("HEARD"),
        Column::words("DOCKER"),
        Column::words("ADDRESS"),
        Column::words("VERSION"),
        Column::words("DAEMON"),
        Column::if_any("MESSAGE"),
    ];
    if list.is_empty() {
        let advice = "start an agent: kube-lite agent --scheduler URL (with TLS: --join, and what \
                      kube-lite ctl token create --role join prints), or a sandbox: kube-lite dev";
        return format!("no nodes yet; {advice}\n");
    }
    let row = |node: &NodeView| {
        let (tone, status) = node_state(node);
        let mut row = vec![
            Cell::toned(Tone::Strong, &node.id),
            Cell::toned(tone, status),
            Cell::new(node.instances),
            Cell::new(heard(node, look)),
            docker(node, look),
            Cell::new(&node.address),
        ];
        if look.wide {
            let daemon = node.docker.daemon.as_ref().map(|id| short(id.as_str()));
            row.extend([Cell::new(&node.version), Cell::maybe(daemon)]);
        }
        let message = node.message.as_ref().or(node.docker.message.as_ref());
        let message = message.filter(|_| look.ages).map(|message| words::brief(message));
        row.push(Cell::maybe(message));
        row
    };
    let mut sorted: Vec<&NodeView> = list.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let rows: Vec<_> = sorted.into_iter().map(row).collect();
    table(look, if look.wide { WIDE } else { COLUMNS }, &rows)
}

/// Instances, of one workload or of all.
pub fn instances(list: &[ContainerInstance], workload: Option<&str>, look: &Look) -> String {
    if list.is_empty() {
        return match workload {
            Some(name) => format!("{name} has no instances; see: kube-lite ctl explain {name}\n"),
            None => "no instances yet; see: kube-lite ctl workloads\n".to_owned(),
        };
    }
    instance_table(list, look)
}

/// The table of [`instances`], which must not be empty. Revisions are shown where
/// there are several of one workload, hence in a rollout.
pub fn instance_table(list: &[ContainerInstance], look: &Look) -> String {
    const COLUMNS: &[Column] = &[
        Column::words("INSTANCE"),
        Column::numbers("REVISION").unless_empty(),
        Column::words("NODE"),
        Column::words("STATE"),
        Column::words("HEALTH"),
        Column::words("READY"),
        Column::numbers("RESTARTS"),
        Column::words("UP"),
        Column::words("PORTS"),
        Column::if_any("WHY"),
    ];
    const WIDE: &[Column] = &[
        Column::words("INSTANCE"),
        Column::numbers("REPLICA"),
        Column::numbers("REVISION"),
        Column::words("NODE"),
        Column::words("STATE"),
        Column::words("HEALTH"),
        Column::words("READY"),
        Column::numbers("RESTARTS"),
        Column::words("UP"),
        Column::words("CONTAINER"),
        Column::words("IP"),
        Column::words("PORTS"),
        Column::words("IMAGE"),
        Column::if_any("REASON"),
        Column::if_any("MESSAGE"),
    ];
    let mut revisions = BTreeMap::new();
    let mixed = list
        .iter()
        .filter(|one| !one.phase.is_final())
        .any(|one| *revisions.entry(&one.workload_id).or_insert(one.revision) != one.revision);
    let row = |instance: &ContainerInstance| {
        let (tone, state) = instance_state(instance);
        let id = Cell::toned(Tone::Strong, &instance.id);
        let life = [
            Cell::new(&instance.node_id),
            Cell::toned(tone, state),
            health(instance),
            Cell::new(if instance.ready { "yes" } else { "no" }),
            Cell::new(instance.restarts),
            Cell::maybe(up(instance, look)),
        ];
        let word = instance.reason.map(|reason| reason.to_string());
        let why = if look.ages { instance_why(instance) } else { word };
        let mut row = vec![id];
        if look.wide {
            row.extend([Cell::new(instance.replica), Cell::new(instance.revision)]);
            row.extend(life);
            row.extend([
                Cell::new(short(&instance.container_id)),
                Cell::maybe(instance.ip.as_ref()),
                Cell::new(ports(instance)),
                Cell::new(&instance.image),
                Cell::maybe(instance.reason),
                Cell::maybe(instance.message.as_deref().map(words::brief).filter(|_| look.ages)),
            ]);
        } else {
            row.push(Cell::maybe(mixed.then_some(instance.revision)));
            row.extend(life);
            row.extend([Cell::new(ports(instance)), Cell::maybe(why)]);
        }
        row
    };
    let rows: Vec<_> = in_order(list).into_iter().map(row).collect();
    table(look, if look.wide { WIDE } else { COLUMNS }, &rows)
}

/// Where a workload is reached.
pub fn discover(view: &DiscoverView, look: &Look) -> String {
    const COLUMNS: &[Column] = &[
        Column::words("ADDRESS"),
        Column::numbers("PORT"),
        Column::words("HEALTH"),
        Column::words("INSTANCE"),
        Column::words("NODE"),
    ];
    let name = &view.name;
    if view.endpoints.is_empty() {
        return format!(
            "{name} is reached nowhere: no instance with a published port is ready; \
             see: kube-lite ctl explain {name}\n"
        );
    }
    let rows: Vec<_> = view
        .endpoints
        .iter()
        .map(|endpoint| {
            vec![
                Cell::toned(Tone::Strong, &endpoint.address),
                Cell::new(endpoint.container_port),
                Cell::toned(health_tone(endpoint.health), endpoint.health.as_str()),
                Cell::new(&endpoint.instance_id),
                Cell::new(&endpoint.node_id),
            ]
        })
        .collect();
    table(look, COLUMNS, &rows)
}

/// The revisions of a workload, oldest first. What is wanted is marked `current`,
/// what was last completely rolled out `head`; in a rollout they differ.
pub fn history(list: &[RevisionView], look: &Look) -> String {
    const COLUMNS: &[Column] = &[
        Column::numbers("REVISION"),
        Column::words("NOW"),
        Column::words("WHEN"),
        Column::words("BY"),
        Column::words("IMAGE"),
        Column::if_any("WHY"),
        Column::if_any("AGAIN"),
        Column::if_any("OUTCOME"),
    ];
    if list.is_empty() {
        return "no revisions yet\n".to_owned();
    }
    let mut sorted: Vec<&RevisionView> = list.iter().collect();
    sorted.sort_by_key(|revision| revision.revision);
    let rows: Vec<_> = sorted
        .into_iter()
        .map(|revision| {
            vec![
                Cell::new(revision.revision),
                match (revision.current, revision.head) {
                    (true, true) => Cell::toned(Tone::Good, "current, head"),
                    (true, false) => Cell::toned(Tone::Busy, "current"),
                    (false, true) => Cell::toned(Tone::Strong, "head"),
                    (false, false) => Cell::new(""),
                },
                Cell::new(words::clock(&revision.at, look.now, &look.zone)),
                Cell::new(&revision.by),
                Cell::new(&revision.template.image),
                Cell::new(&revision.why),
                Cell::maybe(revision.again.as_ref().map(|word| {
                    let when = words::clock(&word.at, look.now, &look.zone);
                    format!("{when} by {}: {}", word.by, word.why)
                })),
                Cell::maybe(revision.outcome.as_deref().map(words::brief)),
            ]
        })
        .collect();
    table(look, COLUMNS, &rows)
}

/// Instances in the order of their replicas.
pub fn in_order(list: &[ContainerInstance]) -> Vec<&ContainerInstance> {
    let mut sorted: Vec<&ContainerInstance> = list.iter().collect();
    sorted.sort_by_key(|one| (&one.workload_id, one.replica, one.revision, &one.id));
    sorted
}

/// One word for a workload.
pub fn workload_state(view: &WorkloadView) -> (Tone, String) {
    if let Some(rollout) = &view.rollout {
        let tone = rollout_tone(&rollout.state);
        match rollout.state.as_str() {
            "done" | "aborted" => {}
            "aborting" => return (tone, "aborting".to_owned()),
            state => return (tone, format!("{state} {}/{}", rollout.updated, rollout.total)),
        }
    }
    let left = view.running + view.pending + view.stopping;
    let (tone, word) = match () {
        () if view.desired == 0 && left > 0 => (Tone::Busy, "stopping"),
        () if view.desired == 0 => (Tone::Dim, "scaled to 0"),
        () if view.done >= view.desired => (Tone::Good, "done"),
        () if view.ready + view.done >= view.desired => (Tone::Good, "ready"),
        () if view.waiting > 0 => (Tone::Bad, "waiting"),
        () => (Tone::Busy, "starting"),
    };
    (tone, word.to_owned())
}

/// What to think of a rollout's state.
pub fn rollout_tone(state: &str) -> Tone {
    match state {
        "done" => Tone::Good,
        "aborting" | "aborted" => Tone::Bad,
        _ => Tone::Busy,
    }
}

/// One word for an instance.
pub fn instance_state(instance: &ContainerInstance) -> (Tone, String) {
    let phase = instance.phase.as_str();
    match instance.phase {
        _ if instance.lost => (Tone::Bad, "lost".to_owned()),
        Phase::Exited => match instance.exit_code {
            Some(0) => (Tone::Dim, "exited (0)".to_owned()),
            Some(code) => (Tone::Bad, format!("exited ({code})")),
            None => (Tone::Bad, phase.to_owned()),
        },
        Phase::Failed => (Tone::Bad, phase.to_owned()),
        _ if instance.stopping => (Tone::Busy, "stopping".to_owned()),
        Phase::Running if instance.ready => (Tone::Good, phase.to_owned()),
        _ => (Tone::Busy, phase.to_owned()),
    }
}

/// One word or two for a node.
pub fn node_state(node: &NodeView) -> (Tone, String) {
    let status = node.status.as_str();
    match node.status {
        NodeStatus::Alive if node.draining && node.instances == 0 => {
            (Tone::Busy, "alive, drained".to_owned())
        }
        NodeStatus::Alive if node.draining => (Tone::Busy, "alive, draining".to_owned()),
        NodeStatus::Alive if node.schedulable => (Tone::Good, status.to_owned()),
        NodeStatus::Alive => (Tone::Busy, "alive, cordoned".to_owned()),
        NodeStatus::Unknown => (Tone::Busy, status.to_owned()),
        NodeStatus::Dead => (Tone::Bad, status.to_owned()),
    }
}

/// When a node was last heard.
pub fn heard(node: &NodeView, look: &Look) -> String {
    match node.last_heartbeat_seconds_ago {
        None => "never".to_owned(),
        Some(_) if !look.ages => String::new(),
        Some(seconds) => format!("{} ago", words::age((seconds.max(0.0) * 1000.0) as u64)),
    }
}

fn docker(node: &NodeView, look: &Look) -> Cell {
    if node.status == NodeStatus::Unknown {
        return Cell::new(""); // Nobody knows yet.
    }
    let (tone, word) = match node.docker.state {
        DockerState::Ok => return Cell::toned(Tone::Good, "ok"),
        DockerState::Away => (Tone::Bad, "away"),
        DockerState::Hung => (Tone::Bad, "hung"),
    };
    if !look.ages {
        return Cell::toned(tone, word);
    }
    Cell::toned(tone, format!("{word} for {}", words::age(node.docker.for_ms)))
}

fn health(instance: &ContainerInstance) -> Cell {
    let running = instance.phase == Phase::Running;
    match instance.health {
        Health::Unknown if !running => Cell::new(""),
        health => Cell::toned(health_tone(health), health.as_str()),
    }
}

fn health_tone(health: Health) -> Tone {
    match health {
        Health::Healthy => Tone::Good,
        Health::Unhealthy => Tone::Bad,
        Health::Starting | Health::Unknown => Tone::Busy,
    }
}

fn up(instance: &ContainerInstance, look: &Look) -> Option<String> {
    instance.running_for_ms.filter(|_| look.ages && !instance.lost).map(words::age)
}

/// `32768->8080, 5353->53/udp`
fn ports(instance: &ContainerInstance) -> String {
    let published = instance.ports.iter().map(|port| {
        let suffix = if port.protocol == Protocol::Udp { "/udp" } else { "" };
        format!("{}->{}{suffix}", port.host_port, port.container_port)
    });
    published.collect::<Vec<_>>().join(", ")
}

/// The sentence, or at least the word.
pub fn instance_why(instance: &ContainerInstance) -> Option<String> {
    match instance.message.as_deref() {
        Some(message) if !message.is_empty() => Some(words::brief(message)),
        _ => instance.reason.map(|reason| reason.to_string()),
    }
}

fn first_reason(view: &WorkloadView, look: &Look) -> Option<String> {
    let first = view.reasons.first()?;
    let sentence =
        if look.ages { format!(": {}", words::brief(&first.message)) } else { String::new() };
    let more = match view.reasons.len() - 1 {
        0 => String::new(),
        more => format!(" (+{more} more)"),
    };
    Some(format!("{}{sentence}{more}", first.reason))
}

/// A long hexadecimal id, as Docker shortens it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The same word as in JSON.
pub fn policy(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "onFailure",
        RestartPolicy::Never => "never",
    }
}

/// How an endpoint is written for people: a link when it speaks TCP.
pub fn url(spec: &WorkloadSpec, container_port: u16, address: &str) -> String {
    let udp = |port: &crate::model::PortMapping| {
        port.container_port == container_port && port.protocol == Protocol::Udp
    };
    match spec.ports.iter().any(udp) {
        true => format!("udp://{address}"),
        false => format!("http://{address}"),
    }
}
