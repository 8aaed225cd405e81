//! What the probe of one running instance says, and when it is due next.
//!
//! `starting` until the first success, whatever fails meanwhile; without one in
//! `startupSeconds`: unhealthy. Later `failureThreshold` failures in a row:
//! unhealthy. As many again: a restart is due. One success: healthy.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::instance::Since;
use super::message::Millis;
use crate::model::{Health, HealthCheckSpec, Timing};

/// The probe of one running instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prober {
    health: Health,
    /// When the probe in flight was sent.
    sent_at: Option<Millis>,
    next_at: Millis,
    /// While starting: the pause after the next failure.
    pause_ms: u64,
    /// The first success is due by then.
    startup_until: Millis,
    /// In a row; counted anew from the moment it turned unhealthy.
    failures: u32,
    healthy: Option<Since>,
    /// It ran before this agent did, so a first success says that it has been
    /// healthy all along.
    adopted: Option<Since>,
    last_failure: Option<String>,
}

impl Prober {
    /// For a container that was just started.
    pub fn fresh(check: &HealthCheckSpec, timing: &Timing, now: Millis) -> Self {
        Self {
            health: Health::Starting,
            sent_at: None,
            next_at: now,
            pause_ms: timing.probe_start_ms,
            startup_until: now.saturating_add(seconds(check.startup_seconds)),
            failures: 0,
            healthy: None,
            adopted: None,
            last_failure: None,
        }
    }

    /// For a container that has been running since before. It gets what is left
    /// of its start-up time, but at least as many probes as anybody else.
    pub fn adopted(check: &HealthCheckSpec, timing: &Timing, now: Millis, running: Since) -> Self {
        let left = seconds(check.startup_seconds).saturating_sub(running.age_ms(now));
        let some_probes = interval_ms(check).saturating_mul(u64::from(threshold(check)));
        Self {
            startup_until: now.saturating_add(left.max(some_probes)),
            adopted: Some(running),
            ..Self::fresh(check, timing, now)
        }
    }

    /// What it says.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Since when it has been healthy without a break.
    pub fn healthy(&self) -> Option<Since> {
        self.healthy
    }

    /// Unhealthy for so many probes that a restart is due.
    pub fn restart_due(&self, check: &HealthCheckSpec) -> bool {
        self.health == Health::Unhealthy && self.failures >= threshold(check)
    }

    /// Why the last probe failed, if it did.
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Whether a probe is to be sent now.
    pub fn is_due(&self, now: Millis) -> bool {
        self.sent_at.is_none() && self.next_at <= now
    }

    /// When to look again if nothing happens before.
    pub fn look_at(&self) -> Option<Millis> {
        let probe = if self.sent_at.is_none() { Some(self.next_at) } else { None };
        let startup = (self.health == Health::Starting).then_some(self.startup_until);
        probe.into_iter().chain(startup).min()
    }

    /// A probe was sent.
    pub fn sent(&mut self, now: Millis) {
        self.sent_at = Some(now);
    }

    /// Time has passed. True if that changed what the probe says.
    pub fn pass_time(&mut self, now: Millis) -> bool {
        let late = self.health == Health::Starting && now >= self.startup_until;
        if late {
            self.turn_unhealthy();
        }
        late
    }

    /// A probe came back. True if that changed what the probe says.
    pub fn take(
        &mut self,
        check: &HealthCheckSpec,
        now: Millis,
        outcome: Result<(), String>,
    ) -> bool {
        let Some(sent_at) = self.sent_at.take() else { return false };
        let before = (self.health, self.restart_due(check));
        let adopted = self.adopted.take();
        self.next_at = sent_at.saturating_add(interval_ms(check)).max(now);
        match outcome {
            Ok(()) => {
                if self.health != Health::Healthy {
                    self.healthy = Some(adopted.unwrap_or(Since::now(now)));
                }
                self.health = Health::Healthy;
                self.failures = 0;
                self.last_failure = None;
            }
            Err(why) => {
                self.failures = self.failures.saturating_add(1);
                self.last_failure = Some(why);
                match self.health {
                    Health::Starting if now >= self.startup_until => self.turn_unhealthy(),
                    Health::Starting => {
                        let pause = self.pause_ms.max(1).min(interval_ms(check));
                        self.next_at = now.saturating_add(pause);
                        self.pause_ms = pause.saturating_mul(2);
                    }
                    Health::Healthy if self.failures >= threshold(check) => self.turn_unhealthy(),
                    Health::Healthy | Health::Unhealthy | Health::Unknown => {}
                }
            }
        }
        before != (self.health, self.restart_due(check))
    }

    fn turn_unhealthy(&mut self) {
        self.health = Health::Unhealthy;
        self.healthy = None;
        self.failures = 0;
    }
}

fn seconds(count: u32) -> u64 {
    u64::from(count) * 1_000
}

fn interval_ms(check: &HealthCheckSpec) -> u64 {
    seconds(check.interval_seconds.max(1))
}

fn threshold(check: &HealthCheckSpec) -> u32 {
    check.failure_threshold.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheckSpec {
        serde_json::from_value(serde_json::json!({"port": 80})).unwrap()
    }

    /// Sends and answers the next probe; returns when it was sent.
    fn round(prober: &mut Prober, outcome: Result<(), &str>) -> Millis {
        let at = prober.next_at;
        assert!(prober.is_due(at) && !at.checked_sub(1).is_some_and(|early| prober.is_due(early)));
        prober.sent(at);
        assert!(!prober.is_due(at), "one at a time");
        prober.take(&check(), at, outcome.map_err(str::to_owned));
        at
    }

    #[test]
    fn starting_is_probed_quickly_and_fails_only_by_its_deadline() {
        let mut prober = Prober::fresh(&check(), &Timing::default(), 1_000);
        let sent: Vec<_> = (0..8).map(|_| round(&mut prober, Err("refused"))).collect();
        assert_eq!(sent[..5], [1_000, 1_100, 1_300, 1_700, 2_500]);
        assert_eq!(sent[7] - sent[6], 5_000, "never slower than the interval");
        assert_eq!(prober.health(), Health::Starting);
        assert!(!prober.pass_time(60_999));
        assert!(prober.pass_time(61_000));
        assert_eq!(prober.health(), Health::Unhealthy);
        assert!(!prober.restart_due(&check()));
    }

    #[test]
    fn thresholds_and_recovery() {
        let mut prober = Prober::fresh(&check(), &Timing::default(), 0);
        round(&mut prober, Ok(()));
        assert_eq!((prober.health(), prober.healthy()), (Health::Healthy, Some(Since::now(0))));
        for (failure, want) in
            [Health::Healthy, Health::Healthy, Health::Unhealthy].iter().enumerate()
        {
            assert_eq!(round(&mut prober, Err("500")), 5_000 * (failure as u64 + 1));
            assert_eq!(prober.health(), *want);
        }
        for want in [false, false, true] {
            round(&mut prober, Err("500"));
            assert_eq!(prober.restart_due(&check()), want);
        }
        let at = round(&mut prober, Ok(()));
        assert_eq!((prober.health(), prober.healthy()), (Health::Healthy, Some(Since::now(at))));
        assert!(!prober.restart_due(&check()));
    }

    #[test]
    fn one_blip_changes_nothing() {
        let mut prober = Prober::fresh(&check(), &Timing::default(), 0);
        for outcome in [Ok(()), Err("x"), Err("x"), Ok(()), Err("x"), Err("x")] {
            round(&mut prober, outcome);
            assert_eq!(prober.health(), Health::Healthy);
        }
    }

    #[test]
    fn an_adopted_one_keeps_its_age_and_gets_a_fair_chance() {
        let running = Since::aged(0, 1_000_000);
        let mut prober = Prober::adopted(&check(), &Timing::default(), 0, running);
        let mut unlucky = prober.clone();
        round(&mut prober, Ok(()));
        assert_eq!(prober.healthy(), Some(running));
        round(&mut unlucky, Err("x"));
        assert_eq!(unlucky.health(), Health::Starting, "one failure proves nothing");
        assert!(unlucky.pass_time(15_000));
    }

    #[test]
    fn an_answer_nobody_waits_for_changes_nothing() {
        let mut prober = Prober::fresh(&check(), &Timing::default(), 0);
        assert!(!prober.take(&check(), 5, Ok(())));
        assert_eq!(prober.health(), Health::Starting);
    }
}
