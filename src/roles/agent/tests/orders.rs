//! Fences, repeats, and what must not come back.

use serde_json::json;

use super::world::*;
use crate::model::wire::{Fence, RunOrder};
use crate::model::{Phase, Reason};
use crate::roles::agent::message::*;

#[test]
fn only_the_current_scheduler_of_this_very_agent_is_obeyed() {
    let mut world = World::ready();
    let web = order("web-r1-x", json!({}));
    let stale: [(&str, Fence); 4] = [
        ("cluster", Fence { cluster: "c2".into(), ..fence() }),
        ("node", Fence { node: "n2".into(), ..fence() }),
        ("incarnation", Fence { incarnation: INCARNATION + 1, ..fence() }),
        ("epoch", Fence { epoch: EPOCH - 1, ..fence() }),
    ];
    for (what, fence) in stale {
        let refusal = world.run_fenced(&web, fence).unwrap_err();
        assert_eq!((refusal.status, refusal.reason.as_str()), (409, "StaleOrder"), "{what}");
    }
    world.assert_idle();
    assert_eq!(world.ids(), Vec::<String>::new());
    world.run(&web).unwrap();
}

#[test]
fn unregistered_it_takes_no_orders() {
    let mut world = World::new();
    world.docker_ok();
    world.listed(Vec::new());
    let refusal = world.run(&order("web-r1-x", json!({}))).unwrap_err();
    assert_eq!((refusal.status, refusal.reason.as_str()), (409, "NotRegistered"));
    assert_eq!(world.stop("web-r1-x", 0).unwrap_err().status, 409);
}

#[test]
fn an_order_is_in_every_snapshot_after_the_one_it_was_answered_with() {
    let mut world = World::ready();
    world.pass(5);
    let before = world.last_beat.clone().unwrap();
    let accepted = world.run(&order("web-r1-x", json!({}))).unwrap();
    assert_eq!((accepted.incarnation, accepted.seq), (INCARNATION, before.seq));
    for _ in 0..3 {
        world.pass(3_000);
        let beat = world.last_beat.clone().unwrap();
        assert!(beat.seq > accepted.seq);
        assert_eq!(beat.containers.len(), 1);
        assert_eq!(beat.containers[0].phase, Phase::Pending);
        assert!(beat.containers[0].reason.is_some(), "what does not run says why");
    }
}

#[test]
fn a_repeated_order_gets_the_first_answer_and_another_one_of_that_id_is_refused() {
    let mut world = World::ready();
    let web = order("web-r1-x", json!({}));
    let first = world.run(&web).unwrap();
    world.pass(10_000);
    assert_eq!(world.run(&web).unwrap(), first);
    let other = order("web-r1-x", json!({"image": "hello:2"}));
    assert_eq!(world.run(&other).unwrap_err().status, 409);
    world.image_checked(true);
    world.take_launch("web-r1-x");
    assert_eq!(world.run(&web).unwrap(), first);
    world.assert_idle();
}

#[test]
fn a_stop_that_overtakes_its_start_wins() {
    let mut world = World::ready();
    let first = world.stop("web-r1-x", 0).unwrap();
    world.pass(10_000);
    let refusal = world.run(&order("web-r1-x", json!({}))).unwrap_err();
    assert_eq!((refusal.status, refusal.reason.as_str()), (409, "Stopped"));
    assert_eq!(world.stop("web-r1-x", 0).unwrap(), first, "stopping again changes nothing");
    world.open.clear();
}

#[test]
fn what_was_stopped_does_not_come_back() {
    let mut world = World::ready();
    let web = order("web-r1-x", json!({}));
    world.start(&web);
    world.stop("web-r1-x", 0).unwrap();
    assert_eq!(world.run(&web).unwrap_err().reason, "Stopped", "not while it is being stopped");
    world.stopped("web-r1-x", 10);
    world.removed("web-r1-x");
    assert_eq!(world.run(&web).unwrap_err().reason, "Stopped", "nor later");
    world.assert_idle();
}

#[test]
fn a_stop_before_the_first_listing_is_gentle_and_remembered() {
    let web = order("web-r1-x", json!({"stopGracePeriodSeconds": 4}));
    let mut world = World::new();
    world.register();
    world.stop("web-r1-x", 2_000).unwrap();
    world.docker_ok();
    world.listed(vec![observed(&web, facts("c-web-r1-x", ContainerState::Running))]);
    assert!(world.see("web-r1-x").unwrap().stopping);
    world.assert_idle();
    world.pass(2_000);
    world.stopped("web-r1-x", 4);
    world.removed("web-r1-x");
    assert_eq!(world.ids(), Vec::<String>::new());
}

/// Found by seed 3268 of the simulator: a former life of the agent had asked a hanging
/// Docker to create it.
#[test]
fn what_was_stopped_before_it_was_made_is_not_started() {
    let mut world = World::ready();
    world.stop("web-r1-x", 0).unwrap();
    let web = order("web-r1-x", json!({}));
    world.resync(vec![observed(&web, facts("c-web-r1-x", ContainerState::Created))]);
    world.removed("web-r1-x");
    assert_eq!(world.ids(), Vec::<String>::new());
    world.assert_idle();
}

/// Cut off, it has restarted web-r1-x by itself.
fn with_a_successor() -> World {
    let mut world = World::ready();
    world.start(&order("web-r1-x", json!({})));
    world.scheduler_up = false;
    world.dies("web-r1-x", 1);
    world.pass(10_000);
    world.launched("web-r1-x-a1");
    world.open.clear();
    world
}

#[test]
fn an_order_that_replaces_what_the_agent_has_replaced_is_answered_with_that_successor() {
    let mut world = with_a_successor();
    let mut theirs = order("web-r1-y", json!({}));
    theirs.replaces = Some("web-r1-x".into());
    theirs.restarts = 1;
    let accepted = world.run(&theirs).unwrap();
    assert_eq!(accepted.id.as_str(), "web-r1-x-a1");
    assert_eq!(world.run(&theirs).unwrap(), accepted);
    world.assert_idle();
    assert_eq!(world.phase("web-r1-y"), None);
}

/// Found by seed 3765 of the simulator: the scheduler was told of a successor that it
/// had just stopped.
#[test]
fn a_successor_that_is_being_stopped_answers_for_nobody() {
    let mut world = with_a_successor();
    world.stop("web-r1-x-a1", 0).unwrap();
    let mut theirs = order("web-r1-y", json!({}));
    theirs.replaces = Some("web-r1-x".into());
    assert_eq!(world.run(&theirs).unwrap().id.as_str(), "web-r1-y");
    assert_eq!(world.phase("web-r1-y"), Some(Phase::Pending));
}

#[test]
fn a_successor_supersedes_a_start_that_failed() {
    let mut world = World::ready();
    world.run(&order("web-r1-x", json!({}))).unwrap();
    world.image_checked(true);
    world.launch_failed("web-r1-x", Reason::PortTaken);
    let mut next = order("web-r1-y", json!({}));
    next.replaces = Some("web-r1-x".into());
    world.run(&next).unwrap();
    assert_eq!(world.ids(), ["web-r1-y"]);
}

#[test]
fn ids_that_could_mean_something_else_are_refused() {
    let mut world = World::ready();
    for id in ["", "../x", "a b", "A", "-a", "a-", "a/b", &"a".repeat(129)] {
        assert_eq!(world.run(&order(id, json!({}))).unwrap_err().status, 400, "{id}");
        assert_eq!(world.stop(id, 0).unwrap_err().status, 400, "{id}");
    }
    world.assert_idle();
}

#[test]
fn tombstones_are_bounded() {
    let mut world = World::ready();
    for number in 0..1_500 {
        world.stop(&format!("web-r1-{number}"), 0).unwrap();
    }
    assert_eq!(world.run(&order("web-r1-1499", json!({}))).unwrap_err().reason, "Stopped");
    world.run(&order("web-r1-0", json!({}))).unwrap();
}

#[test]
fn what_needs_anothers_place_is_prepared_and_launched_when_that_is_gone() {
    let mut world = World::ready();
    world.start(&order("web-r1-a", json!({})));
    let next = RunOrder { after: Some("web-r1-a".into()), ..order("web-r2-b", json!({})) };
    world.run(&next).unwrap();
    assert_eq!(world.reason("web-r2-b"), Some(Reason::Prepared));
    world.stop("web-r1-a", 0).unwrap();
    world.stopped("web-r1-a", 10);
    world.launched("web-r2-b");
    assert_eq!(world.phase("web-r2-b"), Some(Phase::Running));
}

#[test]
fn what_follows_one_on_another_node_waits_for_the_schedulers_word() {
    let mut world = World::ready();
    let last = order("web-r2-b", json!({}));
    let first = RunOrder { after: Some("web-r1-a".into()), ..last.clone() };
    let noted = world.run(&first).unwrap();
    world.image_checked(true);
    world.pass(60_000);
    assert_eq!(world.reason("web-r2-b"), Some(Reason::Prepared));
    let other = RunOrder { restarts: 7, ..last.clone() };
    assert_eq!(world.run(&other).unwrap_err().status, 409, "nothing else may differ");

    assert_eq!(world.run(&last).unwrap(), noted, "the answer of the first time");
    // The first order, doubled and late, changes nothing any more.
    assert_eq!(world.run(&first).unwrap(), noted);
    world.launched("web-r2-b");
    assert_eq!(world.phase("web-r2-b"), Some(Phase::Running));
}
