//! Pages: shown once, or again whenever they change.

use std::time::Duration;

use super::render::words::sentence;
use super::render::{Look, json};
use super::session::Session;
use super::stop::Stop;
use crate::client::{ClientError, Query};

/// A watched page is looked at this often.
pub const EVERY: Duration = Duration::from_secs(1);

/// Asks one question and shows the answer.
pub async fn ask<T: serde::de::DeserializeOwned>(
    session: &Session,
    query: &Query<T>,
    watch: bool,
    render: impl Fn(&T, &Look) -> String,
) -> Result<(), Stop> {
    if session.json() {
        let fetch = async || session.client.get_raw(query).await;
        let pretty = |body: &bytes::Bytes, _: &Look| json::pretty(&String::from_utf8_lossy(body));
        show(session, watch, fetch, pretty).await
    } else {
        show(session, watch, async || session.client.get(query).await, render).await
    }
}

/// Shows what is fetched. Watched, it stays: a scheduler that cannot be reached
/// for a while is waited for, with a word about it.
pub async fn show<T>(
    session: &Session,
    watch: bool,
    fetch: impl AsyncFn() -> Result<T, ClientError>,
    render: impl Fn(&T, &Look) -> String,
) -> Result<(), Stop> {
    let page = fetch().await.map_err(|error| session.failed(&error))?;
    if !watch {
        return session.say(render(&page, &session.look()));
    }
    if !session.on_terminal || session.json() {
        return again_and_again(session, page, fetch, render).await;
    }
    let screen = OwnScreen::enter(session)?;
    tokio::select! {
        result = again_and_again(session, page, fetch, render) => result,
        // The way to end it, hence no failure.
        _ = tokio::signal::ctrl_c() => {
            drop(screen);
            Ok(())
        }
    }
}

/// The terminal's second screen, so that the first is untouched afterwards.
struct OwnScreen<'a>(&'a Session);

impl<'a> OwnScreen<'a> {
    fn enter(session: &'a Session) -> Result<Self, Stop> {
        session.say("\x1b[?1049h")?;
        Ok(Self(session))
    }
}

impl Drop for OwnScreen<'_> {
    fn drop(&mut self) {
        let _ = self.0.say("\x1b[?1049l");
    }
}

async fn again_and_again<T>(
    session: &Session,
    mut page: T,
    fetch: impl AsyncFn() -> Result<T, ClientError>,
    render: impl Fn(&T, &Look) -> String,
) -> Result<(), Stop> {
    let mut trouble = None;
    let mut shown = String::new();
    loop {
        let look = session.look();
        if session.on_terminal && !session.json() {
            let text = render(&page, &look);
            let size = session.size().unwrap_or((80, 24));
            let screen = screen(&text, &trouble, session.client.base(), size);
            if screen != shown {
                // Home, the page, and away with what was below it.
                let lines = screen.replace('\n', "\x1b[K\n");
                session.say(format!("\x1b[H{lines}\x1b[J"))?;
                shown = screen;
            }
        } else {
            let unaged = render(&page, &Look { ages: false, ..look.clone() });
            if unaged != shown {
                let gap = if shown.is_empty() || session.json() { "" } else { "\n" };
                session.say(format!("{gap}{}", render(&page, &look)))?;
                shown = unaged;
            }
        }
        tokio::time::sleep(EVERY).await;
        match fetch().await {
            Ok(fresh) => {
                page = fresh;
                trouble = None;
            }
            Err(error) if error.is_transient() => {
                let words = session.in_words(&error);
                if !session.on_terminal && trouble.is_none() {
                    session.remark(&words);
                }
                trouble = Some(words);
            }
            Err(error) => return Err(session.failed(&error)),
        }
    }
}

/// A page as it fits on a screen of this width and height, with a word on top.
fn screen(text: &str, trouble: &Option<String>, base: &str, (width, height): (u16, u16)) -> String {
    let head = match trouble {
        Some(trouble) => format!("{} This is the last that was known:", sentence(trouble)),
        None => format!("{base}, every {} s; Ctrl-C ends it", EVERY.as_secs()),
    };
    let lines: Vec<&str> = text.lines().collect();
    // One line for the cursor, one below the head, one for the remark below.
    let mut room = usize::from(height).saturating_sub(3 + rows(&head, width));
    let mut screen = format!("{head}\n\n");
    let mut shown = 0;
    for line in &lines {
        let needed = rows(line, width);
        if needed > room && shown > 0 {
            break;
        }
        room = room.saturating_sub(needed);
        shown += 1;
        screen.push_str(line);
        screen.push('\n');
    }
    if lines.len() > shown {
        screen.push_str(&format!("… {} more lines\n", lines.len() - shown));
    }
    screen
}

/// On how many rows a terminal of this width shows a line, colours aside.
fn rows(line: &str, width: u16) -> usize {
    let mut pieces = line.split("\x1b[");
    let first = pieces.next().unwrap_or_default().chars().count();
    let visible = |piece: &str| piece.split_once('m').map_or(0, |(_, text)| text.chars().count());
    let columns = first + pieces.map(visible).sum::<usize>();
    columns.div_ceil(usize::from(width.max(1))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_never_outgrows_the_screen() {
        let text = "1\n2\n3\n4\n5\n";
        let head = "http://h:1, every 1 s; Ctrl-C ends it\n\n";
        assert_eq!(screen(text, &None, "http://h:1", (80, 24)), format!("{head}{text}"));
        assert_eq!(
            screen(text, &None, "http://h:1", (80, 7)),
            format!("{head}1\n2\n3\n… 2 more lines\n")
        );
        let trouble = Some("cannot reach it.".to_owned());
        let wanted = "cannot reach it. This is the last that was known:\n\n1\n… 4 more lines\n";
        assert_eq!(screen(text, &trouble, "http://h:1", (80, 2)), wanted);
    }

    #[test]
    fn long_lines_take_more_than_one_row() {
        for (line, wanted) in [
            ("", 1),
            ("1234567890", 1),
            ("12345678901", 2),
            ("\x1b[2m1234567890\x1b[0m", 1),
            ("\x1b[2m12345\x1b[0m\x1b[31m678901\x1b[0m", 2),
        ] {
            assert_eq!(rows(line, 10), wanted, "{line:?}");
        }
        let text = "12345678901\n2\n3\n";
        assert!(screen(text, &None, "h", (10, 8)).ends_with("12345678901\n… 2 more lines\n"));
    }
}
