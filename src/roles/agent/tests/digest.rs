//! Heartbeats that say only that nothing has changed.

use serde_json::json;

use super::world::*;
use crate::model::wire::{HeartbeatRequest, HeartbeatResponse};
use crate::roles::agent::message::*;

/// One that runs and has been told, and a scheduler that takes digests.
fn settled() -> World {
    let mut world = World::new();
    world.digests = true;
    world.register();
    world.docker_ok();
    world.listed(Vec::new());
    world.start(&order("a", json!({})));
    world.pass(1_000);
    world
}

/// The next heartbeat that time brings.
fn next(world: &mut World) -> HeartbeatRequest {
    let before = world.beats();
    while world.beats() == before {
        world.pass(10);
    }
    world.last_beat.clone().unwrap()
}

#[test]
fn what_has_not_changed_is_not_told_again() {
    let mut world = settled();
    let first = next(&mut world);
    for _ in 0..5 {
        let beat = next(&mut world);
        assert_eq!((beat.same_as, beat.containers.len(), beat.synced), (first.same_as, 0, false));
        assert!(beat.same_as.is_some(), "{beat:?}");
    }
    world.dies("a", 3);
    let told = next(&mut world);
    assert_eq!((told.same_as, told.containers.len(), told.synced), (None, 1, true));
    world.pass(1_000);
    assert_eq!(next(&mut world).same_as, Some(told.seq));
}

#[test]
fn everything_is_told_to_a_scheduler_that_takes_no_digests() {
    let mut world = settled();
    world.digests = false;
    world.dies("a", 3);
    for _ in 0..3 {
        assert_eq!(next(&mut world).containers.len(), 1);
    }
}

#[test]
fn a_digest_that_is_not_taken_in_is_followed_by_everything_at_once() {
    let mut world = settled();
    next(&mut world);
    world.pass(1_000);
    world.scheduler_up = false; // it is answered by hand
    let digest = next(&mut world);
    assert!(digest.same_as.is_some());
    world.scheduler_up = true;
    let before = world.beats();
    let response = HeartbeatResponse { epoch: EPOCH, seq: digest.seq - 1, digests: true };
    world.give(Input::Beat { seq: digest.seq, outcome: Ok(response) });
    assert_eq!(world.beats(), before + 1);
    assert_eq!(world.last_beat.clone().unwrap().containers.len(), 1);
}

#[test]
fn a_registration_forgets_what_was_told_before() {
    let mut world = settled();
    assert!(next(&mut world).same_as.is_some());
    let refusal = CallError::Refused { status: 422, message: "who?".into() };
    world.give(Input::Beat { seq: u64::MAX, outcome: Err(refusal) });
    world.register();
    assert_eq!(world.last_beat.clone().unwrap().containers.len(), 1);
}

#[test]
fn a_break_in_its_health_is_a_change_although_it_is_healthy_again() {
    let mut world = settled();
    let check = json!({"healthCheck": {"port": 80, "intervalSeconds": 1, "failureThreshold": 1}});
    world.start(&order("b", check));
    let probed = |world: &mut World, outcome: Result<(), String>| {
        while !world.open.iter().any(|action| matches!(action, Action::Probe(_))) {
            world.pass(10);
        }
        let probe = world.take_probe();
        world.give(Input::Probed { id: probe.id, container_id: probe.container_id, outcome });
    };
    probed(&mut world, Ok(()));
    world.pass(500);
    // Before the scheduler is reached again it was ill and is well.
    world.scheduler_up = false;
    probed(&mut world, Err("refused".into()));
    probed(&mut world, Ok(()));
    world.scheduler_up = true;
    let told = next(&mut world);
    assert_eq!((told.same_as, told.containers.len()), (None, 2));
}
