//! One step that was decided again, in words.

use serde_json::json;

use crate::model::view::EventView;
use crate::model::wall::rfc3339;
use crate::model::{InstanceId, NodeId, WorkloadId};
use crate::roles::ctl::render::{Look, event};
use crate::roles::scheduler::message::{
    Input, Order, OrderAnswer, OrderBody, OrderKind, Record, RolloutCall, UserCall,
};
use crate::roles::scheduler::replay::{Outcome, Relived, called};

/// All of it, as one object on a line.
pub(super) fn json(relived: &Relived, outcome: &Outcome) -> String {
    let Relived { number, moment, input, step, differs, .. } = relived;
    let line = json!({
        "step": number,
        "at": rfc3339(moment.wall),
        "moment": moment,
        "input": input,
        "records": step.records,
        "orders": step.orders,
        "replies": step.replies,
        "events": step.events,
        "outcome": outcome,
        "differs": differs,
    });
    format!("{line}\n")
}

/// Lines as `kube-lite ctl events` shows them: what was asked, what happened and
/// why, what was stored and ordered. The environment of workloads is not in them.
pub(super) fn lines(relived: &Relived, outcome: &Outcome, look: &Look, text: &mut String) {
    let mut page = Page { at: rfc3339(relived.moment.wall), look, text };
    page.input(&relived.input);
    for said in &relived.step.events {
        page.line(said.clone());
    }
    let refusals = relived.step.replies.iter().filter_map(|(_, reply)| reply.as_ref().err());
    for error in refusals {
        page.say("refused", About::default(), format!("{} {}", error.status, error.error));
    }
    let orders = &relived.step.orders;
    if !relived.step.records.is_empty() {
        page.say(stored(outcome), About::default(), keys(&relived.step.records));
    }
    for order in orders.iter().filter(|_| !matches!(outcome, Outcome::RolledBack(_))) {
        page.say("order", About::instance(order.body.id()), told(order));
    }
    if let Outcome::RolledBack(why) = outcome {
        let number = relived.number;
        page.say(
            "refused",
            About::default(),
            format!("step {number}, all of the above, has not happened: {why}"),
        );
    }
    if let Some(differs) = &relived.differs {
        let message = format!("step {} was decided otherwise then: {differs}", relived.number);
        page.say("DIFFERS", About::default(), message);
    }
}

struct Page<'a> {
    at: String,
    look: &'a Look,
    text: &'a mut String,
}

/// What a line is about.
#[derive(Default)]
struct About {
    workload: Option<WorkloadId>,
    node: Option<NodeId>,
    instance: Option<InstanceId>,
}

impl About {
    fn instance(id: &InstanceId) -> Self {
        Self { instance: Some(id.clone()), ..Self::default() }
    }
}

impl Page<'_> {
    fn line(&mut self, said: EventView) {
        self.text.push_str(&event::event(&said, self.look));
        self.text.push('\n');
    }

    fn say(&mut self, kind: &str, about: About, message: String) {
        let About { workload, node, instance } = about;
        let (at, kind) = (self.at.clone(), kind.to_owned());
        self.line(EventView { seq: 0, at, kind, workload, node, instance, message });
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::User { by, call, .. } => {
                let about = About { workload: called(call).cloned(), ..About::default() };
                self.say("asked", about, format!("{}, by {by}", asked(call)));
            }
            Input::Answered { node, id, kind, answer, .. } => {
                let what = match kind {
                    OrderKind::Run => "run",
                    OrderKind::Stop => "stop",
                };
                let said = match answer {
                    OrderAnswer::Accepted(_) => return,
                    OrderAnswer::Refused(error) => format!("{} {}", error.status, error.error),
                    OrderAnswer::Unanswered(why) => format!("no answer: {why}"),
                };
                let message = format!("{node}, asked to {what} {id}: {said}");
                self.say("answer", About::instance(id), message);
            }
            Input::Tick | Input::Register { .. } | Input::Heartbeat { .. } => {}
        }
    }
}

fn stored(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Stored | Outcome::NothingToStore => "stored",
        Outcome::RolledBack(_) => "not stored",
        Outcome::Untold => "perhaps stored",
    }
}

fn keys(records: &[Record]) -> String {
    let words = records.iter().map(|record| match &record.value {
        Some(_) => record.key.clone(),
        None => format!("no {} any more", record.key),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn told(order: &Order) -> String {
    let (node, address) = (&order.fence.node, &order.address);
    match &order.body {
        OrderBody::Run(run) => {
            let after = run.after.as_ref().map(|id| format!(", once {id} is gone"));
            format!(
                "run on {node} ({address}): {}, revision {}, replica {}{}",
                run.template.image,
                run.revision,
                run.replica,
                after.unwrap_or_default()
            )
        }
        OrderBody::Stop { drain_ms, why, .. } => {
            let drain = if *drain_ms > 0 { format!(" in {drain_ms} ms") } else { String::new() };
            format!("stop on {node} ({address}){drain}: {why}")
        }
    }
}

fn asked(call: &UserCall) -> String {
    match call {
        UserCall::Deploy(spec) => {
            let replicas = spec.replicas.map(|count| format!(", {count} replica(s)"));
            format!("deploy {} of {}{}", spec.name, spec.image, replicas.unwrap_or_default())
        }
        UserCall::Scale { id, replicas } => format!("scale {id} to {replicas}"),
        UserCall::Delete(id) => format!("delete {id}"),
        UserCall::RemoveNode(id) => format!("remove node {id}"),
        UserCall::SetSchedulable { id, schedulable: true } => format!("uncordon {id}"),
        UserCall::SetSchedulable { id, schedulable: false } => format!("cordon {id}"),
        UserCall::Drain(id) => format!("drain {id}"),
        UserCall::Rollout { id, step } => match step {
            RolloutCall::Start { image, .. } => format!("roll {id} to {image}"),
            RolloutCall::Pause => format!("pause the rollout of {id}"),
            RolloutCall::Resume => format!("resume the rollout of {id}"),
            RolloutCall::Abort => format!("abort the rollout of {id}"),
            RolloutCall::Undo { to: Some(to) } => format!("undo {id}, to revision {to}"),
            RolloutCall::Undo { to: None } => format!("undo {id}"),
            RolloutCall::Restart => format!("restart {id}"),
        },
    }
}
