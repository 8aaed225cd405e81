//! Stories of what else moves while the scheduler's pure core changes a workload
//! or empties a node: restarts and deaths in the middle, host ports handed over in
//! place, jobs, drains. Each test is named for what it shows.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/rollouts.rs"]
mod rollouts;

use cluster::{World, port, spec_of};
use kube_lite::model::view::NodeStatus;
use kube_lite::model::{Extent, Reason, RestartPolicy, WorkloadSpec};
use kube_lite::roles::scheduler::message::{RolloutCall, UserCall};
use rollouts::*;

// ---- restarts in the middle ----

#[test]
fn a_restart_of_the_scheduler_in_the_middle_loses_nothing() {
    for (stop_at, state) in
        [(200, "rolling"), (8_000, "rolling"), (8_000, "paused"), (8_000, "aborting")]
    {
        let mut world = with(3, probed(6, "v1"));
        let mut next = probed(6, "v2");
        next.min_ready_seconds = 2;
        world.deploy(next);
        world.run_for(stop_at);
        match state {
            "paused" => drop(world.rollout("web", RolloutCall::Pause).unwrap()),
            "aborting" => drop(world.rollout("web", RolloutCall::Abort).unwrap()),
            _ => {}
        }
        world.run_for(100);
        world.restart_scheduler();
        assert_eq!(world.state_of("web"), state);
        world.until(15_000, "recovered", |w| w.core.state.awaited.is_empty());
        if state == "paused" {
            // What had begun comes up; then nothing moves until somebody says so.
            world.run_for(10_000);
            let before = world.live("web");
            world.nothing_happens_for(10 * MINUTE);
            assert_eq!((world.live("web"), world.state_of("web").as_str()), (before, "paused"));
            assert!(of_revision(&world, 1) > 0 && of_revision(&world, 2) > 0);
            world.rollout("web", RolloutCall::Resume).unwrap();
        }
        let end = if state == "aborting" { ("aborted", 1) } else { ("done", 2) };
        ends(&mut world, 2 * MINUTE, end.0, 7, 6);
        all_of(&mut world, end.1);
    }
}

#[test]
fn a_new_revision_that_failed_while_the_scheduler_was_away_aborts() {
    let mut world = with(3, image(3, "v1"));
    let originals = world.live("web");
    world.deploy(image(3, "exit:4:3000"));
    world.run_for(1_000);
    world.kill_scheduler();
    world.run_for(20_000);
    world.start_scheduler();
    until_state(&mut world, 2 * MINUTE, "aborted");
    world.settle();
    assert_eq!(world.live("web"), originals);
    all_of(&mut world, 1);
}

#[test]
fn an_agent_that_restarts_probes_anew_and_neither_kills_nor_aborts_anything() {
    let mut world = with(2, probed(6, "v1"));
    world.deploy(probed(6, "v2"));
    world.until(MINUTE, "half way", |w| of_revision(w, 2) >= 3);
    for _ in 0..3 {
        let old = of_revision(&world, 1);
        world.restart_agent("n1");
        world.run_for(150);
        assert!(of_revision(&world, 1) + 1 >= old, "at most one left\n{}", world.story());
        world.run_for(300);
    }
    // Long after its first minute, too.
    until_state(&mut world, MINUTE, "done");
    world.deploy(probed(6, "v3"));
    world.until(MINUTE, "half way", |w| of_revision(w, 3) >= 3);
    world.rollout("web", RolloutCall::Pause).unwrap();
    world.run_for(2 * MINUTE);
    world.rollout("web", RolloutCall::Resume).unwrap();
    world.restart_agent("n2");
    until_state(&mut world, MINUTE, "done");
    all_of(&mut world, 3);
}

#[test]
fn a_node_that_dies_in_the_middle_and_returns_ends_with_the_new_revision_only() {
    let mut world = with(3, image(6, "v1"));
    world.deploy(image(6, "v2"));
    world.run_for(8_000);
    world.agent("n2").cut = true;
    world.until(4 * MINUTE, "done", |w| w.state_of("web") == "done");
    world.agent("n2").cut = false;
    world.run_for(5_000);
    all_of(&mut world, 2);
}

// ---- in place ----

#[test]
fn a_fixed_or_asked_host_port_on_one_node_is_handed_over_in_place() {
    for is_fixed in [true, false] {
        let with_port =
            |name| WorkloadSpec { ports: vec![port(80, 9000, is_fixed)], ..image(1, name) };
        let mut world = with(1, with_port("v1"));
        let old = world.live("web")[0].clone();
        world.deploy(with_port("v2"));
        world.until(2_000, "prepared", |w| {
            let prepared = |i: &std::sync::Arc<_>| -> bool {
                let i: &kube_lite::roles::scheduler::state::Instance = i;
                i.after.is_some()
            };
            w.core.state.instances.values().any(prepared)
        });
        until_state(&mut world, MINUTE, "done");
        assert!(!world.live("web").contains(&old));
        assert_eq!(world.events("ReplacedInPlace"), 1);
        all_of(&mut world, 2);
        // A picture that cannot be had costs nothing.
        let serving = world.live("web");
        world.deploy(with_port("nopull"));
        until_state(&mut world, MINUTE, "aborted");
        assert_eq!(world.live("web"), serving);
        all_of(&mut world, 2);
        // One that was there and does not run brings the old one back.
        world.deploy(with_port("exit:1:10"));
        until_state(&mut world, MINUTE, "aborted");
        all_of(&mut world, 2);
    }
}

#[test]
fn an_explicit_zero_where_a_surge_is_impossible_waits_and_says_so() {
    let mut world = with(1, fixed(1, "v1"));
    let mut next = fixed(1, "v2");
    next.strategy.max_unavailable = Some(Extent::Count(0));
    world.deploy(next.clone());
    world.run_for(100);
    world.nothing_happens_for(10 * MINUTE);
    assert_eq!((of_revision(&world, 1), world.state_of("web").as_str()), (1, "rolling"));
    let waits = world.view("web").rollout.unwrap().waiting_for.unwrap();
    assert!(waits.contains("maxUnavailable is 0"), "{waits}");
    // One more word, and it goes on.
    next.strategy.max_unavailable = None;
    world.deploy(next);
    until_state(&mut world, MINUTE, "done");
    all_of(&mut world, 2);
}

#[test]
fn of_three_with_a_fixed_port_on_two_daemons_two_run_and_are_updated() {
    let mut world = World::new(2);
    world.deploy(fixed(3, "v1"));
    world.run_for(3_000);
    assert_eq!((world.live("web").len(), world.reasons("web")), (2, vec![Reason::PortTaken]));
    world.nothing_happens_for(MINUTE);
    world.deploy(fixed(3, "v2"));
    world.until(2 * MINUTE, "both are new", |w| {
        assert!(w.live("web").len() <= 2 && w.view("web").ready >= 1, "{}", w.story());
        of_revision(w, 2) == 2 && w.view("web").ready == 2
    });
    assert!(world.reasons("web").contains(&Reason::PortTaken));
    world.nothing_happens_after(10_000, 10 * MINUTE);
    world.scale("web", 2);
    until_state(&mut world, MINUTE, "done");
    all_of(&mut world, 2);
}

/// A full disk is no fault of what was to run there: it goes elsewhere if it can,
/// else it waits, and nothing is taken back.
#[test]
fn a_lack_of_room_does_not_abort_and_the_next_try_goes_elsewhere() {
    let mut world = with(3, probed(4, "v1"));
    // The emptiest ones, hence those that are tried first.
    world.full.extend(["d1".into(), "d3".into()]);
    world.deploy(probed(4, "v2"));
    ends(&mut world, MINUTE, "done", 5, 4);
    all_of(&mut world, 2);
    let on_d2 = world.docker.values().filter(|c| c.is_live() && c.daemon.as_str() == "d2");
    assert_eq!(on_d2.count(), 4, "{}", world.story());

    world.full.insert("d2".into());
    let serving = world.live("web");
    world.deploy(probed(4, "v3"));
    world.run_for(10 * MINUTE);
    assert_eq!((world.state_of("web").as_str(), world.live("web")), ("rolling", serving));
    let told = world.view("web").rollout.unwrap().waiting_for.unwrap();
    assert!(told.contains("no space left on device"), "{told}");
    world.full.clear();
    ends(&mut world, 2 * MINUTE, "done", 5, 4);
    all_of(&mut world, 3);
}

#[test]
fn restarts_of_both_sides_while_a_replacement_is_prepared_do_not_hang_it() {
    for agent_too in [false, true] {
        let mut world = with(1, fixed(1, "v1"));
        world.deploy(fixed(1, "v2"));
        world.run_for(122);
        world.restart_scheduler();
        if agent_too {
            world.restart_agent("n1");
        }
        until_state(&mut world, 2 * MINUTE, "done");
        all_of(&mut world, 2);
    }
    // Scaled away, deleted, or the user changes their mind.
    for last_word in 0..3 {
        let mut world = with(1, fixed(1, "v1"));
        world.deploy(fixed(1, "v2"));
        world.run_for(60);
        match last_word {
            0 => world.scale("web", 0),
            1 => world.delete("web"),
            _ => drop(world.rollout("web", RolloutCall::Abort).unwrap()),
        }
        world.run_for(20_000);
        assert_eq!(world.live("web").len(), usize::from(last_word == 2));
        world.nothing_happens_for(10 * MINUTE);
    }
}

// ---- jobs ----

#[test]
fn of_jobs_exit_0_counts_as_ready_and_another_code_aborts() {
    for policy in [RestartPolicy::Never, RestartPolicy::OnFailure] {
        let job = |image: &str| spec_of("web", 4, image, policy);
        let mut world = with(2, job("v1"));
        world.deploy(job("exit:0:2000"));
        until_state(&mut world, 2 * MINUTE, "done");
        assert_eq!((world.view("web").done, world.live("web").len()), (4, 0));
        world.nothing_happens_for(10 * MINUTE);
        let mut world = with(2, job("v1"));
        let originals = world.live("web");
        world.deploy(job("exit:9:2000"));
        until_state(&mut world, 2 * MINUTE, "aborted");
        world.settle();
        assert_eq!(world.live("web"), originals, "{policy:?}");
        all_of(&mut world, 1);

        // What had finished does not run again because a change of it failed.
        let mut world = with(2, job("exit:0:500"));
        world.run_for(2_000);
        let started = world.started.len();
        world.deploy(job("exit:9:2000"));
        world.run_for(300);
        world.restart_scheduler();
        until_state(&mut world, 2 * MINUTE, "aborted");
        assert_eq!((world.view("web").done, world.started.len()), (4, started + 1));
        world.nothing_happens_for(10 * MINUTE);
    }
}

// ---- drains ----

#[test]
fn a_drain_starts_elsewhere_first_and_nothing_new_lands_until_uncordoned() {
    let mut world = with(3, probed(6, "v1"));
    node_call(&mut world, true, "n2");
    world.until(MINUTE, "drained", |w| {
        assert!(w.live("web").len() <= 7 && w.view("web").ready >= 6, "{}", w.story());
        w.live_on("web", "n2").is_empty()
    });
    world.settle();
    world.scale("web", 12);
    world.settle();
    assert!(world.live_on("web", "n2").is_empty());
    world.restart_scheduler();
    world.run_for(15_000);
    world.scale("web", 6);
    world.settle();
    assert!(world.live_on("web", "n2").is_empty());
    world.nothing_happens_for(10 * MINUTE);
    node_call(&mut world, false, "n2");
    world.scale("web", 9);
    world.settle();
    assert_eq!(world.live_on("web", "n2").len(), 3);
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn a_drain_with_nowhere_to_go_waits_with_a_reason_and_is_taken_back_by_uncordon() {
    for surge in [0, 1] {
        let mut web = image(2, "v1");
        web.strategy.max_surge = Extent::Count(surge);
        let mut world = with(1, web);
        let originals = world.live("web");
        node_call(&mut world, true, "n1");
        world.run_for(100);
        world.nothing_happens_for(10 * MINUTE);
        assert_eq!(world.live("web"), originals);
        assert!(!world.reasons("web").is_empty());
        world.add_agent("n2", "d2");
        world.until(MINUTE, "moved", |w| w.live_on("web", "n2").len() == 2);
        world.settle();
        assert!(world.live_on("web", "n1").is_empty(), "{}", world.story());
        node_call(&mut world, false, "n1");
        world.nothing_happens_after(100, 10 * MINUTE);
    }
}

#[test]
fn jobs_that_run_once_finish_where_they_are_when_their_node_is_drained() {
    let mut world = with(2, spec_of("web", 2, "exit:0:30000", RestartPolicy::Never));
    node_call(&mut world, true, "n1");
    world.run_for(10_000);
    assert_eq!(world.live_on("web", "n1").len(), 1);
    world.run_for(30_000);
    assert_eq!((world.view("web").done, world.started.len()), (2, 2));
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn a_drain_during_a_rollout_and_during_a_pause_of_it() {
    for paused in [false, true] {
        let mut world = with(3, image(6, "v1"));
        world.deploy(image(6, "v2"));
        world.run_for(8_000);
        if paused {
            world.rollout("web", RolloutCall::Pause).unwrap();
            world.run_for(10_000);
        }
        node_call(&mut world, true, "n3");
        if paused {
            // The pair that was caught in the middle takes the whole surge.
            world.run_for(MINUTE);
            assert!(world.view("web").ready >= 6);
            let why = world.view("web").reasons;
            assert!(why[0].message.contains("paused"), "{why:?}");
        }
        let _ = world.rollout("web", RolloutCall::Resume);
        until_state(&mut world, 2 * MINUTE, "done");
        all_of(&mut world, 2);
        assert!(world.live_on("web", "n3").is_empty());
    }
}

#[test]
fn a_crash_loop_beside_it_does_not_hold_a_drain_up() {
    let mut world = with(3, image(3, "v1"));
    let victim = world.live_on("web", "n1")[0].clone();
    let replica = world.docker[&victim].order.replica;
    for _ in 0..5 {
        world.run_for(40_000);
        for id in world.live("web") {
            if world.docker[&id].order.replica == replica {
                world.crash(&id, 1);
            }
        }
    }
    node_call(&mut world, true, "n2");
    world.run_for(15_000);
    assert!(world.live_on("web", "n2").is_empty(), "{}", world.story());
    world.run_for(MINUTE);
    all_of(&mut world, 1);
}

#[test]
fn a_removed_node_leaves_no_ghost() {
    let mut world = with(3, image(6, "v1"));
    world.deploy(image(6, "v2"));
    world.run_for(8_000);
    world.agent("n1").cut = true;
    world.until(12_000, "dead", |w| w.core.state.nodes["n1"].status == NodeStatus::Dead);
    world.user(UserCall::RemoveNode("n1".into())).unwrap();
    assert!(world.core.state.instances.values().all(|i| i.node.as_str() != "n1"));
    assert!(!world.records.contains_key("node/n1"));
    world.wipe("n1");
    until_state(&mut world, 2 * MINUTE, "done");
    all_of(&mut world, 2);
    world.restart_scheduler();
    world.run_for(15_000);
    assert!(!world.core.state.nodes.contains_key("n1"));
    world.nothing_happens_for(10 * MINUTE);
}
