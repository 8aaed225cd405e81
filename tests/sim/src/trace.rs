//! What happened, readable by a person, and its hash. Nothing is worded unless
//! somebody wants to read it: words cost more than the run.

use std::fmt;

use crate::clock::Time;

/// What is told of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing.
    Nothing,
    /// What was decided, what struck, what people asked for, what Docker did.
    Story,
    /// Every message, heartbeat, listing and probe too.
    Everything,
}

/// The story of a run.
#[derive(Debug)]
pub struct Trace {
    detail: Detail,
    lines: Vec<String>,
    hash: u64,
}

impl Trace {
    /// An empty one.
    pub fn new(detail: Detail) -> Self {
        Self { detail, lines: Vec::new(), hash: 0xcbf2_9ce4_8422_2325 }
    }

    /// Whether lines of this detail are wanted.
    pub fn wants(&self, detail: Detail) -> bool {
        self.detail >= detail
    }

    /// Notes a line.
    pub fn line(&mut self, now: Time, who: &str, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {who:<11} {what}", now as f64 / 1000.0);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines.push(line);
    }

    /// All lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All lines, for good.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// FNV-1a of all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Tells `who` did `what`, if anybody wants to know: `tell!(world, who, "…", …)`.
#[macro_export]
macro_rules! tell {
    ($world:expr, $who:expr, $($what:tt)+) => {
        if $world.trace.wants($crate::trace::Detail::Story) {
            let now = $world.now;
            let who = $who.to_string();
            $world.trace.line(now, &who, format_args!($($what)+));
        }
    };
}

/// The same for what is of interest only when everything is.
#[macro_export]
macro_rules! mutter {
    ($world:expr, $who:expr, $($what:tt)+) => {
        if $world.trace.wants($crate::trace::Detail::Everything) {
            let now = $world.now;
            let who = $who.to_string();
            $world.trace.line(now, &who, format_args!($($what)+));
        }
    };
}
