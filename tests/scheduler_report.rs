//! What the scheduler makes of a heartbeat that says only what has changed.

#[path = "support/cluster.rs"]
mod cluster;

use cluster::{World, spec};
use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::{DockerState, HeartbeatRequest, HeartbeatResponse, OrderAccepted};
use kube_lite::model::{ContainerInstance, Health, Phase};
use kube_lite::roles::scheduler::message::{Input, Moment, OrderAnswer, OrderKind, Reply};

fn told(world: &mut World, request: HeartbeatRequest) -> HeartbeatResponse {
    world.feed(Input::Heartbeat { ticket: 70_000, request });
    match world.replies.remove(&70_000).expect("an answer") {
        Ok(Reply::Beat(response)) => response,
        other => panic!("{other:?}"),
    }
}

/// Everything from n1, and the digest that may follow it.
fn full_and_digest(world: &mut World) -> (HeartbeatRequest, HeartbeatRequest) {
    let full = world.report(&"n1".into());
    let digest = HeartbeatRequest {
        same_as: Some(full.seq),
        synced: false,
        containers: Vec::new(),
        ..world.report(&"n1".into())
    };
    (full, digest)
}

/// Two nodes with two of web on each, long settled.
fn settled() -> World {
    let mut world = World::new(2);
    world.deploy(spec("web", 4));
    world.settle();
    world.run_for(20_000);
    world
}

#[test]
fn a_digest_is_proof_of_life_and_visits_nothing() {
    let mut world = settled();
    let (full, digest) = full_and_digest(&mut world);
    let answer = told(&mut world, full);
    assert!(answer.digests && answer.changes);
    let (before, visits) = (world.core.state.clone(), world.core.visits);
    world.run_for(1);
    assert_eq!(told(&mut world, digest.clone()).seq, digest.seq);
    let after = &world.core.state;
    assert_eq!((after.instances.clone(), world.core.visits), (before.instances, visits));
    assert!(after.nodes["n1"].heard_at > before.nodes["n1"].heard_at);
    assert!(after.nodes["n1"].able());
}

#[test]
fn a_digest_that_says_too_little_is_not_taken_in() {
    let refused = |change: &dyn Fn(&mut World, &mut HeartbeatRequest)| {
        let mut world = settled();
        let (full, mut digest) = full_and_digest(&mut world);
        told(&mut world, full);
        change(&mut world, &mut digest);
        let before = world.core.state.nodes["n1"].clone();
        let seq = told(&mut world, digest.clone()).seq;
        let refused = seq < digest.seq;
        let mut after = (*world.core.state.nodes["n1"]).clone();
        assert!(after.heard_at >= before.heard_at, "a proof of life all the same");
        after.heard_at = before.heard_at;
        assert_eq!(after == *before, refused);
        refused
    };
    assert!(!refused(&|_, _| {}));
    // It refers to something else.
    assert!(refused(&|_, digest| digest.same_as = digest.same_as.map(|seq| seq - 1)));
    // Its Docker has gone since.
    assert!(refused(&|_, digest| digest.docker.state = DockerState::Away));
}

#[test]
fn the_dead_come_back_with_everything_or_not_at_all() {
    let mut world = settled();
    let (full, digest) = full_and_digest(&mut world);
    told(&mut world, full);
    world.agent("n1").cut = true;
    world.run_for(12_000);
    assert_eq!(world.core.state.nodes["n1"].status, NodeStatus::Dead);
    assert!(told(&mut world, digest.clone()).seq < digest.seq);
    assert_eq!(world.core.state.nodes["n1"].status, NodeStatus::Dead);
}

/// What has changed since a full snapshot, and the full one it stands for.
fn full_and_changes(
    world: &mut World,
    change: impl FnOnce(&mut HeartbeatRequest),
) -> (HeartbeatRequest, HeartbeatRequest, HeartbeatRequest) {
    let (full, mut changes) = full_and_digest(world);
    let mut whole = HeartbeatRequest { seq: changes.seq, ..full.clone() };
    change(&mut whole);
    let differs = |told: &&ContainerInstance| !full.containers.contains(told);
    changes.containers = whole.containers.iter().filter(differs).cloned().collect();
    let is_gone =
        |told: &&ContainerInstance| whole.containers.iter().all(|other| other.id != told.id);
    changes.gone = full.containers.iter().filter(is_gone).map(|told| told.id.clone()).collect();
    (full, whole, changes)
}

#[test]
fn what_has_changed_comes_to_the_same_as_everything() {
    type Change = fn(&mut HeartbeatRequest);
    let changes: [(&str, Change); 4] = [
        ("nothing", |_| {}),
        ("an end", |told| {
            told.containers[0].phase = Phase::Exited;
            told.containers[0].exit_code = Some(3);
        }),
        ("ill health", |told| told.containers[1].health = Health::Unhealthy),
        ("one is gone, the other restarts by itself", |told| {
            told.containers.remove(0);
            told.containers[0].phase = Phase::Failed;
            let mut successor = told.containers[0].clone();
            successor.id = format!("{}-a1", successor.id).into();
            successor.phase = Phase::Running;
            successor.restarts += 1;
            successor.replaces = Some(told.containers[0].id.clone());
            told.containers.push(successor);
        }),
    ];
    for (what, change) in changes {
        let mut world = settled();
        let (full, whole, changes) = full_and_changes(&mut world, change);
        told(&mut world, full);
        let take = |request: &HeartbeatRequest| {
            let mut core = world.core.clone();
            let moment = Moment { now: core.state.now + 1, wall: core.state.wall, draw: 7 };
            core.step(moment, Input::Heartbeat { ticket: 1, request: request.clone() });
            core.state
        };
        let (one, other) = (take(&changes), take(&whole));
        assert_eq!(one.nodes["n1"].seq, changes.seq, "{what}: taken in");
        assert_eq!(one.instances, other.instances, "{what}");
        assert_eq!(one.workloads, other.workloads, "{what}");
        let [one, other] = [&one, &other].map(|state| {
            let mut node = (*state.nodes["n1"]).clone();
            // What says nothing is nothing to refer to.
            node.known_in = node.known_in.filter(|_| what != "nothing");
            node
        });
        assert_eq!(one, other, "{what}");
    }
}

/// Absence from a report of changes says nothing, but of what no report has ever named.
#[test]
fn an_order_of_which_a_report_of_changes_has_no_trace_is_withdrawn() {
    let mut world = settled();
    let (full, mut digest) = full_and_digest(&mut world);
    told(&mut world, full);
    world.agent("n1").cut = true;
    world.deploy(spec("more", 2));
    world.run_for(1);
    let ordered: Vec<_> = world.core.state.nodes["n1"].unlisted.iter().cloned().collect();
    assert_eq!(ordered.len(), 1, "one of the two is to run here");
    // Sent, and not answered: it may be on its way.
    assert_eq!(told(&mut world, digest.clone()).seq, digest.seq);
    assert!(world.core.state.instances.contains_key(&ordered[0]));
    // It was noted, says the agent, before its next report; and that does not name it.
    let accepted =
        OrderAccepted { incarnation: digest.incarnation, seq: digest.seq, id: ordered[0].clone() };
    world.feed(Input::Answered {
        node: "n1".into(),
        id: ordered[0].clone(),
        kind: OrderKind::Run,
        incarnation: digest.incarnation,
        answer: OrderAnswer::Accepted(accepted),
    });
    digest.seq += 1;
    told(&mut world, digest);
    assert!(!world.core.state.instances.contains_key(&ordered[0]), "withdrawn");
}
