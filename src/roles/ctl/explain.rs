//! `explain`: of a workload the scheduler tells the story; that of an instance or a
//! node is put together here.

use super::render::{json, story};
use super::session::Session;
use super::stop::Stop;
use super::watch;
use crate::client::{ClientError, query};
use crate::model::ContainerInstance;
use crate::model::view::EventView;

/// So many of the latest events belong to a story.
const EVENTS: usize = 25;

/// Tells why `of` is as it is: a workload, else an instance, else a node.
pub async fn explain(session: &Session, of: &str) -> Result<(), Stop> {
    match session.client.workload(of).await {
        Ok(_) => return watch::ask(session, &query::explain(of), false, story::explain).await,
        Err(error) if error.status() == Some(404) => {}
        Err(error) => return Err(session.failed(&error)),
    }
    let failed = |error: ClientError| session.failed(&error);
    let instances = session.client.instances(None).await.map_err(failed)?;
    if let Some(instance) = named(of, &instances) {
        let of_it = |event: &EventView| event.instance.as_ref() == Some(&instance.id);
        let events = latest(session, of_it).await.map_err(failed)?;
        return session.say(match session.json() {
            true => json::of(instance),
            false => story::instance(instance, &events, &session.look()),
        });
    }
    let nodes = session.client.nodes().await.map_err(failed)?;
    if let Some(node) = nodes.iter().find(|node| node.id.as_str() == of) {
        let of_it = |event: &EventView| event.node.as_ref() == Some(&node.id);
        let events = latest(session, of_it).await.map_err(failed)?;
        let here: Vec<_> = instances.into_iter().filter(|one| one.node_id == node.id).collect();
        return session.say(match session.json() {
            true => json::of(node),
            false => story::node(node, &here, &events, &session.look()),
        });
    }
    let others = nodes.iter().map(|node| node.id.as_str());
    let others = others.chain(instances.iter().map(|one| one.id.as_str())).collect::<Vec<_>>();
    Err(session.unknown("workload, instance or node", of, &others).await)
}

/// The instance of this id, or with a container whose id begins with it.
fn named<'a>(of: &str, instances: &'a [ContainerInstance]) -> Option<&'a ContainerInstance> {
    let by_id = instances.iter().find(|one| one.id.as_str() == of);
    by_id.or_else(|| {
        // As Docker shows them; less is more likely meant as a name.
        let mut fits =
            instances.iter().filter(|one| of.len() >= 12 && one.container_id.starts_with(of));
        fits.next().filter(|_| fits.next().is_none())
    })
}

async fn latest(
    session: &Session,
    of_it: impl Fn(&EventView) -> bool,
) -> Result<Vec<EventView>, ClientError> {
    let mut lines = session.client.events(None, None, false).await?;
    let mut events = std::collections::VecDeque::new();
    while let Some(line) = lines.next_line().await? {
        let Ok(event) = serde_json::from_slice::<EventView>(&line) else { continue };
        if of_it(&event) {
            events.push_back(event);
        }
        if events.len() > EVENTS {
            events.pop_front();
        }
    }
    Ok(events.into())
}
