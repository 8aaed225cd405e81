//! From an order to the container it asks for: name, labels, environment and
//! ports, each bound to one explicit address.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::message::{BoundPort, Launch, Limits};
use crate::model::wire::{RunOrder, labels};
use crate::model::{ClusterId, NodeId};

/// The container that `order` asks for on this node.
pub fn launch(order: &RunOrder, cluster: &ClusterId, node: &NodeId, bind_ip: IpAddr) -> Launch {
    let template = &order.template;
    let ports = template.ports.iter().map(|port| BoundPort {
        container_port: port.container_port,
        protocol: port.protocol,
        host_ip: bind_ip,
        host_port: port.host_port,
    });
    Launch {
        id: order.id.clone(),
        workload: order.workload.clone(),
        image: template.image.clone(),
        command: template.command.clone(),
        args: template.args.clone(),
        env: environment(order, node),
        labels: label(order, cluster, node),
        ports: ports.collect(),
        limits: Limits::of(&template.resources, &template.logs),
        mounts: template.mounts.clone(),
        env_from: template.env_from.iter().map(|from| from.file.clone()).collect(),
        stop_grace_period_seconds: template.stop_grace_period_seconds,
    }
}

/// What the user gave, and who the container is. Ours come last and win.
fn environment(order: &RunOrder, node: &NodeId) -> Vec<String> {
    let own = [
        ("KUBE_LITE_INSTANCE", order.id.to_string()),
        ("KUBE_LITE_WORKLOAD", order.workload.to_string()),
        ("KUBE_LITE_REVISION", order.revision.to_string()),
        ("KUBE_LITE_NODE", node.to_string()),
    ];
    let is_own = |name: &String| own.iter().any(|(own, _)| own == name);
    let given = order.template.env.iter().filter(|(name, _)| !is_own(name));
    given
        .map(|(name, value)| format!("{name}={value}"))
        .chain(own.iter().map(|(name, value)| format!("{name}={value}")))
        .collect()
}

fn label(order: &RunOrder, cluster: &ClusterId, node: &NodeId) -> BTreeMap<String, String> {
    let whole = serde_json::to_string(order).unwrap_or_default();
    let mut all = BTreeMap::from([
        (labels::SCHEMA.to_owned(), labels::SCHEMA_VERSION.to_owned()),
        (labels::CLUSTER.to_owned(), cluster.to_string()),
        (labels::NODE.to_owned(), node.to_string()),
        (labels::WORKLOAD.to_owned(), order.workload.to_string()),
        (labels::REVISION.to_owned(), order.revision.to_string()),
        (labels::REPLICA.to_owned(), order.replica.to_string()),
        (labels::INSTANCE.to_owned(), order.id.to_string()),
        (labels::RESTARTS.to_owned(), order.restarts.to_string()),
        (labels::ORDER.to_owned(), whole),
    ]);
    if let Some(replaced) = &order.replaces {
        all.insert(labels::REPLACES.to_owned(), replaced.to_string());
    }
    all
}

/// The order a container was made from, by its labels. `None` if they name no
/// instance that this node could have been ordered to run.
pub fn order_of(container_labels: &BTreeMap<String, String>, image: &str) -> Option<RunOrder> {
    let get = |name: &str| container_labels.get(name).map(String::as_str);
    if get(labels::SCHEMA) != Some(labels::SCHEMA_VERSION) {
        return None;
    }
    let id = get(labels::INSTANCE).filter(|id| !id.is_empty())?;
    let whole = get(labels::ORDER).and_then(|text| serde_json::from_str::<RunOrder>(text).ok());
    if let Some(order) = whole.filter(|order| order.id.as_str() == id) {
        return Some(order);
    }
    // The record is unreadable; who it is can still be told, and judged.
    let template = serde_json::json!({ "image": image });
    Some(RunOrder {
        v: crate::model::wire::order_version(),
        id: id.into(),
        replaces: get(labels::REPLACES).map(Into::into),
        after: None,
        workload: get(labels::WORKLOAD)?.into(),
        revision: get(labels::REVISION)?.parse().ok()?,
        replica: get(labels::REPLICA)?.parse().ok()?,
        restarts: get(labels::RESTARTS).and_then(|text| text.parse().ok()).unwrap_or(0),
        backoff_step: 0,
        template: Arc::new(serde_json::from_value(template).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> RunOrder {
        serde_json::from_value(serde_json::json!({
            "id": "web-r3-x7k2p", "replaces": "web-r3-aaaaa", "workload": "web", "revision": 3,
            "replica": 1, "restarts": 2, "backoffStep": 1,
            "template": {
                "image": "hello:1",
                "env": {"A": "1=2", "KUBE_LITE_NODE": "forged"},
                "ports": [{"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "udp"}],
            },
        }))
        .unwrap()
    }

    fn made() -> Launch {
        launch(&order(), &"c1".into(), &"n1".into(), "10.0.0.7".parse().unwrap())
    }

    #[test]
    fn every_port_is_bound_to_the_one_address() {
        let ports: Vec<_> = made()
            .ports
            .iter()
            .map(|p| {
                format!(
                    "{}:{}->{}/{}",
                    p.host_ip,
                    p.host_port,
                    p.container_port,
                    p.protocol.as_str()
                )
            })
            .collect();
        assert_eq!(ports, ["10.0.0.7:0->80/tcp", "10.0.0.7:5353->53/udp"]);
    }

    #[test]
    fn a_container_knows_who_it_is_and_cannot_be_told_otherwise() {
        assert_eq!(
            made().env,
            [
                "A=1=2",
                "KUBE_LITE_INSTANCE=web-r3-x7k2p",
                "KUBE_LITE_WORKLOAD=web",
                "KUBE_LITE_REVISION=3",
                "KUBE_LITE_NODE=n1"
            ]
        );
    }

    #[test]
    fn what_is_not_limited_has_sane_limits() {
        let plain = made().limits;
        assert_eq!((plain.memory, plain.milli_cpus, plain.pids), (None, None, 4_096));
        assert_eq!((plain.log_size, plain.log_files), (10_000_000, 3));
        let mut order = order();
        let template = Arc::make_mut(&mut order.template);
        template.resources = serde_json::from_str(r#"{"memory": "1Gi", "cpus": 0.5, "pids": 9}"#)
            .expect("limits of resources");
        template.logs = serde_json::from_str(r#"{"maxSize": "1M"}"#).expect("limits of logs");
        let made = launch(&order, &"c1".into(), &"n1".into(), "10.0.0.7".parse().unwrap()).limits;
        assert_eq!((made.memory, made.milli_cpus, made.pids), (Some(1 << 30), Some(500), 9));
        assert_eq!((made.log_size, made.log_files), (1_000_000, 3));
    }

    #[test]
    fn the_order_is_read_back_from_the_labels() {
        assert_eq!(order_of(&made().labels, "hello:1"), Some(order()));
    }

    #[test]
    fn without_a_readable_record_the_other_labels_still_tell_who_it_is() {
        for record in [None, Some("{"), Some(r#"{"v":1}"#)] {
            let mut labels = made().labels;
            match record {
                Some(text) => labels.insert(labels::ORDER.into(), text.into()),
                None => labels.remove(labels::ORDER),
            };
            let read = order_of(&labels, "hello:1").unwrap();
            assert_eq!((read.id, read.workload), (order().id, order().workload));
            assert_eq!((read.revision, read.replica, read.restarts), (3, 1, 2));
            assert_eq!(read.replaces, order().replaces);
            assert_eq!(read.template.image, "hello:1");
        }
    }

    #[test]
    fn a_container_without_our_labels_is_nobodys() {
        for missing in [labels::SCHEMA, labels::INSTANCE] {
            let mut labels = made().labels;
            labels.remove(missing);
            assert_eq!(order_of(&labels, "x"), None, "{missing}");
        }
    }
}
