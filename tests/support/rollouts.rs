//! What the stories of rollouts and drains have in common.
#![allow(dead_code)]

use kube_lite::model::{RestartPolicy, WorkloadSpec};
use kube_lite::roles::scheduler::message::UserCall;

use crate::cluster::{World, port, probe, spec_of};

pub const MINUTE: u64 = 60_000;

pub fn image(replicas: u32, image: &str) -> WorkloadSpec {
    spec_of("web", replicas, image, RestartPolicy::Always)
}

pub fn probed(replicas: u32, name: &str) -> WorkloadSpec {
    WorkloadSpec { health_check: Some(probe()), ..image(replicas, name) }
}

pub fn fixed(replicas: u32, name: &str) -> WorkloadSpec {
    WorkloadSpec { ports: vec![port(80, 9000, true)], ..image(replicas, name) }
}

pub fn with(nodes: usize, spec: WorkloadSpec) -> World {
    let mut world = World::new(nodes);
    world.deploy(spec);
    world.settle();
    world
}

pub fn until_state(world: &mut World, ms: u64, state: &str) {
    world.until(ms, state, |w| w.state_of("web") == state);
}

/// Until it ends like this, never with more than `most` containers nor with fewer
/// than `least` ready.
pub fn ends(world: &mut World, ms: u64, state: &str, most: usize, least: u32) {
    world.until(ms, state, |w| {
        let (live, ready) = (w.live("web").len(), w.view("web").ready);
        assert!(live <= most && ready >= least, "{live} live, {ready} ready\n{}", w.story());
        w.state_of("web") == state
    });
}

pub fn of_revision(world: &World, revision: u64) -> usize {
    let live = world.live("web");
    live.iter().filter(|id| world.docker[*id].order.revision == revision).count()
}

pub fn all_of(world: &mut World, revision: u64) {
    world.settle();
    let desired = world.view("web").desired as usize;
    assert_eq!(of_revision(world, revision), desired, "{}", world.story());
    world.nothing_happens_for(10 * MINUTE);
}

pub fn outcome(world: &World, revision: u64) -> String {
    let history = world.snapshot().history("web").expect("a history");
    let of = history.into_iter().find(|r| r.revision == revision);
    of.and_then(|r| r.outcome).unwrap_or_default()
}

pub fn node_call(world: &mut World, drain: bool, node: &str) {
    let call = match drain {
        true => UserCall::Drain(node.into()),
        false => UserCall::SetSchedulable { id: node.into(), schedulable: true },
    };
    world.user(call).expect("done");
}
