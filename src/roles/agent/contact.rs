//! When the agent talks to the scheduler: registration and heartbeats.
//!
//! One call at a time. A heartbeat goes out every `heartbeat_ms`, and at once
//! when something changed (several changes within `coalesce_ms` make one). 422
//! means register again; 409 means that another agent has this node now.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::core::AgentCore;
use super::message::{Action, CallError, Ending, Millis, Registration, Remembered};
use crate::model::wire::{HeartbeatResponse, RegisterRequest};

/// What is known about the scheduler.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    /// Under this epoch; `None`: not registered.
    pub(super) epoch: Option<u64>,
    /// The scheduler has been met in this life of the agent.
    pub(super) met: bool,
    /// The number of the last snapshot made.
    pub(super) seq: u64,
    /// The last time a heartbeat got a 2xx, or the agent's start.
    pub(super) heard_at: Millis,
    /// When this agent said it wanted to be called again.
    pub(super) promised: Option<Millis>,
    calling: bool,
    failures: u32,
    /// Not before then, after a failure.
    retry_at: Millis,
    pub(super) beat_at: Millis,
    /// Something changed: the next heartbeat by then.
    news_by: Option<Millis>,
}

impl Contact {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            epoch: None,
            met: false,
            seq: 0,
            heard_at: now,
            promised: None,
            calling: false,
            failures: 0,
            retry_at: now,
            beat_at: now,
            news_by: None,
        }
    }

    pub(super) fn wake_at(&self) -> Option<Millis> {
        if self.calling {
            return None;
        }
        let at = match self.epoch {
            None => self.retry_at,
            Some(_) => self.news_by.unwrap_or(self.beat_at).min(self.beat_at).max(self.retry_at),
        };
        Some(at)
    }
}

impl AgentCore {
    /// Something changed that the scheduler waits for: tell it at once.
    pub(super) fn news(&mut self) {
        self.news_within(self.timing.coalesce_ms);
    }

    /// Something changed that may wait a little for what comes next.
    pub(super) fn minor_news(&mut self) {
        self.news_within(self.timing.minor_news_ms);
    }

    fn news_within(&mut self, ms: u64) {
        let by = self.now() + ms;
        self.contact.news_by = Some(self.contact.news_by.map_or(by, |before| before.min(by)));
    }

    /// If this process was paused (a stopped VM, a laptop's sleep), the silence
    /// is not the scheduler's.
    pub(super) fn notice_pause(&mut self) {
        let now = self.now();
        let paused = self.contact.promised.is_some_and(|at| now > at + self.timing.pause_gap_ms);
        if paused {
            self.contact.heard_at = now;
        }
    }

    /// Calls the scheduler if it is time to.
    pub(super) fn talk(&mut self) {
        let now = self.now();
        if self.contact.wake_at().is_none_or(|at| at > now) {
            return;
        }
        self.contact.calling = true;
        if self.contact.epoch.is_none() {
            let request = RegisterRequest {
                node_id: self.identity.node.clone(),
                key: self.identity.key.clone(),
                incarnation: self.identity.incarnation,
                advertise: self.identity.advertise.clone(),
                port: self.identity.port,
                docker: self.docker_status(),
                version: self.identity.version.clone(),
            };
            return self.out.actions.push(Action::Register(Box::new(request)));
        }
        self.contact.news_by = None;
        // Many agents may have news at the same time, after a start or a deploy; they
        // do not go on reporting at the same time.
        let had_news = now < self.contact.beat_at;
        let spread = self.timing.heartbeat_ms / if had_news { 1 } else { 8 };
        let jitter = self.draw() % spread.max(1);
        self.contact.beat_at = now + self.timing.heartbeat_ms - jitter;
        self.contact.seq += 1;
        let report = self.report();
        self.out.actions.push(Action::Heartbeat(Box::new(report)));
    }

    pub(super) fn on_registered(&mut self, outcome: Result<Registration, CallError>) {
        self.contact.calling = false;
        match outcome {
            Ok(Registration { response, bind_ip }) => {
                self.belong_to(Remembered { cluster: response.cluster, bind_ip });
                let first = !self.contact.met;
                self.contact.epoch = Some(response.epoch);
                self.contact.met = true;
                self.forget_reports();
                self.contact.failures = 0;
                self.contact.retry_at = self.now();
                self.contact.beat_at = self.now();
                if first {
                    self.advance_all();
                }
            }
            Err(_) => self.call_failed(self.timing.register_retry_ms),
        }
    }

    pub(super) fn on_beat(&mut self, seq: u64, outcome: Result<HeartbeatResponse, CallError>) {
        self.contact.calling = false;
        match outcome {
            Ok(response) => {
                self.contact.failures = 0;
                self.contact.retry_at = self.now();
                self.contact.heard_at = self.now();
                if self.report_answered(seq, &response) {
                    self.acknowledged(seq);
                }
                if self.contact.epoch.is_some_and(|epoch| epoch < response.epoch) {
                    self.contact.epoch = None;
                }
            }
            Err(CallError::Refused { status: 422, .. }) => {
                self.contact.epoch = None;
                self.contact.retry_at = self.now();
            }
            Err(CallError::Refused { status: 409, message }) => {
                self.end(Ending::Superseded(message));
            }
            Err(_) => {
                // What this one told has still to be told.
                self.report_unanswered();
                self.news();
                self.call_failed(self.timing.heartbeat_ms / 8);
            }
        }
    }

    fn call_failed(&mut self, base_ms: u64) {
        let ceiling = self.timing.heartbeat_ms.max(1);
        let pause = base_ms.max(1).saturating_mul(1 << self.contact.failures.min(16)).min(ceiling);
        let jitter = self.draw() % (pause / 4).max(1);
        self.contact.failures = self.contact.failures.saturating_add(1);
        self.contact.retry_at = self.now() + pause - jitter;
    }
}
