//! Stories of rollouts and drains in trouble on the scheduler's pure core: no room,
//! a bad image, crashes and dead nodes in the middle, people who change their mind.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/rollouts.rs"]
mod rollouts;

use cluster::{World, port, spec_of};
use kube_lite::model::wire::DockerState;
use kube_lite::model::{Extent, RestartPolicy, WorkloadSpec};
use kube_lite::roles::scheduler::message::{Reply, RolloutCall, UserCall};
use rollouts::*;

fn shared(nodes: &[(&str, &str)]) -> World {
    let mut world = World::empty(7);
    for (n, d) in nodes {
        world.add_agent(n, d);
    }
    world.run_for(50);
    world
}

fn cordon(world: &mut World, node: &str) {
    world.user(UserCall::SetSchedulable { id: node.into(), schedulable: false }).unwrap();
}

#[test]
fn a_drain_hands_a_host_port_over_to_another_node_of_the_same_daemon() {
    for is_fixed in [true, false] {
        let mut world = shared(&[("n1", "d1"), ("n2", "d1")]);
        world.deploy(WorkloadSpec { ports: vec![port(80, 9000, is_fixed)], ..image(1, "v1") });
        world.settle();
        let node = world.docker[&world.live("web")[0]].node.to_string();
        node_call(&mut world, true, &node);
        world.until(10 * MINUTE, "drained", |w| {
            w.live_on("web", &node).is_empty() && w.view("web").ready == 1
        });
    }
}

#[test]
fn a_change_on_a_cordoned_node_moves_its_host_port_to_another_of_the_daemon() {
    let mut world = shared(&[("n1", "d1"), ("n2", "d1")]);
    world.deploy(fixed(1, "v1"));
    world.settle();
    let node = world.docker[&world.live("web")[0]].node.to_string();
    cordon(&mut world, &node);
    world.deploy(fixed(1, "v2"));
    until_state(&mut world, 10 * MINUTE, "done");
}

#[test]
fn what_crashes_comes_back_as_it_was_while_the_new_one_is_unproven() {
    let mut world = with(4, probed(8, "v1"));
    world.deploy(probed(8, "unwell"));
    world.run_for(2_000);
    let victims: Vec<_> = world
        .live("web")
        .into_iter()
        .filter(|i| world.docker[i].order.revision == 1 && world.docker[i].order.replica > 0)
        .take(4)
        .collect();
    for v in &victims {
        world.crash(v, 1);
    }
    world.run_for(10_000);
    assert_eq!(
        (of_revision(&world, 1), of_revision(&world, 2), world.view("web").ready),
        (8, 1, 8),
        "state {}",
        world.state_of("web")
    );
}

#[test]
fn what_a_dead_node_had_comes_back_as_it_was_while_the_new_one_is_unproven() {
    let mut world = with(4, probed(8, "v1"));
    world.deploy(probed(8, "unwell"));
    world.run_for(2_000);
    world.agent("n4").cut = true;
    world.run_for(20_000);
    assert_eq!(
        (world.state_of("web").as_str(), of_revision(&world, 2), world.view("web").ready),
        ("rolling", 1, 8)
    );
}

#[test]
fn a_change_that_finds_no_room_takes_away_no_healing() {
    for paused in [false, true] {
        let mut world = with(2, image(2, "v1"));
        cordon(&mut world, "n1");
        cordon(&mut world, "n2");
        world.deploy(image(2, "v2"));
        world.run_for(5_000);
        if paused {
            world.rollout("web", RolloutCall::Pause).unwrap();
        }
        for id in world.live("web") {
            world.crash(&id, 1);
        }
        world.run_for(20_000);
        assert_eq!(world.view("web").ready, 2, "paused {paused}");
    }
}

#[test]
fn a_finished_job_is_not_run_again_when_a_change_of_a_change_is_aborted() {
    let job = |image: &str| spec_of("web", 2, image, RestartPolicy::Never);
    let mut world = with(2, job("exit:0:500"));
    world.run_for(2_000);
    let first = world.started.len();
    world.deploy(job("exit:0:20000"));
    world.run_for(1_000);
    world.deploy(job("exit:9:2000"));
    until_state(&mut world, 2 * MINUTE, "aborted");
    world.run_for(MINUTE);
    let again: Vec<_> =
        world.started.iter().filter(|id| id.as_str().starts_with("web-r1-")).collect();
    assert_eq!((first, again.len()), (2, 2), "{again:?}");
}

#[test]
fn nor_when_a_change_is_undone_in_the_middle() {
    let job = |image: &str| spec_of("web", 2, image, RestartPolicy::Never);
    let mut world = with(2, job("exit:0:500"));
    world.run_for(2_000);
    world.deploy(job("exit:0:20000"));
    world.run_for(1_000);
    world.rollout("web", RolloutCall::Undo { to: None }).unwrap();
    world.run_for(2 * MINUTE);
    let again: Vec<_> =
        world.started.iter().filter(|id| id.as_str().starts_with("web-r1-")).collect();
    assert_eq!(again.len(), 2, "{again:?}");
}

#[test]
fn the_history_keeps_the_first_word_and_tells_the_last() {
    let mut world = with(2, image(2, "v1"));
    let made = world.snapshot().history("web").unwrap()[0].at.clone();
    world.run_for(3_600_000);
    world.deploy(image(2, "v2"));
    until_state(&mut world, MINUTE, "done");
    world.run_for(3_600_000);
    world.rollout("web", RolloutCall::Undo { to: None }).unwrap();
    until_state(&mut world, MINUTE, "done");
    let h = world.snapshot().history("web").unwrap();
    assert_eq!((h[0].at.as_str(), h[0].why.as_str()), (made.as_str(), "created"));
    let again = h[0].again.as_ref().unwrap();
    assert!(again.at > made && again.why == "undo to revision 1", "{again:?}");
}

#[test]
fn restarts_of_the_scheduler_do_not_put_a_deadline_off() {
    let mut world = with(3, probed(3, "v1"));
    world.deploy(probed(3, "unwell"));
    for _ in 0..6 {
        world.run_for(50_000);
        world.restart_scheduler();
    }
    assert_eq!(world.state_of("web"), "aborted");
}

#[test]
fn a_resumed_rollout_has_its_whole_deadline_over_a_restart() {
    let mut world = with(3, probed(3, "v1"));
    let mut unwell = probed(3, "unwell");
    unwell.health_check.as_mut().unwrap().startup_seconds = 1_000;
    world.deploy(unwell);
    world.run_for(5_000);
    world.rollout("web", RolloutCall::Pause).unwrap();
    world.run_for(5 * MINUTE);
    world.rollout("web", RolloutCall::Resume).unwrap();
    world.run_for(1_000);
    world.restart_scheduler();
    world.run_for(30_000);
    assert_eq!(world.state_of("web"), "rolling");
}

#[test]
fn an_undo_of_what_is_being_aborted_goes_no_further_back() {
    let mut world = with(3, probed(4, "v1"));
    world.deploy(probed(4, "v2"));
    until_state(&mut world, MINUTE, "done");
    world.deploy(probed(4, "v3"));
    world.until(MINUTE, "half", |w| of_revision(w, 3) >= 2);
    let ill = world.live("web").into_iter().find(|i| world.docker[i].order.revision == 3).unwrap();
    world.sicken(&ill, false);
    world.run_for(20);
    assert_eq!(world.state_of("web"), "aborting");
    world.rollout("web", RolloutCall::Undo { to: None }).unwrap();
    world.run_for(MINUTE);
    assert_eq!(world.view("web").revision, 2);
}

#[test]
fn a_deleted_workload_leaves_no_record_of_its_replicas() {
    let mut world = with(3, image(4, "v1"));
    world.deploy(image(4, "v2"));
    until_state(&mut world, MINUTE, "done");
    world.delete("web");
    world.run_for(20_000);
    let left: Vec<_> = world.records.keys().filter(|k| k.contains("replica/web")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_deploy_into_a_pause_stays_paused_and_an_undo_does_not() {
    let mut world = with(3, image(4, "v1"));
    world.deploy(image(4, "v2"));
    world.run_for(8_000);
    world.rollout("web", RolloutCall::Pause).unwrap();
    let asked = UserCall::Deploy(Box::new(image(4, "v3")));
    let Ok(Reply::Deployed(reply)) = world.user(asked) else { panic!("deployed") };
    assert!(reply.warnings[0].contains("is paused"), "{reply:?}");
    assert_eq!(world.state_of("web"), "paused");
    world.run_for(20_000);
    assert_eq!(of_revision(&world, 3), 0, "nothing of it starts");
    world.rollout("web", RolloutCall::Undo { to: None }).unwrap();
    until_state(&mut world, MINUTE, "done");
    all_of(&mut world, 1);
}

#[test]
fn a_pause_does_not_grow_by_the_new_revision() {
    let mut world = with(3, probed(4, "v1"));
    world.deploy(probed(4, "unwell"));
    world.run_for(3_000);
    world.rollout("web", RolloutCall::Pause).unwrap();
    world.scale("web", 12);
    world.run_for(30_000);
    assert_eq!((of_revision(&world, 2), world.view("web").ready), (1, 12));
}

#[test]
fn a_drain_takes_nothing_ill_that_has_nowhere_to_go() {
    let mut world = with(1, probed(2, "v1"));
    let all = world.live("web");
    for id in &all {
        world.sicken(id, false);
    }
    world.run_for(100);
    node_call(&mut world, true, "n1");
    world.run_for(5_000);
    for id in world.live("web") {
        world.cure(&id);
    }
    world.run_for(20_000);
    assert_eq!(world.view("web").ready, 2, "{:?}", world.view("web").reasons);
}

#[test]
fn several_nodes_drained_at_once_end_on_the_one_that_is_left() {
    let mut web = probed(8, "v1");
    web.strategy.max_surge = Extent::Count(2);
    let mut world = with(4, web);
    for n in ["n1", "n2", "n3"] {
        node_call(&mut world, true, n);
    }
    world.until(2 * MINUTE, "all moved", |w| {
        assert!(w.view("web").ready >= 8 && w.live("web").len() <= 10);
        w.live_on("web", "n4").len() == 8 && w.live("web").len() == 8
    });
    world.nothing_happens_after(5_000, 10 * MINUTE);
}

#[test]
fn a_node_is_not_removed_before_it_is_known_whether_it_lives() {
    let mut world = with(3, image(6, "v1"));
    node_call(&mut world, true, "n1");
    world.run_for(30_000);
    world.kill_scheduler();
    world.start_scheduler();
    let r = world.user(UserCall::RemoveNode("n1".into()));
    world.run_for(20_000);
    assert!(
        r.is_err(),
        "a living node is removed and comes back schedulable: {}",
        world.core.state.nodes["n1"].schedulable
    );
}

#[test]
fn what_runs_on_a_silent_node_is_not_blamed() {
    let mut world = with(3, probed(3, "v1"));
    world.deploy(probed(3, "unwell"));
    world.run_for(1_000);
    let new =
        world.live("web").into_iter().find(|id| world.docker[id].order.revision == 2).unwrap();
    let node = world.docker[&new].node.to_string();
    world.run_for(54_000);
    world.agent(&node).cut = true;
    world.run_for(7_000);
    assert_eq!(world.state_of("web"), "rolling", "its node is out of sight and about to be dead");
}

#[test]
fn deleted_in_the_middle_and_deployed_again_comes_to_rest() {
    let mut world = with(3, image(4, "v1"));
    world.deploy(image(4, "v2"));
    world.run_for(8_000);
    world.delete("web");
    world.deploy(image(4, "v9"));
    world.settle();
    world.restart_scheduler();
    world.run_for(15_000);
    world.nothing_happens_for(10 * MINUTE);
    assert_eq!(world.live("web").len(), 4);
}

#[test]
fn of_two_fixed_ports_one_is_drained_to_the_other_node_of_its_daemon() {
    let mut world = shared(&[("n1", "d1"), ("n2", "d1"), ("n3", "d3")]);
    world.deploy(fixed(2, "v1"));
    world.settle();
    let node = world
        .live("web")
        .iter()
        .map(|i| world.docker[i].node.to_string())
        .find(|n| n != "n3")
        .unwrap();
    node_call(&mut world, true, &node);
    world.until(10 * MINUTE, "moved to the other node of that daemon", |w| {
        w.live_on("web", &node).is_empty() && w.view("web").ready == 2
    });
}

#[test]
fn a_change_while_its_node_is_being_drained_ends() {
    let mut world = shared(&[("n1", "d1"), ("n2", "d1")]);
    world.deploy(fixed(1, "v1"));
    world.settle();
    let node = world.docker[&world.live("web")[0]].node.to_string();
    node_call(&mut world, true, &node);
    world.run_for(5_000);
    world.deploy(fixed(1, "v2"));
    until_state(&mut world, 10 * MINUTE, "done");
}

#[test]
fn a_crash_on_a_cordoned_node_is_healed_there() {
    let mut world = with(2, image(2, "v1"));
    cordon(&mut world, "n1");
    cordon(&mut world, "n2");
    for id in world.live("web") {
        world.crash(&id, 1);
    }
    world.run_for(20_000);
    assert_eq!((world.view("web").ready, of_revision(&world, 1)), (2, 2));
}

#[test]
fn an_aborted_change_of_a_change_is_told_as_from_the_head() {
    let mut world = with(3, image(6, "v1"));
    world.deploy(image(6, "v2"));
    world.run_for(8_000);
    world.deploy(image(6, "exit:1:100"));
    until_state(&mut world, MINUTE, "aborted");
    let r = world.view("web").rollout.unwrap();
    assert_eq!((r.from, r.to), (1, 3));
}

#[test]
fn without_surge_nothing_goes_for_an_image_nobody_has() {
    let mut web = image(1, "v1");
    web.strategy.max_surge = Extent::Count(0);
    let mut world = with(2, web.clone());
    let originals = world.live("web");
    let node = world.docker[&originals[0]].node.to_string();
    cordon(&mut world, &node);
    web.image = "nopull".into();
    world.deploy(web);
    let mut fewest = 1;
    world.until(5 * MINUTE, "aborted", |w| {
        fewest = fewest.min(w.view("web").ready);
        w.state_of("web") == "aborted"
    });
    assert_eq!((world.live("web"), fewest), (originals, 1));
}

#[test]
fn what_is_ill_does_not_go_for_an_image_nobody_has() {
    let mut world = with(3, probed(6, "v1"));
    let originals = world.live("web");
    for id in &originals {
        world.sicken(id, false);
    }
    world.run_for(100);
    world.deploy(probed(6, "nopull"));
    world.run_for(1_000);
    for id in &originals {
        world.cure(id);
    }
    until_state(&mut world, 5 * MINUTE, "aborted");
    assert_eq!(world.live("web"), originals);
}

#[test]
fn nor_does_what_is_only_starting() {
    let mut world = World::new(3);
    world.deploy(probed(6, "v1"));
    world.run_for(200);
    let originals = world.live("web");
    assert_eq!(originals.len(), 6);
    world.deploy(probed(6, "nopull"));
    until_state(&mut world, 5 * MINUTE, "aborted");
    world.settle();
    assert_eq!(world.live("web"), originals);
}

#[test]
fn a_drain_takes_nothing_that_starts_and_has_nowhere_to_go() {
    let mut world = World::new(1);
    world.deploy(probed(2, "v1"));
    world.run_for(200);
    let before = world.live("web");
    node_call(&mut world, true, "n1");
    world.run_for(20_000);
    assert_eq!((world.live("web"), world.view("web").ready), (before, 2));
}

#[test]
fn a_scale_up_in_the_middle_of_a_bad_change_grows_by_the_good_one() {
    let mut world = with(3, probed(4, "v1"));
    world.deploy(probed(4, "unwell"));
    world.run_for(3_000);
    world.scale("web", 12);
    world.run_for(30_000);
    until_state(&mut world, 5 * MINUTE, "aborted");
    assert_eq!(world.view("web").ready, 12);
}

#[test]
fn without_surge_what_cannot_be_stopped_does_not_hold_the_others_up() {
    let mut web = probed(3, "v1");
    web.strategy.max_surge = Extent::Count(0);
    let mut world = with(3, web.clone());
    world.set_docker("n1", DockerState::Hung);
    world.run_for(100);
    web.image = "v2".into();
    world.deploy(web);
    world.until(40_000, "both others are of v2", |w| of_revision(w, 2) == 2);
    world.until(5_000, "what is on the hung Docker serves on", |w| w.view("web").ready == 3);
    world.set_docker("n1", DockerState::Ok);
    until_state(&mut world, MINUTE, "done");
}

#[test]
fn prepared_and_then_docker_hangs_ends_once_it_answers() {
    let mut world = with(1, fixed(1, "v1"));
    world.deploy(fixed(1, "v2"));
    world.until(2_000, "prepared", |w| w.core.state.instances.values().any(|i| i.after.is_some()));
    world.set_docker("n1", DockerState::Hung);
    world.run_for(30_000);
    assert_eq!(world.state_of("web"), "rolling");
    world.set_docker("n1", DockerState::Ok);
    until_state(&mut world, 2 * MINUTE, "done");
    all_of(&mut world, 2);
}

#[test]
fn a_dead_node_that_was_drained_returns_to_nothing() {
    let mut world = with(3, probed(6, "v1"));
    world.agent("n2").cut = true;
    world.run_for(20_000);
    node_call(&mut world, true, "n2");
    world.agent("n2").cut = false;
    world.run_for(20_000);
    assert!(world.live_on("web", "n2").is_empty());
    all_of(&mut world, 1);
}

#[test]
fn uncordoned_in_the_middle_of_a_drain_in_a_rollout_with_a_restart() {
    let mut world = with(3, probed(6, "v1"));
    world.deploy(probed(6, "v2"));
    world.run_for(700);
    node_call(&mut world, true, "n2");
    world.run_for(500);
    world.restart_scheduler();
    world.run_for(500);
    node_call(&mut world, false, "n2");
    until_state(&mut world, 2 * MINUTE, "done");
    all_of(&mut world, 2);
}

#[test]
fn grown_by_more_than_there_is_room_for_in_a_change_of_none() {
    let mut world = shared(&[("n1", "d1"), ("n2", "d1"), ("n3", "d3"), ("n4", "d4")]);
    world.deploy(image(0, "v1"));
    world.run_for(100);
    for surge in [Extent::Count(1), Extent::Count(3), Extent::Count(5), Extent::Percent(50)] {
        let mut next = image(5, "v2");
        next.ports = vec![port(80, 9000, true), port(81, 9100, false)];
        next.strategy.max_surge = surge;
        world.deploy(next);
        world.run_for(30_000);
        assert_eq!(of_revision(&world, 2), 3, "as many as there are daemons: {surge:?}");
        assert_eq!(world.view("web").ready, 3, "none of the old one was started for it");
        world.deploy(image(0, "v1"));
        world.run_for(30_000);
    }
}

#[test]
fn what_took_a_place_and_never_became_ready_keeps_nobody_from_the_cure() {
    let mut world = World::new(3);
    let mut web = image(2, "unwell");
    web.strategy.max_surge = Extent::Count(0);
    world.deploy(web.clone());
    node_call(&mut world, true, "n1");
    world.run_for(5_000);
    assert!(world.live_on("web", "n1").is_empty());
    web.image = "cure".into();
    world.deploy(web);
    until_state(&mut world, MINUTE, "done");
    all_of(&mut world, 2);
}

#[test]
fn a_dead_one_of_an_aborted_revision_found_after_a_restart_brings_nothing_back() {
    let mut world = with(1, image(1, "v1"));
    world.deploy(image(1, "nopull"));
    until_state(&mut world, MINUTE, "aborted");
    world.settle();
    world.scale("web", 0);
    world.run_for(5);
    world.restart_scheduler();
    world.scale("web", 1);
    world.settle();
    assert_eq!(world.events("ReplicaRestarting"), 0);
    all_of(&mut world, 1);
}

#[test]
fn two_that_were_overtaken_half_way_do_not_keep_the_surge_from_the_third() {
    let mut world = with(3, probed(2, "v1"));
    let mut web = probed(2, "unwell");
    web.strategy.max_surge = Extent::Count(2);
    world.deploy(web.clone());
    world.until(5_000, "both have two", |w| of_revision(w, 2) == 2);
    web.image = "v3".into();
    web.strategy.max_surge = Extent::Count(1);
    world.deploy(web);
    world.until(10_000, "done before anything is given up", |w| w.state_of("web") == "done");
    all_of(&mut world, 3);
}
