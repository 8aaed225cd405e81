//! Images: one look and one pull per image at a time, shared by all instances
//! that wait for it. What may succeed later is tried again, within the order,
//! until nothing has moved for `pull_stall_ms`; what would fail again fails.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeSet;

use super::core::AgentCore;
use super::instance::{ImageStep, Instance, Op};
use super::message::{DockerAction, Millis, PullError};
use crate::model::{InstanceId, Phase, PullPolicy, Reason};

/// Remembering more images than this is no use to anybody.
const IMAGES_SEEN_MOST: usize = 1_000;

/// What is under way for one image.
#[derive(Clone, Debug, Default)]
pub(super) struct ImageWork {
    /// A look is under way, for these.
    checking: Option<BTreeSet<InstanceId>>,
    /// A pull is wanted or under way.
    pull: Option<Pull>,
}

#[derive(Clone, Debug, Default)]
struct Pull {
    waiting: BTreeSet<InstanceId>,
    in_flight: bool,
    cancelled: bool,
    attempts: u32,
    /// Not before then, after a failure.
    retry_at: Millis,
    moved_at: Millis,
    trouble: Option<String>,
}

impl ImageWork {
    fn is_idle(&self) -> bool {
        self.checking.is_none() && self.pull.is_none()
    }

    /// What went wrong with the pull so far, and when it is tried again.
    pub(super) fn trouble(&self) -> Option<(&str, Millis)> {
        let pull = self.pull.as_ref()?;
        Some((pull.trouble.as_deref()?, pull.retry_at))
    }
}

impl AgentCore {
    /// `id` wants to know whether its image is on the node.
    pub(super) fn check_image(&mut self, id: &InstanceId) {
        let Some(image) = self.wait_for_image(id, Op::CheckImage) else { return };
        let work = self.images.entry(image.clone()).or_default();
        let first = work.checking.is_none();
        work.checking.get_or_insert_default().insert(id.clone());
        if first {
            self.emit(DockerAction::CheckImage { image });
        }
    }

    /// `id` wants its image pulled.
    pub(super) fn pull_image(&mut self, id: &InstanceId) {
        let now = self.now();
        let Some(image) = self.wait_for_image(id, Op::Pull) else { return };
        if let Some(instance) = self.instances.get_mut(id) {
            instance.advance_to(Phase::Pulling);
        }
        self.minor_news();
        let work = self.images.entry(image.clone()).or_default();
        let pull = work.pull.get_or_insert_with(|| Pull { moved_at: now, ..Pull::default() });
        pull.waiting.insert(id.clone());
        self.start_pull(&image);
    }

    fn wait_for_image(&mut self, id: &InstanceId, op: Op) -> Option<String> {
        let instance = self.instances.get_mut(id)?;
        instance.op = Some(op);
        Some(instance.order.template.image.clone())
    }

    /// Starts the pull of an image if it is wanted, due, and not under way.
    fn start_pull(&mut self, image: &str) {
        let (now, docker_ok) = (self.now(), self.docker_ok());
        let Some(pull) = self.images.get_mut(image).and_then(|work| work.pull.as_mut()) else {
            return;
        };
        if pull.in_flight || pull.waiting.is_empty() || pull.retry_at > now || !docker_ok {
            return;
        }
        pull.in_flight = true;
        pull.cancelled = false;
        self.emit(DockerAction::Pull { image: image.to_owned() });
    }

    /// `id` no longer waits for its image. A pull that nobody waits for ends.
    pub(super) fn leave_image(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !matches!(instance.op, Some(Op::CheckImage | Op::Pull)) {
            return;
        }
        instance.op = None;
        let image = instance.order.template.image.clone();
        let Some(work) = self.images.get_mut(&image) else { return };
        if let Some(checking) = &mut work.checking {
            checking.remove(id);
        }
        if let Some(pull) = &mut work.pull {
            pull.waiting.remove(id);
            if pull.waiting.is_empty() {
                self.abandon_image(&image);
            }
        }
    }

    /// Ends the pull of an image.
    pub(super) fn abandon_image(&mut self, image: &str) {
        let Some(work) = self.images.get_mut(image) else { return };
        let Some(pull) = &mut work.pull else { return };
        pull.waiting.clear();
        if !pull.in_flight {
            work.pull = None;
            self.drop_if_idle(image);
        } else if !pull.cancelled {
            pull.cancelled = true;
            self.emit(DockerAction::CancelPull { image: image.to_owned() });
        }
    }

    fn drop_if_idle(&mut self, image: &str) {
        if self.images.get(image).is_some_and(ImageWork::is_idle) {
            self.images.remove(image);
        }
    }

    pub(super) fn on_image_checked(&mut self, image: &str, outcome: Result<bool, String>) {
        let waiting = self.images.get_mut(image).and_then(|work| work.checking.take());
        self.drop_if_idle(image);
        if outcome == Ok(true) {
            self.saw_image(image);
        }
        let (now, retry_ms) = (self.now(), self.timing.pull_retry_ms);
        for id in waiting.unwrap_or_default() {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.op = None;
                match &outcome {
                    Ok(there) => {
                        instance.image = if *there { ImageStep::Ready } else { ImageStep::Absent };
                        instance.clear_trouble();
                    }
                    Err(why) => {
                        let trouble = format!("Docker could not say whether it has {image}: {why}");
                        instance.retry_later(now, retry_ms, self.timing.backoff_max_ms, trouble);
                    }
                }
            }
            self.advance(&id);
        }
    }

    pub(super) fn on_pull_progress(&mut self, image: &str) {
        let now = self.now();
        if let Some(pull) = self.images.get_mut(image).and_then(|work| work.pull.as_mut()) {
            pull.moved_at = now;
        }
    }

    pub(super) fn on_pulled(&mut self, image: &str, outcome: Result<(), PullError>) {
        let now = self.now();
        let Some(pull) = self.images.get_mut(image).and_then(|work| work.pull.as_mut()) else {
            return;
        };
        pull.in_flight = false;
        match outcome {
            Ok(()) => self.pull_done(image),
            Err(PullError::Final { reason, message }) => self.pull_over(image, reason, &message),
            Err(_) if pull.cancelled => {
                // It may be wanted again by now.
                let wanted = std::mem::take(&mut pull.waiting);
                self.images.entry(image.to_owned()).or_default().pull = (!wanted.is_empty())
                    .then(|| Pull { waiting: wanted, moved_at: now, ..Pull::default() });
                self.start_pull(image);
                self.drop_if_idle(image);
            }
            Err(PullError::Cancelled) => self.pull_failed(image, "it was cancelled".to_owned()),
            Err(PullError::Transient(why)) => self.pull_failed(image, why),
        }
    }

    fn pull_done(&mut self, image: &str) {
        self.saw_image(image);
        for id in self.end_pull(image) {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.op = None;
                instance.image = ImageStep::Ready;
                instance.clear_trouble();
                instance.progress_at = self.moment.now_ms;
            }
            self.advance(&id);
        }
    }

    /// It will not succeed: everybody who waits for it has failed.
    fn pull_over(&mut self, image: &str, reason: Reason, message: &str) {
        for id in self.end_pull(image) {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.op = None;
            }
            self.fail(&id, reason, message.to_owned());
        }
    }

    fn pull_failed(&mut self, image: &str, why: String) {
        let now = self.now();
        let jitter = self.draw();
        let (base, most) = (self.timing.pull_retry_ms.max(1), self.timing.backoff_max_ms.max(1));
        let Some(pull) = self.images.get_mut(image).and_then(|work| work.pull.as_mut()) else {
            return;
        };
        if now >= pull.moved_at.saturating_add(self.timing.pull_stall_ms) {
            let text = format!("{image} could not be pulled for {}: {why}", self.stall_text());
            return self.pull_over(image, Reason::PullFailed, &text);
        }
        let pause = base.saturating_mul(1 << pull.attempts.min(16)).min(most);
        pull.attempts = pull.attempts.saturating_add(1);
        pull.retry_at = now + pause + jitter % (pause / 4).max(1);
        pull.trouble = Some(why);
        self.minor_news();
    }

    /// Ends the work on a pull and returns who waited for it.
    fn end_pull(&mut self, image: &str) -> BTreeSet<InstanceId> {
        let pull = self.images.get_mut(image).and_then(|work| work.pull.take());
        self.drop_if_idle(image);
        pull.map(|pull| pull.waiting).unwrap_or_default()
    }

    fn stall_text(&self) -> String {
        format!("{} minutes", self.timing.pull_stall_ms / 60_000)
    }

    /// The image may not be pulled, and is not there.
    pub(super) fn no_image(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id) else { return };
        let image = &instance.order.template.image;
        let text =
            format!("{image} is not on the node and pullPolicy \"never\" forbids to pull it");
        self.fail(id, Reason::ImageNotFound, text);
    }

    /// A launch says that the image is not there, whatever was seen before.
    /// True if it may still be pulled.
    pub(super) fn image_is_missing(&mut self, id: &InstanceId) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        self.images_seen.remove(&instance.order.template.image);
        let pull = instance.phase < Phase::Pulling
            && instance.order.template.pull_policy == PullPolicy::IfNotPresent;
        if pull {
            instance.image = ImageStep::Absent;
        }
        pull
    }

    pub(super) fn saw_image(&mut self, image: &str) {
        if self.images_seen.contains(image) {
            return;
        }
        if self.images_seen.len() >= IMAGES_SEEN_MOST {
            self.images_seen.clear();
        }
        self.images_seen.insert(image.to_owned());
    }

    pub(super) fn pass_time_for_images(&mut self) {
        let now = self.now();
        let stall = self.timing.pull_stall_ms;
        let names: Vec<String> = self.images.keys().cloned().collect();
        for image in names {
            let Some(pull) = self.images.get(&image).and_then(|work| work.pull.as_ref()) else {
                continue;
            };
            let stalled = now >= pull.moved_at.saturating_add(stall);
            if pull.waiting.is_empty() || !stalled {
                self.start_pull(&image);
            } else if pull.in_flight {
                self.pull_stalled(&image);
            } else if self.docker_ok() {
                let why = pull.trouble.clone().unwrap_or_default();
                self.pull_failed(&image, why);
            }
        }
    }

    /// Docker is back. That it was away says nothing about pulls.
    pub(super) fn forgive_stalls(&mut self) {
        let now = self.moment.now_ms;
        for pull in self.images.values_mut().filter_map(|work| work.pull.as_mut()) {
            pull.moved_at = now;
        }
    }

    fn pull_stalled(&mut self, image: &str) {
        let waiting = match self.images.get_mut(image).and_then(|work| work.pull.as_mut()) {
            Some(pull) => std::mem::take(&mut pull.waiting),
            None => return,
        };
        self.abandon_image(image);
        let text = format!("the pull of {image} made no progress for {}", self.stall_text());
        for id in waiting {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.op = None;
            }
            self.fail(&id, Reason::PullFailed, text.clone());
        }
    }

    pub(super) fn images_wake_at(&self) -> Option<Millis> {
        let docker_ok = self.docker_ok();
        self.images
            .values()
            .filter_map(|work| work.pull.as_ref())
            .filter(|pull| !pull.waiting.is_empty())
            .filter_map(|pull| match pull.in_flight {
                true => Some(pull.moved_at.saturating_add(self.timing.pull_stall_ms)),
                false => docker_ok.then_some(pull.retry_at),
            })
            .min()
    }

    /// What went wrong with the pull that `instance` waits for.
    pub(super) fn pull_trouble(&self, instance: &Instance) -> Option<(&str, Millis)> {
        self.images.get(&instance.order.template.image)?.trouble()
    }
}
