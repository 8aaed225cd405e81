//! Heartbeats that say only what has changed.

use serde_json::json;

use super::world::*;
use crate::model::wire::HeartbeatRequest;
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
    // This scheduler takes no other reports than that nothing has changed.
    world.dies("a", 3);
    let told = next(&mut world);
    assert_eq!((told.same_as, told.containers.len(), told.synced), (None, 1, true));
    world.pass(1_000);
    assert_eq!(next(&mut world).same_as, Some(told.seq));
}

/// Two that run, and a scheduler that takes reports of what has changed.
fn two() -> (World, HeartbeatRequest) {
    let mut world = settled();
    world.changes = true;
    world.start(&order("b", json!({})));
    world.pass(1_000);
    let last = next(&mut world);
    (world, last)
}

fn names(beat: &HeartbeatRequest) -> (Vec<&str>, Vec<&str>) {
    let containers = beat.containers.iter().map(|told| told.id.as_str());
    (containers.collect(), beat.gone.iter().map(|id| id.as_str()).collect())
}

#[test]
fn only_what_has_changed_is_told() {
    let (mut world, last) = two();
    assert_eq!(names(&last), (vec![], vec![]), "all is as it was");
    world.dies("a", 3);
    let told = next(&mut world);
    assert_eq!((told.same_as, told.synced), (last.same_as, false));
    assert_eq!(names(&told), (vec!["a"], vec![]));
    // From then on that is what is referred to.
    world.pass(1_000);
    let after = next(&mut world);
    assert_eq!((after.same_as, names(&after)), (Some(told.seq), (vec![], vec![])));
}

#[test]
fn what_is_gone_is_told_until_it_was_taken_in() {
    let (mut world, last) = two();
    world.scheduler_up = false;
    world.stop("a", 0).unwrap();
    world.stopped("a", 10);
    world.removed("a");
    let first = next(&mut world);
    assert_eq!((first.same_as, names(&first)), (last.same_as, (vec![], vec!["a"])));
    world.scheduler_up = true;
    let again = next(&mut world);
    assert_eq!((again.same_as, names(&again)), (last.same_as, (vec![], vec!["a"])));
    let after = next(&mut world);
    assert_eq!((after.same_as, names(&after)), (Some(again.seq), (vec![], vec![])));
}

#[test]
fn what_was_told_in_vain_is_told_again() {
    let (mut world, last) = two();
    world.scheduler_up = false;
    world.dies("a", 3);
    assert_eq!(names(&next(&mut world)), (vec!["a"], vec![]));
    world.dies("b", 3);
    world.scheduler_up = true;
    let told = next(&mut world);
    assert_eq!((told.same_as, names(&told)), (last.same_as, (vec!["a", "b"], vec![])));
}

#[test]
fn everything_is_told_now_and_then_and_while_docker_is_away() {
    let (mut world, _) = two();
    let mut whole = 0;
    for _ in 0..250 {
        whole += usize::from(next(&mut world).same_as.is_none());
    }
    assert!((1..=2).contains(&whole), "about every ten minutes: {whole}");
    world.give(Input::Docker(DockerReport::Away("gone".into())));
    let told = next(&mut world);
    assert_eq!((told.same_as, names(&told).0), (None, vec!["a", "b"]));
    world.docker_ok();
    assert_eq!(next(&mut world).same_as, None, "what was said meanwhile is nothing to build on");
    world.pass(1_000);
    assert!(next(&mut world).same_as.is_some());
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
    assert!(next(&mut world).same_as.is_some());
    world.not_taken = true;
    let before = world.beats();
    let after = next(&mut world);
    assert_eq!(world.beats(), before + 2, "at once");
    assert_eq!((after.same_as, after.containers.len()), (None, 1));
}

/// An end that was told in vain has to be told again: the dead may not be retired.
#[test]
fn what_was_not_taken_in_was_not_told() {
    let (mut world, _) = two();
    for id in ["a", "b"] {
        world.dies(id, 3);
    }
    world.not_taken = true;
    let after = next(&mut world);
    assert_eq!((after.same_as, names(&after).0), (None, vec!["a", "b"]));
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
