//! Whether Docker's view and the scheduler's agree: nothing missing, nothing
//! twice, nothing that nobody knows.

use std::collections::{BTreeMap, BTreeSet};

use kube_lite::model::ContainerInstance;
use kube_lite::model::wire::labels;

use crate::docker::{Container, Truth};
use crate::sandbox::Api;
use crate::wait::{LONG, until};

/// How many of each workload are to run, and nothing else.
pub type Wanted = BTreeMap<String, usize>;

/// Workloads and how many of each are to run.
pub fn wanted<const N: usize>(counts: [(&str, usize); N]) -> Wanted {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Waits until exactly what is wanted runs, by the scheduler and by Docker, and
/// every container there is, dead ones included, is that of a known instance.
pub async fn agree(api: &Api, wanted: &Wanted) {
    agree_on(api, &api.truth, wanted).await;
}

/// The same where all containers are on another daemon than the usual one.
///
/// # Panics
/// When that does not come about, with what is wrong.
pub async fn agree_on(api: &Api, truth: &Truth, wanted: &Wanted) {
    until("the scheduler and Docker to agree", LONG, || async {
        let views = api.client.workloads().await.map_err(|e| e.to_string())?;
        let instances = api.client.instances(None).await.map_err(|e| e.to_string())?;
        let containers = truth.all().await;
        let mut wrong = Vec::new();
        let named: BTreeSet<&str> = views.iter().map(|view| view.spec.name.as_str()).collect();
        if !named.iter().copied().eq(wanted.keys().map(String::as_str)) {
            wrong.push(format!("the workloads are {named:?}"));
        }
        for view in &views {
            let name = view.spec.name.as_str();
            let count = wanted.get(name).copied().unwrap_or(0);
            let (ready, stopping) = (view.ready as usize, view.stopping);
            if (ready, view.pending, stopping) != (count, 0, 0) {
                wrong.push(format!(
                    "{name}: {ready} ready, {} coming, {stopping} going",
                    view.pending
                ));
            }
            let of_it = |c: &&Container| c.label(labels::WORKLOAD) == name && c.state == "running";
            let old = |c: &&Container| c.label(labels::REVISION) != view.revision.to_string();
            let running: Vec<_> = containers.iter().filter(of_it).collect();
            if running.len() != count || running.iter().any(old) {
                wrong.push(format!("{name}: not {count} of {}: {running:?}", view.revision));
            }
        }
        wrong.extend(unaccounted(&containers, &instances));
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n  ")) }
    })
    .await;
}

/// What there is without a reason: containers of no known instance, several of
/// one, and running ones that the scheduler does not take for running.
fn unaccounted(containers: &[Container], instances: &[ContainerInstance]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for container in containers {
        let id = container.label(labels::INSTANCE);
        if !met.insert(id) {
            wrong.push(format!("{id} has two containers"));
        }
        let Some(known) = instances.iter().find(|instance| instance.id.as_str() == id) else {
            wrong.push(format!("nobody knows {container:?}"));
            continue;
        };
        let runs = container.state == "running";
        let same = known.container_id == container.id && container.name == id;
        if !same || runs == known.phase.is_final() {
            wrong.push(format!("{container:?} is not as in {known:?}"));
        }
    }
    wrong
}
