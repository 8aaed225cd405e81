//! Registering, heartbeats, and being told to go.

use serde_json::json;

use super::world::*;
use crate::model::wire::{DockerState, HeartbeatResponse};
use crate::roles::agent::message::*;

fn refused(status: u16) -> CallError {
    CallError::Refused { status, message: "said the scheduler".into() }
}

fn registrations(world: &World) -> usize {
    world.open.iter().filter(|action| matches!(action, Action::Register(_))).count()
}

#[test]
fn registering_is_tried_until_it_works_ever_more_slowly_up_to_a_limit() {
    let mut world = World::new();
    let mut tried_at = Vec::new();
    for _ in 0..9 {
        world.take(|action| matches!(action, Action::Register(_)));
        tried_at.push(world.now);
        world.give(Input::Registered(Err(CallError::Unreachable("refused".into()))));
        assert_eq!(registrations(&world), 0);
        while registrations(&world) == 0 {
            world.pass(10);
        }
    }
    let pauses: Vec<u64> = tried_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] <= 110 && pauses[7] > 2_000 && pauses[7] <= 3_010, "{pauses:?}");
    world.register();
    assert!(world.last_beat.is_some(), "reports at once");
}

#[test]
fn it_registers_while_docker_is_away_and_says_so() {
    let mut world = World::new();
    let Action::Register(request) = world.take(|action| matches!(action, Action::Register(_)))
    else {
        unreachable!()
    };
    assert_eq!(request.docker.state, DockerState::Away);
    assert!(request.docker.message.is_some());
    assert_eq!((request.node_id.as_str(), request.incarnation), (NODE, INCARNATION));
}

#[test]
fn quiet_it_reports_about_every_three_seconds() {
    let mut world = World::ready();
    world.pass(1_000);
    let before = world.beats();
    world.pass(300_000);
    let beats = world.beats() - before;
    assert!((100..=115).contains(&beats), "{beats} heartbeats in 5 minutes");
}

#[test]
fn those_that_had_news_together_do_not_go_on_together() {
    let mut at: Vec<u64> = (0..40)
        .map(|draw| {
            let mut world = World::ready();
            world.pass(10_000);
            world.draw = draw;
            world.start(&order("a", json!({})));
            world.pass(300);
            let before = world.beats();
            while world.beats() == before {
                world.pass(1);
            }
            world.now
        })
        .collect();
    at.sort_unstable();
    assert!(at[39] - at[0] > 2_000, "{at:?}");
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] < 700), "{at:?}");
}

#[test]
fn several_changes_make_one_heartbeat_at_once() {
    let mut world = World::ready();
    world.pass(1_000);
    for id in ["a", "b", "c"] {
        world.start(&order(id, json!({})));
    }
    let before = world.beats();
    world.pass(3);
    assert_eq!(world.beats(), before);
    world.pass(1);
    assert_eq!(world.beats(), before + 1);
    assert_eq!(world.last_beat.clone().unwrap().containers.len(), 3);
}

#[test]
fn one_heartbeat_at_a_time_and_news_follow_the_answer() {
    let mut world = World::ready();
    world.pass(1_000);
    // This one is answered by hand.
    let give = |world: &mut World, input| {
        let moment = Moment { now_ms: world.now, wall_ms: WALL + world.now, draw: 0 };
        world.core.step(moment, input)
    };
    world.now += 3_000;
    let step = give(&mut world, Input::Tick);
    let Some(Action::Heartbeat(beat)) = step.actions.first() else { panic!("{step:?}") };
    world.now += 6_000;
    assert_eq!(give(&mut world, Input::Tick).actions, [], "still waiting");
    let outcome =
        Ok(HeartbeatResponse { epoch: EPOCH, seq: beat.seq, digests: false, changes: false });
    let step = give(&mut world, Input::Beat { seq: beat.seq, outcome });
    assert!(matches!(step.actions[..], [Action::Heartbeat(_)]), "{step:?}");
}

#[test]
fn lost_heartbeats_are_repeated_soon_but_not_wildly() {
    let mut world = World::ready();
    world.scheduler_up = false;
    world.start(&order("a", json!({})));
    let before = world.beats();
    world.pass(9_000);
    let beats = world.beats() - before;
    assert!((4..=10).contains(&beats), "{beats} tries in 9 s");
    world.scheduler_up = true;
    world.pass(3_000);
    assert_eq!(world.last_beat.clone().unwrap().containers.len(), 1);
}

#[test]
fn an_unknown_node_registers_again_and_keeps_what_it_has() {
    let mut world = World::ready();
    world.start(&order("a", json!({})));
    world.give(Input::Beat { seq: 99, outcome: Err(refused(422)) });
    assert_eq!(world.run(&order("b", json!({}))).unwrap_err().status, 409);
    world.register();
    assert_eq!(world.ids(), ["a"]);
    assert!(world.last_beat.clone().unwrap().synced, "it still knows all there is");
    world.assert_idle();
}

#[test]
fn a_newer_epoch_in_an_answer_makes_it_register_again() {
    let mut world = World::ready();
    world.give(Input::Beat {
        seq: 99,
        outcome: Ok(HeartbeatResponse {
            epoch: EPOCH + 1,
            seq: 99,
            digests: false,
            changes: false,
        }),
    });
    assert_eq!(registrations(&world), 1);
}

#[test]
fn an_agent_whose_node_was_taken_over_ends_for_good_and_leaves_containers_alone() {
    let mut world = World::ready();
    world.start(&order("a", json!({})));
    world.give(Input::Beat { seq: 99, outcome: Err(refused(409)) });
    assert_eq!(world.open, [Action::Halt(Ending::Superseded("said the scheduler".into()))]);
    world.open.clear();
    world.pass(100_000);
    world.assert_idle();
    assert_eq!(world.run(&order("b", json!({}))).unwrap_err().status, 503);
}

#[test]
fn other_errors_are_no_reason_to_end() {
    for status in [400, 404, 429, 500, 503] {
        let mut world = World::ready();
        world.give(Input::Beat { seq: 99, outcome: Err(refused(status)) });
        world.pass(4_000);
        world.assert_idle();
        assert_eq!(world.core.epoch(), Some(EPOCH), "{status}");
    }
}

#[test]
fn docker_trouble_is_told_at_once_with_its_age() {
    let mut world = World::ready();
    world.pass(1_000);
    world.give(Input::Docker(DockerReport::Hung("no answer for 5 s".into())));
    world.pass(4);
    let docker = world.last_beat.clone().unwrap().docker;
    assert_eq!((docker.state, docker.for_ms), (DockerState::Hung, 4));
    assert_eq!(docker.message.as_deref(), Some("no answer for 5 s"));
    assert_eq!(docker.daemon, Some("d1".into()));
    world.docker_ok();
    world.pass(4);
    let docker = world.last_beat.clone().unwrap().docker;
    assert_eq!((docker.state, docker.message), (DockerState::Ok, None));
}
