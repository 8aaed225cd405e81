//! People: they deploy, change, scale, roll, pause, abort, undo, delete, drain and
//! remove, without much sense, and each waits for the answer about a thing before
//! saying the next about it.

use std::collections::BTreeMap;

use kube_lite::model::validate::validate;
use kube_lite::model::{ApiError, Extent, NodeId, WorkloadSpec};
use kube_lite::roles::scheduler::message::{Reply, RolloutCall, UserCall};
use serde_json::json;

use crate::rng::Rng;
use crate::setup::Setup;
use crate::tell;
use crate::world::{Event, Packet, World};

/// A person waits so long for an answer.
const PATIENCE_MS: u64 = 8_000;
/// Images that are worth having.
const GOOD: [&str; 6] = ["good:1", "good:2", "good:3", "lazy:1", "stubborn:1", "big:1"];
/// Images that are not.
const BAD: [&str; 6] = ["crash:1", "eager:1", "sick:1", "turncoat:1", "missing:1", "denied:1"];
/// Images that finish.
const JOBS: [&str; 4] = ["job:1", "quickjob:1", "badjob:1", "dicejob:1"];

/// People.
#[derive(Debug)]
pub struct Users {
    rng: Rng,
    /// What was asked and not answered, by what it is about.
    open: BTreeMap<u64, String>,
    /// The last answer, for who waits for it.
    pub answers: BTreeMap<u64, Option<Result<Reply, ApiError>>>,
    /// They have gone home.
    pub at_home: bool,
}

impl Users {
    /// People, as this seed has them.
    pub fn new(_setup: &Setup, rng: Rng) -> Self {
        Self { rng, open: BTreeMap::new(), answers: BTreeMap::new(), at_home: false }
    }

    fn template(&mut self, name: &str) -> serde_json::Value {
        let rng = &mut self.rng;
        let job = name == "job";
        let image = match () {
            () if job && rng.chance(800) => *rng.pick(&JOBS),
            () if rng.chance(200) => *rng.pick(&BAD),
            () if rng.chance(20) => "job:1",
            () => *rng.pick(&GOOD),
        };
        let policy = match job {
            true => *rng.pick(&["never", "onFailure"]),
            false if rng.chance(80) => *rng.pick(&["never", "onFailure"]),
            false => "always",
        };
        let mut ports = Vec::new();
        match name {
            "db" if rng.chance(600) => {
                ports.push(json!({"containerPort": 5432, "hostPort": 5432, "fixed": true}));
            }
            "api" if rng.chance(600) => ports.push(json!({"containerPort": 80, "hostPort": 8000})),
            _ if rng.chance(300) => ports.push(json!({"containerPort": 80})),
            _ => {}
        }
        let check = rng.chance(450).then(|| {
            json!({
                "port": 80,
                "intervalSeconds": *rng.pick(&[2, 5]),
                "failureThreshold": *rng.pick(&[1, 3]),
                "startupSeconds": *rng.pick(&[8, 20]),
            })
        });
        json!({
            "image": image,
            "restartPolicy": policy,
            "ports": ports,
            "healthCheck": check,
            "pullPolicy": rng.weighted(&[(8, "ifNotPresent"), (1, "always"), (1, "never")]),
            "stopGracePeriodSeconds": *rng.pick(&[0, 2, 10]),
            "env": { "V": rng.below(3).to_string() },
        })
    }

    fn strategy(&mut self) -> serde_json::Value {
        let rng = &mut self.rng;
        let mut strategy = json!({
            "maxSurge": rng.pick(&[json!(0), json!(1), json!(1), json!(2), json!("50%")]),
            "progressDeadlineSeconds": *rng.pick(&[15, 40]),
            "drainSeconds": rng.below(3),
        });
        if rng.chance(400) {
            let most = rng.pick(&[json!(0), json!(1), json!("50%")]).clone();
            strategy["maxUnavailable"] = most;
        }
        strategy
    }

    /// A spec, as a person might write it.
    pub fn spec(&mut self, name: &str, known: Option<&WorkloadSpec>) -> Option<WorkloadSpec> {
        let same = known.filter(|_| self.rng.chance(450));
        let mut spec = match same {
            // The same again, but for a detail.
            Some(known) => serde_json::to_value(known).ok()?,
            None => self.template(name),
        };
        spec["name"] = json!(name);
        if same.is_some() {
            spec["image"] = self.template(name)["image"].clone();
        }
        if same.is_none() || self.rng.chance(200) {
            spec["strategy"] = self.strategy();
            spec["minReadySeconds"] = json!(*self.rng.pick(&[0, 0, 2, 6]));
        }
        match self.rng.chance(700) {
            true => spec["replicas"] = json!(self.rng.below(6)),
            false => drop(spec.as_object_mut()?.remove("replicas")),
        }
        if spec["healthCheck"].is_null() {
            spec.as_object_mut()?.remove("healthCheck");
        }
        let bytes = serde_json::to_vec(&spec).ok()?;
        let spec: WorkloadSpec = kube_lite::model::parse::from_people(&bytes).ok()?;
        validate(&spec).is_ok().then_some(spec)
    }
}

impl World {
    /// A person does something.
    pub fn user_acts(&mut self) {
        if self.users.at_home || self.now >= self.setup.chaos_until {
            return;
        }
        let every = self.setup.users_every_ms;
        let after = self.users.rng.range(50, every * 2);
        self.plan(after, Event::UserActs);
        let (about, call) = match self.users.rng.chance(870) {
            true => {
                let name = *self.users.rng.pick(&self.setup.names);
                (name.to_owned(), self.call_about(name))
            }
            false => {
                let machine = self.users.rng.below(self.machines.len() as u64) as usize;
                let node = self.machines[machine].node.clone();
                (format!("node {node}"), Some(self.call_about_node(node)))
            }
        };
        let Some(call) = call else { return };
        if !self.users.open.values().any(|open| *open == about) {
            self.ask(&about, call);
        }
    }

    fn call_about(&mut self, name: &str) -> Option<UserCall> {
        let published = self.scheduler.process.as_ref().map(|process| &process.published);
        let known = published.and_then(|state| state.workloads.get(name)).cloned();
        let spec = known.as_ref().map(|workload| workload.spec.clone());
        let rolls = known.as_ref().is_some_and(|w| w.rollout.as_ref().is_some_and(|r| r.is_open()));
        let users = &mut self.users;
        let id = name.into();
        if known.is_none() || users.rng.chance(250) {
            return Some(UserCall::Deploy(Box::new(users.spec(name, spec.as_deref())?)));
        }
        let rollout = |step| Some(UserCall::Rollout { id: name.into(), step });
        let choice = match rolls {
            true => users.rng.weighted(&[
                (4, 0),
                (3, 1),
                (3, 2),
                (4, 3),
                (3, 4),
                (2, 5),
                (1, 6),
                (1, 7),
            ]),
            false => users.rng.weighted(&[
                (8, 0),
                (6, 1),
                (1, 2),
                (1, 3),
                (1, 4),
                (4, 5),
                (2, 6),
                (2, 7),
            ]),
        };
        match choice {
            0 => Some(UserCall::Scale { id, replicas: users.rng.below(7) as u32 }),
            1 => {
                let image = users.template(name)["image"].as_str()?.to_owned();
                let mut bound = |from: u64, to: u64| {
                    users.rng.chance(300).then(|| Extent::Count(users.rng.range(from, to) as u32))
                };
                let (max_surge, max_unavailable) = (bound(1, 3), bound(0, 2));
                rollout(RolloutCall::Start { image, max_surge, max_unavailable })
            }
            2 => rollout(RolloutCall::Pause),
            3 => rollout(RolloutCall::Resume),
            4 => rollout(RolloutCall::Abort),
            5 => {
                let revisions =
                    known.iter().flat_map(|workload| workload.revisions.keys().copied());
                let revisions: Vec<u64> = revisions.collect();
                let to = users.rng.chance(400).then(|| *users.rng.pick(&revisions));
                rollout(RolloutCall::Undo { to })
            }
            6 => Some(UserCall::Delete(id)),
            _ => rollout(RolloutCall::Restart),
        }
    }

    fn call_about_node(&mut self, id: NodeId) -> UserCall {
        match self.users.rng.below(10) {
            0..=2 => UserCall::Drain(id),
            3 => UserCall::SetSchedulable { id, schedulable: false },
            4..=7 => UserCall::SetSchedulable { id, schedulable: true },
            _ => UserCall::RemoveNode(id),
        }
    }

    /// Asks for something; the answer is noted when it comes.
    pub fn ask(&mut self, about: &str, call: UserCall) -> u64 {
        let op = self.number();
        tell!(self, "user", "asks ({op}): {call:?}");
        self.users.open.insert(op, about.to_owned());
        self.plan(PATIENCE_MS, Event::UserGivesUp { op });
        self.send_around(Packet::Ask { op, call: Box::new(call) });
        op
    }

    /// An answer to a person.
    pub fn user_told(&mut self, op: u64, answer: Option<Result<Reply, ApiError>>) {
        if self.users.open.remove(&op).is_none() {
            return;
        }
        match &answer {
            Some(Ok(_)) => tell!(self, "user", "is told ({op}): done"),
            Some(Err(error)) => tell!(self, "user", "is told ({op}): {}", error.error),
            None => tell!(self, "user", "is told ({op}): nobody listens"),
        }
        if self.users.at_home {
            self.users.answers.insert(op, answer);
        }
    }

    /// No answer came.
    pub fn user_gives_up(&mut self, op: u64) {
        if self.users.open.remove(&op).is_some() {
            tell!(self, "user", "gives up ({op})");
            if self.users.at_home {
                self.users.answers.insert(op, None);
            }
        }
    }

    /// Asks until it is answered; for the end, when everything works.
    pub fn insist(&mut self, call: &UserCall) -> Option<Result<Reply, ApiError>> {
        self.users.at_home = true;
        for _ in 0..10 {
            if !self.judge.is_content() {
                return None;
            }
            let op = self.ask("the end", call.clone());
            let until = self.now + PATIENCE_MS + 1;
            while !self.users.answers.contains_key(&op) && self.judge.is_content() {
                if !self.tick(until) {
                    break;
                }
            }
            match self.users.answers.remove(&op).flatten() {
                Some(Err(error)) if error.status == 503 => {}
                Some(answer) => return Some(answer),
                None => {}
            }
            self.run_until(self.now + 500);
        }
        None
    }
}
