//! Pulling images: one pull per image at a time for all agents of the process,
//! ended when nobody waits for it any more.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use tokio::sync::{oneshot, watch};

use super::trouble::{Trouble, pull_error};
use super::{Daemon, DockerRuntime, lock};
use crate::roles::agent::message::{Input, PullError};
use crate::roles::agent::runtime::Report;

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Pulls under way, each with whoever waits for it as receivers.
#[derive(Debug, Default)]
pub(super) struct Pulls(Mutex<BTreeMap<String, watch::Sender<State>>>);

/// How far a pull has come.
#[derive(Clone, Debug, Default)]
struct State {
    /// Grows whenever it gets further than ever before.
    moved: u64,
    over: Option<Result<(), PullError>>,
}

/// An agent's part in a pull.
#[derive(Debug)]
pub(super) struct Part {
    /// How to end it.
    cancel: Option<oneshot::Sender<()>>,
    /// How it learns that; taken when it begins.
    cancelled: Option<oneshot::Receiver<()>>,
}

impl DockerRuntime {
    /// Pulls an image, alone or together with others who want it.
    pub(super) async fn pull(&self, image: &str, report: &Report) -> Result<(), PullError> {
        self.expect_pull(image);
        let cancelled = lock(&self.pulling).get_mut(image).and_then(|part| part.cancelled.take());
        let Some(mut cancelled) = cancelled else {
            return Err(PullError::Transient(format!("{image} is being pulled already")));
        };
        let mut state = join(&self.daemon, image);
        let mut told = Instant::now();
        let outcome = loop {
            tokio::select! {
                _ = &mut cancelled => break Err(PullError::Cancelled),
                changed = state.changed() => {
                    if changed.is_err() {
                        break Err(PullError::Transient("the pull was lost".to_owned()));
                    }
                }
            }
            if let Some(outcome) = state.borrow_and_update().over.clone() {
                break outcome;
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                let _ = report.send(Input::PullProgress { image: image.to_owned() }).await;
            }
        };
        lock(&self.pulling).remove(image);
        outcome
    }

    /// A pull is about to begin: from now on it can be cancelled. Actions are
    /// carried out by tasks of their own, and one may overtake another.
    pub fn expect_pull(&self, image: &str) {
        let mut pulling = lock(&self.pulling);
        if !pulling.contains_key(image) {
            let (cancel, cancelled) = oneshot::channel();
            let part = Part { cancel: Some(cancel), cancelled: Some(cancelled) };
            pulling.insert(image.to_owned(), part);
        }
    }

    /// Ends this agent's part in a pull.
    pub(super) fn cancel_pull(&self, image: &str) {
        let cancel = lock(&self.pulling).get_mut(image).and_then(|part| part.cancel.take());
        if let Some(cancel) = cancel {
            let _ = cancel.send(());
        }
    }
}

/// Waits for a pull of `image`, starting one if there is none.
fn join(daemon: &Arc<Daemon>, image: &str) -> watch::Receiver<State> {
    let mut pulls = lock(&daemon.pulls.0);
    if let Some(under_way) = pulls.get(image) {
        return under_way.subscribe();
    }
    let (sender, receiver) = watch::channel(State::default());
    pulls.insert(image.to_owned(), sender.clone());
    tokio::spawn(run(daemon.clone(), image.to_owned(), sender));
    receiver
}

async fn run(daemon: Arc<Daemon>, image: String, state: watch::Sender<State>) {
    let mut pull = pin!(pull(&daemon, &image, &state));
    let outcome = loop {
        tokio::select! {
            outcome = &mut pull => break outcome,
            () = state.closed() => {
                // Under the lock nobody can join: now it is certain.
                let mut pulls = lock(&daemon.pulls.0);
                if state.receiver_count() == 0 {
                    pulls.remove(&image);
                    return;
                }
            }
        }
    };
    if !matches!(outcome, Err(PullError::Transient(_))) {
        lock(&daemon.reached).forget(&image);
    }
    lock(&daemon.pulls.0).remove(&image);
    state.send_modify(|state| state.over = Some(outcome));
}

/// Reads Docker's pull stream to its end: errors come inside it.
async fn pull(daemon: &Daemon, image: &str, state: &watch::Sender<State>) -> Result<(), PullError> {
    let fail = |trouble: Trouble| pull_error(image, &trouble);
    let client = daemon.client().await.map_err(fail)?;
    let mut options = CreateImageOptionsBuilder::new().from_image(image);
    if names_no_version(image) {
        options = options.tag("latest"); // without, Docker pulls every tag there is
    }
    let mut stream = pin!(client.create_image(Some(options.build()), None, None));
    while let Some(piece) = stream.next().await {
        let said = piece.map_err(|error| fail(error.into()))?;
        if let Some(error) = said.error_detail {
            let message = error.message.unwrap_or_else(|| "no reason given".to_owned());
            return Err(fail(Trouble::Refused { status: 500, message }));
        }
        if lock(&daemon.reached).advances(image, &said) {
            state.send_modify(|state| state.moved += 1);
        }
    }
    Ok(())
}

/// Whether a reference has neither tag nor digest.
fn names_no_version(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    !name.contains([':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_told_from_ports() {
        for (image, bare) in [
            ("nginx", true),
            ("registry:5000/app", true),
            ("nginx:1", false),
            ("registry:5000/app:1", false),
            ("app@sha256:0a", false),
        ] {
            assert_eq!(names_no_version(image), bare, "{image}");
        }
    }
}
