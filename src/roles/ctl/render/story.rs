//! One workload at length: its state on one screen, and its story.

use std::fmt::Write;

use super::lists;
use super::table::{Cell, Column, table};
use super::{Look, Tone, event, rollout, words};
use crate::model::view::{
    DiscoverView, EventView, ExplainView, NodeView, ReplicaView, WorkloadView,
};
use crate::model::{ContainerInstance, Protocol, WorkloadSpec};

/// So many addresses are listed; `discover` has them all.
const ADDRESSES: usize = 8;
/// So many reasons are listed.
const REASONS: usize = 10;

/// Everything about one workload on one screen.
pub fn status(
    view: &WorkloadView,
    instances: &[ContainerInstance],
    discover: &DiscoverView,
    look: &Look,
) -> String {
    let mut text = String::new();
    let name = &view.spec.name;
    let (tone, state) = lists::workload_state(view);
    let title = Tone::Strong.paint(name.as_str(), look);
    let mut head = format!("{}/{} ready", view.ready, view.desired);
    if state != "ready" {
        let _ = write!(head, ", {state}");
    }
    let _ = writeln!(text, "{title}  {}", tone.paint(&head, look));
    line(&mut text, "image", &format!("{} (revision {})", view.spec.image, view.revision));
    line(&mut text, "count", &counts(view));
    line(&mut text, "policy", &policies(&view.spec));
    if let Some(rollout) = &view.rollout {
        let words = rollout::so_far(view, rollout, look);
        line(&mut text, "rollout", &words);
    }
    text.push_str(&addresses(&view.spec, discover));
    if !instances.is_empty() {
        text.push('\n');
        text.push_str(&lists::instance_table(instances, look));
    }
    if !view.reasons.is_empty() {
        text.push_str("\nWaiting for\n");
        for why in view.reasons.iter().take(REASONS) {
            let _ = writeln!(text, "  {}", words::brief(&words::why(why, look)));
        }
        more(&mut text, view.reasons.len(), REASONS, &format!("kube-lite ctl explain {name}"));
        let _ = writeln!(text, "\nThe whole story: kube-lite ctl explain {name}");
    }
    text
}

/// Where it is reached, one address per line; nothing for a workload without.
pub fn addresses(spec: &WorkloadSpec, discover: &DiscoverView) -> String {
    let mut text = String::new();
    for (index, endpoint) in discover.endpoints.iter().take(ADDRESSES).enumerate() {
        let url = lists::url(spec, endpoint.container_port, &endpoint.address);
        let label = if index == 0 { "reach it" } else { "" };
        line(
            &mut text,
            label,
            &format!("{url}  ({} on {})", endpoint.instance_id, endpoint.node_id),
        );
    }
    let all = format!("kube-lite ctl discover {}", spec.name);
    more(&mut text, discover.endpoints.len(), ADDRESSES, &all);
    text
}

/// The story of one workload.
pub fn explain(view: &ExplainView, look: &Look) -> String {
    let strong = |text: &str| Tone::Strong.paint(text, look);
    let mut text = String::new();
    let _ = writeln!(text, "{}", strong(view.id.as_str()));
    line(&mut text, "wanted", &view.wanted);
    line(&mut text, "is", &view.is);

    if !view.replicas.is_empty() {
        let _ = writeln!(text, "\n{}", strong("Replicas"));
        text.push_str(&indented(&replicas(&view.replicas, look)));
    }
    decided(&mut text, &view.decided, look);
    let _ = writeln!(text, "\n{}", strong("Waiting for"));
    if view.waiting_for.is_empty() {
        text.push_str("  nothing: everything is as wanted\n");
    }
    for why in &view.waiting_for {
        let _ = writeln!(text, "  {}", words::why(why, look));
    }
    if !view.hints.is_empty() {
        let _ = writeln!(text, "\n{}", strong("Try"));
        for hint in &view.hints {
            let _ = writeln!(text, "  {}", words::one_line(hint));
        }
    }
    text
}

/// The story of one instance.
pub fn instance(instance: &ContainerInstance, events: &[EventView], look: &Look) -> String {
    let strong = |text: &str| Tone::Strong.paint(text, look);
    let ContainerInstance { workload_id, replica, revision, node_id, .. } = instance;
    let mut text = String::new();
    let _ = writeln!(text, "{}", strong(instance.id.as_str()));
    line(&mut text, "of", &format!("{workload_id}, replica {replica}, revision {revision}"));
    line(&mut text, "image", &instance.image);
    line(&mut text, "on", node_id.as_str());
    let (tone, state) = lists::instance_state(instance);
    let why = instance.message.as_deref().map(|why| format!(": {}", words::one_line(why)));
    let state = tone.paint(&state, look);
    line(&mut text, "is", &format!("{state}{}", why.unwrap_or_default()));
    decided(&mut text, events, look);
    let _ = writeln!(text, "\nIts workload's story: kube-lite ctl explain {workload_id}");
    let _ = writeln!(text, "What it says: kube-lite ctl logs {} --tail 50", instance.id);
    text
}

/// The story of one node, and what is on it.
pub fn node(
    node: &NodeView,
    instances: &[ContainerInstance],
    events: &[EventView],
    look: &Look,
) -> String {
    let mut text = String::new();
    let (tone, state) = lists::node_state(node);
    let title = Tone::Strong.paint(node.id.as_str(), look);
    let _ = writeln!(text, "{title}  {}", tone.paint(&state, look));
    line(&mut text, "address", &node.address);
    line(&mut text, "heard", &lists::heard(node, look));
    for why in [&node.message, &node.docker.message].into_iter().flatten() {
        line(&mut text, "because", &words::one_line(why));
    }
    match instances {
        [] => line(&mut text, "runs", "nothing that is known"),
        some => {
            text.push('\n');
            text.push_str(&lists::instance_table(some, look));
        }
    }
    decided(&mut text, events, look);
    text
}

fn decided(text: &mut String, events: &[EventView], look: &Look) {
    if !events.is_empty() {
        let _ = writeln!(text, "\n{}", Tone::Strong.paint("Decided", look));
    }
    for one in events {
        let _ = writeln!(text, "  {}", event::event(one, look));
    }
}

fn replicas(list: &[ReplicaView], look: &Look) -> String {
    const COLUMNS: &[Column] = &[
        Column::numbers("REPLICA"),
        Column::words("STATE"),
        Column::numbers("RESTARTS"),
        Column::words("INSTANCES"),
        Column::words("WHY"),
    ];
    let row = |replica: &ReplicaView| {
        let tone = match replica.state.as_str() {
            "filled" | "done" => Tone::Good,
            "waiting" => Tone::Bad,
            _ => Tone::Busy,
        };
        let instances: Vec<_> = replica.instances.iter().map(|id| id.as_str()).collect();
        vec![
            Cell::new(replica.replica),
            Cell::toned(tone, &replica.state),
            Cell::new(replica.restarts),
            Cell::new(instances.join(", ")),
            Cell::new(&replica.message),
        ]
    };
    let rows: Vec<_> = list.iter().map(row).collect();
    let narrower = Look { width: look.width.map(|width| width.saturating_sub(2)), ..look.clone() };
    table(&narrower, COLUMNS, &rows)
}

/// `3 running, 1 pending, 2 restarts`: what is zero goes without saying.
fn counts(view: &WorkloadView) -> String {
    let mut parts = vec![format!("{} running", view.running)];
    let mut add = |number: u32, word: &str| {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    };
    add(view.pending, "pending");
    add(view.waiting, "waiting");
    add(view.stopping, "stopping");
    add(view.done, "done");
    if view.restarts > 0 {
        parts.push(words::count(view.restarts, "restart"));
    }
    parts.join(", ")
}

/// What is done about its end, and how its health is known.
fn policies(spec: &WorkloadSpec) -> String {
    let mut words = format!("restart {}", lists::policy(spec.restart_policy));
    if let Some(probe) = &spec.health_check {
        let (path, port, every) = (&probe.path, probe.port, probe.interval_seconds);
        let _ = write!(words, "; probe GET {path} on port {port} every {every}s");
    }
    for port in &spec.ports {
        let suffix = if port.protocol == Protocol::Udp { "/udp" } else { "" };
        let _ = write!(words, "; port {}{suffix}", port.container_port);
        match (port.host_port, port.fixed) {
            (0, _) => {}
            (host, true) => words.push_str(&format!(" on host port {host} exactly")),
            (host, false) if spec.replicas.unwrap_or(1) <= 1 => {
                words.push_str(&format!(" on host port {host}"));
            }
            (_, false) => words.push_str(" on any host port"),
        }
    }
    if let Some(limits) = spec.limits_text() {
        let _ = write!(words, "; {limits}");
    }
    words
}

pub(super) fn line(text: &mut String, label: &str, value: &str) {
    let _ = writeln!(text, "  {label:<9} {value}");
}

fn more(text: &mut String, all: usize, shown: usize, command: &str) {
    if all > shown {
        line(text, "", &format!("and {} more: {command}", all - shown));
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
