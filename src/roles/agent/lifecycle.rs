//! Carrying an instance through its life: asking [`Instance::next`] what comes
//! next, and taking in what came of it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::core::AgentCore;
use super::instance::{Death, Gates, Leaving, Next, Op, Since};
use super::launch::launch;
use super::message::{
    Action, ContainerEvent, ContainerState, DockerAction, EventKind, Facts, LaunchOutcome, Millis,
    Probe,
};
use super::orders::Grave;
use super::probe::Prober;
use super::retention::exit_text;
use crate::model::{InstanceId, Phase, Reason};

/// A container that is nobody's and is being removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Stray {
    in_flight: bool,
    retry_at: Millis,
    retries: u32,
}

impl Stray {
    /// Whether its removal is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight
    }
}

impl AgentCore {
    /// Does whatever comes next for an instance.
    pub(super) fn advance(&mut self, id: &InstanceId) {
        let now = self.now();
        let (docker_ok, synced, met_scheduler) = (self.docker_ok(), self.synced, self.contact.met);
        let may_launch = self.may_launch(id);
        let Some(instance) = self.instances.get_mut(id) else { return };
        let health_changed = instance.prober.as_mut().is_some_and(|prober| prober.pass_time(now));
        let image_seen = self.images_seen.contains(&instance.order.template.image);
        let gates = Gates { now, docker_ok, synced, met_scheduler, image_seen, may_launch };
        let next = instance.next(&gates);
        let prepared = !may_launch && synced && docker_ok && instance.is_prepared(image_seen);
        let newly_prepared = prepared && !std::mem::replace(&mut instance.prepared, prepared);
        let rest_until = if let Next::Rest(until) = next { until } else { None };
        debug_assert!(rest_until.is_none_or(|until| until > now), "{id} rests until the past");
        self.reschedule(id, rest_until.map(|until| until.max(now + 1)));
        if health_changed || newly_prepared {
            self.news();
        }
        match next {
            Next::Rest(_) => {}
            Next::CheckImage => self.check_image(id),
            Next::Pull => self.pull_image(id),
            Next::NoImage => self.no_image(id),
            Next::Launch => self.launch(id),
            Next::Probe => self.probe(id),
            Next::List => self.docker.list_wanted = true,
            Next::Stop => self.stop_container(id),
            Next::Remove => self.remove_container(id),
            Next::Forget => self.forget(id),
        }
    }

    /// Whether what `id` is to follow is known to be gone: an instance that needs another
    /// one's place is launched when that is free.
    fn may_launch(&self, id: &InstanceId) -> bool {
        let after = self.instances.get(id).and_then(|instance| instance.order.after.as_ref());
        let Some(before) = after else { return true };
        match self.instances.get(before) {
            Some(before) => {
                matches!(before.container_state(), ContainerState::Ended | ContainerState::Gone)
                    && before.phase.is_final()
            }
            // On another node, for all that is known here: the scheduler says when.
            None => self.tombstones.get(before).is_some_and(|stone| stone.grave == Grave::Gone),
        }
    }

    /// Looks at those that waited for `gone`.
    pub(super) fn advance_followers(&mut self, gone: &InstanceId) {
        let followers: Vec<InstanceId> = self
            .instances
            .values()
            .filter(|instance| instance.order.after.as_ref() == Some(gone))
            .map(|instance| instance.order.id.clone())
            .collect();
        for id in &followers {
            self.advance(id);
        }
    }

    // --- starting ----------------------------------------------------------

    fn launch(&mut self, id: &InstanceId) {
        let Some(known) = &self.cluster else { return };
        let (cluster, bind_ip) = (known.cluster.clone(), known.bind_ip);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.op = Some(Op::Launch);
        instance.early_end = None;
        let made = launch(&instance.order, &cluster, &self.identity.node, bind_ip);
        self.minor_news();
        self.emit(DockerAction::Launch(Box::new(made)));
    }

    pub(super) fn on_launched(&mut self, id: &InstanceId, outcome: LaunchOutcome) {
        let (now, steps) = (self.now(), self.steps);
        let known = self.instances.get_mut(id).filter(|known| known.op == Some(Op::Launch));
        let Some(instance) = known else {
            // Its cluster was left meanwhile.
            if let LaunchOutcome::Started(facts) = outcome {
                self.remove_stray(facts.container_id);
            }
            return;
        };
        instance.op = None;
        instance.touched = steps;
        let early_end = instance.early_end.take();
        match outcome {
            LaunchOutcome::Started(mut facts) => {
                if let Some((container_id, exit_code)) = early_end
                    && container_id == facts.container_id
                {
                    facts.state = ContainerState::Ended;
                    facts.exit_code = Some(exit_code);
                }
                let image = instance.order.template.image.clone();
                self.saw_image(&image);
                self.take_facts(id, &facts);
                self.advance(id);
            }
            LaunchOutcome::Failed { reason, message, left_over } => {
                if let Some(container_id) = left_over {
                    self.remove_stray(container_id);
                }
                if reason == Reason::ImageNotFound && self.image_is_missing(id) {
                    return self.advance(id);
                }
                self.fail(id, reason, message);
            }
            LaunchOutcome::Unknown(trouble) => {
                instance.unsure = true;
                let base_ms = self.timing.stop_retry_ms;
                instance.retry_later(now, base_ms, self.timing.backoff_max_ms, trouble);
                self.docker.list_wanted = true;
                self.advance(id);
            }
        }
    }

    /// A complete listing does not show the container of a launch that got no
    /// answer: it is launched again, unless that has been going on for too long.
    pub(super) fn launch_had_no_effect(&mut self, id: &InstanceId) {
        let now = self.now();
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.unsure = false;
        let stalled = now >= instance.progress_at.saturating_add(self.timing.pull_stall_ms);
        if stalled && instance.leaving.is_none() {
            let trouble = instance.trouble.take().unwrap_or_default();
            let text = format!("Docker did not start it in time, again and again: {trouble}");
            return self.fail(id, Reason::DockerUnavailable, text);
        }
        self.advance(id);
    }

    // --- running -----------------------------------------------------------

    /// What is now known about the container of `id`. Phases only move forward.
    pub(super) fn take_facts(&mut self, id: &InstanceId, facts: &Facts) {
        let (now, wall, steps) = (self.now(), self.moment.wall_ms, self.steps);
        let Some(instance) = self.instances.get_mut(id) else { return };
        self.by_container.insert(facts.container_id.clone(), id.clone());
        instance.attach(facts);
        instance.touched = steps;
        if instance.phase.is_final() {
            return;
        }
        let aged = |at: Option<u64>| Since::aged(now, at.map_or(0, |at| wall.saturating_sub(at)));
        match facts.state {
            ContainerState::Created => instance.advance_to(Phase::Created),
            ContainerState::Running if instance.phase < Phase::Running => {
                let running =
                    if instance.adopted { aged(facts.started_at_ms) } else { Since::now(now) };
                instance.clear_trouble();
                instance.advance_to(Phase::Running);
                instance.running = Some(running);
                instance.prober = instance.order.template.health_check.as_ref().map(|check| {
                    match instance.adopted {
                        true => Prober::adopted(check, &self.timing, now, running),
                        false => Prober::fresh(check, &self.timing, now),
                    }
                });
                self.news();
            }
            ContainerState::Running | ContainerState::Gone => {}
            ContainerState::Ended => {
                instance.running.get_or_insert(aged(facts.started_at_ms));
                self.ended(id, facts.exit_code, facts.finished_at_ms);
            }
        }
    }

    fn probe(&mut self, id: &InstanceId) {
        let now = self.now();
        let Some(instance) = self.instances.get_mut(id) else { return };
        let (Some(prober), Some(container)) = (&mut instance.prober, &instance.container) else {
            return;
        };
        let Some(check) = &instance.order.template.health_check else { return };
        prober.sent(now);
        let ip = container.ip.clone();
        let probe = Probe {
            id: id.clone(),
            container_id: container.id.clone(),
            ip: ip.clone().unwrap_or_default(),
            port: check.port,
            path: check.path.clone(),
            timeout_ms: u64::from(check.timeout_seconds.max(1)) * 1_000,
        };
        if ip.is_none() {
            let container_id = probe.container_id;
            let why = "the container has no address to be probed at".to_owned();
            return self.on_probed(id, &container_id, Err(why));
        }
        self.out.actions.push(Action::Probe(probe));
        let until = self.instances[id].prober.as_ref().and_then(Prober::look_at);
        self.reschedule(id, until);
    }

    /// A probe's result counts only if that very container still runs.
    pub(super) fn on_probed(
        &mut self,
        id: &InstanceId,
        container_id: &str,
        outcome: Result<(), String>,
    ) {
        let now = self.now();
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !instance.has_container(container_id)
            || instance.container_state() != ContainerState::Running
            || instance.phase != Phase::Running
        {
            return;
        }
        let check = instance.order.template.health_check.as_ref();
        let (Some(prober), Some(check)) = (&mut instance.prober, check) else { return };
        if prober.take(check, now, outcome) {
            self.news();
        }
        self.advance(id);
    }

    // --- the end of a life ---------------------------------------------------

    pub(super) fn on_event(&mut self, event: ContainerEvent) {
        let ContainerEvent { container_id, cluster, id, kind } = event;
        if self.cluster() != Some(&cluster) {
            return; // another sandbox with a node of the same name
        }
        let steps = self.steps;
        let Some(instance) = self.instances.get_mut(&id) else {
            if kind == EventKind::Start {
                self.docker.list_wanted = true;
            }
            return;
        };
        if instance.op == Some(Op::Launch) {
            match kind {
                EventKind::Create => instance.advance_to(Phase::Created),
                EventKind::Die { exit_code } => {
                    instance.early_end = Some((container_id, exit_code));
                }
                EventKind::Oom => instance.oom_killed = true,
                EventKind::Start | EventKind::Destroy => {}
            }
            return;
        }
        if !instance.has_container(&container_id) {
            // Made by somebody else, or by a launch whose answer was lost.
            if kind == EventKind::Start {
                self.docker.list_wanted = true;
            }
            return;
        }
        match kind {
            EventKind::Create => {}
            EventKind::Start if instance.container_state() == ContainerState::Running => {}
            EventKind::Start => self.docker.list_wanted = true,
            EventKind::Oom => instance.oom_killed = true,
            EventKind::Die { exit_code } => {
                instance.touched = steps;
                instance.set_state(ContainerState::Ended);
                self.ended(&id, Some(exit_code), None);
                self.advance(&id);
            }
            EventKind::Destroy => self.vanished(&id),
        }
    }

    /// Its process has ended by itself, or because it was stopped.
    fn ended(&mut self, id: &InstanceId, exit_code: Option<i64>, finished_at_ms: Option<u64>) {
        let now = self.now();
        let Some(instance) = self.instances.get_mut(id) else { return };
        if instance.phase.is_final() {
            return;
        }
        let age = finished_at_ms.map_or(0, |at| self.moment.wall_ms.saturating_sub(at));
        let since_start = instance.running.map(|since| since.age_ms(now));
        let ran_for_ms = since_start.map(|ran| ran.saturating_sub(age));
        instance.advance_to(Phase::Exited);
        instance.exit_code = exit_code;
        let verdict = exit_text(exit_code, instance.oom_killed, ran_for_ms);
        self.died(id, verdict, Since::aged(now, age), ran_for_ms);
    }

    /// It could not be started, or is no more.
    pub(super) fn fail(&mut self, id: &InstanceId, reason: Reason, message: String) {
        let now = self.now();
        let Some(instance) = self.instances.get_mut(id) else { return };
        if !instance.phase.is_final() {
            let ran_for_ms = instance.running.map(|since| since.age_ms(now));
            instance.advance_to(Phase::Failed);
            self.died(id, (reason, message), Since::now(now), ran_for_ms);
        }
        self.advance(id);
    }

    fn died(
        &mut self,
        id: &InstanceId,
        verdict: (Reason, String),
        at: Since,
        ran_for_ms: Option<u64>,
    ) {
        let seq = self.contact.seq + 1;
        let wall_ms = self.moment.wall_ms.saturating_sub(at.age_ms(self.now()));
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.verdict = Some(verdict);
        instance.prober = None;
        instance.clear_trouble();
        let (acknowledged, found) = (false, false);
        instance.death = Some(Death { at, seq, acknowledged, found, ran_for_ms, wall_ms });
        self.unacknowledged.insert((seq, wall_ms, id.clone()));
        self.consider_restart(id);
        self.advance_followers(id);
        self.news();
    }

    /// Its container is no more, and we did not remove it.
    pub(super) fn vanished(&mut self, id: &InstanceId) {
        let steps = self.steps;
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.touched = steps;
        instance.set_state(ContainerState::Gone);
        if instance.is_changing() {
            return;
        }
        if let Some(container) = &instance.container {
            self.by_container.remove(&container.id);
        }
        if instance.leaving.is_none() {
            let text = "its container was removed by somebody else".to_owned();
            self.fail(id, Reason::Removed, text);
        } else {
            self.advance(id);
        }
    }

    // --- stopping ------------------------------------------------------------

    fn stop_container(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(container) = &instance.container else { return };
        let container_id = container.id.clone();
        let grace_seconds = instance
            .leaving
            .as_ref()
            .and_then(Leaving::grace_seconds)
            .unwrap_or(instance.order.template.stop_grace_period_seconds);
        instance.op = Some(Op::Stop);
        instance.prober = None;
        self.emit(DockerAction::Stop { container_id, grace_seconds });
    }

    pub(super) fn on_stopped(&mut self, container_id: &str, outcome: Result<(), String>) {
        let Some(id) = self.owner_doing(container_id, Op::Stop) else { return };
        self.finish_op(&id, outcome, "could not be stopped", ContainerState::Ended);
    }

    fn remove_container(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(container) = &instance.container else { return };
        let container_id = container.id.clone();
        instance.op = Some(Op::Remove);
        self.emit(DockerAction::Remove { container_id });
    }

    pub(super) fn on_removed(&mut self, container_id: &str, outcome: Result<(), String>) {
        // What a failed launch left over may have been listed as its own meanwhile: then
        // it is removed as both, and the answer is for both.
        if self.strays.contains_key(container_id) {
            self.on_stray_removed(container_id, outcome.is_ok());
        }
        let Some(id) = self.owner_doing(container_id, Op::Remove) else { return };
        self.finish_op(&id, outcome, "could not be removed", ContainerState::Gone);
    }

    fn owner_doing(&self, container_id: &str, op: Op) -> Option<InstanceId> {
        let id = self.by_container.get(container_id)?;
        (self.instances.get(id)?.op == Some(op)).then(|| id.clone())
    }

    /// A stop or a removal is over: on to what comes next, or to another try.
    fn finish_op(
        &mut self,
        id: &InstanceId,
        outcome: Result<(), String>,
        failed: &str,
        state: ContainerState,
    ) {
        let (now, steps) = (self.now(), self.steps);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.op = None;
        instance.touched = steps;
        match outcome {
            Ok(()) => {
                instance.clear_trouble();
                let reached = instance.container_state().max(state);
                instance.set_state(reached);
            }
            Err(why) => {
                let base_ms = self.timing.stop_retry_ms;
                let trouble = format!("its container {failed}: {why}");
                instance.retry_later(now, base_ms, self.timing.backoff_max_ms, trouble);
                self.docker.list_wanted = true;
                self.news();
            }
        }
        self.advance(id);
    }

    // --- strays --------------------------------------------------------------

    /// A container with our labels that is nobody's: it goes.
    pub(super) fn remove_stray(&mut self, container_id: String) {
        self.strays.entry(container_id).or_default();
    }

    fn on_stray_removed(&mut self, container_id: &str, gone: bool) {
        if gone {
            self.strays.remove(container_id);
        } else if let Some(stray) = self.strays.get_mut(container_id) {
            let pause = self.timing.stop_retry_ms.saturating_mul(1 << stray.retries.min(16));
            stray.in_flight = false;
            stray.retries = stray.retries.saturating_add(1);
            stray.retry_at = self.moment.now_ms + pause.min(self.timing.backoff_max_ms);
        }
    }

    pub(super) fn pass_time_for_strays(&mut self) {
        if !self.docker_ok() {
            return;
        }
        let now = self.moment.now_ms;
        for (container_id, stray) in &mut self.strays {
            if !stray.in_flight && stray.retry_at <= now {
                stray.in_flight = true;
                let container_id = container_id.clone();
                self.out.actions.push(Action::Docker(DockerAction::Remove { container_id }));
            }
        }
    }

    pub(super) fn strays_wake_at(&self) -> Option<Millis> {
        let waiting = self.strays.values().filter(|stray| !stray.in_flight);
        if self.docker_ok() { waiting.map(|stray| stray.retry_at).min() } else { None }
    }
}
