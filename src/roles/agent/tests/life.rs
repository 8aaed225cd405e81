//! Starting, running, probing, ending, stopping, retention.

use serde_json::json;

use super::world::*;
use crate::model::{Health, Phase, Reason};
use crate::roles::agent::message::*;

const ID: &str = "web-r1-x";

fn web() -> crate::model::wire::RunOrder {
    order(ID, json!({}))
}

fn probed() -> crate::model::wire::RunOrder {
    order(ID, json!({"healthCheck": {"port": 80, "path": "/healthz"}}))
}

fn running() -> World {
    let mut world = World::ready();
    world.start(&web());
    world
}

fn answer_probe(world: &mut World, outcome: Result<(), &str>) {
    let probe = world.take_probe();
    let outcome = outcome.map_err(str::to_owned);
    world.give(Input::Probed { id: probe.id, container_id: probe.container_id, outcome });
}

#[test]
fn a_started_instance_is_reported_at_once_with_all_that_is_known() {
    let mut world = running();
    world.pass(5);
    let beat = world.last_beat.clone().unwrap();
    let web = &beat.containers[0];
    assert_eq!((web.phase, web.health, web.ready), (Phase::Running, Health::Healthy, false));
    assert_eq!(web.container_id, "c-web-r1-x");
    assert_eq!(web.ip.as_deref(), Some("172.17.0.2"));
    assert_eq!(web.ports, [published()]);
    assert_eq!(web.started_at.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!((web.running_for_ms, web.healthy_for_ms), (Some(4), Some(4)));
    assert_eq!((web.reason, web.message.as_ref()), (None, None));
}

#[test]
fn nothing_is_launched_before_the_first_listing_or_without_docker() {
    let mut world = World::new();
    world.register();
    world.run(&web()).unwrap();
    world.assert_idle();
    assert_eq!(world.reason(ID), Some(Reason::DockerUnavailable));
    world.docker_ok();
    assert_eq!(world.open.len(), 1, "only the listing");
    world.listed(Vec::new());
    world.image_checked(true);
    world.launched(ID);
    world.give(Input::Docker(DockerReport::Away("no such file".into())));
    world.run(&order("b", json!({}))).unwrap();
    world.assert_idle();
    world.resync(vec![observed(&web(), facts("c-web-r1-x", ContainerState::Running))]);
    world.launched("b");
}

#[test]
fn a_failed_start_says_why_until_it_is_stopped() {
    let mut world = World::ready();
    world.run(&web()).unwrap();
    world.image_checked(true);
    world.launch_failed(ID, Reason::PortTaken);
    world.pass(60_000);
    let failed = world.see(ID).unwrap();
    assert_eq!((failed.phase, failed.reason), (Phase::Failed, Some(Reason::PortTaken)));
    assert_eq!(failed.message.as_deref(), Some("docker said no"));
    world.stop(ID, 1_000).unwrap();
    assert_eq!(world.ids(), Vec::<String>::new());
}

#[test]
fn what_a_failed_start_left_behind_is_removed_until_it_is_gone() {
    let mut world = World::ready();
    world.run(&web()).unwrap();
    world.image_checked(true);
    world.take_launch(ID);
    world.give(Input::Launched {
        id: ID.into(),
        outcome: LaunchOutcome::Failed {
            reason: Reason::StartFailed,
            message: "no".into(),
            left_over: Some("c9".into()),
        },
    });
    let remove = DockerAction::Remove { container_id: "c9".into() };
    world.take_docker(remove.clone());
    world.give(Input::Removed { container_id: "c9".into(), outcome: Err("busy".into()) });
    world.assert_idle();
    world.pass(2_000);
    world.take_docker(remove);
    world.give(Input::Removed { container_id: "c9".into(), outcome: Ok(()) });
    world.pass(10_000);
    world.assert_idle();
}

#[test]
fn an_end_is_reported_at_once_with_its_exit_code() {
    let mut world = running();
    world.pass(12_000);
    world.dies(ID, 3);
    world.pass(5);
    let beat = world.last_beat.clone().unwrap();
    let dead = &beat.containers[0];
    assert_eq!((dead.phase, dead.exit_code), (Phase::Exited, Some(3)));
    assert_eq!(dead.reason, Some(Reason::Error));
    assert_eq!(dead.message.as_deref(), Some("exited with code 3 after 12 s"));
    assert_eq!((dead.running_for_ms, dead.ip.as_ref()), (Some(12_000), None));
    world.open.clear();
    world.event(ID, EventKind::Destroy);
    assert_eq!(world.phase(ID), Some(Phase::Exited), "phases only move forward");
}

#[test]
fn an_end_before_the_answer_to_its_launch_counts() {
    let mut world = World::ready();
    world.run(&web()).unwrap();
    world.image_checked(true);
    world.event(ID, EventKind::Create);
    assert_eq!(world.phase(ID), Some(Phase::Created));
    world.event(ID, EventKind::Start);
    world.dies(ID, 5);
    assert_eq!(world.phase(ID), Some(Phase::Created));
    world.launched(ID);
    let dead = world.see(ID).unwrap();
    assert_eq!((dead.phase, dead.exit_code), (Phase::Exited, Some(5)));
    world.assert_idle();
}

#[test]
fn memory_is_named_as_the_cause() {
    let mut world = running();
    world.event(ID, EventKind::Oom);
    world.dies(ID, 137);
    assert!(world.see(ID).unwrap().message.unwrap().contains("want of memory"));
}

#[test]
fn a_launch_without_an_answer_is_settled_by_the_next_listing() {
    // What the listing shows, and the phase that follows.
    let cases = [
        (Some(ContainerState::Running), Phase::Running),
        (Some(ContainerState::Ended), Phase::Exited),
        (Some(ContainerState::Created), Phase::Created),
        (None, Phase::Pending),
    ];
    for (shown, phase) in cases {
        let mut world = World::ready();
        world.run(&web()).unwrap();
        world.image_checked(true);
        world.take_launch(ID);
        world.give(Input::Launched {
            id: ID.into(),
            outcome: LaunchOutcome::Unknown("no answer in 60 s".into()),
        });
        world.listed(shown.map(|state| observed(&web(), facts("c1", state))).into_iter().collect());
        assert_eq!(world.phase(ID), Some(phase), "{shown:?}");
        world.pass(2_000);
        if phase < Phase::Running {
            world.launched(ID);
            assert_eq!(world.phase(ID), Some(Phase::Running));
        }
        world.assert_idle();
    }
}

/// Whatever was to be started cannot be blamed for that.
#[test]
fn a_docker_that_never_gets_to_it_is_what_is_to_blame() {
    let mut world = World::ready();
    world.run(&web()).unwrap();
    world.image_checked(true);
    // The first time it is tried again, ten minutes later it is given up.
    for (took_ms, phase) in [(60_000, Phase::Pending), (600_000, Phase::Failed)] {
        world.take_launch(ID);
        world.pass(took_ms);
        let outcome = LaunchOutcome::Unknown("no answer in 60 s".into());
        world.give(Input::Launched { id: ID.into(), outcome });
        // The regular listing, which was under way, and one that was asked for.
        let is_listing = |a: &Action| matches!(a, Action::Docker(DockerAction::List { .. }));
        while world.open.iter().any(is_listing) {
            world.listed(Vec::new());
        }
        world.pass(2_000);
        assert_eq!(world.phase(ID), Some(phase));
    }
    let failed = world.see(ID).unwrap();
    assert_eq!(failed.reason, Some(Reason::DockerUnavailable), "{failed:?}");
    assert!(failed.message.unwrap().contains("no answer in 60 s"));
}

#[test]
fn a_stop_while_starting_leaves_nothing_over() {
    for outcome in [
        LaunchOutcome::Started(facts("c-web-r1-x", ContainerState::Running)),
        LaunchOutcome::Failed {
            reason: Reason::StartFailed,
            message: "no".into(),
            left_over: None,
        },
        LaunchOutcome::Unknown("no answer".into()),
    ] {
        let mut world = World::ready();
        world.run(&web()).unwrap();
        world.image_checked(true);
        world.stop(ID, 0).unwrap();
        world.take_launch(ID);
        world.give(Input::Launched { id: ID.into(), outcome: outcome.clone() });
        match outcome {
            LaunchOutcome::Started(_) => {
                world.stopped(ID, 10);
                world.removed(ID);
            }
            LaunchOutcome::Failed { .. } => {}
            LaunchOutcome::Unknown(_) => {
                world.listed(vec![observed(&web(), facts("c-web-r1-x", ContainerState::Created))]);
                world.removed(ID);
            }
        }
        assert_eq!(world.ids(), Vec::<String>::new(), "{outcome:?}");
        world.assert_idle();
    }
}

#[test]
fn stopping_drains_then_stops_then_removes_once() {
    let mut world = World::ready();
    world.start(&order(ID, json!({"stopGracePeriodSeconds": 3})));
    let first = world.stop(ID, 1_000).unwrap();
    world.pass(999);
    assert!(world.see(ID).unwrap().stopping);
    assert_eq!(world.reason(ID), Some(Reason::Stopping));
    world.assert_idle();
    assert_eq!(world.stop(ID, 1_000).unwrap(), first);
    world.pass(1);
    assert_eq!(world.open.len(), 1);
    assert_eq!(world.stop(ID, 1_000).unwrap(), first);
    world.stopped(ID, 3);
    assert_eq!(world.ids(), [ID], "until its container is gone");
    world.removed(ID);
    assert_eq!(world.ids(), Vec::<String>::new());
    assert_eq!(world.stop(ID, 1_000).unwrap(), first);
    world.assert_idle();
}

#[test]
fn a_second_stop_may_only_hasten_it() {
    let mut world = running();
    world.stop(ID, 60_000).unwrap();
    world.stop(ID, 0).unwrap();
    world.stopped(ID, 10);
}

#[test]
fn what_dies_while_draining_is_only_removed() {
    let mut world = running();
    world.stop(ID, 60_000).unwrap();
    world.dies(ID, 0);
    world.removed(ID);
    assert_eq!(world.ids(), Vec::<String>::new());
}

#[test]
fn what_is_removed_by_hand_while_draining_is_gone() {
    let mut world = running();
    world.stop(ID, 60_000).unwrap();
    world.event(ID, EventKind::Destroy);
    assert_eq!(world.ids(), Vec::<String>::new());
}

#[test]
fn a_stop_that_fails_is_said_and_tried_again() {
    let mut world = running();
    world.stop(ID, 0).unwrap();
    let stop = DockerAction::Stop { container_id: "c-web-r1-x".into(), grace_seconds: 10 };
    for pause in [2_000, 4_000, 8_000] {
        world.take_docker(stop.clone());
        world.give(Input::Stopped {
            container_id: "c-web-r1-x".into(),
            outcome: Err("device busy".into()),
        });
        assert!(world.see(ID).unwrap().message.unwrap().contains("device busy"));
        world.listed(vec![observed(&web(), facts("c-web-r1-x", ContainerState::Running))]);
        world.assert_idle();
        world.pass(pause);
    }
    world.stopped(ID, 10);
    world.removed(ID);
}

#[test]
fn no_probe_healthy_once_running_one_probe_at_a_time_otherwise() {
    let mut world = World::ready();
    world.start(&probed());
    assert_eq!(world.see(ID).unwrap().health, Health::Starting);
    assert_eq!(world.reason(ID), Some(Reason::HealthStarting));
    assert_eq!(
        world.take_probe(),
        Probe {
            id: ID.into(),
            container_id: "c-web-r1-x".into(),
            ip: "172.17.0.2".into(),
            port: 80,
            path: "/healthz".into(),
            timeout_ms: 2_000
        }
    );
    world.pass(10_000);
    world.assert_idle();
    let (id, container_id) = (ID.into(), "c-web-r1-x".into());
    world.give(Input::Probed { id, container_id, outcome: Ok(()) });
    let web = world.see(ID).unwrap();
    assert_eq!((web.health, web.healthy_for_ms, web.reason), (Health::Healthy, Some(0), None));
}

#[test]
fn ill_health_is_reported_and_a_restart_asked_for_but_not_done() {
    let mut world = World::ready();
    world.start(&probed());
    answer_probe(&mut world, Ok(()));
    for number in 1..=6 {
        world.pass(5_000);
        answer_probe(&mut world, Err("status 500"));
        let web = world.see(ID).unwrap();
        assert_eq!(web.health == Health::Unhealthy, number >= 3, "after {number}");
        assert_eq!(web.restart_due, number >= 6, "after {number}");
    }
    assert!(world.see(ID).unwrap().message.unwrap().contains("status 500"));
    world.pass(5);
    assert!(world.last_beat.clone().unwrap().containers[0].restart_due);
    world.open.retain(|action| !matches!(action, Action::Docker(DockerAction::List { .. })));
    world.assert_idle();
}

#[test]
fn never_healthy_becomes_unhealthy_by_its_deadline_even_while_a_probe_hangs() {
    let mut world = World::ready();
    world.start(&probed());
    world.take_probe();
    world.pass(59_999);
    assert_eq!(world.see(ID).unwrap().health, Health::Starting);
    world.pass(1);
    assert_eq!(world.see(ID).unwrap().health, Health::Unhealthy);
}

#[test]
fn a_result_counts_only_for_the_container_that_still_runs() {
    let mut world = World::ready();
    world.start(&probed());
    world.take_probe();
    let result = |container_id: &str| Input::Probed {
        id: ID.into(),
        container_id: container_id.into(),
        outcome: Ok(()),
    };
    world.give(result("another"));
    assert_eq!(world.see(ID).unwrap().health, Health::Starting);
    world.dies(ID, 1);
    world.give(result("c-web-r1-x"));
    assert_eq!(world.see(ID).unwrap().health, Health::Unknown);
}

#[test]
fn probes_go_on_while_draining_and_end_with_sigterm() {
    let mut world = World::ready();
    world.start(&probed());
    answer_probe(&mut world, Ok(()));
    world.stop(ID, 7_000).unwrap();
    world.pass(5_000);
    answer_probe(&mut world, Ok(()));
    world.pass(2_000);
    let container_id = "c-web-r1-x".to_owned();
    world.take_docker(DockerAction::Stop { container_id, grace_seconds: 10 });
    world.pass(7_000);
    world.assert_idle();
}

#[test]
fn probes_go_on_while_docker_is_away() {
    let mut world = World::ready();
    world.start(&probed());
    world.give(Input::Docker(DockerReport::Hung("no answer".into())));
    answer_probe(&mut world, Ok(()));
    world.pass(5_000);
    answer_probe(&mut world, Ok(()));
    let beat = world.last_beat.clone().unwrap();
    assert!((1..=5_000).contains(&beat.docker.for_ms));
    assert_eq!(beat.containers[0].health, Health::Healthy);
}

#[test]
fn the_last_two_dead_ones_of_a_workload_are_kept_once_all_have_been_told() {
    let mut world = World::ready();
    world.scheduler_up = false;
    for id in ["a", "b", "c", "d"] {
        world.start(&order(id, json!({"restartPolicy": "never"})));
        world.dies(id, 1);
        world.pass(10);
    }
    let mut other = order("other", json!({"restartPolicy": "never"}));
    other.workload = "db".into();
    world.start(&other);
    world.dies("other", 0);
    world.pass(100);
    world.assert_idle();
    assert_eq!(world.ids(), ["a", "b", "c", "d", "other"], "untold they stay");
    world.scheduler_up = true;
    world.pass(3_000);
    world.removed("a");
    world.removed("b");
    assert_eq!(world.ids(), ["c", "d", "other"]);
    assert_eq!(world.run(&order("a", json!({"restartPolicy": "never"}))).unwrap_err().status, 409);
    world.assert_idle();
}

#[test]
fn failed_starts_are_bounded_too() {
    let mut world = World::ready();
    for number in 0..10 {
        let id = format!("web-r1-{number}");
        world.run(&order(&id, json!({"pullPolicy": "never"}))).unwrap();
        world.image_checked(false);
        world.pass(10);
    }
    assert_eq!(world.ids(), ["web-r1-8", "web-r1-9"]);
}

#[test]
fn a_dead_container_that_somebody_starts_again_is_stopped_again() {
    let mut world = running();
    world.dies(ID, 1);
    world.event(ID, EventKind::Start);
    world.listed(vec![observed(&web(), facts("c-web-r1-x", ContainerState::Running))]);
    let container_id = "c-web-r1-x".to_owned();
    world.take_docker(DockerAction::Stop { container_id: container_id.clone(), grace_seconds: 10 });
    world.give(Input::Stopped { container_id, outcome: Ok(()) });
    assert_eq!(world.phase(ID), Some(Phase::Exited));
    world.assert_idle();
}

#[test]
fn ending_alone_leaves_containers_running() {
    let mut world = running();
    world.give(Input::Shutdown { stop_containers: false });
    assert_eq!(world.open, [Action::Halt(Ending::Asked)]);
    assert_eq!(world.wake_at, None);
}

#[test]
fn ending_with_containers_stops_all_quickly_and_then_ends() {
    let mut world = World::ready();
    world.start(&order("a", json!({"stopGracePeriodSeconds": 600})));
    world.run(&order("b", json!({}))).unwrap();
    world.give(Input::Shutdown { stop_containers: true });
    assert_eq!(world.run(&order("c", json!({}))).unwrap_err().status, 503);
    world.stopped("a", 5);
    world.removed("a");
    world.launched("b");
    world.stopped("b", 5);
    world.removed("b");
    assert_eq!(world.open, [Action::Halt(Ending::Asked)]);
}

#[test]
fn ending_with_containers_takes_no_longer_than_promised() {
    let mut world = running();
    world.give(Input::Shutdown { stop_containers: true });
    world.pass(12_000);
    world.take(|action| *action == Action::Halt(Ending::LeftOver(vec![ID.into()])));
}

/// Its container was seen although its launch got no answer, and cannot be started.
#[test]
fn what_was_created_and_could_not_be_started_leaves_nothing_behind() {
    let mut world = World::ready();
    let order = order("web-r1-x", json!({}));
    world.run(&order).unwrap();
    world.image_checked(true);
    world.take_launch("web-r1-x");
    let lost = LaunchOutcome::Unknown("no answer".to_owned());
    world.give(Input::Launched { id: "web-r1-x".into(), outcome: lost });
    world.listed(vec![observed(&order, facts("c-web-r1-x", ContainerState::Created))]);
    world.pass(5_000);
    world.launch_failed("web-r1-x", Reason::StartFailed);
    assert_eq!(world.phase("web-r1-x"), Some(Phase::Failed));
    world.removed("web-r1-x");
    assert_eq!(world.phase("web-r1-x"), Some(Phase::Failed));
}

/// A failed launch may leave a container over that a listing has shown meanwhile:
/// then its removal is asked for twice, and answered for both.
#[test]
fn a_removal_that_two_have_asked_for_is_repeated_until_it_is_done() {
    let container_id = "c-web-r1-x";
    let mut world = World::ready();
    world.run(&web()).unwrap();
    world.image_checked(true);
    world.take_launch(ID);
    let lost = LaunchOutcome::Unknown("no answer".into());
    world.give(Input::Launched { id: ID.into(), outcome: lost });
    world.listed(vec![observed(&web(), facts(container_id, ContainerState::Created))]);
    world.pass(2_000);
    world.take_launch(ID);
    let failed = LaunchOutcome::Failed {
        reason: Reason::StartFailed,
        message: "no".into(),
        left_over: Some(container_id.into()),
    };
    world.give(Input::Launched { id: ID.into(), outcome: failed });
    world.stop(ID, 0).unwrap();
    let is_removal = |a: &Action| matches!(a, Action::Docker(DockerAction::Remove { .. }));
    for outcome in [Err("the connection broke".to_owned()), Ok(())] {
        assert!(world.open.iter().any(is_removal), "{:?}", world.open);
        while world.open.iter().any(is_removal) {
            world.take(is_removal);
            let (container_id, outcome) = (container_id.to_owned(), outcome.clone());
            world.give(Input::Removed { container_id, outcome });
        }
        let is_listing = |a: &Action| matches!(a, Action::Docker(DockerAction::List { .. }));
        for _ in 0..3 {
            world.pass(3_000);
            while world.open.iter().any(is_listing) && outcome.is_err() {
                let left = observed(&web(), facts(container_id, ContainerState::Created));
                world.listed(vec![left]);
            }
        }
    }
    world.pass(10_000);
    while world.open.iter().any(|a| matches!(a, Action::Docker(DockerAction::List { .. }))) {
        world.listed(Vec::new());
    }
    assert!(world.core.is_settled(), "{:?}", world.see(ID));
}
