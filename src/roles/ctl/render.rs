//! Values in, text out: how everything looks. Nothing in here asks, waits,
//! prints or reads a clock.

pub mod event;
pub mod json;
pub mod lists;
pub mod rollout;
pub mod story;
pub mod table;
pub mod words;

use comfy_table::{Attribute, Color};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What the reader's screen can do and wants.
#[derive(Clone, Debug)]
pub struct Look {
    /// Whether colours are welcome.
    pub color: bool,
    /// Whether to show more columns.
    pub wide: bool,
    /// How many characters fit on a line, if that is known.
    pub width: Option<u16>,
    /// Whether to show what changes by itself as time passes: ages, and sentences
    /// that may count seconds. Left out when only real changes are of interest.
    pub ages: bool,
    /// The time, for telling today from other days.
    pub now: Timestamp,
    /// The zone in which times are shown.
    pub zone: TimeZone,
}

impl Look {
    /// How things look in a file or a pipe: no colours, no wrapping.
    pub fn plain(now: Timestamp, zone: TimeZone) -> Self {
        Self { color: false, wide: false, width: None, ages: true, now, zone }
    }
}

/// What to think of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Something is wrong.
    Bad,
    /// Less important.
    Dim,
    /// What it is about.
    Strong,
}

impl Tone {
    /// `text` in this tone, if colours are welcome.
    pub fn paint(self, text: &str, look: &Look) -> String {
        let code = match self {
            _ if !look.color || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The same as a cell of a table.
    fn cell(self, text: &str) -> comfy_table::Cell {
        let cell = comfy_table::Cell::new(text);
        match self {
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::DarkGreen),
            Tone::Busy => cell.fg(Color::DarkYellow),
            Tone::Bad => cell.fg(Color::DarkRed),
            Tone::Dim => cell.add_attribute(Attribute::Dim),
            Tone::Strong => cell.add_attribute(Attribute::Bold),
        }
    }
}
