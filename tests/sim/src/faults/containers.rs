//! Faults of Docker and of what it runs.

use kube_lite::roles::agent::message::ContainerState;

use super::{Mend, World};
use crate::docker::Fails;
use crate::tell;

impl World {
    pub(super) fn docker_hang_strikes(&mut self) {
        let daemon = self.any_daemon();
        let ms = self.faults.rng.spell(500, 90_000);
        tell!(self, "fault", "{} hangs for {ms} ms", self.daemons[daemon].name);
        self.docker_hangs(daemon);
        self.mend_after(ms, Mend::Docker { daemon });
    }

    pub(super) fn docker_restart_strikes(&mut self) {
        let daemon = self.any_daemon();
        let ms = self.faults.rng.spell(300, 90_000);
        let live_restore = self.faults.rng.chance(500);
        let name = self.daemons[daemon].name.clone();
        tell!(self, "fault", "{name} is away for {ms} ms, live-restore: {live_restore}");
        self.docker_goes(daemon, live_restore);
        self.mend_after(ms, Mend::Docker { daemon });
    }

    pub(super) fn docker_failures_strike(&mut self) {
        let daemon = self.any_daemon();
        let rng = &mut self.faults.rng;
        let mut often = || if rng.chance(500) { rng.spell(50, 900) } else { 0 };
        let fails =
            Fails { look: often(), pull: often(), create: often(), start: often(), end: often() };
        let ms = rng.spell(500, 30_000);
        tell!(self, "fault", "{} fails for {ms} ms: {fails:?}", self.daemons[daemon].name);
        self.daemons[daemon].fails = fails;
        self.mend_after(ms, Mend::DockerFails { daemon });
    }

    pub(super) fn docker_slowness_strikes(&mut self) {
        let daemon = self.any_daemon();
        let (by, ms) = (self.faults.rng.spell(50, 8_000), self.faults.rng.spell(500, 30_000));
        tell!(self, "fault", "{} is slower by {by} ms for {ms} ms", self.daemons[daemon].name);
        self.daemons[daemon].slow_ms = by;
        self.mend_after(ms, Mend::DockerFails { daemon });
    }

    pub(super) fn any_container_of(&mut self, running: bool) -> Option<(usize, String)> {
        let mut rng = self.faults.rng.fork();
        self.any_container(&mut rng, running)
    }

    pub(super) fn crash_strikes(&mut self) {
        let Some((daemon, id)) = self.any_container_of(true) else { return };
        let code = *self.faults.rng.pick(&[0, 1, 137]);
        let Some(container) = self.daemons[daemon].containers.get(&id) else { return };
        let run = container.run;
        tell!(self, "fault", "{} crashes", container.instance);
        self.process_ends(daemon, &id, run, code);
    }

    pub(super) fn sickness_strikes(&mut self) {
        let Some((daemon, id)) = self.any_container_of(true) else { return };
        let until = self.now + self.faults.rng.spell(1_000, 60_000);
        let Some(container) = self.daemons[daemon].containers.get_mut(&id) else { return };
        container.sick_until = until;
        let instance = container.instance.clone();
        tell!(self, "fault", "{instance} is ill until {:.3}", until as f64 / 1000.0);
    }

    pub(super) fn meddling_strikes(&mut self) {
        let starts = self.faults.rng.chance(400);
        let Some((daemon, id)) = self.any_container_of(!starts) else { return };
        let Some(container) = self.daemons[daemon].containers.get_mut(&id) else { return };
        let instance = container.instance.clone();
        if starts && container.state == ContainerState::Ended {
            container.revived = true;
            tell!(self, "fault", "a person starts {instance} again");
            // A port that is taken meanwhile keeps it from starting.
            let _ = self.start_container(daemon, &id);
        } else {
            tell!(self, "fault", "a person removes {instance}");
            self.judge.removed_by_others.insert(id.clone());
            self.remove_container(daemon, &id);
        }
    }

    pub(super) fn port_strikes(&mut self) {
        let daemon = self.any_daemon();
        let port = *self.faults.rng.pick(&[5432, 8000]);
        if self.daemons[daemon].containers.values().any(|c| c.holds().any(|held| held == port)) {
            return;
        }
        let ms = self.faults.rng.spell(500, 60_000);
        tell!(
            self,
            "fault",
            "somebody takes port {port} of {} for {ms} ms",
            self.daemons[daemon].name
        );
        self.daemons[daemon].foreign_ports.insert(port);
        self.mend_after(ms, Mend::Port { daemon, port });
    }

    // ---- the end of it ----
}
