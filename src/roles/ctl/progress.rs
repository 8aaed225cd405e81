//! How far a change has come, judged from what is seen: plain functions.

use std::fmt::Write;

use super::render::{Look, Tone, lists, words};
use crate::model::view::{RolloutView, WorkloadView};
use crate::model::{ContainerInstance, Extent, Health, Phase, Reason, Why};

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// All replicas of this revision are ready or done, and the others gone.
    Revision(u64),
    /// As many replicas as this are ready or done, and the others gone.
    Replicas(u32),
    /// A rollout has been taken back, so that all are of this revision again.
    Back(u64),
    /// Nothing of it is left.
    Gone,
}

/// One look at the workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The workload; `None` if there is no such.
    pub view: Option<WorkloadView>,
    /// Its instances.
    pub instances: Vec<ContainerInstance>,
}

/// What to think of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait on.
    Going,
    /// The goal is reached.
    Settled,
    /// The goal will not be reached: somebody wanted something else meanwhile,
    /// or the scheduler has given up. A sentence that begins with the name.
    Off(String),
}

/// Whether what is wanted there is (still) what we asked for. Right after the
/// request it may not be visible yet.
pub fn is_wanted(goal: &Goal, seen: &Seen) -> bool {
    match (goal, &seen.view) {
        (Goal::Gone, view) => view.is_none(),
        (_, None) => false,
        (Goal::Revision(revision) | Goal::Back(revision), Some(view)) => view.revision == *revision,
        (Goal::Replicas(replicas), Some(view)) => view.desired == *replicas,
    }
}

/// Judges one look; `was_wanted` tells whether an earlier one saw that what we
/// asked for is wanted.
pub fn judge(goal: &Goal, seen: &Seen, was_wanted: bool) -> Verdict {
    if let (Goal::Revision(revision), Some(view)) = (goal, &seen.view)
        && let Some(rollout) = view.rollout.as_ref().filter(|rollout| rollout.to == *revision)
        && view.revision != *revision
    {
        match rollout.state.as_str() {
            "aborted" => return Verdict::Off(taken_back(view, rollout)),
            "aborting" => {
                return match trouble_of_way_back(seen) {
                    Some(trouble) => Verdict::Off(stuck_half_way(view, rollout, trouble)),
                    // Whether what was there before gets ready is not this rollout's doing.
                    None if is_all_back(seen) && view.ready + view.done < view.desired => {
                        Verdict::Off(taken_back(view, rollout))
                    }
                    None => Verdict::Going,
                };
            }
            _ => {}
        }
    }
    if !is_wanted(goal, seen) {
        return if was_wanted { Verdict::Off(overtaken(seen)) } else { Verdict::Going };
    }
    let live = seen.instances.iter().filter(|one| is_live(one)).count();
    let Some(view) = &seen.view else {
        return if seen.instances.is_empty() { Verdict::Settled } else { Verdict::Going };
    };
    if let Goal::Back(_) = goal {
        // When all is back, the scheduler says; it goes by more than counts.
        let aborting = open_rollout(view).filter(|rollout| rollout.state == "aborting");
        return match (aborting, trouble_of_way_back(seen)) {
            (None, _) => Verdict::Settled,
            (Some(rollout), Some(trouble)) => Verdict::Off(stuck_half_way(view, rollout, trouble)),
            (Some(_), None) => Verdict::Going,
        };
    }
    let of_goal = |one: &&ContainerInstance| match goal {
        Goal::Revision(revision) => one.revision == *revision,
        _ => true,
    };
    let ready = seen.instances.iter().filter(|one| one.ready && !one.stopping && !one.lost);
    let ready = ready.filter(of_goal).count();
    let (desired, done) = (view.desired as usize, view.done as usize);
    let rolling = open_rollout(view)
        .is_some_and(|rollout| matches!(goal, Goal::Revision(revision) if rollout.to == *revision));
    if !rolling && ready + done >= desired && live + done <= desired.max(done) {
        Verdict::Settled
    } else {
        Verdict::Going
    }
}

/// The rollout of a workload, if one is under way.
pub fn open_rollout(view: &WorkloadView) -> Option<&RolloutView> {
    view.rollout.as_ref().filter(|rollout| !matches!(rollout.state.as_str(), "done" | "aborted"))
}

/// How a rollout ended that was aborted, and what that means.
fn taken_back(view: &WorkloadView, rollout: &RolloutView) -> String {
    let (name, to, revision) = (&view.spec.name, rollout.to, view.revision);
    let why = rollout.why.as_ref().or(rollout.waiting_for.as_ref());
    let why = why.map(|why| format!(": {}", words::brief(why))).unwrap_or_default();
    let there = view.ready + view.done;
    let now = match there >= view.desired {
        true => format!("Everything is as before: {there}/{} of revision {revision}", view.desired),
        false => format!("Revision {revision} is wanted again, {there}/{} ready", view.desired),
    };
    format!(
        "{name}: the rollout to revision {to} was aborted{why}\n{now}. \
         The whole story: kube-lite ctl explain {name}"
    )
}

/// What is wrong with the revision that an aborted rollout goes back to, if it does
/// not run either. The way back cannot itself be aborted and may take for ever.
fn trouble_of_way_back(seen: &Seen) -> Option<&Why> {
    let view = seen.view.as_ref()?;
    let rollout = open_rollout(view).filter(|rollout| rollout.state == "aborting")?;
    let left = format!("{}-r{}-", view.spec.name, rollout.to);
    let of_what_leaves =
        |why: &Why| why.instance_id.as_ref().is_some_and(|id| id.as_str().starts_with(&left));
    let counts = |why: &&Why| match why.reason {
        Reason::BackOff
        | Reason::Unhealthy
        | Reason::Error
        | Reason::OutOfMemory
        | Reason::Removed
        | Reason::ImageNotFound
        | Reason::ImageDenied
        | Reason::PullFailed
        | Reason::CreateFailed
        | Reason::StartFailed
        | Reason::NotAllowed
        | Reason::NotOnNode => !of_what_leaves(why),
        // What is being stopped makes room.
        Reason::PortTaken | Reason::NoRoom | Reason::NoNodes => view.stopping == 0,
        // The usual course of things, or no fault of the revision's.
        _ => false,
    };
    view.reasons.iter().find(counts)
}

/// Whether all replicas run what is wanted again, and nothing else is left.
fn is_all_back(seen: &Seen) -> bool {
    let Some(view) = &seen.view else { return false };
    let back = |one: &ContainerInstance| {
        one.revision == view.revision && one.phase == Phase::Running && !one.stopping
    };
    let mut live = seen.instances.iter().filter(|one| is_live(one));
    view.waiting == 0 && view.running + view.done >= view.desired && live.all(back)
}

/// How a rollout stands that is being aborted and does not get back either.
fn stuck_half_way(view: &WorkloadView, rollout: &RolloutView, trouble: &Why) -> String {
    let (name, to, revision) = (&view.spec.name, rollout.to, view.revision);
    let why = rollout.why.as_ref().map(|why| format!(": {}", words::brief(why)));
    format!(
        "{name}: the rollout to revision {to} was aborted{}\nRevision {revision} is wanted again, \
         but is in trouble too: {}. {}/{} ready now; it is tried on. \
         The whole story: kube-lite ctl explain {name}",
        why.unwrap_or_default(),
        words::reason(trouble),
        view.ready + view.done,
        view.desired
    )
}

/// What happened to a goal that is no longer what is wanted.
fn overtaken(seen: &Seen) -> String {
    match &seen.view {
        None => "the workload was deleted meanwhile".to_owned(),
        Some(view) => format!(
            "{}: something else was asked for meanwhile; now wanted: {} of revision {}",
            view.spec.name,
            words::count(view.desired.into(), "replica"),
            view.revision
        ),
    }
}

/// Why waiting hardly helps, if it does not: an image cannot be had, or a rollout
/// leaves itself no room to move. Either waits for a person, most likely.
pub fn hopeless(seen: &Seen) -> Option<String> {
    let view = seen.view.as_ref()?;
    let told = |why: &Why| format!("{}: {}", view.spec.name, words::reason(why));
    let no_image = [Reason::ImageNotFound, Reason::ImageDenied, Reason::PullFailed];
    if let Some(why) = view.reasons.iter().find(|why| no_image.contains(&why.reason)) {
        return Some(told(why));
    }
    no_room_to_move(view).map(told)
}

/// What keeps a rollout from its next wave that may neither start one more nor lack
/// one.
fn no_room_to_move(view: &WorkloadView) -> Option<&Why> {
    let rolling = open_rollout(view).is_some_and(|rollout| rollout.state == "rolling");
    let none =
        matches!(view.spec.strategy.max_unavailable, Some(Extent::Count(0) | Extent::Percent(0)));
    let nothing_moves = view.pending == 0 && view.stopping == 0 && view.ready >= view.desired;
    let why = view.reasons.first().filter(|_| rolling && none && nothing_moves)?;
    matches!(why.reason, Reason::PortTaken | Reason::NoRoom).then_some(why)
}

/// `revision 2, 4/10 updated`.
fn rollout_so_far(rollout: &RolloutView, seen: &Seen) -> String {
    let RolloutView { to, state, updated, total, .. } = rollout;
    match state.as_str() {
        "aborting" => {
            let left = seen.instances.iter().filter(|one| one.revision == *to && is_live(one));
            format!("revision {to} is taken back, {} of it left", left.count())
        }
        "paused" => format!("revision {to}, {updated}/{total} updated, paused"),
        _ => format!("revision {to}, {updated}/{total} updated"),
    }
}

/// Whether an instance runs or comes up, as far as is known.
pub fn is_live(instance: &ContainerInstance) -> bool {
    !instance.phase.is_final() && !instance.lost
}

/// `web: 1/3 ready, 1 pulling, 1 waiting`; in a rollout
/// `web: revision 2, 4/10 updated, 10/10 ready, 1 pulling`.
pub fn headline(name: &str, seen: &Seen) -> String {
    let mut text = match &seen.view {
        Some(view) if view.done > 0 && view.done == view.desired => {
            format!("{name}: {}/{} done", view.done, view.desired)
        }
        Some(view) => {
            let rollout = open_rollout(view).map(|rollout| rollout_so_far(rollout, seen));
            let rollout = rollout.map(|words| format!("{words}, ")).unwrap_or_default();
            format!("{name}: {rollout}{}/{} ready", view.ready, view.desired)
        }
        None if seen.instances.is_empty() => return format!("{name}: gone"),
        None => format!("{name}: {} left", words::count(seen.instances.len() as u64, "instance")),
    };
    let coming: Vec<&str> = seen.instances.iter().filter_map(short_state).collect();
    for state in ["pending", "pulling", "starting", "unhealthy", "stopping", "lost"] {
        let number = coming.iter().filter(|other| **other == state).count();
        if number > 0 {
            let _ = write!(text, ", {number} {state}");
        }
    }
    if let Some(view) = &seen.view {
        if view.waiting > 0 {
            let _ = write!(text, ", {} waiting", view.waiting);
        }
        if view.done > 0 && view.done != view.desired {
            let _ = write!(text, ", {} done", view.done);
        }
    }
    text
}

/// One word for an instance that is not as it is meant to be in the end.
fn short_state(instance: &ContainerInstance) -> Option<&'static str> {
    Some(match instance.phase {
        _ if instance.lost => "lost",
        Phase::Exited | Phase::Failed => return None,
        _ if instance.stopping => "stopping",
        Phase::Pending => "pending",
        Phase::Pulling => "pulling",
        Phase::Created => "starting",
        Phase::Running if instance.ready => return None,
        Phase::Running if instance.health == Health::Unhealthy => "unhealthy",
        Phase::Running => "starting",
    })
}

/// What is to be shown of one instance, or of one replica that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The instance, or `replica N`.
    pub subject: String,
    /// Where it is.
    pub node: String,
    /// Of which revision it is, where there are several.
    pub revision: Option<u64>,
    /// One word or two.
    pub state: String,
    /// What to think of it.
    pub tone: Tone,
    /// As it should be: may be left out when room is short.
    pub fine: bool,
    /// As it was before: no news when it is seen for the first time.
    pub as_before: bool,
    /// Why it is not, in a word.
    pub reason: Option<Reason>,
    /// Why it is not, in a sentence.
    pub why: Option<String>,
}

impl Line {
    /// What makes it news when it changes. The sentence does not: it may count
    /// seconds.
    fn gist(&self) -> impl PartialEq {
        (&self.subject, &self.node, &self.state, self.reason)
    }
}

/// One line per instance that is not over, in replica order, then one per
/// reason that is about none of them.
pub fn lines(seen: &Seen) -> Vec<Line> {
    let instances: Vec<&ContainerInstance> =
        lists::in_order(&seen.instances).into_iter().filter(|one| !one.phase.is_final()).collect();
    let rollout = seen.view.as_ref().and_then(open_rollout);
    let mixed = instances.windows(2).any(|pair| pair[0].revision != pair[1].revision);
    let changed = seen.view.as_ref().is_some_and(|view| view.rollout.is_some());
    let wanted = seen.view.as_ref().map(|view| view.revision);
    let line = |one: &ContainerInstance| {
        let line = instance_line(one);
        Line {
            revision: (mixed || changed).then_some(one.revision),
            as_before: line.fine && rollout.is_some() && wanted != Some(one.revision),
            ..line
        }
    };
    let mut lines: Vec<Line> = instances.into_iter().map(line).collect();
    let reasons = seen.view.iter().flat_map(|view| &view.reasons);
    let shown = |why: &&Why| {
        let of =
            |line: &Line| why.instance_id.as_ref().is_some_and(|id| line.subject == id.as_str());
        !lines.iter().any(of)
    };
    let reasons: Vec<Line> = reasons.filter(shown).map(reason_line).collect();
    lines.extend(reasons);
    if let (Some(rollout), Some(view)) = (rollout, &seen.view) {
        lines.extend(rollout_line(rollout, view));
    }
    lines
}

/// What is to be said of a rollout that does not simply go on.
fn rollout_line(rollout: &RolloutView, view: &WorkloadView) -> Option<Line> {
    let why = match rollout.state.as_str() {
        "paused" => Some(format!("go on: kube-lite ctl rollout resume {}", view.spec.name)),
        "aborting" => rollout.why.as_ref().map(|why| words::brief(why)),
        _ => return None,
    };
    Some(Line {
        subject: "rollout".to_owned(),
        node: String::new(),
        revision: None,
        state: rollout.state.clone(),
        tone: lists::rollout_tone(&rollout.state),
        fine: false,
        as_before: false,
        reason: None,
        why,
    })
}

fn instance_line(instance: &ContainerInstance) -> Line {
    let (tone, mut state) = lists::instance_state(instance);
    let running = instance.phase == Phase::Running && !instance.stopping && !instance.lost;
    if running && !instance.ready && instance.health != Health::Unknown {
        let _ = write!(state, ", {}", instance.health.as_str());
    } else if running && instance.ready {
        state = "ready".to_owned();
    }
    let fine = instance.ready && !instance.stopping && !instance.lost;
    Line {
        subject: instance.id.to_string(),
        node: instance.node_id.to_string(),
        revision: None,
        state,
        tone: if running && instance.health == Health::Unhealthy { Tone::Bad } else { tone },
        fine,
        as_before: false,
        reason: instance.reason.filter(|_| !fine),
        why: if fine { None } else { lists::instance_why(instance) },
    }
}

fn reason_line(why: &Why) -> Line {
    let subject = words::subject(why).unwrap_or_else(|| "replicas".to_owned());
    Line {
        subject,
        node: why.node_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        revision: None,
        state: "waiting".to_owned(),
        tone: Tone::Bad,
        fine: false,
        as_before: false,
        reason: Some(why.reason),
        why: Some(words::reason(why)),
    }
}

/// The lines as text, aligned; at most `room` of them, those in trouble first.
pub fn screen(lines: &[Line], room: usize, look: &Look) -> Vec<String> {
    let mut kept: Vec<&Line> = lines.iter().collect();
    let mut rest = None;
    if lines.len() > room {
        let keep = room.saturating_sub(1);
        kept.sort_by_key(|line| line.fine);
        let left = kept.split_off(keep);
        let fine = left.iter().filter(|line| line.fine).count();
        rest = Some(format!("… and {} more, {fine} of them ready", left.len()));
    }
    let revision = |line: &Line| line.revision.map(|n| format!("revision {n}")).unwrap_or_default();
    let widest = |part: &dyn Fn(&Line) -> String| {
        kept.iter().map(|line| part(line).chars().count()).max().unwrap_or(0)
    };
    let subject = widest(&|line| line.subject.clone());
    let node = widest(&|line| line.node.clone());
    let of = widest(&revision);
    let state = widest(&|line| line.state.clone());
    let text = |line: &&Line| {
        let word = line.tone.paint(&format!("{:<state$}", line.state), look);
        let (one, at) = (&line.subject, &line.node);
        let why = line.why.as_deref().unwrap_or("");
        let revision = match of {
            0 => String::new(),
            _ => format!("{:<of$}  ", revision(line)),
        };
        format!("{one:<subject$}  {at:<node$}  {revision}{word}  {why}").trim_end().to_owned()
    };
    kept.iter().map(text).chain(rest).collect()
}

/// The lines that say something new, for readers whose screen only grows.
pub fn news(before: &[Line], after: &[Line]) -> Vec<String> {
    let mut news = Vec::new();
    let is_new = |line: &&Line| before.iter().all(|old| old.gist() != line.gist());
    for line in after.iter().filter(|line| !line.as_before).filter(is_new) {
        let mut text = line.subject.clone();
        if let Some(revision) = line.revision {
            let _ = write!(text, " (revision {revision})");
        }
        if !line.node.is_empty() {
            let _ = write!(text, " on {}", line.node);
        }
        let _ = write!(text, ": {}", line.state);
        if let Some(why) = &line.why {
            let _ = write!(text, ": {why}");
        }
        news.push(text);
    }
    news
}
