//! Waiting until what was asked for has been carried out.

use std::time::Duration;

use tokio::time::Instant;

use super::args::{FailArgs, WaitArgs};
use super::evacuation;
use super::live::Progress;
use super::progress::{self, Goal, Line, Seen, Verdict};
use super::render::words::sentence;
use super::session::Session;
use super::stop::Stop;
use crate::client::{Client, ClientError};
use crate::model::NodeId;

/// The shortest time between two looks; a scheduler that takes long to answer
/// is asked less often.
const EVERY: Duration = Duration::from_millis(200);

/// How long most things may take when nothing is said about it.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same for rollouts and drains, which go on step by step.
const PATIENCE_STEP_BY_STEP: Duration = Duration::from_secs(600);

/// What is waited for: how to look at it, and what to think of that.
pub trait Awaited {
    /// What one look shows.
    type Seen: Default;

    /// One look; what is not there is no error.
    async fn look(&self, client: &Client) -> Result<Self::Seen, ClientError>;
    /// Judges a look; `was_wanted` tells whether an earlier one was `is_wanted`.
    fn judge(&self, seen: &Self::Seen, was_wanted: bool) -> Verdict;
    /// Whether what is wanted there is (still) what we asked for.
    fn is_wanted(&self, seen: &Self::Seen) -> bool;
    /// How far it is, in one line.
    fn headline(&self, seen: &Self::Seen) -> String;
    /// How far each instance is.
    fn lines(&self, seen: &Self::Seen) -> Vec<Line>;
    /// Why waiting cannot help, if it cannot.
    fn hopeless(&self, seen: &Self::Seen) -> Option<String>;
    /// Whether it goes on step by step, and hence may take longer.
    fn takes_long(&self, seen: &Self::Seen) -> bool;
    /// The command that shows how it goes on.
    fn see(&self, seen: &Self::Seen) -> String;
    /// The command that tells the whole story.
    fn story(&self) -> String;
}

/// When to give up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// When the user began to wait.
    pub began: Instant,
    /// When to give up, counted from there; else it depends on what goes on.
    pub timeout: Option<Duration>,
    /// Whether to give up once waiting cannot help.
    pub fail_fast: bool,
}

impl Patience {
    /// Counted from now, as was said on the command line.
    pub fn from_now(args: &WaitArgs) -> Self {
        Self { began: Instant::now(), timeout: args.timeout, fail_fast: false }
    }

    /// The same, giving up early if that was said.
    pub fn failing(self, args: &FailArgs) -> Self {
        Self { fail_fast: args.fail_fast, ..self }
    }
}

/// A workload that is to come to a goal.
#[derive(Clone, Debug)]
pub struct OfWorkload<'a> {
    /// The workload.
    pub workload: &'a str,
    /// When it is over.
    pub goal: Goal,
}

impl Awaited for OfWorkload<'_> {
    type Seen = Seen;

    async fn look(&self, client: &Client) -> Result<Seen, ClientError> {
        let missing = |error: &ClientError| error.status() == Some(404);
        let view = match client.workload(self.workload).await {
            Ok(view) => Some(view),
            Err(error) if missing(&error) => None,
            Err(error) => return Err(error),
        };
        let instances = match client.instances(Some(self.workload)).await {
            Ok(instances) => instances,
            Err(error) if missing(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Seen { view, instances })
    }

    fn judge(&self, seen: &Seen, was_wanted: bool) -> Verdict {
        progress::judge(&self.goal, seen, was_wanted)
    }

    fn is_wanted(&self, seen: &Seen) -> bool {
        progress::is_wanted(&self.goal, seen)
    }

    fn headline(&self, seen: &Seen) -> String {
        progress::headline(self.workload, seen)
    }

    fn lines(&self, seen: &Seen) -> Vec<Line> {
        progress::lines(seen)
    }

    fn hopeless(&self, seen: &Seen) -> Option<String> {
        progress::hopeless(seen)
    }

    fn takes_long(&self, seen: &Seen) -> bool {
        seen.view.as_ref().is_some_and(|view| progress::open_rollout(view).is_some())
    }

    fn see(&self, seen: &Seen) -> String {
        match self.goal {
            Goal::Gone => format!("kube-lite ctl instances {} --watch", self.workload),
            _ if self.takes_long(seen) => {
                format!("kube-lite ctl rollout status {} --watch", self.workload)
            }
            _ => format!("kube-lite ctl status {} --watch", self.workload),
        }
    }

    fn story(&self) -> String {
        match self.goal {
            Goal::Gone => format!("kube-lite ctl instances {} --watch", self.workload),
            _ => format!("kube-lite ctl explain {}", self.workload),
        }
    }
}

/// A node that is to be empty.
#[derive(Clone, Debug)]
pub struct OfNode {
    /// The node.
    pub node: NodeId,
}

impl Awaited for OfNode {
    type Seen = evacuation::Seen;

    async fn look(&self, client: &Client) -> Result<evacuation::Seen, ClientError> {
        let nodes = client.nodes().await?;
        Ok(evacuation::Seen {
            node: nodes.into_iter().find(|node| node.id == self.node),
            instances: client.instances(None).await?,
            workloads: client.workloads().await?,
        })
    }

    fn judge(&self, seen: &evacuation::Seen, was_wanted: bool) -> Verdict {
        evacuation::judge(seen, was_wanted)
    }

    fn is_wanted(&self, seen: &evacuation::Seen) -> bool {
        evacuation::is_wanted(seen)
    }

    fn headline(&self, seen: &evacuation::Seen) -> String {
        evacuation::headline(&self.node, seen)
    }

    fn lines(&self, seen: &evacuation::Seen) -> Vec<Line> {
        evacuation::lines(seen)
    }

    fn hopeless(&self, _: &evacuation::Seen) -> Option<String> {
        None
    }

    fn takes_long(&self, _: &evacuation::Seen) -> bool {
        true
    }

    fn see(&self, _: &evacuation::Seen) -> String {
        format!("kube-lite ctl drain {}", self.node)
    }

    fn story(&self) -> String {
        "kube-lite ctl events".to_owned()
    }
}

/// Waits, and shows progress meanwhile. The work itself goes on whatever
/// happens here.
pub async fn wait<A: Awaited>(
    session: &Session,
    awaited: &A,
    patience: Patience,
) -> Result<A::Seen, Stop> {
    let mut progress = Progress::new(session);
    let mut last = A::Seen::default();
    let result = tokio::select! {
        result = look_again_and_again(session, awaited, patience, &mut progress, &mut last) => {
            result
        }
        _ = tokio::signal::ctrl_c() => Err(None),
    };
    progress.end();
    match result {
        Ok(()) => Ok(last),
        Err(Some(stop)) => Err(stop),
        Err(None) => {
            let see = awaited.see(&last);
            Err(Stop::Interrupted(format!("stopped waiting; the scheduler goes on. See: {see}")))
        }
    }
}

async fn look_again_and_again<A: Awaited>(
    session: &Session,
    awaited: &A,
    patience: Patience,
    progress: &mut Progress,
    last: &mut A::Seen,
) -> Result<(), Option<Stop>> {
    let Patience { began, timeout, fail_fast } = patience;
    let mut was_wanted = false;
    let mut said_hopeless = false;
    let mut in_trouble = false;
    let mut took_long = false;
    loop {
        let asked = Instant::now();
        let usual = if took_long { PATIENCE_STEP_BY_STEP } else { PATIENCE };
        let limit = timeout.unwrap_or(usual);
        let left = limit.saturating_sub(began.elapsed()).max(EVERY);
        match tokio::time::timeout(left, awaited.look(&session.client)).await {
            Err(_) => return Err(Some(timed_out(session, awaited, limit, last))),
            Ok(Ok(seen)) => {
                *last = seen;
                in_trouble = false;
                took_long |= awaited.takes_long(last);
                let verdict = awaited.judge(last, was_wanted);
                let headline = awaited.headline(last);
                let headline = (verdict == Verdict::Going).then_some(headline.as_str());
                progress.update(session, headline, awaited.lines(last));
                match verdict {
                    Verdict::Going => {}
                    Verdict::Settled => return Ok(()),
                    Verdict::Off(why) => return Err(Some(Stop::Failed(why))),
                }
                was_wanted |= awaited.is_wanted(last);
            }
            Ok(Err(error)) if error.is_transient() => {
                if !in_trouble {
                    let words = session.in_words(&error);
                    progress.remark(session, &format!("{} Still trying.", sentence(&words)));
                }
                in_trouble = true;
            }
            Ok(Err(error)) => return Err(Some(session.failed(&error))),
        }
        if let Some(why) = awaited.hopeless(last).filter(|_| was_wanted && !said_hopeless) {
            let next = awaited.story();
            if fail_fast {
                return Err(Some(Stop::Failed(format!("{why}\nThe whole story: {next}"))));
            }
            progress.remark(session, &format!("{why}\n  Waiting on; Ctrl-C ends it. See: {next}"));
            said_hopeless = true;
        }
        if began.elapsed() >= limit {
            return Err(Some(timed_out(session, awaited, limit, last)));
        }
        tokio::time::sleep(EVERY.max(asked.elapsed() * 3)).await;
    }
}

fn timed_out<A: Awaited>(session: &Session, awaited: &A, limit: Duration, last: &A::Seen) -> Stop {
    const ROOM: usize = 10;
    let seconds = limit.as_secs();
    let headline = awaited.headline(last);
    let mut text = format!("not there after {seconds} s: {headline}");
    let mut lines = awaited.lines(last);
    lines.retain(|line| !line.fine);
    for line in progress::screen(&lines, ROOM, &session.look()) {
        text.push_str(&format!("\n  {line}"));
    }
    text.push_str(&format!("\nThe scheduler goes on. The whole story: {}", awaited.story()));
    Stop::TimedOut(text)
}
