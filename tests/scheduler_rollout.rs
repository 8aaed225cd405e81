//! Stories of rolling updates and drains on the scheduler's pure core: each test
//! is named for what it shows. Time is virtual. What must hold at every step
//! (surge, availability, books) the world checks by itself.

#[path = "support/cluster.rs"]
mod cluster;

use cluster::{World, port, probe, spec, spec_of};
use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::DockerState;
use kube_lite::model::{Extent, InstanceId, Reason, RestartPolicy, WorkloadSpec};
use kube_lite::roles::scheduler::message::{RolloutCall, UserCall};

const MINUTE: u64 = 60_000;

fn image(replicas: u32, image: &str) -> WorkloadSpec {
    spec_of("web", replicas, image, RestartPolicy::Always)
}

fn probed(replicas: u32, name: &str) -> WorkloadSpec {
    WorkloadSpec { health_check: Some(probe()), ..image(replicas, name) }
}

fn fixed(replicas: u32, name: &str) -> WorkloadSpec {
    WorkloadSpec { ports: vec![port(80, 9000, true)], ..image(replicas, name) }
}

fn with(nodes: usize, spec: WorkloadSpec) -> World {
    let mut world = World::new(nodes);
    world.deploy(spec);
    world.settle();
    world
}

fn until_state(world: &mut World, ms: u64, state: &str) {
    world.until(ms, state, |w| w.state_of("web") == state);
}

/// Until it ends like this, never with more than `most` containers nor with fewer
/// than `least` ready.
fn ends(world: &mut World, ms: u64, state: &str, most: usize, least: u32) {
    world.until(ms, state, |w| {
        let (live, ready) = (w.live("web").len(), w.view("web").ready);
        assert!(live <= most && ready >= least, "{live} live, {ready} ready\n{}", w.story());
        w.state_of("web") == state
    });
}

fn of_revision(world: &World, revision: u64) -> usize {
    let live = world.live("web");
    live.iter().filter(|id| world.docker[*id].order.revision == revision).count()
}

fn all_of(world: &mut World, revision: u64) {
    world.settle();
    let desired = world.view("web").desired as usize;
    assert_eq!(of_revision(world, revision), desired, "{}", world.story());
    world.nothing_happens_for(10 * MINUTE);
}

fn outcome(world: &World, revision: u64) -> String {
    let history = world.snapshot().history("web").expect("a history");
    let of = history.into_iter().find(|r| r.revision == revision);
    of.and_then(|r| r.outcome).unwrap_or_default()
}

fn node_call(world: &mut World, drain: bool, node: &str) {
    let call = match drain {
        true => UserCall::Drain(node.into()),
        false => UserCall::SetSchedulable { id: node.into(), schedulable: true },
    };
    world.user(call).expect("done");
}

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
        let _ = world.rollout("web", RolloutCall::Resume);
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
        assert!(w.live("web").len() <= 2 && w.view("web").ready + 1 >= 1, "{}", w.story());
        of_revision(w, 2) == 2 && w.view("web").ready == 2
    });
    assert!(world.reasons("web").contains(&Reason::PortTaken));
    world.nothing_happens_after(10_000, 10 * MINUTE);
    world.scale("web", 2);
    until_state(&mut world, MINUTE, "done");
    all_of(&mut world, 2);
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
