//! One instance as its agent sees it: what was ordered, what is known, and what
//! comes next.
//!
//! [`Instance::next`] is the whole life of an instance in one function: a look at
//! what is, never at what happened.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::message::{ContainerState, Facts, Millis};
use super::probe::Prober;
use super::report::Reported;
use crate::model::wire::RunOrder;
use crate::model::{Phase, PublishedPort, PullPolicy, Reason};

/// A moment, which may lie before the agent's own start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    at: Millis,
    before_ms: u64,
}

impl Since {
    /// This moment.
    pub fn now(now: Millis) -> Self {
        Self::aged(now, 0)
    }

    /// `age_ms` before `now`.
    pub fn aged(now: Millis, age_ms: u64) -> Self {
        Self { at: now, before_ms: age_ms }
    }

    /// How long ago that was.
    pub fn age_ms(self, now: Millis) -> u64 {
        now.saturating_sub(self.at).saturating_add(self.before_ms)
    }
}

/// What Docker is doing for an instance right now: at most one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Looks whether the image is there; shared with others.
    CheckImage,
    /// Pulls the image; shared with others.
    Pull,
    /// Creates and starts the container.
    Launch,
    /// Stops the container.
    Stop,
    /// Removes the container.
    Remove,
}

/// What is known about the instance's image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageStep {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It is not on the node.
    Absent,
    /// It is there, and new enough.
    Ready,
}

/// Why an instance is on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The scheduler (or the agent's own end) wants it gone.
    Ordered {
        /// It goes on serving until then.
        drain_until: Millis,
        /// Between SIGTERM and SIGKILL.
        grace_seconds: u32,
        /// In whose interest, for people.
        why: String,
        /// The last snapshot that does not know the order yet.
        seq: u64,
    },
    /// It is dead and newer dead ones are kept instead.
    Retired,
}

/// The container of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Docker's id.
    pub id: String,
    /// How far it has come.
    pub state: ContainerState,
    /// Its own address.
    pub ip: Option<String>,
    /// Where its ports are published.
    pub ports: Vec<PublishedPort>,
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// When.
    pub at: Since,
    /// The first snapshot that tells.
    pub seq: u64,
    /// The scheduler has taken in such a snapshot.
    pub acknowledged: bool,
    /// It was over already when this life of the agent found it.
    pub found: bool,
    /// How long it had been running.
    pub ran_for_ms: Option<u64>,
    /// Unix milliseconds, to put lives in order across restarts of the agent.
    pub wall_ms: u64,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// What was ordered.
    pub order: Box<RunOrder>,
    /// The last snapshot that does not know the order yet.
    pub accepted_seq: u64,
    /// When the order was taken or last made progress.
    pub progress_at: Millis,
    /// Found as a container rather than ordered in this life of the agent.
    pub adopted: bool,
    /// How far it has come; only moves forward.
    pub phase: Phase,
    /// What Docker is doing for it.
    pub op: Option<Op>,
    /// What is known about its image.
    pub image: ImageStep,
    /// A launch got no answer: whether there is a container is not known.
    pub unsure: bool,
    /// Its end, seen before the answer to its launch.
    pub early_end: Option<(String, i64)>,
    /// Its container, once known.
    pub container: Option<Container>,
    /// Since when it has been running.
    pub running: Option<Since>,
    /// Unix milliseconds of its start.
    pub started_wall_ms: Option<u64>,
    /// All it takes is here, and it waits for the place of another.
    pub prepared: bool,
    /// Its probe, while running and if it has one.
    pub prober: Option<Prober>,
    /// A process in it was killed for want of memory.
    pub oom_killed: bool,
    /// With what it ended.
    pub exit_code: Option<i64>,
    /// Why it is over.
    pub verdict: Option<(Reason, String)>,
    /// How its life ended.
    pub death: Option<Death>,
    /// It is on its way out.
    pub leaving: Option<Leaving>,
    /// Not before then, after something failed.
    pub retry_at: Millis,
    /// How often that failed in a row.
    pub retries: u32,
    /// What failed.
    pub trouble: Option<String>,
    /// The step that last learned something about its container.
    pub touched: u64,
    /// When it is to be looked at again; mirrored in the core's queue.
    pub due: Option<Millis>,
    /// What the scheduler was told of it.
    pub report: Reported,
}

/// What an instance's next step depends on besides itself.
#[derive(Clone, Copy, Debug)]
pub struct Gates {
    /// Now.
    pub now: Millis,
    /// Docker answers.
    pub docker_ok: bool,
    /// A complete listing has been seen: what is not known does not exist.
    pub synced: bool,
    /// The scheduler has been met in this life of the agent.
    pub met_scheduler: bool,
    /// The image was seen on the node.
    pub image_seen: bool,
    /// What it is to follow is gone, or there is nothing to follow.
    pub may_launch: bool,
}

/// What comes next for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until then or until something happens.
    Rest(Option<Millis>),
    /// See whether the image is there.
    CheckImage,
    /// Pull the image.
    Pull,
    /// The image is not there and may not be pulled.
    NoImage,
    /// Create and start the container.
    Launch,
    /// Send a probe.
    Probe,
    /// A listing must tell whether there is a container.
    List,
    /// Stop the container.
    Stop,
    /// Remove the container.
    Remove,
    /// It is gone.
    Forget,
}

impl Instance {
    /// An instance that was just ordered.
    pub fn ordered(order: RunOrder, accepted_seq: u64, now: Millis) -> Self {
        Self {
            order: Box::new(order),
            accepted_seq,
            progress_at: now,
            adopted: false,
            phase: Phase::Pending,
            op: None,
            image: ImageStep::Unknown,
            unsure: false,
            early_end: None,
            container: None,
            running: None,
            started_wall_ms: None,
            prepared: false,
            prober: None,
            oom_killed: false,
            exit_code: None,
            verdict: None,
            death: None,
            leaving: None,
            retry_at: 0,
            retries: 0,
            trouble: None,
            touched: 0,
            due: None,
            report: Reported::default(),
        }
    }

    /// What comes next.
    pub fn next(&self, gates: &Gates) -> Next {
        if self.op.is_some() {
            return Next::Rest(None);
        }
        let able = gates.docker_ok && gates.now >= self.retry_at;
        let when_able =
            if gates.docker_ok { Next::Rest(Some(self.retry_at)) } else { Next::Rest(None) };
        let state = self.container_state();

        if let Some(leaving) = &self.leaving {
            return match state {
                ContainerState::Gone if self.unsure => Next::List,
                ContainerState::Gone => Next::Forget,
                ContainerState::Running if gates.now < leaving.drain_until() => {
                    self.probe_or_rest(gates.now, Some(leaving.drain_until()))
                }
                _ if !able => when_able,
                ContainerState::Running => Next::Stop,
                ContainerState::Created | ContainerState::Ended => Next::Remove,
            };
        }
        match self.phase {
            Phase::Running => self.probe_or_rest(gates.now, None),
            // Somebody started a dead container again: an instance has one life.
            Phase::Exited | Phase::Failed if state == ContainerState::Running => {
                if able {
                    Next::Stop
                } else {
                    when_able
                }
            }
            // One that never ran has nothing to be kept for.
            Phase::Exited | Phase::Failed if state == ContainerState::Created => {
                if able {
                    Next::Remove
                } else {
                    when_able
                }
            }
            Phase::Exited | Phase::Failed => Next::Rest(None),
            Phase::Pending | Phase::Pulling | Phase::Created => {
                if !gates.synced || (self.adopted && !gates.met_scheduler) {
                    Next::Rest(None)
                } else if !able {
                    when_able
                } else if self.unsure {
                    Next::List
                } else if state == ContainerState::Created {
                    Next::Launch
                } else {
                    match self.next_for_image(gates.image_seen) {
                        // Whatever it takes is here; its place is not free yet.
                        Next::Launch if !gates.may_launch => Next::Rest(None),
                        next => next,
                    }
                }
            }
        }
    }

    /// Whether all it takes to launch it is there.
    pub fn is_prepared(&self, image_seen: bool) -> bool {
        self.op.is_none()
            && self.phase < Phase::Created
            && self.next_for_image(image_seen) == Next::Launch
    }

    fn next_for_image(&self, seen: bool) -> Next {
        match (self.order.template.pull_policy, self.image) {
            (_, ImageStep::Ready) => Next::Launch,
            (PullPolicy::Always, _) => Next::Pull,
            (PullPolicy::IfNotPresent, ImageStep::Absent) => Next::Pull,
            (PullPolicy::Never, ImageStep::Absent) => Next::NoImage,
            (PullPolicy::IfNotPresent | PullPolicy::Never, ImageStep::Unknown) => {
                if seen {
                    Next::Launch
                } else {
                    Next::CheckImage
                }
            }
        }
    }

    fn probe_or_rest(&self, now: Millis, until: Option<Millis>) -> Next {
        let Some(prober) = &self.prober else { return Next::Rest(until) };
        if prober.is_due(now) {
            return Next::Probe;
        }
        Next::Rest(prober.look_at().into_iter().chain(until).min())
    }

    /// The state of its container; `Gone` if none is known.
    pub fn container_state(&self) -> ContainerState {
        self.container.as_ref().map_or(ContainerState::Gone, |container| container.state)
    }

    /// The id of its container, if that still exists.
    pub fn present_container(&self) -> Option<&str> {
        let container = self.container.as_ref()?;
        (container.state != ContainerState::Gone).then_some(container.id.as_str())
    }

    /// Whether `container_id` is its container.
    pub fn has_container(&self, container_id: &str) -> bool {
        self.container.as_ref().is_some_and(|container| container.id == container_id)
    }

    /// Whether Docker is changing its container right now, so that what anybody
    /// else says about it may be out of date.
    pub fn is_changing(&self) -> bool {
        matches!(self.op, Some(Op::Launch | Op::Stop | Op::Remove))
    }

    /// Its container is the one that `facts` are about.
    pub fn attach(&mut self, facts: &Facts) {
        self.unsure = false;
        self.container = Some(Container {
            id: facts.container_id.clone(),
            state: facts.state,
            ip: facts.ip.clone(),
            ports: facts.ports.clone(),
        });
        self.started_wall_ms = facts.started_at_ms.or(self.started_wall_ms);
        self.oom_killed |= facts.oom_killed;
    }

    /// Moves forward, never back.
    pub fn advance_to(&mut self, phase: Phase) {
        self.phase = self.phase.max(phase);
    }

    /// Sets the state of its container, if it has one.
    pub fn set_state(&mut self, state: ContainerState) {
        if let Some(container) = &mut self.container {
            container.state = state;
        }
    }

    /// Something failed and is to be tried again: later each time.
    pub fn retry_later(&mut self, now: Millis, base_ms: u64, max_ms: u64, trouble: String) {
        let pause = base_ms.saturating_mul(1 << self.retries.min(16)).min(max_ms);
        self.retries = self.retries.saturating_add(1);
        self.retry_at = now.saturating_add(pause);
        self.trouble = Some(trouble);
    }

    /// What failed before no longer matters.
    pub fn clear_trouble(&mut self) {
        self.retry_at = 0;
        self.retries = 0;
        self.trouble = None;
    }
}

impl Leaving {
    fn drain_until(&self) -> Millis {
        match self {
            Leaving::Ordered { drain_until, .. } => *drain_until,
            Leaving::Retired => 0,
        }
    }

    /// Seconds between SIGTERM and SIGKILL.
    pub fn grace_seconds(&self) -> Option<u32> {
        match self {
            Leaving::Ordered { grace_seconds, .. } => Some(*grace_seconds),
            Leaving::Retired => None,
        }
    }
}
