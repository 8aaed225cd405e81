//! The network between people, the scheduler and the agents: it loses, doubles,
//! delays and reorders, and is cut in either direction.

use kube_lite::model::ApiError;

use crate::agent::CallBody;
use crate::clock::Time;
use crate::world::{Event, Packet, World};
use crate::{mutter, tell};

/// How the network misbehaves, in permille of messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Never arrive.
    pub lost: u64,
    /// Arrive twice.
    pub doubled: u64,
    /// Arrive late.
    pub delayed: u64,
    /// By at most so much.
    pub delay_ms: u64,
}

/// The network as a whole.
#[derive(Debug, Default)]
pub struct Network {
    /// How it is just now.
    pub weather: Weather,
}

/// The way between a machine and the scheduler.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Nothing gets from the machine to the scheduler before then.
    pub out_cut_until: Time,
    /// Nothing gets from the scheduler to the machine before then.
    pub in_cut_until: Time,
    /// The scheduler's orders do not get through before then; its answers do.
    pub deaf_until: Time,
}

impl World {
    /// Puts a message on its way, if the way is open at all.
    fn send(&mut self, open: bool, packet: Packet) {
        let Weather { lost, doubled, delayed, delay_ms } = self.network.weather;
        if !open || self.rng.chance(lost) {
            mutter!(self, "network", "lost: {}", packet.in_short());
            return;
        }
        // What a person asks is not asked again by itself: ctl does not, and TCP delivers
        // once.
        let doubled = if matches!(packet, Packet::Ask { .. }) { 0 } else { doubled };
        let copies = if self.rng.chance(doubled) { 2 } else { 1 };
        for copy in 0..copies {
            let mut takes = self.rng.range(1, 3);
            if self.rng.chance(delayed) {
                takes += self.rng.below(delay_ms);
            }
            if copy > 0 {
                mutter!(self, "network", "doubled: {}", packet.in_short());
            }
            self.plan(takes, Event::Arrives(packet.clone()));
        }
    }

    /// From a machine to the scheduler.
    pub fn send_up(&mut self, machine: usize, packet: Packet) {
        let open = self.machines[machine].link.out_cut_until <= self.now;
        self.send(open, packet);
    }

    /// From the scheduler to a machine.
    pub fn send_down(&mut self, machine: usize, packet: Packet) {
        let link = self.machines[machine].link;
        let deaf = matches!(packet, Packet::Order { .. }) && link.deaf_until > self.now;
        self.send(link.in_cut_until <= self.now && !deaf, packet);
    }

    /// Between people and the scheduler.
    pub fn send_around(&mut self, packet: Packet) {
        self.send(true, packet);
    }

    /// A message arrives, if somebody is there.
    pub fn arrives(&mut self, packet: Packet) {
        mutter!(self, "network", "arrives: {}", packet.in_short());
        match packet {
            Packet::Call { machine, life, call, body } => {
                if self.scheduler.process.is_some() {
                    self.scheduler_called(machine, life, call, *body);
                } else {
                    // Nobody listens: refused at once.
                    let packet = Packet::CallAnswer { machine, life, call, answer: None };
                    self.send_down(machine, packet);
                }
            }
            Packet::CallAnswer { machine, life, call, answer } => {
                self.call_answered(machine, life, call, answer, "connection refused");
            }
            Packet::Order { life, number, order } => self.order_arrives(life, number, *order),
            Packet::OrderAnswer { life, number, answer } => {
                self.order_answered(life, number, answer, "connection refused");
            }
            Packet::Ask { op, call } => {
                if self.scheduler.process.is_some() {
                    self.scheduler_asked(op, *call);
                } else {
                    self.send_around(Packet::Told { op, answer: None });
                }
            }
            Packet::Told { op, answer } => self.user_told(op, answer),
        }
    }

    /// Passes a value through its encoding, as if over the wire: what comes out
    /// has to be what went in.
    pub fn over_the_wire<T>(&mut self, what: &str, value: T) -> T
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        if !self.setup.encodes {
            return value;
        }
        let bytes = serde_json::to_vec(&value).unwrap_or_default();
        match kube_lite::model::parse::from_machine::<T>(what, &bytes) {
            Ok(read) if read == value => read,
            Ok(read) => {
                let text = format!("{what} was {value:?} and is read back as {read:?}");
                self.judge.object("wire", text);
                value
            }
            Err(error) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.judge.object("wire", format!("{what} cannot be read back: {error}: {text}"));
                value
            }
        }
    }

    /// The same for an error, whose status travels beside it.
    pub fn error_over_the_wire(&mut self, error: ApiError) -> ApiError {
        let status = error.status;
        let bare = ApiError { status: 0, ..error };
        ApiError { status, ..self.over_the_wire("error", bare) }
    }

    /// Says how the network is from now on.
    pub fn set_weather(&mut self, weather: Weather) {
        self.network.weather = weather;
        tell!(self, "network", "is now {weather:?}");
    }
}

impl Packet {
    fn in_short(&self) -> String {
        match self {
            Packet::Call { machine, body, .. } => match &**body {
                CallBody::Register(request) => {
                    format!("registration of {} from machine {machine}", request.node_id)
                }
                CallBody::Heartbeat(request) => {
                    format!("heartbeat {} of {}", request.seq, request.node_id)
                }
            },
            Packet::CallAnswer { machine, answer, .. } => {
                format!("answer to machine {machine}: {answer:?}")
            }
            Packet::Order { order, .. } => format!("order {:?}", order.body),
            Packet::OrderAnswer { answer, .. } => format!("answer to an order: {answer:?}"),
            Packet::Ask { call, .. } => format!("{call:?}"),
            Packet::Told { answer, .. } => format!("answer to a person: {answer:?}"),
        }
    }
}
