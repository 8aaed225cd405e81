//! Commands that only look.

use super::render::{lists, story};
use super::session::Session;
use super::stop::Stop;
use super::watch;
use crate::client::query;
use crate::model::view::DiscoverView;

/// `workloads`
pub async fn workloads(session: &Session, again: bool) -> Result<(), Stop> {
    watch::ask(session, &query::workloads(), again, |list, look| lists::workloads(list, look)).await
}

/// `nodes`
pub async fn nodes(session: &Session, again: bool) -> Result<(), Stop> {
    watch::ask(session, &query::nodes(), again, |list, look| lists::nodes(list, look)).await
}

/// `instances`
pub async fn instances(session: &Session, workload: Option<&str>, again: bool) -> Result<(), Stop> {
    if let Some(name) = workload
        && let Err(stop) = must_exist(session, name).await
    {
        // A deleted workload may still have some.
        let left = session.client.instances(workload).await.unwrap_or_default();
        if left.is_empty() {
            return Err(stop);
        }
    }
    watch::ask(session, &query::instances(workload), again, |list, look| {
        lists::instances(list, workload, look)
    })
    .await
}

/// `status`
pub async fn status(session: &Session, id: &str, again: bool) -> Result<(), Stop> {
    must_exist(session, id).await?;
    if session.json() {
        return workload(session, id, again).await;
    }
    let client = &session.client;
    let fetch = async || {
        let view = client.workload(id).await?;
        let instances = client.instances(Some(id)).await?;
        // An extra: the page is worth having without it.
        let nowhere = DiscoverView { name: id.into(), endpoints: Vec::new() };
        Ok((view, instances, client.discover(id).await.unwrap_or(nowhere)))
    };
    watch::show(session, again, fetch, |(view, instances, discover), look| {
        story::status(view, instances, discover, look)
    })
    .await
}

/// A workload word for word.
pub(super) async fn workload(session: &Session, id: &str, again: bool) -> Result<(), Stop> {
    watch::ask(session, &query::workload(id), again, |_, _| String::new()).await
}

/// `discover`
pub async fn discover(session: &Session, name: &str) -> Result<(), Stop> {
    must_exist(session, name).await?;
    watch::ask(session, &query::discover(name), false, lists::discover).await
}

/// `rollout history`
pub async fn history(session: &Session, id: &str) -> Result<(), Stop> {
    must_exist(session, id).await?;
    watch::ask(session, &query::history(id), false, |list, look| lists::history(list, look)).await
}

/// Refuses a name that is none, with the one that was probably meant.
pub(super) async fn must_exist(session: &Session, workload: &str) -> Result<(), Stop> {
    match session.client.workload(workload).await {
        Ok(_) => Ok(()),
        Err(error) => Err(session.failed_about(workload, &error).await),
    }
}
