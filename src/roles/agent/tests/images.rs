//! Pull policy, single flight, final and passing errors, cancellation.

use serde_json::json;

use super::world::*;
use crate::model::wire::RunOrder;
use crate::model::{Phase, Reason};
use crate::roles::agent::message::*;

const IMAGE: &str = "hello:1";

fn check() -> DockerAction {
    DockerAction::CheckImage { image: IMAGE.into() }
}

fn pull() -> DockerAction {
    DockerAction::Pull { image: IMAGE.into() }
}

fn cancel() -> DockerAction {
    DockerAction::CancelPull { image: IMAGE.into() }
}

fn pulled(world: &mut World, outcome: Result<(), PullError>) {
    world.take_docker(pull());
    world.give(Input::Pulled { image: IMAGE.into(), outcome });
}

/// Three orders for an image that is not on the node.
fn three_waiting() -> World {
    let mut world = World::ready();
    for id in ["a", "b", "c"] {
        world.run(&order(id, json!({}))).unwrap();
    }
    world.image_checked(false);
    world
}

#[test]
fn three_orders_make_one_look_and_one_pull() {
    let mut world = three_waiting();
    assert_eq!(world.open, [Action::Docker(pull())]);
    assert_eq!(world.phase("a"), Some(Phase::Pulling));
    pulled(&mut world, Ok(()));
    for id in ["a", "b", "c"] {
        world.launched(id);
    }
    world.assert_idle();
    world.start(&order("d", json!({})));
    world.assert_idle();
}

#[test]
fn an_image_that_is_there_is_not_asked_for_at_the_registry() {
    let mut world = World::ready();
    world.run(&order("a", json!({}))).unwrap();
    world.image_checked(true);
    world.launched("a");
    world.assert_idle();
}

#[test]
fn always_pulls_first_even_if_it_is_there() {
    let mut world = World::ready();
    world.start(&order("a", json!({})));
    world.run(&order("b", json!({"pullPolicy": "always"}))).unwrap();
    assert_eq!(world.open, [Action::Docker(pull())]);
    pulled(&mut world, Ok(()));
    world.launched("b");
}

#[test]
fn never_does_not_pull() {
    let mut world = World::ready();
    world.run(&order("a", json!({"pullPolicy": "never"}))).unwrap();
    world.image_checked(false);
    world.assert_idle();
    let failed = world.see("a").unwrap();
    assert_eq!((failed.phase, failed.reason), (Phase::Failed, Some(Reason::ImageNotFound)));
    assert!(failed.message.unwrap().contains("hello:1"));
}

#[test]
fn an_image_that_was_removed_meanwhile_is_pulled_once() {
    let mut world = World::ready();
    world.start(&order("a", json!({})));
    world.run(&order("b", json!({}))).unwrap();
    world.launch_failed("b", Reason::ImageNotFound);
    pulled(&mut world, Ok(()));
    world.launch_failed("b", Reason::ImageNotFound);
    assert_eq!(world.reason("b"), Some(Reason::ImageNotFound));
    world.assert_idle();
}

#[test]
fn what_would_fail_again_fails_at_once() {
    for reason in [Reason::ImageNotFound, Reason::ImageDenied] {
        let mut world = three_waiting();
        pulled(&mut world, Err(PullError::Final { reason, message: "no such thing".into() }));
        for id in ["a", "b", "c"] {
            let failed = world.see(id).unwrap();
            assert_eq!((failed.phase, failed.reason), (Phase::Failed, Some(reason)));
            assert_eq!(failed.message.as_deref(), Some("no such thing"));
        }
        world.assert_idle();
    }
}

#[test]
fn what_may_pass_is_tried_again_more_and_more_slowly_and_says_so() {
    let mut world = three_waiting();
    let mut tried_at = vec![world.now];
    for _ in 0..6 {
        pulled(&mut world, Err(PullError::Transient("registry is away".into())));
        assert_eq!(world.reason("a"), Some(Reason::PullFailed));
        assert!(world.see("a").unwrap().message.unwrap().contains("registry is away"));
        while !world.open.contains(&Action::Docker(pull())) {
            world.pass(100);
            world
                .open
                .retain(|action| !matches!(action, Action::Docker(DockerAction::List { .. })));
        }
        tried_at.push(world.now);
    }
    for (number, pair) in tried_at.windows(2).enumerate() {
        let (pause, base) = (pair[1] - pair[0], 1_000 << number);
        assert!((base..base * 5 / 4 + 100).contains(&pause), "{pause} ms, not about {base}");
    }
    pulled(&mut world, Ok(()));
    world.launched("a");
}

#[test]
fn a_pull_is_given_up_after_ten_minutes_without_progress_and_not_before() {
    let mut world = three_waiting();
    world.pass(599_000);
    world.give(Input::PullProgress { image: IMAGE.into() });
    world.pass(599_000);
    assert_eq!(world.phase("a"), Some(Phase::Pulling));
    world.pass(1_000);
    let failed = world.see("a").unwrap();
    assert_eq!((failed.phase, failed.reason), (Phase::Failed, Some(Reason::PullFailed)));
    assert!(failed.message.unwrap().contains("10 minutes"));
    world.take_docker(cancel());
    pulled(&mut world, Err(PullError::Cancelled));
}

#[test]
fn retries_end_too_when_nothing_moves_for_ten_minutes() {
    let mut world = three_waiting();
    for _ in 0..10_000 {
        if world.phase("a") == Some(Phase::Failed) {
            assert!((600_000..700_000).contains(&world.now));
            assert_eq!(world.reason("a"), Some(Reason::PullFailed));
            return;
        }
        if world.open.contains(&Action::Docker(pull())) {
            pulled(&mut world, Err(PullError::Transient("reset by peer".into())));
        }
        world.open.retain(|action| !matches!(action, Action::Docker(DockerAction::List { .. })));
        world.pass(500);
    }
    panic!("tried for ever");
}

#[test]
fn a_pull_ends_when_the_last_one_who_waits_for_it_is_stopped() {
    let mut world = three_waiting();
    world.stop("a", 1_000).unwrap();
    world.stop("b", 1_000).unwrap();
    assert_eq!(world.open, [Action::Docker(pull())]);
    assert_eq!(world.ids(), ["c"], "without a container they are gone at once");
    world.stop("c", 1_000).unwrap();
    world.take_docker(cancel());
    pulled(&mut world, Err(PullError::Cancelled));
    world.assert_idle();
    assert!(world.core.is_settled());
}

#[test]
fn a_pull_that_is_wanted_again_while_it_is_being_cancelled_starts_over() {
    let mut world = three_waiting();
    for id in ["a", "b", "c"] {
        world.stop(id, 0).unwrap();
    }
    world.take_docker(cancel());
    world.run(&order("d", json!({}))).unwrap();
    world.image_checked(false);
    assert_eq!(world.open, [Action::Docker(pull())], "only the one being cancelled");
    pulled(&mut world, Err(PullError::Cancelled));
    pulled(&mut world, Ok(()));
    world.launched("d");
}

#[test]
fn a_look_that_fails_is_repeated() {
    let mut world = World::ready();
    world.run(&order("a", json!({}))).unwrap();
    world.take_docker(check());
    world.give(Input::ImageChecked { image: IMAGE.into(), outcome: Err("timed out".into()) });
    assert!(world.see("a").unwrap().message.unwrap().contains("timed out"));
    world.pass(1_000);
    world.image_checked(true);
    world.launched("a");
}

#[test]
fn a_slow_pull_holds_up_nobody_else() {
    let mut world = World::ready();
    world.run(&order("a", json!({}))).unwrap();
    world.image_checked(false);
    world.run(&order("b", json!({"image": "other:1"}))).unwrap();
    world.take_docker(DockerAction::CheckImage { image: "other:1".into() });
    world.give(Input::ImageChecked { image: "other:1".into(), outcome: Ok(true) });
    world.launched("b");
    assert_eq!(world.phase("b"), Some(Phase::Running));
    assert_eq!(world.phase("a"), Some(Phase::Pulling));
}

#[test]
fn what_was_in_the_way_of_an_image_is_forgotten_when_it_is_there() {
    let mut world = World::ready();
    world.start(&order("a", json!({})));
    let next = RunOrder { after: Some("a".into()), ..order("b", json!({"image": "other:1"})) };
    world.run(&next).unwrap();
    let image = || "other:1".to_owned();
    world.take_docker(DockerAction::CheckImage { image: image() });
    world.give(Input::ImageChecked { image: image(), outcome: Err("timed out".into()) });
    assert!(world.see("b").unwrap().message.unwrap().contains("timed out"));
    world.pass(1_000);
    world.take_docker(DockerAction::CheckImage { image: image() });
    world.give(Input::ImageChecked { image: image(), outcome: Ok(true) });
    assert_eq!(world.reason("b"), Some(Reason::Prepared), "{:?}", world.see("b"));
}
