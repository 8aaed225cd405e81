//! The scheduler's events replayed: what was ready at every moment, not only at
//! those when somebody looked.

use std::collections::BTreeSet;

use kube_lite::model::InstanceId;
use kube_lite::model::view::EventView;

use crate::sandbox::Api;

/// A workload as it was when nothing moved, to be replayed from there.
#[derive(Debug)]
pub struct Replay {
    workload: String,
    since: u64,
    desired: usize,
    ready: BTreeSet<InstanceId>,
}

/// What a replay has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The fewest that were ready at any moment.
    pub fewest: usize,
    /// How many were stopped while they were ready.
    pub stopped: usize,
}

impl Replay {
    /// From now on. The workload must be settled.
    pub async fn begin(api: &Api, workload: &str) -> Self {
        let ready = ready(api, workload).await;
        let since = api.events(workload).await.last().map_or(0, |event| event.seq);
        let desired = api.workload(workload).await.desired as usize;
        Self { workload: workload.to_owned(), since, desired, ready }
    }

    /// Replays what happened since. The workload must be settled again, and no
    /// node may have died.
    ///
    /// # Panics
    /// When something ready was stopped although fewer than desired were left, and
    /// when the replay ends with something else ready than what is.
    pub async fn show(&self, api: &Api) -> Shown {
        let (mut ready, mut desired) = (self.ready.clone(), self.desired);
        let mut shown = Shown { fewest: ready.len(), stopped: 0 };
        let events = api.events_since(&self.workload, self.since).await;
        for event in &events {
            let Some(id) = &event.instance else {
                desired = scaled_to(event).unwrap_or(desired);
                continue;
            };
            match event.kind.as_str() {
                "InstanceReady" => drop(ready.insert(id.clone())),
                "InstanceStopping" if ready.remove(id) => {
                    shown.stopped += 1;
                    assert!(
                        ready.len() >= desired,
                        "{} of {desired} were left ready when it said: {}\n{events:#?}",
                        ready.len(),
                        event.message
                    );
                }
                "InstanceUnhealthy" | "InstanceExited" | "InstanceFailed" | "InstanceRemoved" => {
                    ready.remove(id);
                }
                _ => {}
            }
            shown.fewest = shown.fewest.min(ready.len());
        }
        assert_eq!(ready, self::ready(api, &self.workload).await, "{events:#?}");
        shown
    }
}

async fn ready(api: &Api, workload: &str) -> BTreeSet<InstanceId> {
    let instances = api.instances(workload).await;
    instances.into_iter().filter(|i| i.ready && !i.stopping).map(|i| i.id).collect()
}

/// `… scaled web from 10 to 4`.
fn scaled_to(event: &EventView) -> Option<usize> {
    let is_scale = event.kind == "WorkloadScaled";
    is_scale.then(|| event.message.rsplit(' ').next()?.parse().ok()).flatten()
}
