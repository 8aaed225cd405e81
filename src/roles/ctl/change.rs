//! Commands that change something.

use std::time::Duration;

use tokio::time::Instant;

use super::args::{DeleteArgs, DeployArgs, DrainArgs, ScaleArgs};
use super::evacuation;
use super::progress::{self, Goal, Seen};
use super::render::{Look, Tone, json, story};
use super::session::Session;
use super::show;
use super::spec_file::{self, SpecFile};
use super::stop::Stop;
use super::wait::{OfNode, OfWorkload, Patience, wait};
use crate::client::ClientError;
use crate::model::view::DeployResponse;

/// `deploy`: all files are read and checked before the first is sent.
pub async fn deploy(session: &Session, args: &DeployArgs) -> Result<(), Stop> {
    if args.files.iter().filter(|file| *file == "-").count() > 1 {
        return Err(Stop::Usage("`-f -` may be given only once: there is one input".to_owned()));
    }
    let files: Vec<SpecFile> =
        args.files.iter().map(|path| spec_file::read(path)).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let mut accepted = Vec::new();
    for file in &files {
        let reply = session.client.deploy(file.text.clone()).await;
        let response = reply.map_err(|error| refused(session, &file.name, &error))?;
        for warning in &response.warnings {
            session.remark(&format!("warning: {}: {warning}", response.id));
        }
        accepted.push(response);
    }
    for response in &accepted {
        let id = response.id.as_str();
        if args.wait.no_wait {
            session.say(match session.json() {
                true => json::of(response),
                false => noted(response),
            })?;
            continue;
        }
        let patience = Patience { began, timeout: args.wait.timeout, fail_fast: args.fail_fast };
        let goal = Goal::Revision(response.revision);
        let seen = wait(session, &OfWorkload { workload: id, goal }, patience).await?;
        settled(session, id, &seen, began.elapsed()).await?;
    }
    Ok(())
}

fn noted(response: &DeployResponse) -> String {
    let DeployResponse { id, revision, .. } = response;
    format!("{id}: revision {revision} is wanted now; see: kube-lite ctl status {id} --watch\n")
}

fn refused(session: &Session, file: &str, error: &ClientError) -> Stop {
    match (session.failed(error), error) {
        (Stop::Failed(text), ClientError::Api(_)) => Stop::Failed(format!("{file}: {text}")),
        (stop, _) => stop,
    }
}

/// `scale`
pub async fn scale(session: &Session, args: &ScaleArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    let patience = Patience::from_now(&args.wait);
    if let Err(error) = session.client.scale(id, args.replicas).await {
        return Err(session.failed_about(id, &error).await);
    }
    if args.wait.no_wait {
        let replicas = super::render::words::count(args.replicas.into(), "replica");
        return tell(
            session,
            &format!("{id}: {replicas} wanted now; see: kube-lite ctl status {id} --watch"),
        );
    }
    let goal = Goal::Replicas(args.replicas);
    let seen = wait(session, &OfWorkload { workload: id, goal }, patience).await?;
    settled(session, id, &seen, patience.began.elapsed()).await
}

/// `delete`
pub async fn delete(session: &Session, args: &DeleteArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    if let Err(error) = session.client.delete(id).await {
        return Err(session.failed_about(id, &error).await);
    }
    if args.wait.no_wait {
        return tell(session, &format!("{id}: deleted; its containers are being stopped"));
    }
    let patience = Patience::from_now(&args.wait);
    wait(session, &OfWorkload { workload: id, goal: Goal::Gone }, patience).await?;
    tell(session, &format!("{id}: deleted, and nothing of it is left"))
}

/// `cordon`
pub async fn cordon(session: &Session, node: &str) -> Result<(), Stop> {
    session.client.cordon(node).await.map_err(|error| session.failed(&error))?;
    tell(
        session,
        &format!(
            "{node}: gets no new instances from now on; what runs there runs on. \
             Undo: kube-lite ctl uncordon {node}"
        ),
    )
}

/// `uncordon`
pub async fn uncordon(session: &Session, node: &str) -> Result<(), Stop> {
    session.client.uncordon(node).await.map_err(|error| session.failed(&error))?;
    tell(session, &format!("{node}: may get new instances again"))
}

/// `drain`
pub async fn drain(session: &Session, args: &DrainArgs) -> Result<(), Stop> {
    let node = args.node.as_str();
    let patience = Patience::from_now(&args.wait);
    session.client.drain(node).await.map_err(|error| session.failed(&error))?;
    if args.wait.no_wait {
        return tell(
            session,
            &format!(
                "{node}: what runs there moves elsewhere, nothing new comes; \
                 see: kube-lite ctl nodes --watch. Undo: kube-lite ctl uncordon {node}"
            ),
        );
    }
    let awaited = OfNode { node: node.into() };
    let seen = wait(session, &awaited, patience).await?;
    match seen.node.as_ref().filter(|_| session.json()) {
        Some(node) => session.say(json::of(node)),
        None => tell(session, &evacuation::finished(&awaited.node, &seen)),
    }
}

/// `node remove`
pub async fn remove_node(session: &Session, node: &str) -> Result<(), Stop> {
    session.client.remove_node(node).await.map_err(|error| session.failed(&error))?;
    tell(session, &format!("{node}: removed; what it ran is replaced elsewhere"))
}

/// Says that something is done, of which there is nothing to show; readers of JSON
/// see it from the exit code.
pub(super) fn tell(session: &Session, text: &str) -> Result<(), Stop> {
    if session.json() { Ok(()) } else { session.say(format!("{text}\n")) }
}

/// `web: 3/3 ready`, and where it is reached; as JSON the workload as it is now.
pub(super) async fn settled(
    session: &Session,
    id: &str,
    seen: &Seen,
    took: Duration,
) -> Result<(), Stop> {
    if session.json() {
        return show::workload(session, id, false).await;
    }
    let look = session.look();
    let mut text = finished(id, seen, took, &look);
    if let Some(view) = seen.view.as_ref().filter(|view| !view.spec.ports.is_empty()) {
        // A nicety: the deploy is done even if this cannot be had.
        if let Ok(discover) = session.client.discover(id).await {
            text.push_str(&story::addresses(&view.spec, &discover));
        }
    }
    session.say(text)
}

fn finished(id: &str, seen: &Seen, took: Duration, look: &Look) -> String {
    let headline = Tone::Good.paint(&progress::headline(id, seen), look);
    let revision = seen.view.as_ref().map_or(0, |view| view.revision);
    format!("{headline} (revision {revision}, {:.1} s)\n", took.as_secs_f64())
}
