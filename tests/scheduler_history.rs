//! Stories of a workload's revisions: what is kept of them, for how long, and what
//! a deadline means for those without a probe.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/rollouts.rs"]
mod rollouts;

use kube_lite::model::WorkloadSpec;
use kube_lite::model::validate::validate;
use kube_lite::roles::scheduler::message::RolloutCall;
use rollouts::*;

/// Without a probe a new instance is ready after five seconds. A deadline below that is
/// either refused (as one below `minReadySeconds` is), or a good image gets through.
fn impatient(seconds: u32) {
    let made = |name: &str| {
        let mut spec: WorkloadSpec = image(3, name);
        spec.strategy.progress_deadline_seconds = seconds;
        spec
    };
    if validate(&made("v1")).is_err() {
        return;
    }
    let mut world = with(3, made("v1"));
    world.deploy(made("v2"));
    world.settle();
    let state = world.state_of("web");
    assert_eq!(state, "done", "{seconds} s: {}", outcome(&world, 2));
}

#[test]
fn a_good_image_without_a_probe_gets_through_or_its_deadline_is_refused() {
    for seconds in [1, 4, 5, 6, 60] {
        impatient(seconds);
    }
}

/// v2 is half out when v3 begins; that is paused, and more deploys follow, as from a pipeline
/// that nobody has told of the pause. What is left of v2 serves; its revision must not be
/// forgotten for that, or a restart of the scheduler takes it away.
#[test]
fn what_serves_is_not_forgotten_for_what_was_deployed_since() {
    for replicas in 2..=4 {
        for after in (500..12_000).step_by(250) {
            let mut world = with(3, probed(replicas, "v1"));
            world.deploy(probed(replicas, "v2"));
            world.run_for(after);
            world.deploy(probed(replicas, "unwell"));
            world.run_for(1_000);
            if world.rollout("web", RolloutCall::Pause).is_err() {
                continue;
            }
            for number in 4..=20 {
                world.deploy(probed(replicas, &format!("v{number}")));
            }
            world.run_for(5_000);
            let state = world.core.state.clone();
            let known = &state.workloads["web"].revisions;
            let serves = state.instances.values().filter(|i| i.ready && i.stop.is_none());
            let forgotten: Vec<_> =
                serves.filter(|i| !known.contains_key(&i.revision)).map(|i| i.id.clone()).collect();
            if forgotten.is_empty() {
                continue;
            }
            let ready = world.view("web").ready;
            world.restart_scheduler();
            let mut fewest = ready;
            for _ in 0..2_000 {
                world.run_for(10);
                let live = world.live("web");
                let serves = |id: &&_| live.contains(*id);
                let left = forgotten.iter().filter(serves).count();
                fewest = fewest.min(left as u32);
            }
            let gone: Vec<_> =
                forgotten.iter().filter(|id| !world.live("web").contains(id)).collect();
            assert!(
                gone.is_empty(),
                "{replicas} replicas, {after} ms: {ready} were ready; the restart took {gone:?}; \
                 kept were {:?}",
                known.keys().collect::<Vec<_>>()
            );
        }
    }
}

/// The history says why, also of a workload that has been rolled out ten times before.
#[test]
fn the_history_says_why_of_the_last_abort_however_long_it_is() {
    for good in [2, 9, 10, 12] {
        let mut world = with(2, image(2, "v1"));
        for number in 2..=good {
            world.deploy(image(2, &format!("v{number}")));
            until_state(&mut world, MINUTE, "done");
        }
        let bad = world.deploy(image(2, "exit:7:100"));
        until_state(&mut world, MINUTE, "aborted");
        let told = outcome(&world, bad);
        let kept: Vec<u64> =
            world.snapshot().history("web").unwrap().iter().map(|r| r.revision).collect();
        assert!(told.contains("exited with code 7"), "after {good}: {told:?}; kept {kept:?}");
    }
}
