//! `rollout …`: changing what runs, watching that, and taking it back.

use std::time::Duration;

use super::args::{
    RolloutCommand, RolloutStartArgs, RolloutStatusArgs, RolloutStepArgs, RolloutUndoArgs, WaitArgs,
};
use super::change::{Effect, settled, tell};
use super::progress::{Goal, Verdict, judge, open_rollout};
use super::render::{json, rollout as render};
use super::session::Session;
use super::show;
use super::stop::Stop;
use super::wait::{Awaited as _, OfWorkload, Patience, wait};
use super::watch;
use crate::client::{ClientError, query};
use crate::model::view::{DeployResponse, RolloutRequest, RolloutView};

/// Whoever follows a rollout to its end says when it is enough.
const WITHOUT_END: Duration = Duration::from_secs(365 * 86_400);

/// Runs one of them.
pub async fn rollout(session: &Session, command: &RolloutCommand) -> Result<(), Stop> {
    match command {
        RolloutCommand::Start(args) => start(session, args).await,
        RolloutCommand::Status(args) => status(session, args).await,
        RolloutCommand::Pause(args) => pause(session, &args.workload).await,
        RolloutCommand::Resume(args) => resume(session, args).await,
        RolloutCommand::Abort(args) => abort(session, args).await,
        RolloutCommand::Undo(args) => undo(session, args).await,
        RolloutCommand::Restart(args) => restart(session, args).await,
        RolloutCommand::History(args) => show::history(session, &args.workload).await,
    }
}

async fn start(session: &Session, args: &RolloutStartArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    let patience = Patience::from_now(&args.wait).failing(&args.fail);
    let wanted = RolloutRequest {
        image: args.image.clone(),
        max_surge: args.max_surge,
        max_unavailable: args.max_unavailable,
    };
    let response = accepted(session, id, session.client.start_rollout(id, &wanted).await).await?;
    carried_out(session, &args.wait, patience, &response, Goal::Revision).await
}

async fn undo(session: &Session, args: &RolloutUndoArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    let patience = Patience::from_now(&args.wait).failing(&args.fail);
    let response = accepted(session, id, session.client.undo_rollout(id, args.to).await).await?;
    carried_out(session, &args.wait, patience, &response, Goal::Revision).await
}

async fn restart(session: &Session, args: &RolloutStepArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    let patience = Patience::from_now(&args.wait).failing(&args.fail);
    let response = accepted(session, id, session.client.restart(id).await).await?;
    carried_out(session, &args.wait, patience, &response, Goal::Revision).await
}

async fn abort(session: &Session, args: &RolloutStepArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    let patience = Patience::from_now(&args.wait).failing(&args.fail);
    let response = accepted(session, id, session.client.abort_rollout(id).await).await?;
    carried_out(session, &args.wait, patience, &response, Goal::Back).await
}

async fn pause(session: &Session, id: &str) -> Result<(), Stop> {
    let response = accepted(session, id, session.client.pause_rollout(id).await).await?;
    let so_far = so_far(session, id).await;
    let text = format!(
        "{id}: paused{so_far}; what runs stays, what crashes is replaced. \
         Go on: kube-lite ctl rollout resume {id}; take it back: kube-lite ctl rollout abort {id}"
    );
    tell(session, &response, &text)
}

async fn resume(session: &Session, args: &RolloutStepArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    let patience = Patience::from_now(&args.wait).failing(&args.fail);
    let response = accepted(session, id, session.client.resume_rollout(id).await).await?;
    if args.wait.no_wait && !session.json() {
        let so_far = so_far(session, id).await;
        let see = format!("kube-lite ctl rollout status {id} --watch");
        return tell(session, &response, &format!("{id}: goes on{so_far}; see: {see}"));
    }
    carried_out(session, &args.wait, patience, &response, Goal::Revision).await
}

/// ` at 4/10 of revision 2`; a nicety, hence nothing where it cannot be had.
async fn so_far(session: &Session, id: &str) -> String {
    match session.client.rollout(id).await {
        Ok(Some(RolloutView { to, updated, total, .. })) => {
            format!(" at {updated}/{total} of revision {to}")
        }
        _ => String::new(),
    }
}

async fn status(session: &Session, args: &RolloutStatusArgs) -> Result<(), Stop> {
    let id = args.workload.as_str();
    show::must_exist(session, id).await?;
    if session.json() && args.watch {
        return follow(session, id).await;
    }
    if session.json() {
        return watch::ask(session, &query::rollout(id), false, |_, _| String::new()).await;
    }
    let view = session.client.workload(id).await.map_err(|error| session.failed(&error))?;
    if let Some(rollout) = view.rollout.as_ref().filter(|_| args.watch) {
        let patience = Patience {
            timeout: Some(WITHOUT_END),
            ..Patience::from_now(&WaitArgs { no_wait: false, timeout: None })
        };
        if open_rollout(&view).is_some() || rollout.state == "aborted" {
            let workload = OfWorkload { workload: id, goal: Goal::Revision(rollout.to) };
            let seen = wait(session, &workload, patience).await?;
            return settled(session, id, &seen, Effect::of(false, patience.began)).await;
        }
    }
    let instances = session.client.instances(Some(id)).await;
    let instances = instances.map_err(|error| session.failed(&error))?;
    session.say(render::page(&view, &instances, &session.look()))
}

/// A rollout word for word, again whenever it changes, to its end.
async fn follow(session: &Session, id: &str) -> Result<(), Stop> {
    let query = query::rollout(id);
    let mut shown = String::new();
    let mut goal = None;
    let mut trouble = false;
    loop {
        // Judged first: what is shown last is then no older than the judgement.
        let awaited = OfWorkload { workload: id, goal: Goal::Revision(goal.unwrap_or(0)) };
        let look = async {
            let seen = awaited.look(&session.client).await?;
            Ok::<_, ClientError>((seen, session.client.get_raw(&query).await?))
        };
        match look.await {
            Ok((seen, raw)) => {
                trouble = false;
                let page = json::pretty(&String::from_utf8_lossy(&raw));
                if page != shown {
                    session.say(&page)?;
                    shown = page;
                }
                let rollout = seen.view.as_ref().and_then(|view| view.rollout.as_ref());
                let to = *goal.get_or_insert(rollout.map_or(0, |rollout| rollout.to));
                match rollout {
                    None => return Ok(()),
                    Some(rollout) if rollout.to == to && rollout.state == "done" => return Ok(()),
                    Some(_) => {}
                }
                if let Verdict::Off(why) = judge(&Goal::Revision(to), &seen, true) {
                    return Err(Stop::Failed(why));
                }
            }
            Err(error) if error.is_transient() => {
                if !trouble {
                    session.remark(&session.in_words(&error));
                }
                trouble = true;
            }
            Err(error) => return Err(session.failed_about(id, &error).await),
        }
        tokio::time::sleep(watch::EVERY).await;
    }
}

/// What the scheduler has noted, or why it has not: there may be no such workload,
/// or nothing to pause, resume or abort.
async fn accepted(
    session: &Session,
    id: &str,
    reply: Result<DeployResponse, ClientError>,
) -> Result<DeployResponse, Stop> {
    let response = match reply {
        Ok(response) => response,
        Err(error) if error.status() == Some(409) => {
            let next = format!("What there was: kube-lite ctl rollout history {id}");
            return Err(Stop::advised(&session.in_words(&error), &next, &error));
        }
        Err(error) => return Err(session.failed_about(id, &error).await),
    };
    for warning in &response.warnings {
        session.remark(&format!("warning: {id}: {warning}"));
    }
    Ok(response)
}

/// Waits for the goal, which is about the revision that is wanted now, or only says
/// which that is.
async fn carried_out(
    session: &Session,
    args: &WaitArgs,
    patience: Patience,
    response: &DeployResponse,
    goal: impl FnOnce(u64) -> Goal,
) -> Result<(), Stop> {
    let (id, revision) = (response.id.as_str(), response.revision);
    if args.no_wait {
        return session.say(match session.json() {
            true => json::of(response),
            false if response.unchanged => {
                format!("{id}: unchanged, revision {revision} was wanted already\n")
            }
            false => format!(
                "{id}: revision {revision} is wanted now; \
                 see: kube-lite ctl rollout status {id} --watch\n"
            ),
        });
    }
    let goal = goal(revision);
    let seen = wait(session, &OfWorkload { workload: id, goal }, patience).await?;
    settled(session, id, &seen, Effect::of(response.unchanged, patience.began)).await
}
