//! Stories that the simulator has found, each reduced to what it takes.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/rollouts.rs"]
mod rollouts;

use cluster::{World, port, spec};
use kube_lite::model::view::NodeStatus;
use kube_lite::model::wire::{DockerState, OrderAccepted, RegisterRequest};
use kube_lite::model::{
    ContainerInstance, Extent, InstanceId, Phase, Reason, RestartPolicy, WorkloadSpec,
};
use kube_lite::roles::scheduler::message::{Input, OrderAnswer, OrderKind, RolloutCall, UserCall};
use rollouts::*;

fn bounded(surge: u32, unavailable: Option<u32>, spec: WorkloadSpec) -> WorkloadSpec {
    let mut spec = spec;
    spec.strategy.max_surge = Extent::Count(surge);
    spec.strategy.max_unavailable = unavailable.map(Extent::Count);
    spec
}

fn register(world: &mut World, incarnation: u64, key: &str, address: &str) -> Result<(), String> {
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
    world.feed(Input::Register { ticket, peer: "10.0.0.1".parse().unwrap(), request });
    world.replies.remove(&ticket).unwrap().map(|_| ()).map_err(|error| error.reason)
}

/// Two nodes on one Docker daemon, and an instance with a host port that is there once.
fn one_of_two_on_a_daemon() -> World {
    let mut world = World::empty(7);
    world.add_agent("n1", "d1");
    world.add_agent("n2", "d1");
    world.run_for(50);
    world.deploy(fixed(1, "v1"));
    world.until(MINUTE, "it is ready", |w| w.view("web").ready == 1);
    world
}

/// The instance that waits for another one's place.
fn follower(world: &World) -> Option<InstanceId> {
    let mut all = world.core.state.instances.values();
    all.find(|i| i.after.is_some() && i.stop.is_none()).map(|i| i.id.clone())
}

#[test]
fn nothing_is_replaced_in_place_where_another_one_holds_the_port() {
    let mut world = with(1, image(2, "v1"));
    world.deploy(fixed(2, "v2"));
    world.run_for(2 * MINUTE);
    // One of the new takes the port; the other old one is the best there is.
    assert_eq!((of_revision(&world, 1), of_revision(&world, 2)), (1, 1), "{}", world.story());
    assert_eq!(world.view("web").ready, 2);
    assert!(world.reasons("web").contains(&Reason::PortTaken));
}

#[test]
fn a_host_port_stays_taken_when_its_daemon_has_a_new_name() {
    let mut world = one_of_two_on_a_daemon();
    world.settle();
    for node in ["n1", "n2"] {
        world.agent(node).daemon = "d1-again".into();
    }
    for container in world.docker.values_mut() {
        container.daemon = "d1-again".into();
    }
    world.run_for(4_000);
    world.deploy(WorkloadSpec { ports: vec![port(80, 9000, true)], ..spec("other", 1) });
    world.run_for(10_000);
    assert!(world.live("other").is_empty());
    assert!(world.reasons("other").contains(&Reason::PortTaken));
}

#[test]
fn a_disk_that_refuses_is_no_pause_of_the_scheduler() {
    let mut world = World::new(2);
    world.run_for(1_000);
    world.agent("n2").cut = true;
    world.run_for(8_000);
    // That n2 is dead cannot be written for a while.
    world.disk_refuses = true;
    world.run_for(8_000);
    world.disk_refuses = false;
    world.run_for(2_000);
    assert_eq!(world.core.state.nodes["n2"].status, NodeStatus::Dead);
    assert_eq!(world.core.state.nodes["n1"].status, NodeStatus::Alive);
    assert_eq!(world.events("SchedulerPaused"), 0, "{}", world.story());
}

#[test]
fn a_pause_counts_although_the_disk_refuses_what_followed() {
    let mut world = World::new(2);
    world.deploy(spec("web", 2));
    world.settle();
    world.scheduler_frozen = true;
    world.run_for(20_000);
    world.disk_refuses = true;
    world.scheduler_frozen = false;
    let id = world.live("web")[0].clone();
    world.crash(&id, 1);
    world.run_for(3_000);
    world.disk_refuses = false;
    world.run_for(5_000);
    assert_eq!(world.events("NodeDead"), 0, "{}", world.story());
}

#[test]
fn a_node_goes_back_to_who_had_to_give_way_once_the_other_is_dead() {
    let mut world = World::new(1);
    world.run_for(1_000);
    let (key, address) = (world.agent("n1").key.clone(), world.agent("n1").address.clone());
    let first = world.agent("n1").incarnation;
    // A copy of the machine, which reports and is then found out.
    world.agent("n1").cut = true;
    register(&mut world, 700, &key, "10.9.9.9:8081").unwrap();
    assert_eq!(register(&mut world, first, &key, &address), Err("Superseded".to_owned()));
    world.run_for(10_000);
    assert_eq!(world.core.state.nodes["n1"].status, NodeStatus::Dead);
    assert_eq!(register(&mut world, first, &key, &address), Ok(()));
    assert_eq!(world.core.state.nodes["n1"].incarnation, first);
}

#[test]
fn what_somebody_starts_again_behind_its_agents_back_is_stopped() {
    let mut world = with(2, image(2, "v1"));
    let id = world.live("web")[0].clone();
    let node = world.docker[&id].node.to_string();
    world.crash(&id, 1);
    world.settle();
    world.kill_agent(&node);
    if let Some(container) = world.docker.get_mut(&id) {
        (container.phase, container.exit_code) = (Phase::Running, None);
    }
    world.start_agent(&node);
    world.until(MINUTE, "it is gone", |w| !w.docker.contains_key(&id));
    world.settle();
    assert_eq!(world.live("web").len(), 2);
}

#[test]
fn an_old_end_found_later_moves_nothing_back_after_a_rollout() {
    let mut world = with(1, image(1, "v1"));
    world.add_agent("n2", "d2");
    world.run_for(50);
    let old = world.live("web")[0].clone();
    // While it was away, its agent restarted it often, and then it ended.
    world.agent("n1").cut = true;
    if let Some(container) = world.docker.get_mut(&old) {
        container.order.restarts = 9;
    }
    world.run_for(12_000);
    world.crash(&old, 1);
    world.deploy(image(1, "v2"));
    until_state(&mut world, MINUTE, "done");
    world.user(kube_lite::roles::scheduler::message::UserCall::RemoveNode("n1".into())).unwrap();
    for _ in 0..2 {
        world.until(MINUTE, "it runs", |w| !w.live("web").is_empty());
        let id = world.live("web")[0].clone();
        world.crash(&id, 1);
        world.run_for(100);
    }
    assert!(world.live("web").is_empty(), "it waits for its back-off");
    world.agent("n1").cut = false;
    world.run_for(5 * MINUTE);
    assert_eq!((of_revision(&world, 2), world.view("web").ready), (1, 1), "{}", world.story());
}

#[test]
fn what_takes_the_place_of_one_on_a_node_that_dies_does_not_wait_for_it() {
    let mut world = with(2, bounded(0, None, image(1, "v1")));
    let node = world.docker[&world.live("web")[0]].node.to_string();
    // It never hears that it is to stop.
    world.agent(&node).deaf = true;
    node_call(&mut world, true, &node);
    world.until(5_000, "prepared", |w| follower(w).is_some());
    world.run_for(1_000);
    world.agent(&node).cut = true;
    world.until(20_000, "it runs elsewhere", |w| w.view("web").ready == 1);
}

#[test]
fn what_was_to_take_a_place_starts_beside_it_if_that_got_well_again() {
    let mut world = with(3, bounded(1, Some(0), probed(4, "v1")));
    let crowded = world.spread("web").into_iter().max_by_key(|(_, n)| *n).unwrap().0;
    let here = world.live_on("web", &crowded);
    assert_eq!(here.len(), 2);
    let ill = here.iter().max_by_key(|id| world.docker[*id].order.replica).unwrap().clone();
    world.sicken(&ill, false);
    world.run_for(4_000);
    assert_eq!(world.view("web").ready, 3);
    node_call(&mut world, true, &crowded);
    world.until(1_000, "its place is to be taken", |w| follower(w).is_some());
    world.cure(&ill);
    world.until(5 * MINUTE, "drained", |w| {
        w.live_on("web", &crowded).is_empty() && w.view("web").ready == 4
    });
}

#[test]
fn what_may_run_only_once_and_is_lost_holds_up_nobody_elses_move() {
    let once = |name: &str| WorkloadSpec { restart_policy: RestartPolicy::Never, ..image(2, name) };
    let mut world = with(3, once("v1"));
    world.deploy(once("v2"));
    world.until(5_000, "a new one runs", |w| of_revision(w, 2) == 1);
    let new =
        world.live("web").into_iter().find(|id| world.docker[id].order.revision == 2).unwrap();
    let node = world.docker[&new].node.to_string();
    world.agent(&node).cut = true;
    world.run_for(MINUTE);
    assert_eq!(of_revision(&world, 2), 2, "the other one moves: {}", world.story());
}

#[test]
fn what_has_finished_does_not_run_again_when_there_is_no_room_for_the_new() {
    let job = |image: &str, replicas| WorkloadSpec {
        restart_policy: RestartPolicy::OnFailure,
        ..rollouts::image(replicas, image)
    };
    let mut world = with(2, job("exit:0:3000", 1));
    world.until(5_000, "finished", |w| w.view("web").done == 1);
    let started = world.started.len();
    // Nobody takes the contested port twice; the rollout cannot show that it works.
    let mut other = fixed(1, "v1");
    other.name = "holder".into();
    world.deploy(other);
    node_call(&mut world, true, "n2");
    world.settle();
    world.deploy(WorkloadSpec { ports: vec![port(80, 9000, true)], ..job("v2", 3) });
    world.run_for(MINUTE);
    let of_first = |w: &World| w.started.iter().filter(|id| id.as_str().contains("web-r1")).count();
    assert!(world.started.len() > started);
    let ran = world.docker.values().filter(|c| c.order.replica == 0 && c.order.revision == 1);
    assert!(ran.count() <= 1, "{} of the first\n{}", of_first(&world), world.story());
}

#[test]
fn what_waits_for_a_place_of_a_replica_that_is_gone_is_stopped() {
    let mut world = with(1, fixed(1, "v1"));
    world.deploy(fixed(1, "v2"));
    world.until(2_000, "one is prepared", |w| follower(w).is_some());
    let next = follower(&world).unwrap();
    world.run_for(5);
    world.restart_scheduler();
    world.scale("web", 0);
    world.until(MINUTE, "both are gone", |w| w.live("web").is_empty());
    world.run_for(MINUTE);
    assert!(!world.started.contains(&next), "{}", world.story());
}

#[test]
fn two_of_different_revisions_in_a_replica_do_not_keep_the_only_place_from_the_third() {
    let mut world = with(4, bounded(1, Some(0), probed(3, "v1")));
    world.deploy(bounded(1, Some(0), probed(3, "v2")));
    world.until(5_000, "one replica has two", |w| of_revision(w, 2) == 1);
    world.rollout("web", RolloutCall::Pause).unwrap();
    world.until(MINUTE, "both are ready", |w| w.view("web").ready == 4);
    // The surge that it has used is taken back, and another place is wanted.
    world.deploy(bounded(0, Some(1), probed(4, "v3")));
    world.rollout("web", RolloutCall::Resume).unwrap();
    until_state(&mut world, 2 * MINUTE, "done");
    all_of(&mut world, 3);
}

#[test]
fn a_follower_on_a_lost_node_keeps_nobody_from_the_place() {
    let mut world = with(3, bounded(0, Some(1), probed(1, "v1")));
    let old = world.live("web").pop().unwrap();
    let home = world.docker[&old].node.to_string();
    node_call(&mut world, true, &home);
    let next = follower(&world).expect("its replacement waits");
    let away = world.core.state.instances[&next].node.to_string();
    world.set_docker(&away, DockerState::Away);
    world.until(5_000, "it is noted", |w| {
        w.core.state.instances.get(&next).is_some_and(|i| i.seen.is_some())
    });
    world.kill_agent(&away);
    world.until(2 * MINUTE, "the node is empty", |w| {
        w.live_on("web", &home).is_empty() && w.view("web").ready == 1
    });
}

#[test]
fn a_port_of_what_nobody_knows_any_more_is_taken() {
    let mut world = one_of_two_on_a_daemon();
    let held = world.live("web").pop().unwrap();
    let holder = world.core.state.instances[&held].node.clone();
    world.agent(holder.as_str()).cut = true;
    world.run_for(20_000);
    // Deleted for good while its node was away, and told of when that is back.
    world.delete("web");
    world.user(UserCall::RemoveNode(holder.clone())).unwrap();
    world.agent(holder.as_str()).cut = false;
    world.until(MINUTE, "it is told of", |w| w.core.state.instances.contains_key(&held));
    assert!(world.docker[&held].is_live());
    let mut other = fixed(1, "v1");
    other.name = "api".into();
    world.deploy(other);
    let is_new = |id: &InstanceId| id.as_str().starts_with("api-");
    world.until(MINUTE, "the other one is ordered", |w| w.ordered.iter().any(is_new));
    assert!(!world.docker.get(&held).is_some_and(|c| c.is_live()), "{}", world.story());
    world.until(MINUTE, "the other one is ready", |w| w.view("api").ready == 1);
}

#[test]
fn what_is_told_that_its_place_is_free_is_told_once_per_report() {
    let mut world = one_of_two_on_a_daemon();
    let first = world.live("web").pop().unwrap();
    let holder = world.core.state.instances[&first].node.clone();
    world.user(UserCall::Drain(holder)).unwrap();
    world.until(MINUTE, "the next is prepared", |w| {
        let next = follower(w).and_then(|id| w.core.state.instances[&id].seen.clone());
        next.is_some_and(|seen| seen.reason == Some(Reason::Prepared))
    });
    let id = follower(&world).unwrap();
    let node = world.core.state.instances[&id].node.clone();
    world.agent(node.as_str()).frozen = true;
    world.until(5_000, "the place is free", |w| !w.core.state.instances.contains_key(&first));
    let orders = world.orders;
    let incarnation = world.core.state.nodes[&node].incarnation;
    let accepted = OrderAccepted { incarnation, seq: 1, id: id.clone() };
    world.feed(Input::Answered {
        node,
        id: id.clone(),
        kind: OrderKind::Run,
        incarnation,
        answer: OrderAnswer::Accepted(accepted),
    });
    assert_eq!(world.orders, orders, "{}", world.story());
}

#[test]
fn what_comes_too_late_for_its_turn_is_not_launched() {
    let mut world = one_of_two_on_a_daemon();
    world.deploy(fixed(1, "v2"));
    world.until(MINUTE, "it is of revision 2", |w| {
        w.view("web").rollout.is_some_and(|rollout| rollout.state == "done")
    });
    let first = world.live("web").pop().unwrap();
    // Nobody knows yet whether there is an image of this one.
    world.hold_orders = true;
    world.deploy(fixed(1, "v3"));
    let known = world.snapshot().instances(None).unwrap().into_iter();
    let known = known.into_iter().find(|i| i.id == first).unwrap();
    let other = if known.node_id.as_str() == "n1" { "n2" } else { "n1" };
    // Withdrawn when its node was lost, and taken all the same, by an order that was late.
    let mut beat = world.report(&other.into());
    beat.containers.push(ContainerInstance {
        id: "web-r1-later".into(),
        revision: 1,
        node_id: other.into(),
        phase: Phase::Pulling,
        reason: Some(Reason::Prepared),
        after: Some("web-r1-older".into()),
        asked_ports: known.ports.clone(),
        ports: Vec::new(),
        ..known
    });
    world.feed(Input::Heartbeat { ticket: 77_777, request: beat });
    let late = InstanceId::from("web-r1-later");
    assert!(world.core.state.instances[&late].stop.is_some(), "{}", world.story());
    world.run_for(1_000);
    assert!(!world.ordered.contains(&late), "{}", world.story());
    assert!(world.core.state.instances[&first].stop.is_none());
}
