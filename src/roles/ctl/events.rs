//! `events`: what happened, and what happens.

use std::time::Duration;

use bytes::Bytes;

use super::args::EventsArgs;
use super::render::event;
use super::render::words::sentence;
use super::session::Session;
use super::stop::Stop;
use crate::client::{ClientError, Lines};
use crate::model::view::EventView;

/// Between two attempts to reach the scheduler again; doubles up to the last.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(5);

/// Shows the events after `--since`; followed, it takes up the thread again by
/// itself when the scheduler was away.
pub async fn events(session: &Session, args: &EventsArgs) -> Result<(), Stop> {
    let mut reader = Reader { session, args, last: args.since, shown: 0 };
    let lines = match reader.open().await {
        // Said in so many words on the first attempt: what is asked for is gone.
        Err(error) if error.status() == Some(410) && !args.follow => {
            return Err(Stop::Failed(format!(
                "{}. Leave --since out to see all there are",
                session.in_words(&error).trim_end_matches('.')
            )));
        }
        Err(error) if error.status() == Some(410) => reader.reopen_after_gap().await,
        other => other,
    };
    let mut lines = lines.map_err(|error| session.failed(&error))?;
    loop {
        let ended = reader.copy(&mut lines).await?;
        if !args.follow {
            return match ended {
                Some(error) => Err(session.failed(&error)),
                None if reader.shown == 0 => reader.nothing(),
                None => Ok(()),
            };
        }
        lines = reader.reconnect(ended).await?;
    }
}

/// Where we are in the stream of events.
struct Reader<'a> {
    session: &'a Session,
    args: &'a EventsArgs,
    /// The last number seen.
    last: Option<u64>,
    shown: u64,
}

impl Reader<'_> {
    async fn open(&self) -> Result<Lines, ClientError> {
        let workload = self.args.workload.as_deref();
        self.session.client.events(self.last, workload, self.args.follow).await
    }

    /// What we wanted to go on from is no longer kept: says so, and goes on with
    /// the oldest that is.
    async fn reopen_after_gap(&mut self) -> Result<Lines, ClientError> {
        self.session.remark(
            "some events may have been missed: the scheduler was restarted, or keeps only so many; \
             going on with the oldest it has",
        );
        self.last = None;
        self.open().await
    }

    /// Shows lines until they end or break.
    async fn copy(&mut self, lines: &mut Lines) -> Result<Option<ClientError>, Stop> {
        loop {
            match lines.next_line().await {
                Ok(Some(line)) => self.show(&line)?,
                Ok(None) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            }
        }
    }

    fn show(&mut self, line: &Bytes) -> Result<(), Stop> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(()); // A sign of life.
        }
        let event: Option<EventView> = serde_json::from_slice(line).ok();
        if let Some(event) = &event {
            self.last = Some(event.seq);
        }
        self.shown += 1;
        let text = match event {
            Some(event) if !self.session.json() => event::event(&event, &self.session.look()),
            _ => String::from_utf8_lossy(line).into_owned(),
        };
        self.session.say(text + "\n")
    }

    /// Tries until the scheduler is there again.
    async fn reconnect(&mut self, ended: Option<ClientError>) -> Result<Lines, Stop> {
        let mut pause = AGAIN_AFTER;
        let mut said = false;
        if let Some(error) = ended.filter(|error| !error.is_transient()) {
            return Err(self.session.failed(&error));
        }
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AFTER_AT_MOST);
            let mut opened = self.open().await;
            if matches!(&opened, Err(error) if error.status() == Some(410)) {
                opened = self.reopen_after_gap().await;
            }
            match opened {
                Ok(lines) => {
                    if said {
                        self.session.remark("the scheduler is there again");
                    }
                    return Ok(lines);
                }
                Err(error) if error.is_transient() => {
                    if !said {
                        let words = sentence(&self.session.in_words(&error));
                        self.session.remark(&format!("{words} Waiting for it; Ctrl-C ends this."));
                    }
                    said = true;
                }
                Err(error) => return Err(self.session.failed(&error)),
            }
        }
    }

    fn nothing(&self) -> Result<(), Stop> {
        if !self.session.json() {
            let about = self.args.workload.as_ref().map(|name| format!(" about {name}"));
            let after = self.args.since.map(|seq| format!(" after {seq}"));
            self.session.remark(&format!(
                "no events{}{} yet; wait for them with --follow",
                about.unwrap_or_default(),
                after.unwrap_or_default()
            ));
        }
        Ok(())
    }
}
