//! Stories of the scheduler's pure core: each test is named for what it shows.
//! Time is virtual; a minute of it takes milliseconds.

#[path = "support/cluster.rs"]
mod cluster;

use std::collections::BTreeSet;

use cluster::{STOP_MS, World, port, probe, spec, spec_of};
use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::{DockerState, RegisterRequest};
use kube_lite::model::{ApiError, Health, InstanceId, Reason, RestartPolicy};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::message::{Input, OrderAnswer, OrderKind, Reply, UserCall};
use kube_lite::roles::scheduler::state::Instance;

const MINUTE: u64 = 60_000;

fn with_app(nodes: usize, replicas: u32) -> World {
    let mut world = World::new(nodes);
    world.deploy(spec("web", replicas));
    world.settle();
    world
}

fn one(world: &World, workload: &str) -> InstanceId {
    let live = world.live(workload);
    assert_eq!(live.len(), 1, "{}", world.story());
    live[0].clone()
}

fn die(world: &mut World, node: &str) {
    world.agent(node).cut = true;
    world
        .until(12_000, "the node is dead", |w| w.core.state.nodes[node].status == NodeStatus::Dead);
}

fn come_back(world: &mut World, node: &str) {
    world.agent(node).cut = false;
    world.until(5_000, "the node is back", |w| !w.core.state.nodes[node].lost);
}

// ---- spreading and counting ----

#[test]
fn three_replicas_spread_over_three_nodes_and_then_nothing_happens() {
    let mut world = with_app(3, 3);
    assert!(world.spread("web").values().all(|n| *n == 1), "{:?}", world.spread("web"));
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn scaling_up_down_to_nothing_and_up_again_runs_exactly_that_many() {
    let mut world = with_app(3, 3);
    for replicas in [10, 2, 0, 3] {
        world.scale("web", replicas);
        world.settle();
        assert_eq!(world.live("web").len(), replicas as usize);
        let spread = world.spread("web");
        let most = spread.values().max().copied().unwrap_or(0);
        assert!(most <= (replicas as usize).div_ceil(3), "{replicas}: {spread:?}");
        world.nothing_happens_for(MINUTE);
    }
}

#[test]
fn what_stays_after_scaling_down_is_spread() {
    for nodes in 2..=4 {
        for left in 1..=6 {
            let mut world = with_app(nodes, 12);
            world.scale("web", left);
            world.settle();
            let spread = world.spread("web");
            let most = spread.values().max().copied().unwrap_or(0);
            assert_eq!(most, (left as usize).div_ceil(nodes), "{nodes} {left} {spread:?}");
        }
    }
}

#[test]
fn a_report_that_was_late_makes_nothing_unready() {
    let mut world = World::new(1);
    let mut web = spec("web", 1);
    web.min_ready_seconds = 10;
    world.deploy(web);
    world.until(12_000, "ready", |w| w.view("web").ready == 1);
    let mut late = world.report(&"n1".into());
    for container in &mut late.containers {
        container.running_for_ms = container.running_for_ms.map(|ms| ms - 4_000);
        container.healthy_for_ms = container.healthy_for_ms.map(|ms| ms - 4_000);
    }
    world.feed(Input::Heartbeat { ticket: 60_000, request: late.clone() });
    assert_eq!(world.view("web").ready, 1);
    // But one whose health was interrupted starts over.
    late.seq += 1;
    for container in &mut late.containers {
        container.healthy_for_ms = Some(100);
    }
    world.feed(Input::Heartbeat { ticket: 60_001, request: late });
    assert_eq!((world.view("web").ready, world.reasons("web")), (0, vec![Reason::MinReady]));
}

#[test]
fn scaling_down_takes_what_is_not_ready_before_what_is() {
    let mut world = World::new(2);
    let mut web = spec("web", 2);
    web.health_check = Some(probe());
    world.deploy(web);
    world.settle();
    let ill = world.live("web")[0].clone();
    world.sicken(&ill, false);
    world.run_for(100);
    world.scale("web", 1);
    world.settle();
    assert_ne!(one(&world, "web"), ill);
}

#[test]
fn a_name_deployed_again_gets_a_new_revision_and_waits_for_what_is_leaving() {
    let mut world = with_app(3, 3);
    world.delete("web");
    assert_eq!(world.deploy(spec("web", 3)), 2);
    world.run_for(STOP_MS / 2);
    assert_eq!(world.live("web").len(), 3, "the old ones are still leaving");
    assert!(world.reasons("web").contains(&Reason::WaitingForStops));
    world.settle();
    assert!(world.live("web").iter().all(|id| id.as_str().starts_with("web-r2-")));
    world.delete("web");
    world.run_for(5_000);
    assert!(world.docker.is_empty());
    assert!(world.core.state.instances.is_empty() && world.core.state.cohorts.is_empty());
    world.restart_scheduler();
    assert_eq!(world.deploy(spec("web", 1)), 3, "numbers survive a restart");
}

#[test]
fn fifty_calls_at_once_with_no_order_delivered_never_over_provision() {
    let mut world = World::new(3);
    world.hold_orders = true;
    for round in 0..50u32 {
        match round % 3 {
            0 => drop(world.deploy(spec("web", round % 7 + 1))),
            1 => world.scale("web", (round * 5) % 11),
            _ => world.scale("web", 4),
        }
        let tally = world.core.state.tally(&"web".into());
        assert!(tally.occupied() <= 11, "{tally:?}");
    }
    world.scale("web", 6);
    world.hold_orders = false;
    world.settle();
    assert_eq!(world.live("web").len(), 6);
    world.nothing_happens_for(MINUTE);
}

// ---- restarting ----

#[test]
fn a_crash_is_restarted_at_once_in_place_then_with_growing_delays() {
    let mut world = with_app(3, 1);
    let mut delays = Vec::new();
    let home = world.spread("web").into_keys().next().unwrap();
    for _ in 0..6 {
        let old = one(&world, "web");
        world.crash(&old, 1);
        let from = world.now;
        world.until(70_000, "a new one", |w| w.live("web").len() == 1);
        assert_eq!(world.spread("web").into_keys().next().unwrap(), home);
        delays.push((world.now - from) / 1000);
        world.run_for(100);
    }
    for (delay, nominal) in delays.iter().zip([0, 1, 2, 4, 8, 16]) {
        assert!((nominal..=nominal + nominal / 10 + 1).contains(delay), "{delays:?}");
    }
    assert_eq!(world.view("web").restarts, 6);
    world.run_for(61_000);
    let old = one(&world, "web");
    world.crash(&old, 1);
    world.run_for(500);
    assert_eq!(world.live("web").len(), 1, "a stable minute starts over");
}

#[test]
fn a_crash_loop_says_the_code_and_holds_nobody_else_up() {
    let mut world = World::new(2);
    world.deploy(spec_of("bad", 1, "exit:3:50", RestartPolicy::Always));
    world.run_for(20_000);
    let why = world.view("bad").reasons;
    assert_eq!(why[0].reason, Reason::BackOff);
    assert!(why[0].message.contains("exited with code 3"), "{why:?}");
    assert!(why[0].for_ms.is_some());
    world.deploy(spec("web", 2));
    world.run_for(500);
    assert_eq!(world.view("web").ready, 2);
    world.run_for(10 * MINUTE);
    assert!(world.docker.len() <= 2 + 2 * 2 + 1, "dead containers are bounded");
    assert!(world.core.state.instances.len() <= 2 + 2 * 2 + 1);
}

#[test]
fn finished_is_done_and_stays_done_over_restarts_of_both_sides() {
    for (policy, code) in
        [(RestartPolicy::OnFailure, 0), (RestartPolicy::Never, 0), (RestartPolicy::Never, 5)]
    {
        let mut world = World::new(2);
        world.deploy(spec_of("job", 2, &format!("exit:{code}:500"), policy));
        world.run_for(5_000);
        assert_eq!(world.view("job").done, 2, "{policy:?} {code}\n{}", world.story());
        world.restart_agent("n1");
        world.run_for(15_000);
        world.restart_scheduler();
        world.run_for(15_000);
        world.restart_agent("n2");
        world.nothing_happens_for_orders(2 * MINUTE);
        assert_eq!(world.started.len(), 2, "{policy:?} {code}: ran again");
        assert_eq!(world.view("job").done, 2);
        assert!(world.view("job").reasons.is_empty());
    }
}

#[test]
fn a_job_that_failed_is_run_again_until_it_succeeds() {
    let mut world = World::new(2);
    world.deploy(spec_of("job", 1, "exit:2:100", RestartPolicy::OnFailure));
    world.run_for(5_000);
    assert!(world.started.len() >= 2);
    world.until(60_000, "it runs", |w| w.live("job").len() == 1);
    let id = one(&world, "job");
    world.crash(&id, 0);
    world.nothing_happens_after(100, 2 * MINUTE);
    assert_eq!(world.view("job").done, 1);
}

#[test]
fn a_job_that_ended_while_the_scheduler_was_away_is_done() {
    let mut world = World::new(2);
    world.deploy(spec_of("job", 2, "exit:0:20000", RestartPolicy::OnFailure));
    world.run_for(1_000);
    world.kill_scheduler();
    world.run_for(40_000);
    world.start_scheduler();
    world.run_for(20_000);
    assert_eq!((world.view("job").done, world.started.len()), (2, 2), "{}", world.story());
}

#[test]
fn a_failed_start_is_retried_under_every_policy_and_may_move() {
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never] {
        let mut world = World::new(2);
        world.deploy(spec_of("bad", 1, "nostart", policy));
        world.run_for(30_000);
        assert!((4..=7).contains(&world.started.len()), "{policy:?}: {}", world.started.len());
        assert_eq!(world.view("bad").reasons[0].reason, Reason::BackOff);
        assert!(world.view("bad").reasons[0].message.contains("exec format error"));
        assert_eq!(world.view("bad").done, 0);
    }
}

#[test]
fn a_container_removed_by_hand_is_replaced_except_under_never() {
    let mut world = with_app(2, 2);
    let gone = world.live("web")[0].clone();
    world.remove_by_hand(&gone);
    world.settle();
    assert!(!world.live("web").contains(&gone));
    assert_eq!(world.view("web").restarts, 1);
    world.deploy(spec_of("job", 1, "app", RestartPolicy::Never));
    world.settle();
    let gone = one(&world, "job");
    world.remove_by_hand(&gone);
    world.nothing_happens_after(100, MINUTE);
    assert_eq!((world.view("job").done, world.live("job").len()), (1, 0));
}

#[test]
fn the_unhealthy_are_restarted_one_at_a_time() {
    let mut world = World::new(3);
    let mut web = spec("web", 3);
    web.health_check = Some(probe());
    world.deploy(web);
    world.settle();
    let old = world.live("web");
    for id in &old {
        world.sicken(id, true);
    }
    let mut least = 3;
    world.until(10_000, "all are new and ready", |w| {
        least = least.min(w.live("web").len());
        w.view("web").ready == 3 && w.live("web").iter().all(|id| !old.contains(id))
    });
    assert_eq!(least, 2, "one at a time");
    assert_eq!(world.view("web").restarts, 3);
    world.nothing_happens_for(MINUTE);
}

#[test]
fn unhealthy_leaves_discover_and_one_blip_changes_nothing() {
    let mut world = World::new(2);
    let mut web = spec("web", 2);
    web.health_check = Some(probe());
    web.ports = vec![port(80, 0, false)];
    world.deploy(web);
    world.settle();
    assert_eq!(world.snapshot().discover("web").unwrap().endpoints.len(), 2);
    let id = world.live("web")[0].clone();
    world.sicken(&id, false);
    world.run_for(100);
    assert_eq!(world.snapshot().discover("web").unwrap().endpoints.len(), 1);
    assert_eq!(world.reasons("web"), [Reason::Unhealthy]);
    world.nothing_happens_for(MINUTE);
    world.cure(&id);
    world.run_for(100);
    assert_eq!(world.snapshot().discover("web").unwrap().endpoints.len(), 2);
    assert_eq!(world.started.len(), 2);
}

#[test]
fn an_ill_one_that_crash_loops_after_its_restart_does_not_keep_others_ill() {
    let mut world = World::new(2);
    let mut web = spec("web", 2);
    web.health_check = Some(probe());
    world.deploy(web);
    world.settle();
    let (first, second) = (world.live("web")[0].clone(), world.live("web")[1].clone());
    world.sicken(&first, true);
    for _ in 0..5 {
        let old = world.live("web");
        world.until(70_000, "a new one", |w| w.live("web").iter().any(|id| !old.contains(id)));
        let new: Vec<_> = world.live("web").into_iter().filter(|id| !old.contains(id)).collect();
        if world.live("web").contains(&second) {
            world.sicken(&second, true);
        }
        for id in new.iter().filter(|id| **id != second) {
            world.crash(id, 1);
        }
    }
    world.until(120_000, "the second was restarted", |w| !w.live("web").contains(&second));
}

#[test]
fn what_is_being_restarted_for_ill_health_is_not_started_meanwhile_elsewhere() {
    let mut world = World::new(3);
    let mut web = spec("web", 2);
    web.health_check = Some(probe());
    world.deploy(web);
    world.settle();
    let (bad, ill) = (world.live("web")[0].clone(), world.live("web")[1].clone());
    // The first is in back-off, so there is room for one more start.
    world.crash(&bad, 1);
    world.settle();
    let bad = world.live("web").into_iter().find(|id| *id != ill).unwrap();
    world.crash(&bad, 1);
    world.run_for(50);
    world.sicken(&ill, true);
    world.run_for(STOP_MS / 2 + 20);
    assert_eq!(world.live("web"), [ill], "{}", world.story());
    world.settle();
    assert_eq!(world.view("web").restarts, 3, "ill health counts as a failure");
}

// ---- nodes ----

#[test]
fn a_node_silent_for_nine_seconds_is_dead_and_replaced_elsewhere() {
    let mut world = with_app(3, 3);
    let from = world.now;
    die(&mut world, "n1");
    assert!((6_000..=10_000).contains(&(world.now - from)), "{}", world.now - from);
    world.run_for(500);
    assert_eq!(world.view("web").ready, 3);
    assert_eq!(world.live("web").len(), 4, "the original still runs, unseen");
    world.nothing_happens_for(10 * MINUTE);
    come_back(&mut world, "n1");
    world.settle();
    assert!(world.spread("web").values().all(|n| *n == 1), "{:?}", world.spread("web"));
    assert!(!world.live_on("web", "n1").is_empty(), "off the most crowded node");
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn a_node_that_comes_back_without_its_containers_changes_nothing() {
    let mut world = with_app(3, 3);
    die(&mut world, "n1");
    world.settle_except(&["n1"]);
    world.wipe("n1");
    world.restart_agent("n1");
    come_back(&mut world, "n1");
    world.settle();
    assert_eq!(world.view("web").restarts, 0, "being lost is no failure");
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn a_healthy_original_is_kept_over_a_replacement_that_is_not_ready() {
    let mut world = World::new(2);
    let mut web = spec("web", 1);
    web.health_check = Some(probe());
    world.deploy(web);
    world.settle();
    let original = one(&world, "web");
    let home = world.docker[&original].node.to_string();
    die(&mut world, &home);
    world.until(1_000, "a replacement runs", |w| w.live("web").len() == 2);
    come_back(&mut world, &home);
    world.settle();
    assert_eq!(one(&world, "web"), original);
}

#[test]
fn stops_decided_while_a_node_was_dead_are_carried_out_when_it_is_heard_again() {
    let mut world = with_app(2, 2);
    die(&mut world, "n1");
    world.delete("web");
    world.run_for(MINUTE);
    assert_eq!(world.live("web").len(), 1, "n1 cannot be told");
    // Heard again, not registered again: the same life of the agent.
    come_back(&mut world, "n1");
    world.run_for(3_000);
    assert!(world.docker.is_empty(), "{}", world.story());
}

#[test]
fn five_seconds_of_silence_kill_nobody() {
    let mut world = with_app(3, 3);
    world.agent("n1").frozen = true;
    world.run_for(5_000);
    world.agent("n1").frozen = false;
    world.run_for(10_000);
    assert_eq!((world.events("NodeDead"), world.started.len()), (0, 3));
}

#[test]
fn a_paused_scheduler_kills_nobody() {
    let mut world = with_app(3, 3);
    world.scheduler_frozen = true;
    for node in ["n1", "n2", "n3"] {
        world.agent(node).frozen = true;
    }
    world.run_for(30_000);
    world.scheduler_frozen = false;
    world.run_for(1_000);
    for node in ["n1", "n2", "n3"] {
        world.agent(node).frozen = false;
    }
    world.run_for(20_000);
    assert_eq!((world.events("NodeDead"), world.started.len()), (0, 3));
    assert_eq!(world.events("SchedulerPaused"), 1);
}

#[test]
fn a_heartbeat_that_was_overtaken_is_no_news_and_brings_nobody_back() {
    let mut world = with_app(2, 2);
    let late = world.report(&"n1".into());
    world.run_for(4_000);
    die(&mut world, "n1");
    world.feed(Input::Heartbeat { ticket: 9_000, request: late });
    assert_eq!(world.core.state.nodes["n1"].status, NodeStatus::Dead);
}

#[test]
fn a_job_on_a_lost_node_is_not_run_again_and_says_so() {
    let mut world = World::new(2);
    world.deploy(spec_of("job", 1, "app", RestartPolicy::Never));
    world.settle();
    let id = one(&world, "job");
    let home = world.docker[&id].node.to_string();
    die(&mut world, &home);
    world.run_for(MINUTE);
    assert_eq!((world.started.len(), world.reasons("job")), (1, vec![Reason::NodeLost]));
    // Not after its node was removed, either.
    world.user(UserCall::RemoveNode(home.as_str().into())).expect("removed");
    world.run_for(MINUTE);
    assert_eq!(world.started.len(), 1, "{}", world.story());
    // It comes back running after all, and runs on.
    world.agent(&home).cut = false;
    world.run_for(15_000);
    assert_eq!((one(&world, "job"), world.view("job").ready, world.view("job").done), (id, 1, 0));
}

#[test]
fn removing_a_dead_node_leaves_no_trace_of_it() {
    let mut world = with_app(3, 6);
    die(&mut world, "n1");
    world.user(UserCall::RemoveNode("n1".into())).expect("removed");
    assert!(world.core.state.instances.values().all(|i| i.node.as_str() != "n1"));
    assert!(!world.records.contains_key("node/n1"));
    world.settle_except(&["n1"]);
    let error = world.user(UserCall::RemoveNode("n2".into())).unwrap_err();
    assert_eq!(error.status, 409, "n2 is alive");
    come_back_new(&mut world, "n1");
    world.settle();
    assert_eq!(world.live("web").len(), 6);
}

fn come_back_new(world: &mut World, node: &str) {
    world.agent(node).cut = false;
    world.until(10_000, "registered anew", |w| {
        w.core.state.nodes.get(node).is_some_and(|n| n.synced)
    });
}

#[test]
fn a_cordoned_node_gets_nothing_new() {
    let mut world = World::new(2);
    let call = |schedulable| UserCall::SetSchedulable { id: "n1".into(), schedulable };
    world.user(call(false)).expect("cordoned");
    world.deploy(spec("web", 4));
    world.settle();
    assert_eq!(world.spread("web").get("n1"), None);
    world.user(UserCall::SetSchedulable { id: "n2".into(), schedulable: false }).expect("cordoned");
    world.scale("web", 5);
    world.run_for(1_000);
    assert_eq!(world.reasons("web"), [Reason::NoRoom]);
    world.restart_scheduler();
    world.run_for(10_000);
    assert_eq!(world.reasons("web"), [Reason::NoRoom], "cordons are durable");
    world.user(call(true)).expect("uncordoned");
    world.settle();
    assert_eq!(world.spread("web").get("n1"), Some(&1));
}

#[test]
fn without_nodes_it_says_so_and_starts_once_there_is_one() {
    let mut world = World::empty(1);
    world.deploy(spec("web", 2));
    assert_eq!(world.reasons("web"), [Reason::NoNodes]);
    world.add_agent("n1", "d1");
    world.settle();
    assert_eq!(world.live("web").len(), 2);
}

// ---- mass node loss ----

fn big_cluster() -> World {
    let mut world = World::new(12);
    world.run_for(61_000);
    world.deploy(spec("web", 12));
    world.settle();
    world
}

fn cut(world: &mut World, count: usize, is_cut: bool) {
    for number in 1..=count {
        world.agent(&format!("n{number}")).cut = is_cut;
    }
}

#[test]
fn when_most_nodes_vanish_at_once_nothing_is_replaced_until_half_are_back() {
    let mut world = big_cluster();
    cut(&mut world, 8, true);
    world.run_for(MINUTE);
    assert_eq!(world.started.len(), 12, "{}", world.story());
    assert_eq!(world.events("NodeDead"), 8);
    assert!(world.reasons("web").contains(&Reason::MassNodeLoss));
    cut(&mut world, 8, false);
    world.settle();
    assert_eq!(world.started.len(), 12, "{}", world.story());
    world.nothing_happens_for(MINUTE);
    assert!(world.core.state.mass_loss.is_none());
}

#[test]
fn endpoints_of_vanished_nodes_stay_with_unknown_health() {
    let mut world = World::new(12);
    world.run_for(61_000);
    let mut web = spec("web", 12);
    web.ports = vec![port(80, 0, false)];
    world.deploy(web);
    world.settle();
    cut(&mut world, 8, true);
    world.run_for(20_000);
    let found = world.snapshot().discover("web").unwrap().endpoints;
    assert_eq!(found.len(), 12);
    assert_eq!(found.iter().filter(|e| e.health == Health::Unknown).count(), 8);
}

#[test]
fn after_five_minutes_or_when_removed_vanished_nodes_are_replaced() {
    let mut world = big_cluster();
    cut(&mut world, 8, true);
    world.run_for(4 * MINUTE);
    assert_eq!(world.started.len(), 12);
    world.run_for(90_000);
    assert_eq!((world.started.len(), world.view("web").ready), (20, 12));

    let mut world = big_cluster();
    cut(&mut world, 8, true);
    world.run_for(20_000);
    for node in ["n1", "n2", "n3"] {
        world.user(UserCall::RemoveNode(node.into())).expect("removed");
    }
    world.run_for(3_000);
    assert!(world.core.state.mass_loss.is_some(), "5 of 9 are still dead");
    world.user(UserCall::RemoveNode("n4".into())).expect("removed");
    world.run_for(3_000);
    assert_eq!(world.view("web").ready, 12, "4 of 8 are half");
}

#[test]
fn half_of_the_nodes_and_small_clusters_are_replaced_at_once() {
    let mut world = big_cluster();
    cut(&mut world, 6, true);
    world.run_for(15_000);
    assert_eq!((world.started.len(), world.view("web").ready), (18, 12));

    let mut world = World::new(3);
    world.run_for(61_000);
    world.deploy(spec("web", 3));
    world.settle();
    cut(&mut world, 2, true);
    world.run_for(15_000);
    assert_eq!((world.started.len(), world.view("web").ready), (5, 3));
}

#[test]
fn ten_lost_of_many_is_no_mass_loss_just_after_a_restart() {
    let mut world = World::new(30);
    world.run_for(61_000);
    world.deploy(spec("web", 30));
    world.settle();
    world.kill_scheduler();
    cut(&mut world, 11, true);
    world.start_scheduler();
    world.run_for(20_000);
    assert!(world.core.state.mass_loss.is_none(), "11 of 30 are gone");
    assert_eq!(world.view("web").ready, 30);
}

// ---- Docker trouble ----

#[test]
fn docker_away_or_hung_for_less_than_a_minute_moves_nothing() {
    for state in [DockerState::Away, DockerState::Hung] {
        let mut world = with_app(3, 3);
        world.set_docker("n1", state);
        world.run_for(50_000);
        assert_eq!((world.started.len(), world.view("web").ready), (3, 3));
        world.deploy(spec("new", 4));
        world.settle_except(&[]);
        assert_eq!(world.spread("new").get("n1"), None, "alive but not able");
        world.set_docker("n1", DockerState::Ok);
        world.run_for(MINUTE);
        assert_eq!(world.started.len(), 7);
    }
}

#[test]
fn docker_away_for_over_a_minute_is_like_a_dead_node() {
    let mut world = with_app(3, 3);
    world.set_docker("n1", DockerState::Hung);
    world.run_for(65_000);
    assert_eq!((world.started.len(), world.view("web").ready), (4, 3));
    world.nothing_happens_for(10 * MINUTE);
    world.set_docker("n1", DockerState::Ok);
    world.settle();
    assert_eq!(world.live("web").len(), 3);
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn a_crash_restart_waits_for_its_node_while_that_is_merely_not_able() {
    let mut world = with_app(3, 3);
    let id = world.live_on("web", "n1")[0].clone();
    world.crash(&id, 1);
    world.run_for(30);
    let id2 = world.core.state.instances.values().find(|i| i.replaces.as_ref() == Some(&id));
    assert!(id2.is_some_and(|i| i.node.as_str() == "n1"));
    world.settle();
    // The second crash waits a second; meanwhile Docker goes away for a while.
    let id = world.live_on("web", "n1")[0].clone();
    world.crash(&id, 1);
    world.run_for(30);
    world.set_docker("n1", DockerState::Away);
    world.run_for(10_000);
    assert_eq!(world.live("web").len(), 2, "{}", world.story());
    assert_eq!(world.reasons("web"), [Reason::DockerUnavailable]);
    world.set_docker("n1", DockerState::Ok);
    world.settle();
    assert_eq!(world.live_on("web", "n1").len(), 1);
}

#[test]
fn recovery_does_not_wait_for_ever_for_a_hung_docker() {
    let mut world = with_app(3, 3);
    world.set_docker("n1", DockerState::Hung);
    world.run_for(1_000);
    world.restart_scheduler();
    world.run_for(20_000);
    world.scale("web", 4);
    world.run_for(MINUTE + 10_000);
    assert_eq!(world.view("web").ready, 4, "{}", world.story());
}

// ---- who is who ----

#[test]
fn a_node_id_is_claimed_by_the_same_machine_or_from_the_dead() {
    let mut world = World::new(2);
    let claim = |world: &mut World, incarnation: u64, key: &str, address: &str| {
        let request = RegisterRequest {
            node_id: "n1".into(),
            key: key.to_owned(),
            incarnation,
            advertise: Some(address.to_owned()),
            port: 8081,
            docker: Default::default(),
            version: String::new(),
        };
        let ticket = 90_000 + incarnation;
        let peer = "10.0.0.1".parse().unwrap();
        world.feed(Input::Register { ticket, peer, request });
        world.replies.remove(&ticket).unwrap()
    };
    let refused = claim(&mut world, 901, "other", "10.9.9.9:8081").unwrap_err();
    assert_eq!((refused.status, refused.reason.as_str()), (409, "NodeIdTaken"));
    let address = world.agent("n1").address.clone();
    assert!(claim(&mut world, 902, "other", &address).is_ok(), "same address: a restart");
    world.run_for(4_000);
    assert!(world.agent("n1").superseded, "the older one stops for good");
    world.run_for(12_000);
    assert_eq!(world.core.state.nodes["n1"].status, NodeStatus::Dead);
    assert!(claim(&mut world, 903, "third", "10.9.9.9:8081").is_ok(), "from the dead");
    let late = claim(&mut world, 902, "other", &address).unwrap_err();
    assert_eq!(late.reason, "Superseded");
}

#[test]
fn a_registration_that_was_overtaken_does_not_stop_the_agent_that_lives() {
    let mut world = with_app(1, 2);
    world.run_for(1_000);
    // The scheduler is paused; an agent starts, asks, is killed and started again.
    let agent = world.agent("n1").clone();
    let request = RegisterRequest {
        node_id: "n1".into(),
        key: agent.key,
        incarnation: 555,
        advertise: Some(agent.address),
        port: 8081,
        docker: Default::default(),
        version: String::new(),
    };
    world.restart_agent("n1");
    world.run_for(500);
    let peer = "10.0.0.1".parse().unwrap();
    world.feed(Input::Register { ticket: 80_000, peer, request });
    world.run_for(10_000);
    assert!(world.agent("n1").up && !world.agent("n1").superseded);
    world.settle();
    assert_eq!((world.started.len(), world.events("NodeDead")), (2, 0));
}

#[test]
fn a_heartbeat_of_another_epoch_or_node_must_register_again() {
    let mut world = with_app(2, 2);
    let mut beat = world.report(&"n1".into());
    beat.epoch = 7;
    world.feed(Input::Heartbeat { ticket: 5_000, request: beat.clone() });
    assert_eq!(world.replies[&5_000].as_ref().unwrap_err().status, 422);
    beat.node_id = "nobody".into();
    world.feed(Input::Heartbeat { ticket: 5_001, request: beat });
    assert_eq!(world.replies[&5_001].as_ref().unwrap_err().status, 422);
    world.restart_scheduler();
    world.run_for(4_000);
    assert!(world.core.state.nodes.values().all(|n| n.status == NodeStatus::Alive));
    assert_eq!(world.started.len(), 2);
}

// ---- recovery ----

#[test]
fn after_a_restart_nothing_moves_until_all_known_nodes_were_heard_or_are_dead() {
    let mut world = with_app(3, 3);
    world.kill_scheduler();
    world.agent("n1").cut = true;
    let crashed = world.live_on("web", "n2")[0].clone();
    world.crash(&crashed, 1);
    world.start_scheduler();
    let orders = world.orders;
    world.run_for(7_000);
    assert_eq!(world.orders, orders, "n1 was not heard");
    assert!(world.reasons("web").contains(&Reason::Recovering));
    world.deploy(spec("new", 2));
    world.run_for(500);
    assert_eq!(world.view("new").ready, 2, "what is new has nothing to recover");
    world.run_for(5_000);
    assert_eq!(world.view("web").ready, 3, "n1 is dead now");
}

#[test]
fn running_containers_are_adopted_and_unknown_ones_removed() {
    let mut world = with_app(3, 6);
    world.deploy(spec("old", 2));
    world.settle();
    let web = world.live("web");
    world.kill_scheduler();
    world.records.retain(|key, _| !key.ends_with("/old"));
    world.start_scheduler();
    world.run_for(5_000);
    assert_eq!(world.live("web"), web);
    assert_eq!(world.live("old"), Vec::<InstanceId>::new());
    assert_eq!(world.core.state.instances.len(), 6);
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn orders_in_flight_at_a_restart_are_found_again_and_not_doubled() {
    for wait in [0, 1, 2, 3, 50, 121, 122, 123] {
        let mut world = World::new(3);
        world.deploy(spec("web", 6));
        world.run_for(wait);
        world.restart_scheduler();
        world.settle();
        assert_eq!(world.live("web").len(), 6, "{wait}");
        world.nothing_happens_for(MINUTE);
    }
}

#[test]
fn a_name_given_out_anew_while_recovering_waits_for_what_is_leaving() {
    let mut world = with_app(3, 3);
    world.hold_orders = true;
    world.delete("web");
    world.restart_scheduler();
    world.hold_orders = false;
    world.deploy(spec("web", 3));
    for _ in 0..10_000 {
        world.run_for(1);
        let live = world.live("web").len();
        assert!(live <= 3, "{live} live: {}", world.story());
    }
    world.settle();
    assert_eq!(world.view("web").revision, 2);
}

#[test]
fn a_replica_given_up_while_recovering_takes_its_instance_with_it() {
    let mut world = with_app(3, 3);
    world.restart_scheduler();
    world.scale("web", 1);
    world.settle();
    world.nothing_happens_for(MINUTE);
    assert_eq!(world.started.len(), 3);
}

#[test]
fn what_a_former_life_was_stopping_is_not_counted_on_after_a_restart() {
    let mut world = with_app(1, 1);
    // An excess instance, by way of a second node and a partition.
    world.add_agent("n2", "d2");
    world.run_for(100);
    die(&mut world, "n1");
    world.until(2_000, "a replacement", |w| w.live_on("web", "n2").len() == 1);
    world.run_for(300);
    world.agent("n1").cut = false;
    world.until(6_000, "one is being stopped", |w| w.view("web").stopping == 1);
    world.run_for(5);
    world.restart_scheduler();
    world.until(8_000, "all were heard", |w| w.core.state.awaited.is_empty());
    world.settle();
    world.nothing_happens_for(MINUTE);
    assert_eq!(world.started.len(), 2, "the right one was kept: {}", world.story());
}

#[test]
fn back_off_outlives_the_scheduler() {
    let mut world = World::new(1);
    world.deploy(spec_of("bad", 1, "exit:1:20", RestartPolicy::Always));
    world.until(200_000, "a long wait", |w| {
        w.view("bad").reasons.first().is_some_and(|why| why.for_ms.is_some_and(|ms| ms > 25_000))
    });
    let started = world.started.len();
    let left = world.view("bad").reasons[0].for_ms.unwrap();
    world.restart_scheduler();
    world.run_for(left - 1_000);
    assert_eq!(world.started.len(), started, "before its time");
    assert_eq!(world.reasons("bad"), [Reason::BackOff]);
    world.run_for(2_000);
    assert_eq!(world.started.len(), started + 1);
}

#[test]
fn a_disk_that_refuses_makes_it_decide_the_same_again() {
    let mut world = World::new(3);
    world.deploy(spec("web", 5));
    let before = world.core.state.clone();
    let mut first = world.core.clone();
    let moment = world.moment();
    let call = || Input::User {
        ticket: 1,
        by: "test".to_owned(),
        call: UserCall::Scale { id: "web".into(), replicas: 9 },
    };
    let once = first.step(moment, call());
    let mut again = Core::new(before, world.timing.clone());
    let twice = again.step(moment, call());
    assert_eq!(once.orders, twice.orders);
    assert_eq!(once.records, twice.records);
    assert_eq!(once.events, twice.events);
    assert!(matches!(twice.replies[0].1, Ok(Reply::Done(_))));
    // And in the world: the batch never happened, what was in flight goes on.
    world.core = Core::new(world.core.state.clone(), world.timing.clone());
    world.settle();
    assert_eq!(world.started.len(), 5);
}

// ---- orders and heartbeats ----

#[test]
fn an_order_without_an_answer_is_repeated_with_the_same_id() {
    let mut world = World::new(1);
    world.network.lost = 1000;
    world.deploy(spec("web", 1));
    world.run_for(100);
    assert_eq!(world.orders, 1);
    world.run_for(6_500);
    world.network.lost = 0;
    world.settle();
    assert_eq!(world.ordered.len(), 1, "one id");
    assert!(world.orders > 1);
}

#[test]
fn a_node_that_is_heard_but_cannot_be_reached_keeps_nothing_for_ever() {
    let mut world = World::new(2);
    // A wrong --advertise: reports come in, orders go nowhere.
    world.agent("n1").address = "10.7.7.7:8081".to_owned();
    world.deploy(spec("web", 2));
    world.run_for(25_000);
    assert_eq!(world.view("web").ready, 1);
    let nodes = world.snapshot().nodes();
    assert!(nodes[0].message.as_ref().is_some_and(|m| m.contains("--advertise")), "{nodes:?}");
    world.deploy(spec("api", 2));
    world.run_for(2_000);
    assert_eq!(world.view("api").ready, 2, "what is new goes where it is taken");
    world.until(40_000, "all run", |w| w.view("web").ready == 2);
    assert_eq!(world.spread("web").get("n1"), None);
    // Put right, and started again.
    world.restart_agent("n1");
    world.run_for(1_000);
    world.scale("web", 4);
    world.settle();
    assert_eq!(world.spread("web").get("n1"), Some(&2));
    world.nothing_happens_for(10 * MINUTE);
}

#[test]
fn an_agent_restarted_between_its_answer_and_its_first_report() {
    for wait in [1, 2, 3, 4, 60, 119, 125] {
        let mut world = World::new(2);
        world.deploy(spec("web", 4));
        world.run_for(wait);
        world.restart_agent("n1");
        world.run_for(1_000);
        world.settle();
        assert_eq!(world.live("web").len(), 4, "{wait}");
        world.nothing_happens_for(MINUTE);
    }
}

#[test]
fn a_stop_for_what_was_sent_but_never_answered_ends() {
    // The order to run gets lost, and before that is known it is not wanted any more.
    let mut world = World::new(1);
    world.network.lost = 1000;
    world.deploy(spec("web", 1));
    world.run_for(10);
    world.network.lost = 0;
    world.scale("web", 0);
    world.until(10_000, "it is gone", |w| w.core.state.instances.is_empty());
    world.scale("web", 2);
    world.settle();
    // The same for a workload that is deleted.
    world.network.lost = 1000;
    world.deploy(spec("job", 1));
    world.run_for(10);
    world.delete("job");
    world.run_for(6_000);
    world.network.lost = 0;
    world.until(20_000, "it is gone", |w| w.core.state.cohorts.len() == 1);
    world.settle();
    world.nothing_happens_for(MINUTE);
}

#[test]
fn a_refusal_is_a_failure_with_its_reason_and_is_retried_elsewhere_in_time() {
    let mut world = World::new(2);
    world.hold_orders = true;
    world.deploy(spec("web", 1));
    let instance = world.core.state.instances.values().next().unwrap().clone();
    refuse(&mut world, &instance, ApiError::bad_request("image: no such thing"));
    assert!(!world.core.state.instances.contains_key(&instance.id));
    let replica = &world.core.state.workloads["web"].replicas[&0];
    assert_eq!((replica.step, replica.restarts), (1, 1));
    let failure = replica.last_failure.as_ref().unwrap();
    assert_eq!(failure.reason, Reason::Refused);
    assert!(failure.message.contains("no such thing"), "{failure:?}");
    assert_eq!(world.core.state.instances.len(), 1, "the first retry is at once");
}

fn refuse(world: &mut World, instance: &Instance, error: ApiError) {
    world.feed(Input::Answered {
        node: instance.node.clone(),
        id: instance.id.clone(),
        kind: OrderKind::Run,
        incarnation: world.core.state.nodes[&instance.node].incarnation,
        answer: OrderAnswer::Refused(error),
    });
}

#[test]
fn what_its_agent_was_told_to_stop_before_it_came_is_no_failure() {
    let mut world = World::new(2);
    world.hold_orders = true;
    world.deploy(spec("web", 1));
    let instance = world.core.state.instances.values().next().unwrap().clone();
    refuse(&mut world, &instance, ApiError::new(409, "Stopped", "it was stopped"));
    assert!(!world.core.state.instances.contains_key(&instance.id));
    let replica = &world.core.state.workloads["web"].replicas[&0];
    assert_eq!((replica.step, replica.restarts, &replica.last_failure), (0, 0, &None));
    assert_eq!(world.core.state.instances.len(), 1, "another one is started at once");
}

#[test]
fn absence_means_gone_only_in_a_synced_snapshot_with_docker_working() {
    let mut world = with_app(1, 2);
    let node = "n1".into();
    for (synced, docker) in
        [(false, DockerState::Ok), (true, DockerState::Away), (true, DockerState::Hung)]
    {
        let mut beat = world.report(&node);
        beat.synced = synced;
        beat.docker.state = docker;
        beat.containers.clear();
        world.feed(Input::Heartbeat { ticket: 70_000, request: beat });
        assert_eq!(world.core.state.instances.len(), 2, "{synced} {docker:?}");
        assert_eq!(world.view("web").restarts, 0);
    }
    world.wipe("n1");
    let beat = world.report(&node);
    world.feed(Input::Heartbeat { ticket: 70_001, request: beat });
    assert_eq!(world.view("web").restarts, 2);
}

#[test]
fn lost_late_and_doubled_messages_cost_time_and_nothing_else() {
    for seed in 0..20 {
        let mut world = World::empty(seed);
        for number in 1..=3 {
            world.add_agent(&format!("n{number}"), &format!("d{number}"));
        }
        world.network = cluster::Network { lost: 150, doubled: 200, delayed: 300, delay_ms: 4_000 };
        world.run_for(5_000);
        world.deploy(spec("web", 6));
        world.run_for(20_000);
        world.scale("web", 3);
        world.run_for(20_000);
        world.network = cluster::Network::default();
        world.run_for(20_000);
        world.settle();
        assert_eq!(world.live("web").len(), 3, "seed {seed}");
        world.nothing_happens_for(MINUTE);
    }
}

#[test]
fn an_order_that_may_have_been_noted_is_counted_until_it_is_stopped() {
    let mut world = World::new(1);
    world.deploy(spec("web", 2));
    world.run_for(3);
    // Noted, but neither the answers nor any report come through.
    let instances: Vec<_> = world.core.state.instances.values().cloned().collect();
    let mut world = World::new(1);
    world.network.lost = 1000;
    world.deploy(spec("web", instances.len() as u32));
    world.run_for(5_100);
    // Found unanswered, due again and so perhaps noted: not simply forgotten.
    world.scale("web", 0);
    assert_eq!(world.core.state.instances.len(), 2);
    world.scale("web", 2);
    assert_eq!(world.reasons("web"), [Reason::WaitingForStops]);
    world.network.lost = 0;
    world.settle();
    assert_eq!(world.live("web").len(), 2);
}

// ---- host ports ----

#[test]
fn a_single_replica_gets_the_port_it_asked_for_and_several_do_not() {
    let mut world = World::new(2);
    let mut web = spec("web", 1);
    web.ports = vec![port(80, 8000, false)];
    world.deploy(web);
    world.settle();
    let first = one(&world, "web");
    assert_eq!(world.docker[&first].ports[0].host_port, 8000);
    world.scale("web", 3);
    world.settle();
    let ports: BTreeSet<u16> =
        world.live("web").iter().map(|id| world.docker[id].ports[0].host_port).collect();
    assert_eq!(ports.iter().filter(|p| **p == 8000).count(), 1);
    assert!(world.live("web").contains(&first), "nobody is restarted for a port");
    world.scale("web", 1);
    world.settle();
    assert_eq!(one(&world, "web"), first, "the holder is kept");
    assert_eq!(world.started.len(), 3);
}

#[test]
fn a_fixed_port_is_one_replica_per_daemon_and_the_rest_wait() {
    let mut world = World::empty(3);
    for (node, daemon) in [("n1", "d1"), ("n2", "d1"), ("n3", "d2")] {
        world.add_agent(node, daemon);
    }
    world.run_for(50);
    let mut web = spec("web", 3);
    web.ports = vec![port(80, 8000, true), port(81, 8001, false)];
    world.deploy(web);
    world.run_for(1_000);
    assert_eq!(world.view("web").ready, 2);
    assert_eq!(world.reasons("web"), [Reason::PortTaken]);
    for id in world.live("web") {
        let ports = &world.docker[&id].ports;
        assert_eq!(ports[0].host_port, 8000);
        assert_ne!(ports[1].host_port, 8001, "of several, only fixed ports are by number");
    }
    world.nothing_happens_for(MINUTE);
    world.restart_scheduler();
    world.run_for(10_000);
    assert_eq!((world.view("web").ready, world.started.len()), (2, 2));
    world.add_agent("n4", "d4");
    world.settle();
    assert_eq!(world.view("web").ready, 3);
}

#[test]
fn a_port_held_by_a_lost_instance_does_not_block_its_replacement_for_ever() {
    let mut world = World::empty(3);
    for node in ["n1", "n2"] {
        world.add_agent(node, "shared");
    }
    world.run_for(50);
    let mut web = spec("web", 1);
    web.ports = vec![port(80, 8000, false)];
    world.deploy(web);
    world.settle();
    let home = world.docker[&one(&world, "web")].node.to_string();
    world.kill_agent(&home);
    world.wipe(&home);
    world.until(15_000, "a replacement", |w| w.live("web").len() == 1);
    assert_eq!(world.docker[&one(&world, "web")].ports[0].host_port, 8000);
    world.start_agent(&home);
    world.run_for(5_000);
    world.settle();
    world.nothing_happens_for(MINUTE);
}

#[test]
fn a_port_is_still_known_to_be_held_after_its_holder_was_lost_and_came_back() {
    let mut world = World::empty(3);
    for node in ["n1", "n2"] {
        world.add_agent(node, "shared");
    }
    world.run_for(50);
    let mut web = spec("web", 1);
    web.ports = vec![port(80, 8000, true)];
    world.deploy(web.clone());
    world.settle();
    let original = one(&world, "web");
    let home = world.docker[&original].node.to_string();
    die(&mut world, &home);
    world.run_for(500);
    come_back(&mut world, &home);
    world.settle();
    assert_eq!(one(&world, "web"), original);
    web.name = "api".into();
    world.deploy(web);
    world.run_for(1_000);
    assert_eq!(world.reasons("api"), [Reason::PortTaken]);
    assert!(world.live("api").is_empty());
}

#[test]
fn a_port_held_by_a_foreign_process_is_a_reason_and_is_retried() {
    let mut world = World::empty(3);
    world.add_agent("n1", "shared");
    world.run_for(50);
    let mut web = spec("web", 1);
    web.ports = vec![port(80, 8000, true)];
    world.deploy(web.clone());
    world.settle();
    // Known to Docker, not to this scheduler.
    let foreign = one(&world, "web");
    world.kill_scheduler();
    world.records.clear();
    world.start_scheduler();
    web.name = "api".into();
    world.agents.get_mut("n1").unwrap().cut = true;
    world.deploy(web);
    world.run_for(100);
    assert!(world.live("web").contains(&foreign));
    world.agents.get_mut("n1").unwrap().cut = false;
    world.until(40_000, "api runs", |w| w.view("api").ready == 1);
}

// ---- what it costs ----

#[test]
fn between_deadlines_an_idle_core_visits_nothing() {
    let mut world = with_app(3, 30);
    world.run_for(10 * MINUTE);
    let visits = world.core.visits;
    let (mut now, mut steps) = (world.core.state.now, 0);
    let wake = world.core.wake_at();
    while now + 100 < wake {
        now += 100;
        let moment = kube_lite::roles::scheduler::message::Moment { now, wall: 0, draw: 1 };
        let step = world.core.step(moment, Input::Tick);
        assert!(step.orders.is_empty() && step.records.is_empty() && step.events.is_empty());
        steps += 1;
    }
    assert_eq!(world.core.visits, visits, "{steps} steps");
}

#[test]
fn unchanged_heartbeats_visit_nothing() {
    let mut world = with_app(3, 30);
    world.run_for(10 * MINUTE);
    let visits = world.core.visits;
    for _ in 0..20 {
        for node in ["n1", "n2", "n3"] {
            let request = world.report(&node.into());
            world.feed(Input::Heartbeat { ticket: 60_000, request });
        }
    }
    assert_eq!(world.core.visits, visits);
}

#[test]
fn a_week_of_crashes_and_flapping_leaves_nothing_behind() {
    let mut world = World::new(4);
    world.deploy(spec_of("bad", 3, "exit:1:3000", RestartPolicy::Always));
    world.deploy(spec("web", 4));
    world.run_for(5 * MINUTE);
    let size = |w: &World| {
        let state = &w.core.state;
        (w.records.len(), state.nodes.len(), state.host_ports.len(), w.core.deadlines())
    };
    let mut before = size(&world);
    // What replicas of web learn is written down once each.
    before.0 += 4;
    for round in 0..40 {
        world.restart_agent(&format!("n{}", round % 4 + 1));
        world.run_for(20_000);
        let gone = world.live("web")[0].clone();
        world.remove_by_hand(&gone);
        world.run_for(MINUTE);
    }
    let after = size(&world);
    assert!(after.0 <= before.0, "records: {} → {}", before.0, after.0);
    assert_eq!((before.1, before.2), (after.1, after.2));
    assert!(after.3 <= before.3 + 10, "deadlines: {} → {}", before.3, after.3);
    assert!(world.core.state.instances.len() <= 4 + 3 + 4 * 2 * 2);
}

// ---- what agents did on their own ----

/// A successor that an agent, cut off, made of `old` by itself.
fn successor(world: &mut World, old: &InstanceId, number: u32) -> InstanceId {
    let mut made = world.docker[old].clone();
    let base = old.as_str().rsplit_once("-a").map_or(old.as_str(), |(base, _)| base);
    made.order.id = format!("{base}-a{number}").as_str().into();
    made.order.replaces = Some(old.clone());
    made.order.restarts += 1;
    made.order.backoff_step += 1;
    made.started_at = world.now;
    made.phase = kube_lite::model::Phase::Running;
    made.exit_code = None;
    let id = made.order.id.clone();
    world.docker.insert(id.clone(), made);
    id
}

/// Reports pile up while the scheduler is paused: one tells of the end, a later
/// one of the successor, which is just being started.
#[test]
fn a_successor_that_is_coming_up_is_kept_over_an_order_of_which_nothing_was_seen() {
    let mut world = with_app(1, 1);
    let old = one(&world, "web");
    world.hold_orders = true;
    world.crash(&old, 1);
    world.until(5_000, "a replacement is ordered", |w| w.core.state.instances.len() == 2);
    world.now += 5;
    let next = successor(&mut world, &old, 1);
    let made = world.docker.get_mut(&next).unwrap();
    (made.phase, made.ended_at) = (kube_lite::model::Phase::Created, made.started_at);
    let mut request = world.report(&"n1".into());
    request.seq += 1_000;
    world.feed(Input::Heartbeat { ticket: 40_000, request });
    let stopped = |id: &InstanceId| world.core.state.instances.get(id).map(|i| i.stop.is_some());
    assert_eq!(stopped(&next), Some(false), "{}", world.story());
}

#[test]
fn back_off_goes_on_where_a_cut_off_agent_left_it() {
    for over in [true, false] {
        let mut world = with_app(1, 1);
        let mut last = one(&world, "web");
        world.agent("n1").cut = true;
        world.run_for(10_000);
        for number in 1..=4 {
            world.crash(&last, 1);
            last = successor(&mut world, &last, number);
        }
        if over {
            world.crash(&last, 1);
        }
        world.agent("n1").cut = false;
        world.until(5_000, "the node to be back", |w| {
            w.core.state.nodes.values().all(|node| node.able())
        });
        world.run_for(1_000);
        if !over {
            assert_eq!(world.live("web"), [last.clone()], "it was adopted");
            world.crash(&last, 1);
        }
        // Four failures in a row before this one: the next start is owed in 8 s.
        let from = world.now;
        world.until(20_000, "a new one", |w| w.live("web").len() == 1);
        let delay = world.now - from;
        assert!(
            (6_500..9_000).contains(&delay),
            "over {over}: after {delay} ms\n{}",
            world.story()
        );
    }
}
