//! A rollout in words, and on a page of its own.

use std::fmt::Write;

use super::lists;
use super::story::line;
use super::{Look, Tone, words};
use crate::model::ContainerInstance;
use crate::model::view::{RolloutView, WorkloadView};

/// One line: from where to where, how far, and what it waits for.
pub fn so_far(view: &WorkloadView, rollout: &RolloutView, look: &Look) -> String {
    let mut text = format!("{}: {}", course(view, rollout), state(rollout));
    if let Some(why) = why(rollout) {
        let _ = write!(text, ": {why}");
    }
    match rollout.state.as_str() {
        "paused" => {
            let _ = write!(text, "; go on: kube-lite ctl rollout resume {}", view.spec.name);
        }
        _ => {
            if let Some(waiting_for) = waiting_for(rollout, look) {
                let _ = write!(text, "; waiting for {waiting_for}");
            }
        }
    }
    text
}

/// Everything about a workload's rollout, or how the last one ended.
pub fn page(view: &WorkloadView, instances: &[ContainerInstance], look: &Look) -> String {
    let name = &view.spec.name;
    let title = Tone::Strong.paint(name.as_str(), look);
    let mut text = String::new();
    let Some(rollout) = &view.rollout else {
        let (revision, image) = (view.revision, &view.spec.image);
        let _ = writeln!(text, "{title}  no rollout yet, all is of revision {revision} ({image})");
        let _ = writeln!(text, "\nNext: kube-lite ctl rollout start {name} --image IMAGE");
        return text;
    };
    let head = lists::rollout_tone(&rollout.state).paint(&state(rollout), look);
    let _ = writeln!(text, "{title}  {head}");
    line(&mut text, "rollout", &course(view, rollout));
    line(&mut text, "image", &format!("{} (revision {})", view.spec.image, view.revision));
    line(&mut text, "ready", &format!("{}/{}", view.ready, view.desired));
    if let Some(why) = why(rollout) {
        line(&mut text, "because", &why);
    }
    if let Some(waiting_for) = waiting_for(rollout, look) {
        line(&mut text, "waits for", &waiting_for);
    }
    let under_way = !matches!(rollout.state.as_str(), "done" | "aborted");
    if under_way && !instances.is_empty() {
        text.push('\n');
        text.push_str(&lists::instance_table(instances, look));
    }
    let next = match rollout.state.as_str() {
        "paused" => format!("rollout resume {name}, or rollout abort {name}"),
        "done" => format!("rollout history {name}, or rollout undo {name}"),
        "aborting" | "aborted" => format!("explain {name}"),
        _ => format!("rollout status {name} --watch"),
    };
    let _ = writeln!(text, "\nNext: kube-lite ctl {next}");
    text
}

/// `revision 1 to 2`, and back again where it was aborted.
fn course(view: &WorkloadView, rollout: &RolloutView) -> String {
    let RolloutView { from, to, .. } = rollout;
    match rollout.state.as_str() {
        "aborting" | "aborted" => format!("revision {from} to {to} and back to {}", view.revision),
        _ => format!("revision {from} to {to}"),
    }
}

fn state(rollout: &RolloutView) -> String {
    let RolloutView { state, updated, total, .. } = rollout;
    match state.as_str() {
        "aborting" | "aborted" => state.clone(),
        _ => format!("{state}, {updated}/{total} updated"),
    }
}

fn why(rollout: &RolloutView) -> Option<String> {
    rollout.why.as_ref().map(|why| words::one_line(why).into_owned())
}

/// Sentences may count seconds, hence are left out where ages are. Only what goes
/// on waits for something.
fn waiting_for(rollout: &RolloutView, look: &Look) -> Option<String> {
    let goes_on = matches!(rollout.state.as_str(), "rolling" | "aborting");
    let text = rollout.waiting_for.as_ref().filter(|_| goes_on && look.ages)?;
    Some(words::one_line(text).into_owned())
}
