//! What people are told, on the scheduler's pure core: the reason that is given is
//! the true one, and counts do not lag behind.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/rollouts.rs"]
mod rollouts;

use cluster::{World, port};
use kube_lite::model::view::NodeStatus;
use kube_lite::model::{Extent, Reason, WorkloadSpec};
use kube_lite::roles::scheduler::message::{Noted, Reply, RolloutCall, UserCall};
use rollouts::*;

fn unchanged(reply: Reply) -> bool {
    match reply {
        Reply::Done(noted) => noted.unchanged,
        Reply::Deployed(response) => response.unchanged,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_back_off_that_ends_is_no_lost_node() {
    let mut world = with(2, image(1, "v1"));
    let mut seen = 0;
    for _ in 0..6 {
        let victim = world.live("web")[0].clone();
        world.crash(&victim, 3);
        for _ in 0..3_000 {
            world.run_for(10);
            // A reader may look between the end of a back-off and the next pass.
            let mut snapshot = world.snapshot();
            let replica = &snapshot.state.workloads["web"].replicas[&0];
            let Some(due) = replica.not_before else { continue };
            snapshot.now = snapshot.now.max(due);
            for why in snapshot.workload("web").expect("web").reasons {
                assert_ne!(why.reason, Reason::NodeLost, "{}", why.message);
                seen += 1;
            }
        }
        world.settle();
    }
    assert!(seen > 0, "no back-off was seen");
}

#[test]
fn an_agent_that_has_stopped_is_not_called_heard() {
    let mut world = with(2, image(4, "v1"));
    world.kill_agent("n1");
    // Orders to it fail at once, again and again, until it is dead.
    let heard_at = world.core.state.nodes["n1"].heard_at;
    world.scale("web", 12);
    world.until(20_000, "dead", |w| {
        let node = &w.core.state.nodes["n1"];
        assert!(!node.unreachable, "heard {} ms ago", w.core.state.now - heard_at);
        node.status == NodeStatus::Dead
    });
    assert_eq!(world.events("NodeUnreachable"), 0, "{}", world.story());
}

#[test]
fn an_agent_that_is_heard_and_takes_no_orders_is_told_so() {
    let mut world = with(2, image(4, "v1"));
    world.agent("n1").deaf = true;
    world.scale("web", 12);
    world.until(60_000, "unreachable", |w| w.core.state.nodes["n1"].unreachable);
    let nodes = world.snapshot().nodes();
    let told = nodes[0].message.clone().unwrap_or_default();
    assert!(told.starts_with("heard, but does not answer orders"), "{told}");
}

#[test]
fn a_paused_rollout_is_not_as_wanted() {
    let mut world = with(3, probed(4, "v1"));
    assert_eq!(world.snapshot().explain("web").expect("a story").waiting_for, []);
    world.deploy(probed(4, "v2"));
    world.until(MINUTE, "one is new", |w| of_revision(w, 2) == 1);
    world.rollout("web", RolloutCall::Pause).unwrap();
    world.run_for(MINUTE);
    let story = world.snapshot().explain("web").expect("a story");
    let paused = story.waiting_for.iter().find(|why| why.reason == Reason::Paused);
    let told = &paused.expect("the pause is told").message;
    assert!(told.contains("of revision 2"), "{told}");
    assert!(story.hints.iter().any(|hint| hint.contains("rollout resume web")), "{story:?}");
    world.rollout("web", RolloutCall::Resume).unwrap();
    until_state(&mut world, MINUTE, "done");
    world.settle();
    assert_eq!(world.snapshot().explain("web").expect("a story").waiting_for, []);
}

/// What is updated counts as soon as it is ready, not once what it replaces has
/// taken its leave.
#[test]
fn progress_does_not_wait_for_what_leaves() {
    let mut world = with(3, probed(4, "v1"));
    world.deploy(probed(4, "v2"));
    let mut most = 0;
    world.until(2 * MINUTE, "done", |w| {
        let view = w.view("web");
        let rollout = view.rollout.expect("a rollout");
        let ready = w.core.state.instances.values();
        let ready = ready.filter(|i| i.revision == 2 && i.share.ready).count() as u32;
        assert_eq!(rollout.updated, ready, "{}", rollout.state);
        assert!(rollout.updated >= most, "it never goes back");
        most = rollout.updated;
        rollout.state == "done"
    });
    assert_eq!(most, 4);
}

#[test]
fn an_aborted_rollout_says_so_of_what_it_takes_away() {
    let mut world = with(3, probed(3, "v1"));
    world.deploy(probed(3, "v2"));
    world.until(MINUTE, "one is new", |w| w.view("web").rollout.is_some_and(|r| r.updated > 0));
    world.rollout("web", RolloutCall::Abort).unwrap();
    let mut told = 0;
    world.until(2 * MINUTE, "aborted", |w| {
        for one in w.snapshot().instances(Some("web")).expect("a list") {
            if one.stopping && one.revision == 2 {
                let why = one.message.unwrap_or_default();
                assert!(why.contains("was aborted"), "{why}");
                told += 1;
            }
        }
        w.state_of("web") == "aborted"
    });
    assert!(told > 0);
    world.deploy(image(3, "exit:3:100"));
    until_state(&mut world, 2 * MINUTE, "aborted");
    let why = world.view("web").rollout.and_then(|r| r.why).expect("why");
    let (id, rest) = why.split_once(": ").expect("a colon");
    assert!(id.starts_with("web-r3-") && !rest.is_empty(), "{why}");
}

#[test]
fn who_has_the_port_is_named() {
    let mut world = World::new(1);
    world.deploy(fixed(1, "v1"));
    world.settle();
    let holder = world.live("web")[0].to_string();
    let other = WorkloadSpec { name: "other".into(), ..fixed(1, "v1") };
    world.deploy(other);
    world.run_for(1_000);
    let why = &world.view("other").reasons[0];
    assert_eq!(why.reason, Reason::PortTaken);
    assert!(why.message.contains(&format!("host port 9000 is taken by {holder}")), "{why:?}");
}

#[test]
fn a_failing_pull_is_called_by_its_name_while_it_rests() {
    let mut world = World::new(1);
    world.deploy(image(1, "nopull"));
    world.until(MINUTE, "a rest", |w| !w.core.state.workloads["web"].resting.is_empty());
    let why = &world.view("web").reasons[0];
    assert!(matches!(why.reason, Reason::PullFailed | Reason::ImageNotFound), "{why:?}");
}

#[test]
fn what_may_run_on_on_a_removed_node_is_told() {
    let mut world = with(2, image(4, "v1"));
    let left: Vec<String> = world.live_on("web", "n1").iter().map(ToString::to_string).collect();
    assert_eq!(left.len(), 2);
    world.agent("n1").cut = true;
    world.until(12_000, "dead", |w| w.core.state.nodes["n1"].status == NodeStatus::Dead);
    let Reply::Done(Noted { warnings, .. }) =
        world.user(UserCall::RemoveNode("n1".into())).unwrap()
    else {
        panic!("not done")
    };
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(left.iter().all(|id| warning.contains(id)), "{warning}");
    assert!(warning.contains("was not heard to be empty"), "{warning}");
    // One that was seen to be empty needs no word.
    node_call(&mut world, true, "n2");
    world.scale("web", 0);
    world.until(MINUTE, "empty", |w| {
        w.live("web").iter().all(|id| w.live_on("web", "n1").contains(id))
    });
    world.run_for(4_000);
    world.agent("n2").cut = true;
    world.until(12_000, "dead", |w| w.core.state.nodes["n2"].status == NodeStatus::Dead);
    let reply = world.user(UserCall::RemoveNode("n2".into())).unwrap();
    assert_eq!(reply, Reply::Done(Noted::default()));
}

#[test]
fn what_changes_nothing_is_called_unchanged() {
    let mut world = with(2, image(2, "v1"));
    for _ in 0..2 {
        let again = UserCall::Deploy(Box::new(image(2, "v1")));
        assert!(unchanged(world.user(again).unwrap()));
        let scale = UserCall::Scale { id: "web".into(), replicas: 2 };
        assert!(unchanged(world.user(scale).unwrap()));
        let uncordon = UserCall::SetSchedulable { id: "n1".into(), schedulable: true };
        assert!(unchanged(world.user(uncordon).unwrap()));
    }
    let scale = UserCall::Scale { id: "web".into(), replicas: 3 };
    assert!(!unchanged(world.user(scale).unwrap()));
    let strategy = kube_lite::model::Strategy { max_surge: Extent::Count(2), ..Default::default() };
    let other = WorkloadSpec { strategy, ..image(3, "v1") };
    assert!(!unchanged(world.user(UserCall::Deploy(Box::new(other))).unwrap()));
    assert!(!unchanged(world.user(UserCall::Deploy(Box::new(image(3, "v2")))).unwrap()));
    for (step, wanted) in [
        (RolloutCall::Pause, false),
        (RolloutCall::Pause, true),
        (RolloutCall::Resume, false),
        (RolloutCall::Resume, true),
        (RolloutCall::Abort, false),
        (RolloutCall::Abort, true),
    ] {
        let reply = world.rollout("web", step.clone()).unwrap();
        assert_eq!(unchanged(reply), wanted, "{step:?}");
    }
}

#[test]
fn an_undo_without_a_goal_says_which_there_are() {
    let mut world = with(3, image(2, "v1"));
    let error = world.rollout("web", RolloutCall::Undo { to: None }).unwrap_err();
    assert!(error.error.contains("has only ever had revision 1"), "{}", error.error);
    world.deploy(image(2, "exit:3:100"));
    until_state(&mut world, 2 * MINUTE, "aborted");
    let error = world.rollout("web", RolloutCall::Undo { to: None }).unwrap_err();
    assert!(!error.error.contains("only ever"), "{}", error.error);
    assert!(error.error.contains("--to 2"), "{}", error.error);
}

/// Fewer replicas in the middle of a rollout: what does not serve goes first, then
/// what more replicas would not be made of.
#[test]
fn a_scale_down_in_the_middle_keeps_what_it_would_grow_by() {
    for paused in [true, false] {
        let mut world = with(3, probed(6, "v1"));
        world.deploy(probed(6, "v2"));
        world.until(2 * MINUTE, "half way", |w| {
            w.view("web").rollout.is_some_and(|r| r.updated == 3)
        });
        if paused {
            world.rollout("web", RolloutCall::Pause).unwrap();
            world.run_for(MINUTE);
        }
        let (old, new) = (of_revision(&world, 1), of_revision(&world, 2));
        let ill = paused.then(|| {
            let live = world.live("web");
            let old = live.into_iter().find(|id| world.docker[id].order.revision == 1);
            let old = old.expect("an old one");
            world.sicken(&old, false);
            old
        });
        world.run_for(if paused { 20_000 } else { 0 });
        world.scale("web", 4);
        world.run_for(if paused { MINUTE } else { 1_000 });
        if let Some(ill) = ill {
            assert!(!world.live("web").contains(&ill), "what is ill goes first");
            assert_eq!(of_revision(&world, 1), old - 1, "then the new one: {}", world.story());
            world.rollout("web", RolloutCall::Resume).unwrap();
        } else {
            assert!(of_revision(&world, 2) >= new, "{}", world.story());
        }
        until_state(&mut world, 2 * MINUTE, "done");
        all_of(&mut world, 2);
    }
}

#[test]
fn one_port_and_no_leave_to_lack_one_is_said() {
    let mut world = World::new(1);
    let strategy = kube_lite::model::Strategy {
        max_unavailable: Some(Extent::Count(0)),
        ..Default::default()
    };
    let spec = |image: &str| WorkloadSpec {
        strategy: strategy.clone(),
        ports: vec![port(80, 9000, true)],
        ..rollouts::image(1, image)
    };
    world.deploy(spec("v1"));
    world.settle();
    world.deploy(spec("v2"));
    world.run_for(10_000);
    let view = world.view("web");
    let told = view.rollout.and_then(|rollout| rollout.waiting_for).expect("what it waits for");
    assert!(told.contains("maxUnavailable is 0"), "{told}");
    assert!(view.reasons[0].message.contains("maxUnavailable is 0"), "{:?}", view.reasons);
}
