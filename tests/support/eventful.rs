//! What a scheduler writes down in an eventful quarter of an hour.
#![allow(dead_code)]

use kube_lite::model::RestartPolicy;
use kube_lite::roles::scheduler::durable::{FORMAT, META, Meta, put};
use kube_lite::roles::scheduler::message::{Record, UserCall};

use crate::cluster::{World, probe, spec, spec_of};

/// A cluster in the middle of much: a rollout half done, a job that is over, a
/// crash loop in back-off, a deleted workload, a dead node and a cordoned one.
pub fn eventful() -> World {
    eventful_from(|world| world.batches = Some(vec![vec![meta(1)]]))
}

/// The same, after this was done to the empty world.
pub fn eventful_from(prepare: impl FnOnce(&mut World)) -> World {
    let mut world = World::empty(7);
    prepare(&mut world);
    for number in 1..=4 {
        world.add_agent(&format!("n{number}"), &format!("d{number}"));
    }
    world.run_for(50);
    let mut web = spec("web", 4);
    web.health_check = Some(probe());
    web.env.insert("COLOUR".to_owned(), "green".to_owned());
    world.deploy(web.clone());
    world.deploy(spec_of("job", 2, "exit:0:200", RestartPolicy::Never));
    world.deploy(spec_of("crash", 1, "exit:3:100", RestartPolicy::Always));
    world.deploy(spec("gone", 1));
    world.run_for(20_000);
    world.delete("gone");
    world.run_for(3_000);
    world.user(UserCall::SetSchedulable { id: "n3".into(), schedulable: false }).expect("cordoned");
    world.agent("n4").cut = true;
    world.run_for(15_000);
    web.image = "v2".to_owned();
    world.deploy(web);
    world.until(60_000, "a part of web is rolled", |w| {
        w.view("web").rollout.is_some_and(|rollout| rollout.updated >= 1)
    });
    world
}

/// The record that a scheduler writes first.
pub fn meta(epoch: u64) -> Record {
    put(META.to_owned(), &Meta { format: FORMAT, cluster: "test".into(), epoch })
}
