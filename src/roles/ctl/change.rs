//! Commands that change something.

use std::time::Duration;

use serde::Serialize;
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
        let patience = Patience { began, ..Patience::from_now(&args.wait).failing(&args.fail) };
        let goal = Goal::Revision(response.revision);
        let seen = wait(session, &OfWorkload { workload: id, goal }, patience).await?;
        settled(session, id, &seen, Effect::of(response.unchanged, began)).await?;
    }
    Ok(())
}

fn noted(response: &DeployResponse) -> String {
    let DeployResponse { id, revision, .. } = response;
    let see = format!("kube-lite ctl status {id} --watch");
    match response.unchanged {
        true => format!("{id}: unchanged, revision {revision} was wanted already; see: {see}\n"),
        false => format!("{id}: revision {revision} is wanted now; see: {see}\n"),
    }
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
    let answer = match session.client.scale(id, args.replicas).await {
        Ok(answer) => answer,
        Err(error) => return Err(session.failed_about(id, &error).await),
    };
    if args.wait.no_wait {
        let replicas = super::render::words::count(args.replicas.into(), "replica");
        let wanted = match answer.unchanged {
            true => format!("unchanged, {replicas} wanted already"),
            false => format!("{replicas} wanted now"),
        };
        let text = format!("{id}: {wanted}; see: kube-lite ctl status {id} --watch");
        return tell(session, &answer, &text);
    }
    let goal = Goal::Replicas(args.replicas);
    let seen = wait(session, &OfWorkload { workload: id, goal }, patience).await?;
    settled(session, id, &seen, Effect::of(answer.unchanged, patience.began)).await
}

/// `delete`
pub async fn delete(session: &Session, args: &DeleteArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    let answer = match session.client.delete(id).await {
        Ok(answer) => answer,
        Err(error) => return Err(session.failed_about(id, &error).await),
    };
    if args.wait.no_wait {
        let text = format!("{id}: deleted; its containers are being stopped");
        return tell(session, &answer, &text);
    }
    let patience = Patience::from_now(&args.wait);
    wait(session, &OfWorkload { workload: id, goal: Goal::Gone }, patience).await?;
    tell(session, &answer, &format!("{id}: deleted, and nothing of it is left"))
}

/// `cordon`
pub async fn cordon(session: &Session, node: &str) -> Result<(), Stop> {
    let answer = match session.client.cordon(node).await {
        Ok(answer) => answer,
        Err(error) => return Err(session.failed_about_node(node, &error).await),
    };
    let since = if answer.unchanged { "already" } else { "from now on" };
    let text = format!(
        "{node}: gets no new instances {since}; what runs there runs on. \
         Undo: kube-lite ctl uncordon {node}"
    );
    tell(session, &answer, &text)
}

/// `uncordon`
pub async fn uncordon(session: &Session, node: &str) -> Result<(), Stop> {
    let answer = match session.client.uncordon(node).await {
        Ok(answer) => answer,
        Err(error) => return Err(session.failed_about_node(node, &error).await),
    };
    let text = match answer.unchanged {
        true => format!("{node}: unchanged, it might get new instances already"),
        false => format!("{node}: may get new instances again"),
    };
    tell(session, &answer, &text)
}

/// `drain`
pub async fn drain(session: &Session, args: &DrainArgs) -> Result<(), Stop> {
    let node = args.node.as_str();
    let patience = Patience::from_now(&args.wait);
    let answer = match session.client.drain(node).await {
        Ok(answer) => answer,
        Err(error) => return Err(session.failed_about_node(node, &error).await),
    };
    if args.wait.no_wait {
        let text = format!(
            "{node}: what runs there moves elsewhere, nothing new comes; \
             see: kube-lite ctl nodes --watch. Undo: kube-lite ctl uncordon {node}"
        );
        return tell(session, &answer, &text);
    }
    let awaited = OfNode { node: node.into() };
    let seen = wait(session, &awaited, patience).await?;
    match seen.node.as_ref() {
        Some(node) => tell(session, node, &evacuation::finished(&awaited.node, &seen)),
        None => Ok(()),
    }
}

/// `node remove`
pub async fn remove_node(session: &Session, node: &str) -> Result<(), Stop> {
    let answer = match session.client.remove_node(node).await {
        Ok(answer) => answer,
        Err(error) => return Err(session.failed_about_node(node, &error).await),
    };
    for warning in &answer.warnings {
        session.remark(&format!("warning: {warning}"));
    }
    tell(session, &answer, &format!("{node}: removed; what it ran is replaced elsewhere"))
}

/// Says that something is done; readers of JSON get the value.
pub(super) fn tell<T: Serialize>(session: &Session, value: &T, text: &str) -> Result<(), Stop> {
    session.say(match session.json() {
        true => json::of(value),
        false => format!("{text}\n"),
    })
}

/// What a command has brought about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// It was so already.
    None,
    /// A change, which took this long.
    After(Duration),
}

impl Effect {
    /// Of a command that `began` then.
    pub fn of(unchanged: bool, began: Instant) -> Self {
        if unchanged { Effect::None } else { Effect::After(began.elapsed()) }
    }
}

/// `web: 3/3 ready`, and where it is reached; as JSON the workload as it is now.
pub(super) async fn settled(
    session: &Session,
    id: &str,
    seen: &Seen,
    effect: Effect,
) -> Result<(), Stop> {
    if session.json() {
        return show::workload(session, id, false).await;
    }
    let look = session.look();
    let mut text = finished(id, seen, effect, &look);
    if let Some(view) = seen.view.as_ref().filter(|view| !view.spec.ports.is_empty()) {
        // A nicety: the deploy is done even if this cannot be had.
        if let Ok(discover) = session.client.discover(id).await {
            text.push_str(&story::addresses(&view.spec, &discover));
        }
    }
    session.say(text)
}

fn finished(id: &str, seen: &Seen, effect: Effect, look: &Look) -> String {
    let headline = Tone::Good.paint(&progress::headline(id, seen), look);
    let revision = seen.view.as_ref().map_or(0, |view| view.revision);
    let effect = match effect {
        Effect::None => "unchanged".to_owned(),
        Effect::After(took) => format!("{:.1} s", took.as_secs_f64()),
    };
    format!("{headline} (revision {revision}, {effect})\n")
}
