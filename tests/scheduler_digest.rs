//! What the scheduler makes of a heartbeat that says only that nothing has changed.

#[path = "support/cluster.rs"]
mod cluster;

use cluster::{World, spec};
use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::{DockerState, HeartbeatRequest, HeartbeatResponse};
use kube_lite::roles::scheduler::message::{Input, Reply};

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
    assert!(told(&mut world, full).digests);
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
    // Something has been ordered that it ought to know of.
    assert!(refused(&|world, _| {
        world.agent("n1").cut = true;
        world.deploy(spec("more", 2));
        world.run_for(1);
    }));
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

#[test]
fn what_is_not_up_yet_is_told_in_full() {
    let mut world = World::new(1);
    world.deploy(spec("web", 2));
    while world.core.state.instances.is_empty() {
        world.run_for(1);
    }
    let (full, digest) = full_and_digest(&mut world);
    told(&mut world, full);
    assert!(told(&mut world, digest.clone()).seq < digest.seq);
}
