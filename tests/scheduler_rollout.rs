//! Stories of rolling updates on the scheduler's pure core: each test is named for
//! what it shows. Time is virtual. What must hold at every step (surge,
//! availability, books) the world checks by itself.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/rollouts.rs"]
mod rollouts;

use cluster::World;
use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::DockerState;
use kube_lite::model::{Extent, InstanceId, Reason, WorkloadSpec};
use kube_lite::roles::scheduler::message::{RolloutCall, UserCall};
use rollouts::*;

// ---- waves ----

#[test]
fn a_change_goes_one_in_one_out_and_the_same_again_is_the_old_number() {
    let mut world = with(3, image(10, "v1"));
    assert_eq!(world.deploy(image(10, "v2")), 2);
    ends(&mut world, 2 * MINUTE, "done", 11, 10);
    all_of(&mut world, 2);
    assert_eq!(world.deploy(image(10, "v2")), 2, "nothing changed");
    assert_eq!(world.deploy(image(10, "v1")), 1, "a template that is kept keeps its number");
    ends(&mut world, 2 * MINUTE, "done", 11, 10);
    all_of(&mut world, 1);
}

#[test]
fn shares_and_numbers_of_max_surge_and_max_unavailable_hold() {
    use Extent::{Count, Percent};
    for (surge, unavailable, most, least) in [
        (Percent(25), None, 11, 8),
        (Count(8), None, 16, 8),
        (Count(0), Some(Count(1)), 8, 7),
        (Count(0), Some(Percent(50)), 8, 4),
        (Count(2), Some(Count(2)), 10, 6),
        (Count(1), Some(Count(0)), 9, 8),
    ] {
        let mut world = with(3, image(8, "v1"));
        let mut next = image(8, "v2");
        next.strategy.max_surge = surge;
        next.strategy.max_unavailable = unavailable;
        world.deploy(next);
        // A quarter of 8 is 2, and at most that many more.
        ends(&mut world, 3 * MINUTE, "done", most, least);
        all_of(&mut world, 2);
    }
}

#[test]
fn those_that_are_not_ready_go_first_and_wait_for_nothing() {
    let mut world = with(3, probed(4, "v1"));
    let ill = world.live("web")[2].clone();
    world.sicken(&ill, false);
    world.run_for(100);
    world.deploy(probed(4, "v2"));
    world.run_for(1_500);
    assert!(!world.live("web").contains(&ill), "{}", world.story());
    assert!(of_revision(&world, 1) >= 2);
    until_state(&mut world, MINUTE, "done");
    all_of(&mut world, 2);
}

#[test]
fn a_longer_min_ready_time_in_the_same_change_takes_nothing_from_what_serves() {
    let mut world = with(3, image(3, "v1"));
    let mut next = image(3, "v2");
    next.min_ready_seconds = 30;
    world.deploy(next);
    ends(&mut world, 5 * MINUTE, "done", 4, 3);
    all_of(&mut world, 2);
}

#[test]
fn none_at_all_roll_at_once_and_two_changes_in_one_moment_end_at_the_last() {
    let mut world = with(2, image(0, "v1"));
    assert_eq!((world.deploy(image(0, "v2")), world.state_of("web").as_str()), (2, "done"));
    world.scale("web", 3);
    all_of(&mut world, 2);
    assert_eq!((world.deploy(image(3, "v3")), world.deploy(image(3, "v4"))), (3, 4));
    ends(&mut world, MINUTE, "done", 4, 3);
    all_of(&mut world, 4);
    assert!(outcome(&world, 3).contains("overtaken by revision 4"));
}

#[test]
fn only_ten_revisions_are_kept() {
    let mut world = with(2, image(1, "v1"));
    for number in 2..=15 {
        world.deploy(image(1, &format!("v{number}")));
        until_state(&mut world, MINUTE, "done");
    }
    assert_eq!(world.snapshot().history("web").unwrap().len(), 10);
    assert_eq!(world.deploy(image(1, "v3")), 16, "forgotten, so a new number");
    for number in 20..60 {
        world.deploy(image(1, &format!("v{number}")));
    }
    assert!(world.snapshot().history("web").unwrap().len() <= 12);
}

// ---- aborts ----

#[test]
fn a_bad_revision_aborts_in_bounded_time_and_no_original_is_touched() {
    for (bad, ms, why) in [
        ("exit:7:100", 2_000, "exited with code 7"),
        ("exit:0:100", 2_000, "exited with code 0"),
        ("nostart", 2_000, "exec format error"),
        ("nopull", 2_000, "no such image"),
        ("unwell", 62_000, "not ready 60 s after it ran"),
    ] {
        let mut world = with(3, probed(4, "v1"));
        let originals = world.live("web");
        world.deploy(probed(4, bad));
        let untouched = |w: &World| originals.iter().all(|id| w.live("web").contains(id));
        world.until(ms, bad, |w| {
            assert!(untouched(w) && w.live("web").len() <= 5, "{bad}\n{}", w.story());
            w.state_of("web") == "aborted"
        });
        world.settle();
        assert_eq!(world.live("web"), originals);
        assert!(outcome(&world, 2).contains(why), "{bad}: {}", outcome(&world, 2));
        let rollout = world.view("web").rollout.unwrap();
        assert!(rollout.why.unwrap().contains(why), "{bad}");
        assert_eq!((world.view("web").revision, world.view("web").spec.image.as_str()), (1, "v1"));
        world.nothing_happens_for(10 * MINUTE);
    }
}

#[test]
fn a_revision_without_a_probe_that_is_ready_and_ends_later_is_taken_back() {
    // Ready after 5 s, and so through some of the waves; then it ends.
    let mut world = with(3, image(6, "v1"));
    let originals = world.live("web");
    world.deploy(image(6, "exit:7:12000"));
    world.until(20_000, "half way", |w| {
        assert!(w.view("web").ready >= 6 && w.live("web").len() <= 7, "{}", w.story());
        of_revision(w, 2) >= 2 && w.live("web").iter().any(|id| !originals.contains(id))
    });
    ends(&mut world, MINUTE, "aborted", 7, 4);
    assert!(outcome(&world, 2).contains("exited with code 7"), "{}", outcome(&world, 2));
    assert!(originals.iter().filter(|id| world.live("web").contains(id)).count() >= 3);
    all_of(&mut world, 1);
}

#[test]
fn turning_unhealthy_half_way_brings_the_old_revision_back_under_the_same_bounds() {
    let mut world = with(3, probed(6, "v1"));
    let originals = world.live("web");
    world.deploy(probed(6, "v2"));
    world.until(MINUTE, "half way", |w| of_revision(w, 2) >= 3 && w.view("web").ready >= 6);
    let kept: Vec<InstanceId> =
        world.live("web").into_iter().filter(|id| originals.contains(id)).collect();
    let ill = world.live("web").into_iter().find(|id| !originals.contains(id)).unwrap();
    world.sicken(&ill, false);
    world.run_for(20);
    assert_eq!(world.state_of("web"), "aborting");
    ends(&mut world, MINUTE, "aborted", 7, 5);
    assert!(outcome(&world, 2).contains("is unhealthy"));
    for id in kept {
        // One that was already leaving at that moment may have gone.
        assert!(world.live("web").contains(&id) || world.core.state.instances.get(&id).is_none());
    }
    all_of(&mut world, 1);
}

#[test]
fn what_has_just_turned_unhealthy_is_drained_for_the_rest_of_the_delay() {
    let mut world = with(3, probed(3, "v1"));
    let victim = world.live("web")[0].clone();
    world.sicken(&victim, false);
    world.run_for(400);
    world.deploy(probed(3, "v2"));
    world.until(MINUTE, "the unhealthy one goes", |w| {
        w.core.state.instances.get(&victim).is_none_or(|i| i.stop.is_some())
    });
    let stop = world.core.state.instances[&victim].stop.clone().expect("it is stopped");
    assert!((400..=700).contains(&stop.drain_ms), "{stop:?} of 1000 ms");

    // One that has long been out of the list has nobody to wait for.
    let mut world = with(3, probed(3, "v1"));
    let victim = world.live("web")[0].clone();
    world.sicken(&victim, false);
    world.run_for(5_000);
    world.deploy(probed(3, "v2"));
    world.until(MINUTE, "the unhealthy one goes", |w| {
        w.core.state.instances.get(&victim).is_none_or(|i| i.stop.is_some())
    });
    assert_eq!(world.core.state.instances[&victim].stop.as_ref().unwrap().drain_ms, 0);
}

#[test]
fn ports_taken_node_death_docker_trouble_and_no_room_do_not_abort() {
    let mut world = with(3, probed(3, "v1"));
    world.deploy(probed(3, "v2"));
    world.run_for(150);
    let new = world.live("web").into_iter().find(|id| world.docker[id].order.revision == 2);
    let node = world.docker[&new.unwrap()].node.to_string();
    world.agent(&node).cut = true;
    world.until(12_000, "dead", |w| w.core.state.nodes[node.as_str()].status == NodeStatus::Dead);
    world.run_for(MINUTE);
    assert_eq!(world.state_of("web"), "done");
    world.agent(&node).cut = false;
    all_of(&mut world, 2);

    world.set_docker("n1", DockerState::Hung);
    world.run_for(10);
    world.deploy(probed(3, "v3"));
    world.run_for(3 * MINUTE);
    assert_ne!(world.state_of("web"), "aborted");
    world.set_docker("n1", DockerState::Ok);
    until_state(&mut world, 2 * MINUTE, "done");
    all_of(&mut world, 3);

    for node in ["n1", "n2", "n3"] {
        let call = UserCall::SetSchedulable { id: node.into(), schedulable: false };
        world.user(call).unwrap();
    }
    world.deploy(probed(3, "v4"));
    world.run_for(3 * MINUTE);
    assert_eq!(world.state_of("web"), "rolling");
    assert!(world.reasons("web").contains(&Reason::NoRoom));
    assert!(world.view("web").rollout.unwrap().waiting_for.unwrap().contains("cordoned"));
    assert_eq!(of_revision(&world, 3), 3);
    node_call(&mut world, false, "n2");
    until_state(&mut world, MINUTE, "done");
    all_of(&mut world, 4);
}

#[test]
fn an_abort_to_a_head_that_is_ill_itself_keeps_what_serves_and_says_why_it_waits() {
    let mut world = with(2, probed(2, "v1"));
    world.deploy(probed(2, "v2"));
    until_state(&mut world, MINUTE, "done");
    // What it goes back to was good once and is not any more.
    world.deploy(probed(2, "v3"));
    world.until(MINUTE, "half way", |w| of_revision(w, 3) == 2 && w.state_of("web") == "rolling");
    for id in world.live("web") {
        if world.docker[&id].order.revision == 2 {
            world.sicken(&id, true);
        }
    }
    world.rollout("web", RolloutCall::Abort).unwrap();
    world.run_for(MINUTE);
    assert!(world.view("web").ready >= 1);
    world.settle();
    assert_eq!(world.state_of("web"), "aborted");
    all_of(&mut world, 2);
}

// ---- people ----

#[test]
fn a_pause_freezes_waves_deadlines_and_aborts_but_not_healing() {
    let mut world = with(3, image(4, "v1"));
    world.deploy(image(4, "v2"));
    world.until(MINUTE, "one is over", |w| of_revision(w, 2) == 2 && w.view("web").ready == 4);
    world.rollout("web", RolloutCall::Pause).unwrap();
    world.run_for(3_000);
    let before = (of_revision(&world, 1), of_revision(&world, 2));
    world.nothing_happens_after(10_000, 2 * MINUTE);
    for id in world.live("web") {
        let revision = world.docker[&id].order.revision;
        let replica = world.docker[&id].order.replica;
        let wanted = world.core.state.workloads["web"].replicas[&replica].revision;
        if revision == wanted {
            world.crash(&id, 1);
            world.run_for(3_000);
            let healed = world.live("web").into_iter().any(|new| {
                let order = &world.docker[&new].order;
                order.replica == replica && order.revision == revision
            });
            assert!(healed, "{id} of revision {revision}\n{}", world.story());
        }
    }
    assert_eq!((of_revision(&world, 1), of_revision(&world, 2)), before);
    assert_eq!(world.state_of("web"), "paused");
    world.rollout("web", RolloutCall::Resume).unwrap();
    until_state(&mut world, 2 * MINUTE, "done");
    all_of(&mut world, 2);
}

#[test]
fn a_bad_revision_that_was_paused_backs_off_and_aborts_when_it_is_resumed() {
    let mut world = with(3, image(3, "v1"));
    world.deploy(image(3, "exit:1:400"));
    world.run_for(200);
    world.rollout("web", RolloutCall::Pause).unwrap();
    let started = world.started.len();
    world.run_for(5 * MINUTE);
    assert_eq!((world.state_of("web").as_str(), of_revision(&world, 1)), ("paused", 3));
    let tries = world.started.len() - started;
    assert!((4..=12).contains(&tries), "no hot loop: {tries}");
    world.rollout("web", RolloutCall::Resume).unwrap();
    until_state(&mut world, 70_000, "aborted");
    all_of(&mut world, 1);
}

#[test]
fn a_person_aborts_undoes_and_goes_where_they_say() {
    let mut world = with(3, image(4, "v1"));
    let originals = world.live("web");
    world.deploy(image(4, "v2"));
    world.run_for(300);
    world.rollout("web", RolloutCall::Abort).unwrap();
    until_state(&mut world, MINUTE, "aborted");
    assert_eq!(world.live("web"), originals);
    assert!(outcome(&world, 2).contains("test asked for it"));
    assert!(world.rollout("web", RolloutCall::Abort).is_err(), "nothing is under way");
    assert!(world.rollout("web", RolloutCall::Undo { to: None }).is_err(), "nothing before it");

    world.deploy(image(4, "v2"));
    until_state(&mut world, MINUTE, "done");
    world.deploy(image(4, "v3"));
    until_state(&mut world, MINUTE, "done");
    world.rollout("web", RolloutCall::Undo { to: None }).unwrap();
    ends(&mut world, MINUTE, "done", 5, 4);
    all_of(&mut world, 2);
    world.rollout("web", RolloutCall::Undo { to: Some(1) }).unwrap();
    ends(&mut world, MINUTE, "done", 5, 4);
    all_of(&mut world, 1);
    assert!(world.rollout("web", RolloutCall::Undo { to: Some(99) }).is_err());

    // In the middle: back to the last that was everywhere.
    world.deploy(image(4, "v5"));
    world.until(MINUTE, "half way", |w| of_revision(w, 4) >= 2);
    world.rollout("web", RolloutCall::Undo { to: None }).unwrap();
    assert!(world.rollout("web", RolloutCall::Abort).is_err(), "it goes back already");
    ends(&mut world, MINUTE, "done", 5, 4);
    all_of(&mut world, 1);

    // The abort of an undo stays at the head.
    world.rollout("web", RolloutCall::Undo { to: Some(3) }).unwrap();
    world.until(MINUTE, "half way", |w| of_revision(w, 3) >= 2);
    world.rollout("web", RolloutCall::Abort).unwrap();
    ends(&mut world, MINUTE, "aborted", 5, 4);
    all_of(&mut world, 1);
}

#[test]
fn a_newer_deploy_a_scale_or_a_delete_in_the_middle_has_the_last_word() {
    let mut world = with(3, image(10, "v1"));
    world.deploy(image(10, "v2"));
    world.until(MINUTE, "half way", |w| of_revision(w, 2) >= 4);
    world.deploy(image(10, "v3"));
    ends(&mut world, 2 * MINUTE, "done", 11, 10);
    all_of(&mut world, 3);

    world.deploy(image(10, "v4"));
    world.until(MINUTE, "begun", |w| of_revision(w, 4) >= 3);
    world.scale("web", 4);
    world.run_for(2_000);
    world.scale("web", 12);
    until_state(&mut world, 2 * MINUTE, "done");
    all_of(&mut world, 4);
    assert_eq!(world.live("web").len(), 12);

    world.deploy(image(12, "v5"));
    world.run_for(7_000);
    world.delete("web");
    world.run_for(10_000);
    assert!(world.docker.is_empty() && world.core.state.instances.is_empty());
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn a_port_that_somebody_else_has_is_waited_for_and_nothing_that_runs_is_touched() {
    let mut world = with(1, image(1, "v1"));
    let original = world.live("web")[0].clone();
    let mut foreign = world.docker[&original].clone();
    foreign.node = "elsewhere".into();
    foreign.order.workload = "foreign".into();
    let mut next = fixed(1, "v2");
    next.ports[0].host_port = 9001;
    world.deploy(WorkloadSpec { ports: next.ports.clone(), ..image(1, "v1") });
    until_state(&mut world, MINUTE, "done");
    foreign.ports = world.docker[&world.live("web")[0]].ports.clone();
    world.rollout("web", RolloutCall::Undo { to: None }).unwrap();
    until_state(&mut world, MINUTE, "done");
    world.docker.insert("foreign".into(), foreign);

    let originals = world.live("web");
    world.deploy(next);
    world.run_for(3 * MINUTE);
    assert_eq!((world.state_of("web").as_str(), world.live("web")), ("rolling", originals));
    let why = world.view("web").reasons;
    assert!(why.iter().any(|w| w.message.contains("already allocated")), "{why:?}");
    world.docker.remove("foreign");
    until_state(&mut world, 70_000, "done");
    all_of(&mut world, 3);
}
