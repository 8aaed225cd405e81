//! What simulated containers write: a pure function of who they are and of the
//! time, so that nothing has to be kept.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use super::fate::Chance;
use super::machine::Container;

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Unix milliseconds.
    pub at: u64,
    /// Written to standard error.
    pub is_error: bool,
    /// Without its end.
    pub text: String,
}

/// Lines that are written at the start.
const GREETING: u64 = 2;

impl Container {
    /// How many lines there are by `now`, the last words of what has ended included.
    pub fn lines(&self, now: u64) -> u64 {
        let until = self.ended.map_or(now, |(at, _)| at);
        let ordinary = until.saturating_sub(self.started_at) / self.fate.line_ms.max(1);
        GREETING + ordinary + u64::from(self.ended.is_some())
    }

    /// The line of this number, the first being 0.
    pub fn line(&self, number: u64) -> Line {
        if let Some((at, code)) = self.ended
            && number + 1 >= self.lines(at)
        {
            return match code {
                137 => Line { at, is_error: true, text: "out of memory".to_owned() },
                143 => Line { at, is_error: false, text: "SIGTERM: goodbye".to_owned() },
                255 => Line { at, is_error: true, text: "the power has gone".to_owned() },
                code => Line { at, is_error: true, text: format!("fatal: exit code {code}") },
            };
        }
        if number < GREETING {
            let text = match number {
                0 => format!("{} starts (simulated)", self.id),
                _ => "ready for requests".to_owned(),
            };
            return Line { at: self.started_at, is_error: false, text };
        }
        let at = self.started_at + (number + 1 - GREETING) * self.fate.line_ms;
        let mut chance = Chance::of(number, &[self.id.as_str()]);
        let path = ["/", "/cart", "/login", "/search?q=shoes", "/healthz"]
            .get((chance.next() % 5) as usize)
            .copied()
            .unwrap_or("/");
        let is_error = chance.share() < 0.02;
        let ms = chance.around(if is_error { 900 } else { 12 });
        let status = if is_error { 500 } else { 200 };
        Line { at, is_error, text: format!("GET {path} {status} in {ms} ms") }
    }
}
