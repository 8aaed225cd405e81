//! Progress as it is shown: redrawn in place on a terminal, else told line by
//! line when there is news. Always on standard error; the result is what goes to
//! standard output.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::progress::{self, Line};
use super::session::Session;

/// Where progress goes.
pub enum Progress {
    /// A region at the end of the terminal.
    Live(Live),
    /// Lines.
    Plain(Plain),
}

impl Progress {
    /// The kind that suits where we are.
    pub fn new(session: &Session) -> Self {
        if session.on_terminal && session.can_redraw {
            Progress::Live(Live::new(session.look().color))
        } else {
            Progress::Plain(Plain { lines: Vec::new(), headline: String::new() })
        }
    }

    /// Shows how far it is; at the very end without a headline, because the
    /// result says the same.
    pub fn update(&mut self, session: &Session, headline: Option<&str>, lines: Vec<Line>) {
        match self {
            Progress::Live(live) => {
                let room = session.size().map_or(24, |(_, height)| height).saturating_sub(3).max(2);
                live.draw(
                    headline.unwrap_or_default(),
                    progress::screen(&lines, room.into(), &session.look()),
                );
            }
            Progress::Plain(plain) => {
                plain.news(headline, lines).iter().for_each(|line| session.remark(line));
            }
        }
    }

    /// Says something that stays.
    pub fn remark(&self, session: &Session, text: &str) {
        match self {
            Progress::Live(live) => drop(live.all.println(text)),
            Progress::Plain(_) => session.remark(text),
        }
    }

    /// Takes the region away; what was said stays.
    pub fn end(&self) {
        if let Progress::Live(live) = self {
            let _ = live.all.clear();
        }
    }
}

/// A headline that turns, and a line for each instance below it.
pub struct Live {
    all: MultiProgress,
    headline: ProgressBar,
    lines: Vec<ProgressBar>,
}

impl Live {
    fn new(color: bool) -> Self {
        let template = if color {
            "{spinner:.cyan} {msg}  {elapsed:.dim}"
        } else {
            "{spinner} {msg}  {elapsed}"
        };
        let headline = ProgressBar::new_spinner().with_style(style(template));
        let all = MultiProgress::new();
        let headline = all.add(headline);
        headline.enable_steady_tick(Duration::from_millis(100));
        Self { all, headline, lines: Vec::new() }
    }

    fn draw(&mut self, headline: &str, lines: Vec<String>) {
        self.headline.set_message(headline.to_owned());
        while self.lines.len() > lines.len() {
            if let Some(line) = self.lines.pop() {
                self.all.remove(&line);
            }
        }
        while self.lines.len() < lines.len() {
            let line = ProgressBar::new_spinner().with_style(style("    {wide_msg}"));
            self.lines.push(self.all.add(line));
        }
        for (shown, text) in self.lines.iter().zip(lines) {
            if shown.message() != text {
                shown.set_message(text);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// What has been told so far.
pub struct Plain {
    lines: Vec<Line>,
    headline: String,
}

impl Plain {
    fn news(&mut self, headline: Option<&str>, lines: Vec<Line>) -> Vec<String> {
        let mut news: Vec<String> =
            progress::news(&self.lines, &lines).iter().map(|line| format!("  {line}")).collect();
        if let Some(headline) = headline.filter(|headline| *headline != self.headline) {
            news.insert(0, headline.to_owned());
            self.headline = headline.to_owned();
        }
        self.lines = lines;
        news
    }
}
