//! One event on one line.

use super::{Look, Tone, words};
use crate::model::view::EventView;

/// When, what, about what, and the sentence. Events stream, so the columns have
/// fixed widths that fit what is usual; longer words push the rest along.
pub fn event(event: &EventView, look: &Look) -> String {
    let time = words::clock(&event.at, look.now, &look.zone);
    let kind = format!("{:<20}", event.kind);
    let (time, kind) = (Tone::Dim.paint(&time, look), tone(&event.kind).paint(&kind, look));
    let seq = if look.wide { format!("{:>6}  ", event.seq) } else { String::new() };
    format!("{seq}{time}  {kind}  {:<18}  {}", object(event), words::one_line(&event.message))
}

/// The smallest thing an event is about.
pub fn object(event: &EventView) -> &str {
    let instance = event.instance.as_ref().map(|id| id.as_str());
    let node = event.node.as_ref().map(|id| id.as_str());
    let workload = event.workload.as_ref().map(|id| id.as_str());
    instance.or(workload).or(node).unwrap_or("-")
}

/// Judged by the word, so that kinds this build does not know have one too.
fn tone(kind: &str) -> Tone {
    const BAD: [&str; 12] = [
        "Abort",
        "Crash",
        "Dead",
        "Denied",
        "Error",
        "Exited",
        "Failed",
        "Loss",
        "Lost",
        "Refused",
        "Unhealthy",
        "Unavailable",
    ];
    const GOOD: [&str; 6] = ["Alive", "Back", "Completed", "Done", "Healthy", "Ready"];
    let says = |words: &[&str]| words.iter().any(|word| kind.contains(word));
    if says(&BAD) {
        Tone::Bad
    } else if says(&GOOD) {
        Tone::Good
    } else {
        Tone::Plain
    }
}
