//! Words, numbers and times as people write them.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Look;
use crate::model::{Reason, Why};

/// A length of time, rounded to what matters at its size: `8s`, `3m12s`,
/// `2h05m`, `3d4h`, `400d`.
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..600 => format!("{minutes}m{:02}s", seconds % 60),
        600..3600 => format!("{minutes}m"),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        86_400..864_000 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// `1 replica`, `3 replicas`.
pub fn count(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// `text` with a full stop, unless it ends in some mark already.
pub fn sentence(text: &str) -> String {
    let ended = text.ends_with(['.', '!', '?', ':', ')']);
    if ended { text.to_owned() } else { format!("{text}.") }
}

/// The time of day of an RFC 3339 time in the reader's zone, with the day when
/// it was another one. What is no time is shown as it is.
pub fn clock(at: &str, now: Timestamp, zone: &TimeZone) -> String {
    let Ok(time) = at.parse::<Timestamp>() else { return at.to_owned() };
    let (time, now) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if time.date() == now.date() {
        "%H:%M:%S"
    } else if time.year() == now.year() {
        "%b %d %H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    time.strftime(format).to_string()
}

/// Foreign text as it may stand in a line: nothing in it can move the cursor or
/// end the line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.replace(char::is_control, " ").into()
    } else {
        text.into()
    }
}

/// So much of a foreign sentence stands in a table or a list; `explain` has it whole.
const BRIEF: usize = 160;

/// Foreign text on one line, cut where it gets long.
pub fn brief(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = one_line(&words);
    match text.char_indices().nth(BRIEF) {
        None => text.into_owned(),
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
    }
}

/// `BackOff: exited with code 3`, cut where it gets long.
pub fn reason(why: &Why) -> String {
    format!("{}: {}", why.reason, brief(&why.message))
}

/// A reason with what it is about: `replica 2: BackOff: exited with code 3`.
/// Sentences may count seconds; they are left out where ages are.
pub fn why(why: &Why, look: &Look) -> String {
    let sentence = one_line(if look.ages { &why.message } else { "" });
    match subject(why).filter(|subject| !sentence.contains(subject)) {
        Some(subject) => format!("{subject}: {}: {sentence}", why.reason),
        None => format!("{}: {sentence}", why.reason),
    }
}

/// What a reason is about, if it is about something smaller than a workload.
pub fn subject(why: &Why) -> Option<String> {
    match (&why.instance_id, why.replica, &why.node_id) {
        // What backs off is the replica; the instance is the one that failed.
        (Some(id), replica, _) if why.reason != Reason::BackOff || replica.is_none() => {
            Some(id.to_string())
        }
        (_, Some(replica), _) => Some(format!("replica {replica}")),
        (_, _, node) => node.as_ref().map(|id| format!("node {id}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        let second = 1000;
        let day = 86_400 * second;
        for (ms, wanted) in [
            (0, "0s"),
            (999, "0s"),
            (8_400, "8s"),
            (192 * second, "3m12s"),
            (3599 * second, "59m"),
            (7500 * second, "2h05m"),
            (3 * day + 5 * 3600 * second, "3d5h"),
            (400 * day, "400d"),
        ] {
            assert_eq!(age(ms), wanted);
        }
    }

    #[test]
    fn clocks() {
        let now: Timestamp = "2025-11-22T14:00:00Z".parse().expect("a time");
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (at, wanted) in [
            ("2025-11-22T13:59:58.123Z", "15:59:58"),
            ("2025-11-22T15:59:58+02:00", "15:59:58"),
            ("2025-11-21T23:30:00Z", "01:30:00"),
            ("2025-11-21T10:00:00Z", "Nov 21 12:00:00"),
            ("2024-01-02T10:00:00Z", "2024-01-02 12:00:00"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(clock(at, now, &zone), wanted);
        }
    }

    #[test]
    fn foreign_text_stays_on_its_line() {
        assert_eq!(one_line("a\x1b[2Jb\nc"), "a [2Jb c");
        assert_eq!(brief("a\x1b[2Jb\n\n  c"), "a [2Jb c");
        let cut = brief(&"word ".repeat(100));
        assert!(cut.ends_with("word…") && cut.chars().count() <= BRIEF + 1, "{cut}");
    }

    #[test]
    fn counts() {
        assert_eq!(count(1, "replica"), "1 replica");
        assert_eq!(count(0, "replica"), "0 replicas");
    }
}
