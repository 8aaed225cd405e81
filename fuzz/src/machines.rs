//! What agents send to the scheduler, and what both say to each other.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use kube_lite::identity::message::{CertificateRequest, CertificateResponse};
use kube_lite::model::parse::{from_machine, from_people};
use kube_lite::model::wire::{
    HeartbeatRequest, HeartbeatResponse, OrderAccepted, OrderOutcome, OrdersRequest,
    RegisterRequest, RegisterResponse, RunRequest, StopRequest,
};
use kube_lite::model::{ClusterId, Timing, WorkloadSpec, validate};
use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::durable::{FORMAT, Meta};
use kube_lite::roles::scheduler::message::{Input, Moment, Record, UserCall};
use kube_lite::roles::scheduler::recording::Checkpoint;
use kube_lite::roles::scheduler::state::State;
use kube_lite::roles::scheduler::views::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{is_a_sentence, lines, survives_writing};

/// Any message between the parts.
pub fn message(bytes: &[u8]) {
    one::<RegisterRequest>(bytes);
    one::<RegisterResponse>(bytes);
    one::<HeartbeatRequest>(bytes);
    one::<HeartbeatResponse>(bytes);
    one::<RunRequest>(bytes);
    one::<StopRequest>(bytes);
    one::<OrdersRequest>(bytes);
    one::<OrderAccepted>(bytes);
    one::<Vec<OrderOutcome>>(bytes);
    one::<CertificateRequest>(bytes);
    one::<CertificateResponse>(bytes);
}

fn one<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    match from_machine::<T>("message", bytes) {
        Ok(read) => survives_writing(&read),
        Err(error) => {
            assert_eq!((error.status, error.reason.as_str()), (400, "BadJson"), "{error:?}");
            is_a_sentence(&error.error);
        }
    }
}

/// A conversation with a scheduler's core: each line is a heartbeat, a registration, a
/// spec to be deployed, or a number of milliseconds that pass. Whatever agents say, the
/// core bears it, can tell of it, and what it wrote down is enough to start from again.
pub fn heartbeat(bytes: &[u8]) {
    let mut played = Played::new();
    for line in lines(bytes).take(32) {
        played.say(line);
    }
    played.tick(60_000);
    played.check();
}

/// The largest workload that is deployed here: larger ones are slow, and no different.
const MOST_REPLICAS: u32 = 20;

struct Played {
    core: Core,
    now: u64,
    stored: BTreeMap<String, Value>,
}

impl Played {
    fn new() -> Self {
        let core = Core::new(State::new(ClusterId::from("c1"), 1), Timing::default());
        Self { core, now: 0, stored: BTreeMap::new() }
    }

    fn say(&mut self, line: &[u8]) {
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if let Ok(request) = from_machine("heartbeat", line) {
            self.give(Input::Heartbeat { ticket: 1, request });
        } else if let Ok(request) = from_machine("registration", line) {
            self.give(Input::Register { ticket: 2, peer, request });
        } else if let Ok(spec) = from_people::<WorkloadSpec>(line) {
            let small = spec.replicas.is_none_or(|replicas| replicas <= MOST_REPLICAS);
            if small && validate::validate(&spec).is_ok() {
                let (by, call) = ("somebody".to_owned(), UserCall::Deploy(Box::new(spec)));
                self.give(Input::User { ticket: 3, by, call });
            }
        } else if let Ok(ms) = String::from_utf8_lossy(line).trim().parse::<u32>() {
            self.tick(ms.into());
        }
    }

    /// Time passes, and the core is called as often as it wants to be.
    fn tick(&mut self, ms: u64) {
        let end = self.now + ms;
        for _ in 0..8 {
            self.now = self.core.wake_at().clamp(self.now, end);
            self.give(Input::Tick);
        }
        self.now = end;
        self.give(Input::Tick);
    }

    fn give(&mut self, input: Input) {
        let (now, draw) = (self.now, self.now.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let step = self.core.step(Moment { now, wall: 1_700_000_000_000 + now, draw }, input);
        for Record { key, value } in step.records {
            match value {
                Some(value) => self.stored.insert(key, value),
                None => self.stored.remove(&key),
            };
        }
        for (_, reply) in &step.replies {
            if let Err(error) = reply {
                assert!((400..600).contains(&error.status), "{error:?}");
                is_a_sentence(&error.error);
            }
        }
        for event in &step.events {
            is_a_sentence(&event.message);
        }
    }

    fn check(self) {
        tells(&self.core);
        let (now, timing) = (self.now, Timing::default());
        let moment = Moment { now, wall: 1_700_000_000_000 + now, draw: 1 };
        let meta = Meta { format: FORMAT, cluster: "c1".into(), epoch: 2 };
        let again = Core::recover(&meta, &self.stored, timing, moment);
        let again = again.unwrap_or_else(|error| panic!("cannot start again: {error}: {error:?}"));
        tells(&again);
        let names = |core: &Core| core.state.workloads.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&self.core), names(&again));
        let nodes = |core: &Core| core.state.nodes.keys().cloned().collect::<Vec<_>>();
        assert_eq!(nodes(&self.core), nodes(&again));
        let text = serde_json::to_vec(&Checkpoint::Running(Box::new(self.core)));
        let text = text.expect("a core can be recorded");
        let read: Checkpoint = serde_json::from_slice(&text).expect("and read back");
        let again = serde_json::to_vec(&read).expect("and recorded again");
        assert!(text == again, "another one was read back");
    }
}

/// All that can be asked about a core can be told.
pub(crate) fn tells(core: &Core) {
    let snapshot = Snapshot { state: core.state.clone(), now: core.state.now };
    let told = |value: Result<Vec<u8>, serde_json::Error>| value.expect("it can be told");
    told(serde_json::to_vec(&snapshot.workloads()));
    told(serde_json::to_vec(&snapshot.nodes()));
    told(serde_json::to_vec(&snapshot.instances(None)));
    told(serde_json::to_vec(&snapshot.health()));
    for name in core.state.workloads.keys() {
        let name = name.as_str();
        told(serde_json::to_vec(&snapshot.explain(name)));
        told(serde_json::to_vec(&snapshot.history(name)));
        told(serde_json::to_vec(&snapshot.discover(name)));
    }
}
