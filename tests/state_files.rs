//! Files of every version ever shipped open, and what is in them is understood;
//! those of a newer build are refused, and what a newer build added is left alone.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/eventful.rs"]
mod eventful;

use std::path::{Path, PathBuf};

use eventful::eventful;
use kube_lite::model::view::NodeStatus;
use kube_lite::model::{NodeId, Template, Timing};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::durable::{FORMAT, META, Meta, put};
use kube_lite::roles::scheduler::message::{Input, Moment, Record};
use kube_lite::roles::scheduler::state::RolloutState;
use kube_lite::roles::scheduler::store::Store;
use kube_lite::roles::scheduler::{SchedulerConfig, start};
use serde_json::json;
use tempfile::TempDir;

fn kept(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/state/v{format}.redb"))
}

/// Makes the file of this build's version; run by hand when the format changes.
#[test]
#[ignore = "makes a file for the repository"]
fn make_the_file_of_this_version() {
    let directory = TempDir::new().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for batch in eventful().batches.unwrap() {
        store.commit(&batch).unwrap();
    }
    drop(store);
    std::fs::copy(directory.path().join("scheduler.redb"), kept(FORMAT)).unwrap();
}

/// The file of each version: made by the build that shipped it.
#[test]
fn files_of_every_version_open() {
    for format in 1..=FORMAT {
        let directory = TempDir::new().unwrap();
        std::fs::copy(kept(format), directory.path().join("scheduler.redb")).unwrap();
        let store = Store::open(directory.path()).unwrap();
        let records = store.load().unwrap();
        // What later builds added to templates is not in them: each is written as it
        // was read, and so stays the same revision.
        let mut templates = 0;
        for (key, value) in records.iter().filter(|(key, _)| key.starts_with("workload/")) {
            for revision in value["revisions"].as_object().unwrap().values() {
                let template: Template =
                    serde_json::from_value(revision["template"].clone()).unwrap();
                assert_eq!(json!(template), revision["template"], "{key}");
                templates += 1;
            }
        }
        assert!(templates >= 4, "{templates}");
        let meta = Meta::of(&records).unwrap().unwrap();
        assert_eq!((meta.format, meta.cluster.as_str(), meta.epoch), (format, "test", 1));
        let moment = Moment { now: 1_000_000_000, wall: 1_700_000_060_000, draw: 1 };
        let mut core = Core::recover(&meta, &records, Timing::default(), moment).unwrap();
        let state = &core.state;
        let workloads: Vec<&str> = state.workloads.keys().map(|name| name.as_str()).collect();
        assert_eq!(workloads, ["crash", "job", "web"]);
        let web = &state.workloads["web"];
        assert_eq!((web.revision, web.last_revision, web.head(), web.desired()), (2, 2, 1, 4));
        let rollout = web.rollout.as_ref().unwrap();
        assert_eq!((rollout.from, rollout.to, rollout.state), (1, 2, RolloutState::Rolling));
        assert_eq!(web.outdated.iter().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(web.template(2).unwrap().env["COLOUR"], "green");
        let crash = &state.workloads["crash"].replicas[&0];
        assert_eq!((crash.restarts, crash.step), (7, 7));
        assert_eq!(crash.not_before, Some(1_000_000_000 + 10_613));
        assert_eq!(crash.pin, Some(NodeId::from("n3")));
        let job = &state.workloads["job"].replicas;
        assert!(job.values().all(|r| r.done.as_ref().is_some_and(|d| d.exit_code == Some(0))));
        assert_eq!(state.tombstones.get("gone"), Some(&1));
        let nodes: Vec<(&str, bool, NodeStatus)> = state
            .nodes
            .values()
            .map(|node| (node.id.as_str(), node.schedulable, node.status))
            .collect();
        let (unknown, dead) = (NodeStatus::Unknown, NodeStatus::Dead);
        assert_eq!(
            nodes,
            [
                ("n1", true, unknown),
                ("n2", true, unknown),
                ("n3", false, unknown),
                ("n4", true, dead)
            ]
        );
        assert_eq!(core.step(moment, Input::Tick).orders, [], "nothing before they report");
        // And it can be written to.
        store.commit(&[eventful::meta(2)]).unwrap();
        drop(store);
        let again = Store::open(directory.path()).unwrap().load().unwrap();
        assert_eq!(Meta::of(&again).unwrap().unwrap().epoch, 2);
        assert_eq!(again.len(), records.len());
    }
}

fn config(directory: &Path) -> SchedulerConfig {
    SchedulerConfig { data_dir: Some(directory.to_owned()), ..SchedulerConfig::default() }
}

fn written(records: &[Record]) -> TempDir {
    let directory = TempDir::new().unwrap();
    Store::open(directory.path()).unwrap().commit(records).unwrap();
    directory
}

fn file_in(directory: &Path) -> Vec<u8> {
    std::fs::read(directory.join("scheduler.redb")).unwrap()
}

/// What a scheduler says that cannot go on from these records; its file must be
/// as it was.
async fn refusal(records: &[Record]) -> String {
    let directory = written(records);
    let before = file_in(directory.path());
    let error = match start(config(directory.path())).await {
        Ok(_) => panic!("started from {records:?}"),
        Err(error) => format!("{error:#}"),
    };
    assert_eq!(file_in(directory.path()), before, "{error}");
    assert!(error.contains("was left as it is"), "{error}");
    assert!(error.contains(&directory.path().display().to_string()), "{error}");
    error
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let newer = json!({"format": FORMAT + 1, "cluster": {"of": "another shape"}, "era": "a"});
    let said = refusal(&[Record { key: META.to_owned(), value: Some(newer) }]).await;
    let wanted = format!(
        "the state was written in format {}, this build reads up to {FORMAT}; use a newer \
         kube-lite",
        FORMAT + 1
    );
    assert!(said.ends_with(&wanted), "{said}");
}

/// Records that are JSON and yet not ours, or that speak of what is not there.
#[tokio::test]
async fn records_that_make_no_sense_are_refused() {
    let spec = json!({"name": "web", "image": "app", "replicas": 1});
    let web = json!({
        "spec": spec, "revision": 1, "lastRevision": 1, "replicas": [[0, 0]], "heads": [1],
        "revisions": {"1": {"template": {"image": "app"}, "at": 1, "by": "me", "why": "created"}}
    });
    let changed = |field: &str, value: serde_json::Value| {
        let mut record = web.clone();
        record[field] = value;
        record
    };
    let node = json!({"key": "k", "address": "10.0.0.1:1", "schedulable": true, "wasAlive": true});
    let cases = [
        ("workload/web", json!([1, 2]), "cannot be read"),
        ("workload/web", json!({"spec": spec}), "missing field `revision`"),
        ("workload/other", web.clone(), "its spec is that of \"web\""),
        ("workload/", web.clone(), "must not be empty"),
        (
            "workload/web",
            changed("revision", json!(2)),
            "its goal is revision 2, which is not there",
        ),
        ("workload/web", changed("heads", json!([7, 1])), "its history is revision 7"),
        ("workload/web", changed("lastRevision", json!(0)), "a revision 1 after its last, 0"),
        ("workload/web", changed("lastRevision", json!(u64::MAX)), "which cannot be"),
        ("workload/web", changed("outdated", json!({"3": [[0, 0]]})), "revision 3"),
        ("workload/web", changed("replicas", json!([[0, u32::MAX]])), "replicas, more than"),
        ("workload/web", changed("replicas", json!([[5, 2]])), "out of order"),
        ("workload/web", changed("replicas", json!([[0, 2], [1, 3]])), "out of order"),
        (
            "workload/web",
            changed("rollout", json!({"from": 1, "to": 9, "state": "rolling"})),
            "its rollout's goal is revision 9",
        ),
        ("tombstone/gone", json!("three"), "cannot be read"),
        ("tombstone/gone", json!(u64::MAX), "which cannot be"),
        ("node/n1", json!({"key": "k"}), "missing field `address`"),
        ("node/N 1", node, "lower-case letters"),
        ("replica/web/0", json!({"restarts": -1, "step": 0}), "cannot be read"),
        ("replica/web/0", json!({"restarts": u32::MAX, "step": 0}), "which cannot be"),
        ("meta", json!({"format": 1, "cluster": "test", "epoch": u64::MAX}), "which cannot be"),
        ("meta", json!({"format": 0, "cluster": "test", "epoch": 1}), "format 0"),
        ("meta", json!({"format": 1, "cluster": "", "epoch": 1}), "names no cluster"),
        ("meta", json!("test"), "cannot be read"),
        ("restored", json!({}), "missing field `revisionsAbove`"),
    ];
    let mut sound = vec![eventful::meta(3), put("workload/web".to_owned(), &web)];
    let directory = written(&sound);
    start(config(directory.path())).await.expect("a sound state").shutdown().await;
    for (key, value, wanted) in cases {
        let key = key.to_owned();
        sound.push(Record { key: key.clone(), value: Some(value) });
        let said = refusal(&sound).await;
        sound.pop();
        assert!(said.contains(wanted) && said.contains(&format!("{key:?}")), "{said}");
    }
    let said = refusal(&sound[1..]).await;
    assert!(said.contains("its first record, \"meta\", is missing"), "{said}");
}

/// One release of skew: what this build does not know stays as it is.
#[tokio::test]
async fn what_a_newer_build_has_added_is_left_alone() {
    let news = |key: &str| Record { key: key.to_owned(), value: Some(json!({"kept": [1, 2]})) };
    let mut meta = eventful::meta(3);
    meta.value.as_mut().unwrap()["mood"] = json!("good");
    let node = json!({"key": "k", "address": "10.0.0.1:1", "schedulable": true,
        "wasAlive": true, "colour": "blue"});
    let records = [
        meta,
        Record { key: "node/n1".to_owned(), value: Some(node) },
        news("quota/web"),
        news("workload/web/more"),
        news("volumes"),
    ];
    let directory = written(&records);
    let running = start(config(directory.path())).await.unwrap();
    let node = running.handle().snapshot().state.nodes.get("n1").cloned();
    assert_eq!(node.unwrap().address, "10.0.0.1:1");
    running.shutdown().await;
    let after = Store::open(directory.path()).unwrap().load().unwrap();
    for key in ["quota/web", "workload/web/more", "volumes"] {
        assert_eq!(after[key], json!({"kept": [1, 2]}), "{key}");
    }
    assert_eq!(Meta::of(&after).unwrap().unwrap().epoch, 4);
}
