//! The scheduler's pure core under random calls, faults and losses of messages:
//! what must hold holds after each step (see `World::check`), and once faults
//! stop, what is wanted is reached and then nothing at all happens.
//!
//! Runs are the same each time. `KUBE_LITE_CASES=5000 KUBE_LITE_SEED=3` looks
//! further.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/reader.rs"]
mod reader;

use cluster::tape::{image, relive};
use cluster::{Network, World, port, probe, spec};
use kube_lite::model::wire::DockerState;
use kube_lite::model::{Extent, NodeId, RestartPolicy, WorkloadSpec};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::message::{Input, RolloutCall, Step, UserCall};
use kube_lite::roles::scheduler::recording;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reader::Reader;

const NODES: usize = 4;
const NAMES: [&str; 4] = ["web", "api", "job", "bad"];

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    Deploy { name: usize, kind: u8, replicas: u32 },
    Scale { name: usize, replicas: u32 },
    Delete { name: usize },
    Rollout { name: usize, step: u8 },
    Drain { node: usize },
    Cordon { node: usize, schedulable: bool },
    RemoveNode { node: usize },
    Cut { node: usize, is_cut: bool },
    Deafen { node: usize, is_deaf: bool },
    Freeze { node: usize, is_frozen: bool },
    KillAgent { node: usize },
    StartAgent { node: usize },
    Wipe { node: usize },
    Docker { node: usize, state: u8 },
    Crash { which: usize, code: i64 },
    RemoveByHand { which: usize },
    Sicken { which: usize, due: bool },
    Cure { which: usize },
    Weather { lost: u64, doubled: u64, delayed: u64, delay_ms: u64 },
    RestartScheduler { away_ms: u64 },
    PauseScheduler { ms: u64 },
    DiskRefused,
    Wait { ms: u64 },
}

fn acts() -> impl Strategy<Value = Act> {
    let node = 0..NODES;
    let name = 0..NAMES.len();
    let which = 0..64usize;
    prop_oneof![
        5 => (name.clone(), 0..10u8, 0..7u32)
            .prop_map(|(name, kind, replicas)| Act::Deploy { name, kind, replicas }),
        4 => (name.clone(), 0..9u32).prop_map(|(name, replicas)| Act::Scale { name, replicas }),
        1 => name.clone().prop_map(|name| Act::Delete { name }),
        5 => (name, 0..7u8).prop_map(|(name, step)| Act::Rollout { name, step }),
        2 => node.clone().prop_map(|node| Act::Drain { node }),
        1 => (node.clone(), any::<bool>())
            .prop_map(|(node, schedulable)| Act::Cordon { node, schedulable }),
        1 => node.clone().prop_map(|node| Act::RemoveNode { node }),
        3 => (node.clone(), any::<bool>()).prop_map(|(node, is_cut)| Act::Cut { node, is_cut }),
        1 => (node.clone(), any::<bool>())
            .prop_map(|(node, is_deaf)| Act::Deafen { node, is_deaf }),
        1 => (node.clone(), any::<bool>())
            .prop_map(|(node, is_frozen)| Act::Freeze { node, is_frozen }),
        1 => node.clone().prop_map(|node| Act::KillAgent { node }),
        2 => node.clone().prop_map(|node| Act::StartAgent { node }),
        1 => node.clone().prop_map(|node| Act::Wipe { node }),
        2 => (node, 0..4u8).prop_map(|(node, state)| Act::Docker { node, state }),
        4 => (which.clone(), 0..3i64).prop_map(|(which, code)| Act::Crash { which, code }),
        2 => which.clone().prop_map(|which| Act::RemoveByHand { which }),
        3 => (which.clone(), any::<bool>()).prop_map(|(which, due)| Act::Sicken { which, due }),
        1 => which.prop_map(|which| Act::Cure { which }),
        2 => (0..300u64, 0..300u64, 0..400u64, 1..6_000u64).prop_map(
            |(lost, doubled, delayed, delay_ms)| Act::Weather { lost, doubled, delayed, delay_ms }
        ),
        2 => (0..15_000u64).prop_map(|away_ms| Act::RestartScheduler { away_ms }),
        1 => (0..30_000u64).prop_map(|ms| Act::PauseScheduler { ms }),
        2 => Just(Act::DiskRefused),
        12 => (0..400u64).prop_map(|ms| Act::Wait { ms }),
        6 => (400..15_000u64).prop_map(|ms| Act::Wait { ms }),
        1 => (15_000..90_000u64).prop_map(|ms| Act::Wait { ms }),
    ]
}

fn made(name: &str, kind: u8, replicas: u32) -> WorkloadSpec {
    let mut spec = spec(name, replicas);
    match kind {
        1 => spec.health_check = Some(probe()),
        2 => spec.ports = vec![port(80, 9000, false)],
        3 => spec.ports = vec![port(80, 9001, true), port(81, 9002, false)],
        4 => spec.restart_policy = RestartPolicy::OnFailure,
        5 => {
            spec.restart_policy = RestartPolicy::Never;
            spec.health_check = Some(probe());
        }
        6 => spec.image = "v2".to_owned(),
        7 => spec.image = "nopull".to_owned(),
        8 => {
            spec.image = "unwell".to_owned();
            spec.health_check = Some(probe());
        }
        9 => {
            spec.strategy.max_surge = Extent::Count(0);
            spec.strategy.max_unavailable = Some(Extent::Percent(50));
            spec.env.insert("A".to_owned(), "b".to_owned());
        }
        _ => {}
    }
    if name == "bad" {
        spec.image = "exit:1:700".to_owned();
    }
    spec
}

fn act(world: &mut World, act: &Act) {
    let node_name = |node: usize| format!("n{}", node + 1);
    let victim = |world: &World, which: usize| {
        let live: Vec<_> =
            world.docker.iter().filter(|(_, c)| c.is_live()).map(|(id, _)| id.clone()).collect();
        (!live.is_empty()).then(|| live[which % live.len()].clone())
    };
    match act {
        Act::Deploy { name, kind, replicas } => {
            let spec = made(NAMES[*name], *kind, *replicas);
            if world.scheduler_up {
                let _ = world.user(UserCall::Deploy(Box::new(spec)));
            }
        }
        Act::Scale { name, replicas } => {
            let id = NAMES[*name].into();
            let _ = world.user(UserCall::Scale { id, replicas: *replicas });
        }
        Act::Delete { name } => drop(world.user(UserCall::Delete(NAMES[*name].into()))),
        Act::Rollout { name, step } => {
            let step = match step {
                0 | 1 => RolloutCall::Pause,
                2 | 3 => RolloutCall::Resume,
                4 => RolloutCall::Abort,
                5 => RolloutCall::Restart,
                _ => RolloutCall::Undo { to: None },
            };
            let _ = world.rollout(NAMES[*name], step);
        }
        Act::Drain { node } => drop(world.user(UserCall::Drain(node_name(*node).into()))),
        Act::Cordon { node, schedulable } => {
            let id: NodeId = node_name(*node).into();
            let _ = world.user(UserCall::SetSchedulable { id, schedulable: *schedulable });
        }
        Act::RemoveNode { node } => {
            let _ = world.user(UserCall::RemoveNode(node_name(*node).into()));
        }
        Act::Cut { node, is_cut } => world.agent(&node_name(*node)).cut = *is_cut,
        Act::Deafen { node, is_deaf } => world.agent(&node_name(*node)).deaf = *is_deaf,
        Act::Freeze { node, is_frozen } => world.agent(&node_name(*node)).frozen = *is_frozen,
        Act::KillAgent { node } => world.kill_agent(&node_name(*node)),
        Act::StartAgent { node } => world.restart_agent(&node_name(*node)),
        Act::Wipe { node } => world.wipe(&node_name(*node)),
        Act::Docker { node, state } => {
            let state = match state {
                0 => DockerState::Away,
                1 => DockerState::Hung,
                _ => DockerState::Ok,
            };
            world.set_docker(&node_name(*node), state);
        }
        Act::Crash { which, code } => {
            if let Some(id) = victim(world, *which) {
                world.crash(&id, *code);
            }
        }
        Act::RemoveByHand { which } => {
            if let Some(id) = victim(world, *which) {
                world.remove_by_hand(&id);
            }
        }
        Act::Sicken { which, due } => {
            if let Some(id) = victim(world, *which) {
                world.sicken(&id, *due);
            }
        }
        Act::Cure { which } => {
            if let Some(id) = victim(world, *which) {
                world.cure(&id);
            }
        }
        Act::Weather { lost, doubled, delayed, delay_ms } => {
            world.network =
                Network { lost: *lost, doubled: *doubled, delayed: *delayed, delay_ms: *delay_ms };
        }
        Act::RestartScheduler { away_ms } => {
            world.kill_scheduler();
            world.run_for(*away_ms);
            world.start_scheduler();
        }
        Act::PauseScheduler { ms } => {
            world.scheduler_frozen = true;
            world.run_for(*ms);
            world.scheduler_frozen = false;
        }
        Act::DiskRefused => {
            let state = world.core.state.clone();
            world.core = Core::new(state, world.timing.clone());
        }
        Act::Wait { ms } => world.run_for(*ms),
    }
}

/// A look at what has changed decides what a look at everything would.
fn incremental_equals_full(world: &mut World) {
    let moment = world.moment();
    let mut incremental = world.core.clone();
    let mut full = world.core.clone();
    full.look_at_everything();
    let one: Step = incremental.step(moment, Input::Tick);
    let all: Step = full.step(moment, Input::Tick);
    assert_eq!(one.orders, all.orders, "orders");
    assert_eq!(one.records, all.records, "records");
    // Why something waits is worded anew when it is looked at; that is all.
    let told = |step: &Step| -> Vec<_> {
        let events = step.events.iter().filter(|event| event.kind != "ReplicasWaiting");
        let mut told: Vec<_> =
            events.map(|event| (event.kind.clone(), event.message.clone())).collect();
        // What a pause has made due at once may be told in either order.
        told.sort();
        told
    };
    assert_eq!(told(&one), told(&all), "events");
}

/// Everything is mended, by people too.
fn mend(world: &mut World) {
    world.network = Network::default();
    for number in 1..=NODES {
        let node = format!("n{number}");
        let agent = world.agent(&node);
        agent.cut = false;
        agent.deaf = false;
        agent.frozen = false;
        if !agent.up {
            world.start_agent(&node);
        }
        world.set_docker(&node, DockerState::Ok);
    }
    for container in world.docker.values_mut() {
        container.ill = false;
        container.restart_due = false;
    }
}

/// Two of the nodes share a Docker daemon, as in the sandbox.
fn begun(seed: u64) -> World {
    let mut world = World::empty(seed);
    for (node, daemon) in [("n1", "d1"), ("n2", "d1"), ("n3", "d3"), ("n4", "d4")] {
        world.add_agent(node, daemon);
    }
    world.run_for(50);
    world
}

fn run(seed: u64, acts: &[Act]) -> World {
    let mut world = begun(seed);
    for (number, one) in acts.iter().enumerate() {
        world.log.push(format!("{} # {one:?}", world.now));
        act(&mut world, one);
        if number % 5 == 0 {
            incremental_equals_full(&mut world);
        }
    }
    world
}

fn ends_well(world: &mut World) {
    mend(world);
    // What exits by itself, or whose last good revision is none, never comes to rest.
    let hopeless: Vec<String> = world
        .core
        .state
        .workloads
        .iter()
        .filter(|(name, w)| {
            let image = |revision| w.template(revision).map_or("", |t| t.image.as_str());
            name.as_str() == "bad" || ["nopull", "unwell"].contains(&image(w.head()))
        })
        .map(|(name, _)| name.to_string())
        .collect();
    for name in hopeless {
        world.delete(&name);
    }
    for name in NAMES {
        let _ = world.rollout(name, RolloutCall::Resume);
    }
    world.run_for(20_000);
    for number in 1..=NODES {
        let id: NodeId = format!("n{number}").into();
        world.user(UserCall::SetSchedulable { id, schedulable: true }).expect("uncordoned");
    }
    // Three daemons take three replicas with a fixed port, and only one workload's.
    let fixed: Vec<_> = world
        .core
        .state
        .workloads
        .iter()
        .filter(|(_, w)| {
            let of = [w.revision, w.head()];
            let mut ports = of.iter().filter_map(|r| w.template(*r)).flat_map(|t| &t.ports);
            ports.any(|p| p.host_port != 0)
        })
        .map(|(name, _)| name.to_string())
        .collect();
    for (rank, name) in fixed.iter().enumerate() {
        world.scale(name, if rank == 0 { 3 } else { 0 });
    }
    world.until(600_000, "what is wanted is reached", |w| {
        w.is_settled() && w.docker.iter().all(|(id, _)| w.core.state.instances.contains_key(id))
    });
    world.run_for(10_000);
    world.nothing_happens_for(10 * 60_000);
    assert_eq!(world.core.state.mass_loss, None);
    assert!(world.core.state.awaited.is_empty());
    for agent in world.agents.values() {
        assert!(agent.up && !agent.superseded);
    }
}

fn runner(cases: u32) -> TestRunner {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let cases = number("KUBE_LITE_CASES").map_or(cases, |n| n as u32);
    let config =
        Config { cases, max_shrink_iters: 600, failure_persistence: None, ..Config::default() };
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number("KUBE_LITE_SEED").unwrap_or(1).to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

#[test]
fn whatever_happens_it_keeps_the_bounds_and_ends_well() {
    let cases = (any::<u64>(), proptest::collection::vec(acts(), 1..60));
    runner(120)
        .run(&cases, |(seed, acts)| {
            let mut world = run(seed, &acts);
            ends_well(&mut world);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// The differences that readers are told add up to what is, whenever they look.
#[test]
fn who_is_told_the_changes_knows_the_whole() {
    let cases = (any::<u64>(), proptest::collection::vec((acts(), 0..4u8), 1..60));
    runner(60)
        .run(&cases, |(seed, acts)| {
            let mut world = begun(seed);
            let mut eager = Reader::start(world.snapshot(), usize::MAX);
            let mut slow = Reader::start(world.snapshot(), usize::MAX);
            // It began when there were three instances more than it is told of.
            let mut some = None;
            for (one, looks) in &acts {
                act(&mut world, one);
                eager.follow(world.snapshot());
                if *looks == 0 {
                    slow.follow(world.snapshot());
                }
                let count = world.core.state.instances.len();
                some = some
                    .or_else(|| (count > 3).then(|| Reader::start(world.snapshot(), count - 3)));
                if let Some(some) = &mut some {
                    some.follow(world.snapshot());
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let cases = (any::<u64>(), proptest::collection::vec(acts(), 40));
    runner(4)
        .run(&cases, |(seed, acts)| {
            assert_eq!(run(seed, &acts).log, run(seed, &acts).log);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

/// What was recorded is decided again, byte for byte, from the beginning of every
/// segment on, however it was cut into segments; and each leads to where the next
/// one begins.
#[test]
fn what_was_recorded_is_decided_again() {
    let cases = (any::<u64>(), proptest::collection::vec((acts(), 0..4u8), 1..40));
    runner(40)
        .run(&cases, |(seed, acts)| {
            let mut world = begun(seed);
            world.record();
            for (one, cut) in &acts {
                match one {
                    Act::DiskRefused => {
                        world.disk_refuses = true;
                        world.run_for(1_500);
                        world.disk_refuses = false;
                    }
                    other => act(&mut world, other),
                }
                if *cut == 0 {
                    world.next_segment(true);
                }
            }
            let segments = &world.tape.as_ref().expect("a tape").segments;
            let mut last = None;
            for bytes in segments {
                let segment = recording::read(bytes).expect("a segment");
                let begins = image(&segment.checkpoint.core().expect("a core"));
                if segment.head.follows {
                    assert_eq!(last, Some(begins), "segment {}", segment.head.segment);
                }
                let (batches, core) = relive(bytes);
                for relived in batches.iter().flat_map(|batch| &batch.steps) {
                    assert_eq!(relived.differs, None, "step {}", relived.number);
                }
                last = Some(image(&core));
            }
            assert_eq!(last, Some(image(&world.core)));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}
