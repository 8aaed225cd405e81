//! What the scheduler and Docker say to an agent's core.

use kube_lite::model::Timing;
use kube_lite::model::parse::from_machine;
use kube_lite::model::wire::{
    HeartbeatResponse, OrderBody, OrdersRequest, RunRequest, StopRequest,
};
use kube_lite::roles::agent::core::{AgentCore, Identity};
use kube_lite::roles::agent::message::{
    Action, DockerAction, DockerReport, Input, Moment, Observed, Registration, Remembered,
};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::message as scheduler;
use kube_lite::roles::scheduler::state::State;
use serde_json::json;

use crate::{is_a_sentence, lines, machines, survives_writing};

/// A conversation with an agent's core: each line is orders, containers that Docker
/// lists, an answer to a heartbeat, or a number of milliseconds that pass. Whatever is
/// said, the agent bears it, says why nothing runs that should, and a scheduler bears
/// what the agent says then.
pub fn order(bytes: &[u8]) {
    let mut played = Played::new();
    for line in lines(bytes).take(64) {
        played.say(line);
    }
    played.tick(30_000);
    played.check();
}

struct Played {
    core: AgentCore,
    now: u64,
    wake_at: Option<u64>,
    listing: Option<u64>,
    /// The last heartbeat.
    beat: u64,
}

impl Played {
    fn new() -> Self {
        let identity = Identity {
            node: "n1".into(),
            key: "k".into(),
            incarnation: 7,
            advertise: None,
            port: 8081,
            version: "test".into(),
        };
        let bind_ip = "127.0.0.1".parse().expect("an address");
        let known = Remembered { cluster: "c1".into(), bind_ip };
        let core = AgentCore::new(identity, Timing::default(), Some(known), 0);
        let mut played = Self { core, now: 0, wake_at: Some(0), listing: None, beat: 0 };
        played.tick(0);
        let response = json!({"cluster": "c1", "epoch": 1, "address": "127.0.0.1:8081"});
        let response = serde_json::from_value(response).expect("an answer");
        played.give(Input::Registered(Ok(Registration { response, bind_ip })));
        played.give(Input::Docker(DockerReport::Ok { daemon: "d1".into() }));
        played
    }

    fn say(&mut self, line: &[u8]) {
        if let Ok(OrdersRequest { fence, orders }) = from_machine("orders", line) {
            for (ticket, order) in (1..).zip(orders) {
                let fence = fence.clone();
                self.give(match order {
                    OrderBody::Run(order) => Input::Run {
                        ticket,
                        request: Box::new(RunRequest { fence, order: *order }),
                    },
                    OrderBody::Stop { id, drain_ms, why } => {
                        Input::Stop { ticket, id, request: StopRequest { fence, drain_ms, why } }
                    }
                });
            }
        } else if let Ok(found) = serde_json::from_slice::<Vec<Observed>>(line) {
            if let Some(number) = self.listing.take() {
                self.give(Input::Listed { number, outcome: Ok(found) });
            }
        } else if let Ok(answer) = from_machine::<HeartbeatResponse>("answer", line) {
            self.give(Input::Beat { seq: self.beat, outcome: Ok(answer) });
        } else if let Ok(ms) = String::from_utf8_lossy(line).trim().parse::<u32>() {
            self.tick(ms.into());
        }
    }

    fn tick(&mut self, ms: u64) {
        let end = self.now + ms;
        for _ in 0..50 {
            let Some(at) = self.wake_at.filter(|at| *at <= end) else { break };
            self.now = at.max(self.now);
            self.give(Input::Tick);
        }
        self.now = end;
        self.give(Input::Tick);
    }

    fn give(&mut self, input: Input) {
        let (now_ms, draw) = (self.now, self.now.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let moment = Moment { now_ms, wall_ms: 1_700_000_000_000 + now_ms, draw };
        let step = self.core.step(moment, input);
        self.wake_at = step.wake_at;
        for action in step.actions {
            match action {
                Action::Docker(DockerAction::List { number, .. }) => self.listing = Some(number),
                Action::Heartbeat(beat) => {
                    survives_writing(beat.as_ref());
                    self.beat = beat.seq;
                }
                Action::Docker(action) => survives_writing(&action),
                _ => {}
            }
        }
        for (_, reply) in step.replies {
            if let Err(error) = reply {
                assert!((400..600).contains(&error.status), "{error:?}");
                is_a_sentence(&error.error);
            }
        }
    }

    fn check(&self) {
        let beat = self.core.snapshot();
        survives_writing(&beat);
        for told in &beat.containers {
            let fine = told.phase == kube_lite::model::Phase::Running && !told.stopping;
            assert!(fine || told.reason.is_some(), "it does not say why: {told:?}");
        }
        let mut core = Core::new(State::new("c1".into(), 1), Timing::default());
        let moment = scheduler::Moment { now: 0, wall: 1_700_000_000_000, draw: 1 };
        let hello = json!({"nodeId": "n1", "key": "k", "incarnation": 7, "port": 8081,
                           "docker": {"state": "ok", "daemon": "d1"}});
        let request = serde_json::from_value(hello).expect("a registration");
        let peer = "127.0.0.1".parse().expect("an address");
        core.step(moment, scheduler::Input::Register { ticket: 1, peer, request });
        core.step(moment, scheduler::Input::Heartbeat { ticket: 2, request: beat });
        machines::tells(&core);
    }
}
