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

use std::collections::BTreeSet;

use cluster::tape::{image, relive};
use cluster::{Network, World, port, probe, spec};
use kube_lite::model::wire::DockerState;
use kube_lite::model::{Extent, NodeId, RestartPolicy, Template, WorkloadSpec};
use kube_lite::roles::scheduler::message::{Input, RolloutCall, Step, UserCall};
use kube_lite::roles::scheduler::recording;
use kube_lite::roles::scheduler::waves::Bounds;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reader::Reader;

const NODES: usize = 4;
const DAEMONS: [(&str, &str); NODES] = [("n1", "d1"), ("n2", "d1"), ("n3", "d3"), ("n4", "d4")];
const NAMES: [&str; 4] = ["web", "api", "job", "cron"];
/// A host port that several workloads may ask for.
const CONTESTED: u16 = 9999;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    Deploy { name: usize, made: Made, replicas: u32 },
    Scale { name: usize, replicas: u32 },
    Delete { name: usize },
    Rollout { name: usize, step: u8 },
    Start { name: usize, image: usize, strategy: u8 },
    Undo { name: usize, to: usize },
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

/// What a spec is made of. The first of each is the plainest.
#[derive(Clone, Debug)]
struct Made {
    image: usize,
    probed: bool,
    policy: u8,
    ports: u8,
    strategy: u8,
    patience: u8,
}

/// Images by what they do; those from the fourth on are bad, some only later.
const IMAGES: [&str; 10] = [
    "app",
    "v2",
    "v3",
    "nopull",
    "unwell",
    "nostart",
    "exit:1:700",
    "exit:0:3000",
    "exit:1:6500",
    "exit:1:20000",
];

fn mades() -> impl Strategy<Value = Made> {
    let image = prop_oneof![5 => 0..3usize, 3 => 3..IMAGES.len()];
    let strategy = prop_oneof![2 => Just(0u8), 3 => 1..10u8];
    let policy = prop_oneof![4 => Just(0u8), 1 => Just(1u8), 1 => Just(2u8)];
    let ports = prop_oneof![3 => Just(0u8), 2 => 1..5u8];
    let patience = prop_oneof![2 => Just(0u8), 1 => 1..5u8];
    (image, any::<bool>(), policy, ports, strategy, patience).prop_map(
        |(image, probed, policy, ports, strategy, patience)| Made {
            image,
            probed,
            policy,
            ports,
            strategy,
            patience,
        },
    )
}

fn acts() -> impl Strategy<Value = Act> {
    let node = 0..NODES;
    let name = 0..NAMES.len();
    let which = 0..64usize;
    prop_oneof![
        6 => (name.clone(), mades(), 0..7u32)
            .prop_map(|(name, made, replicas)| Act::Deploy { name, made, replicas }),
        4 => (name.clone(), 0..9u32).prop_map(|(name, replicas)| Act::Scale { name, replicas }),
        1 => name.clone().prop_map(|name| Act::Delete { name }),
        4 => (name.clone(), 0..7u8).prop_map(|(name, step)| Act::Rollout { name, step }),
        4 => (name.clone(), 0..IMAGES.len(), 0..10u8)
            .prop_map(|(name, image, strategy)| Act::Start { name, image, strategy }),
        2 => (name, 0..6usize).prop_map(|(name, to)| Act::Undo { name, to }),
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

/// `maxSurge` and `maxUnavailable`.
fn bounds(which: u8) -> (Extent, Option<Extent>) {
    use Extent::{Count, Percent};
    match which {
        1 => (Count(0), None),
        2 => (Count(0), Some(Count(2))),
        3 => (Count(0), Some(Percent(50))),
        4 => (Count(3), None),
        5 => (Count(1), Some(Count(0))),
        6 => (Count(2), Some(Count(0))),
        7 => (Percent(50), None),
        8 => (Percent(25), Some(Percent(25))),
        9 => (Count(1), Some(Count(1))),
        _ => (Count(1), None),
    }
}

fn made(name: usize, made: &Made, replicas: u32) -> WorkloadSpec {
    let mut spec = spec(NAMES[name], replicas);
    spec.image = IMAGES[made.image].to_owned();
    spec.health_check = made.probed.then(probe);
    spec.restart_policy = match made.policy {
        0 => RestartPolicy::Always,
        1 => RestartPolicy::OnFailure,
        _ => RestartPolicy::Never,
    };
    let own = 9000 + name as u16;
    spec.ports = match made.ports {
        1 => vec![port(80, own, false)],
        2 => vec![port(80, 0, false)],
        3 => vec![port(80, own, true), port(81, 9100 + name as u16, false)],
        4 => vec![port(80, CONTESTED, true)],
        _ => Vec::new(),
    };
    (spec.strategy.max_surge, spec.strategy.max_unavailable) = bounds(made.strategy);
    let strategy = &mut spec.strategy;
    (spec.min_ready_seconds, strategy.progress_deadline_seconds, strategy.drain_seconds) =
        match made.patience {
            1 => (3, 60, 0),
            2 => (8, 12, 5),
            3 => (0, 12, 1),
            4 => (1, 25, 3),
            _ => (0, 60, 1),
        };
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
        Act::Deploy { name, made: of, replicas } => {
            let _ = world.user(UserCall::Deploy(Box::new(made(*name, of, *replicas))));
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
                4 => RolloutCall::Restart,
                _ => RolloutCall::Abort,
            };
            let is_pause = step == RolloutCall::Pause;
            if world.rollout(NAMES[*name], step).is_ok() && is_pause {
                assert_eq!(world.state_of(NAMES[*name]), "paused");
            }
        }
        Act::Start { name, image, strategy } => {
            let (surge, unavailable) = bounds(*strategy);
            let step = RolloutCall::Start {
                image: IMAGES[*image].to_owned(),
                max_surge: (*strategy > 0).then_some(surge),
                max_unavailable: unavailable,
            };
            let _ = world.rollout(NAMES[*name], step);
        }
        Act::Undo { name, to } => {
            let known = world.core.state.workloads.get(NAMES[*name]);
            let to = known.and_then(|w| w.revisions.keys().rev().nth(*to).copied());
            if world.rollout(NAMES[*name], RolloutCall::Undo { to }).is_ok() && to.is_some() {
                let wanted = world.core.state.workloads.get(NAMES[*name]).map(|w| w.revision);
                assert_eq!(wanted, to, "{} is undone\n{}", NAMES[*name], world.story());
            }
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
            let (state, now) = (world.core.state.clone(), world.core.state.now);
            world.core.roll_back(state, &[], now);
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
    // Two of the nodes share a Docker daemon, as in the sandbox.
    for (node, daemon) in DAEMONS {
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

/// Whether instances of this template never come to rest by themselves.
fn is_hopeless(template: &Template) -> bool {
    let image = template.image.as_str();
    match template.restart_policy {
        _ if ["nopull", "unwell", "nostart"].contains(&image) => true,
        RestartPolicy::Always => image.starts_with("exit:"),
        RestartPolicy::OnFailure => image.starts_with("exit:1"),
        RestartPolicy::Never => false,
    }
}

/// Waits until this holds; looked at rarely, for a look costs more than the wait.
fn within(world: &mut World, ms: u64, what: &str, holds: impl Fn(&World) -> Option<String>) {
    let end = world.now + ms;
    while let Some(why) = holds(world) {
        assert!(world.now < end, "not within {ms} ms: {what}: {why}\n{}", world.story());
        world.run_for(500);
    }
}

/// How many replicas with a fixed host port there is room for.
fn daemons(drained: &[&str]) -> usize {
    let open = DAEMONS.iter().filter(|(node, _)| !drained.contains(node));
    open.map(|(_, daemon)| daemon).collect::<BTreeSet<_>>().len()
}

/// What a workload still lacks of what is wanted: all its places filled, none but
/// the wanted, the drained nodes empty, its rollout over.
fn lacks(world: &World, name: &str, drained: &[&str]) -> Option<String> {
    let workload = &world.core.state.workloads[name];
    let view = world.view(name);
    let template = workload.template(workload.revision)?;
    let desired = view.desired as usize;
    let is_fixed = template.ports.iter().any(|p| p.fixed);
    let fit = if is_fixed { desired.min(daemons(drained)) } else { desired };
    let live = world.live(name);
    let there = (view.ready + view.done) as usize;
    // Where not all fit, those on a drained node or without that port may stay.
    if there < fit || there > desired || view.stopping > 0 || live.len() != view.ready as usize {
        return Some(format!("{name}: {there} there, {} live, {fit} wanted", live.len()));
    }
    for id in &live {
        let container = &world.docker[id];
        let runs_once = container.order.template.restart_policy == RestartPolicy::Never;
        let on_drained = drained.contains(&container.node.as_str());
        let elsewhere =
            live.len() - drained.iter().map(|n| world.live_on(name, n).len()).sum::<usize>();
        if on_drained && !runs_once && !(is_fixed && elsewhere >= daemons(drained)) {
            return Some(format!("{name}: {id} is still on {}", container.node));
        }
        if fit == desired && container.order.revision != workload.revision {
            return Some(format!("{name}: {id} is not of revision {}", workload.revision));
        }
    }
    let state = world.state_of(name);
    let is_over = !["rolling", "paused", "aborting"].contains(&state.as_str());
    (!is_over && fit == desired).then(|| format!("{name} is {state}"))
}

fn ends_well(world: &mut World, seed: u64) {
    mend(world);
    world.run_for(20_000);
    let names = || NAMES.iter().filter(|name| world.core.state.workloads.contains_key(**name));
    let names: Vec<&str> = names().copied().collect();
    // What is paused stays so, whatever else is mended. Now it may go on.
    for name in &names {
        let paused = world.state_of(name) == "paused";
        let _ = world.rollout(name, RolloutCall::Resume);
        assert!(!paused || world.state_of(name) != "paused");
    }
    // One or two nodes, or none, stay empty.
    let drained: Vec<&str> = match seed % 4 {
        0 => vec!["n1"],
        1 => vec!["n2", "n4"],
        2 => vec!["n3"],
        _ => Vec::new(),
    };
    for (node, _) in DAEMONS {
        let id: NodeId = node.into();
        match drained.contains(&node) {
            true => world.user(UserCall::Drain(id)).expect("drained"),
            false => {
                let call = UserCall::SetSchedulable { id, schedulable: true };
                world.user(call).expect("uncordoned")
            }
        };
    }
    // Of those that want the same port only one can have it. An explicit 0, or a
    // share that comes to 0, would wait for ever where there can be no surge, as it
    // should.
    let mut has_one = false;
    for name in &names {
        let workload = &world.core.state.workloads[*name];
        let of = workload.revisions.values().flat_map(|r| &r.template.ports);
        let contests = of.into_iter().any(|p| p.host_port == CONTESTED);
        let mut spec = workload.spec.as_ref().clone();
        let bounds = Bounds::of(&spec.strategy, workload.desired());
        if bounds.unavailable_in_place() == 0 {
            spec.strategy.max_unavailable = None;
            world.deploy(spec);
        }
        if contests && has_one {
            world.scale(name, 0);
        }
        has_one |= contests;
    }
    // Whatever was asked for comes to an end, well or back where it came from. Only
    // where that was never any good it cannot.
    let is_bad = |w: &World, name: &str| {
        let workload = &w.core.state.workloads[name];
        workload.template(workload.revision).is_some_and(is_hopeless)
    };
    let is_stuck = |w: &World, name: &str| {
        let workload = &w.core.state.workloads[name];
        is_bad(w, name) && workload.revision == workload.head()
    };
    within(world, 20 * 60_000, "every rollout ends", |w| {
        names.iter().find_map(|name| lacks(w, name, &drained).filter(|_| !is_stuck(w, name)))
    });
    // Then a person gives it something that works; also where what is bad only later
    // looks well just now, and its rollout cannot end for want of room.
    for name in &names {
        if is_bad(world, name) {
            let mut spec = world.core.state.workloads[*name].spec.as_ref().clone();
            spec.image = "cure".to_owned();
            world.deploy(spec);
        }
    }
    within(world, 20 * 60_000, "what is wanted is reached", |w| {
        let unknown = w.docker.keys().find(|id| !w.core.state.instances.contains_key(*id));
        let unknown = unknown.map(|id| format!("nobody knows {id}"));
        unknown.or_else(|| names.iter().find_map(|name| lacks(w, name, &drained)))
    });
    // Where not all fit, those that do may still be taking turns.
    let end = world.now + 20 * 60_000;
    loop {
        let done = (world.orders, world.recorded);
        world.run_for(60_000);
        if done == (world.orders, world.recorded) {
            break;
        }
        assert!(world.now < end, "it never comes to rest\n{}", world.story());
    }
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
    runner(100)
        .run(&cases, |(seed, acts)| {
            let mut world = run(seed, &acts);
            ends_well(&mut world, seed);
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
