//! `kube-lite scheduler --replay`: reads a recording, decides it all again, and says
//! what was decided, why, and whether this build decides the same.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::core::Core;
use super::recorder::{self, DIRECTORY, name_of};
use super::recording::{self, Checkpoint, Entry, Flaw, Head, Segment};
use super::replay::{Batch, Replay};
use crate::cli::{ReplayOutput, SchedulerArgs};
use crate::model::WorkloadId;
use crate::roles::ctl::render::Look;

mod words;

/// Replays the recording at `path`: a segment, a directory of them, or the data
/// directory they are in.
///
/// # Errors
/// When there is none, when it cannot be read, and when this build has decided
/// otherwise than what is recorded.
pub(super) fn run(path: &Path, args: &SchedulerArgs) -> anyhow::Result<()> {
    let files = segments_at(path)?;
    let workload = args.workload.as_deref().map(WorkloadId::from);
    let mut teller = Teller {
        json: args.output == Some(ReplayOutput::Json),
        workload: workload.clone(),
        look: look(),
        told: 0,
        deaf: false,
    };
    let mut rerun = Rerun { until: None, steps: 0, segments: 0, otherwise: Vec::new() };
    let mut before: Option<Last> = None;
    for (index, file) in files.iter().enumerate() {
        let is_last = index + 1 == files.len();
        let segment = match load(file)? {
            Loaded::Whole(segment) => *segment,
            // A newer segment has taken its place meanwhile.
            Loaded::Gone => continue,
            Loaded::Unborn if files.len() > 1 => {
                note(&format!("{}: {}", file.display(), Flaw::Unborn));
                continue;
            }
            Loaded::Unborn => bail!("{}: {}", file.display(), Flaw::Unborn),
        };
        if let (None, Some(text)) = (rerun.until, &args.until) {
            rerun.until = Some(time_after(text, began(&segment), &TimeZone::system())?);
        }
        let last = before.take().filter(|last| last.is_before(&segment.head));
        if let Some(last) = &last
            && last.cut_short > 0
        {
            let name = name_of(last.head.segment);
            bail!("{name} is damaged: its end is missing, and yet the next one follows it");
        }
        let follows = last.map(|last| last.replay);
        if follows.is_none() {
            note(&introduction(file, &segment));
        }
        rerun.segments += 1;
        let is_over = rerun.segment(file, segment, follows, is_last, &mut teller, &mut before)?;
        if is_over {
            break;
        }
    }
    if let Some(name) = workload.filter(|_| teller.told == 0) {
        note(&format!("nothing about {name} was decided in this recording"));
    }
    rerun.verdict()
}

/// On the way through all segments.
struct Rerun {
    /// Unix milliseconds.
    until: Option<u64>,
    steps: u64,
    segments: u64,
    /// Where this build has decided otherwise, and what.
    otherwise: Vec<String>,
}

impl Rerun {
    /// Goes through a segment; returns whether the time is over.
    fn segment(
        &mut self,
        file: &Path,
        segment: Segment,
        follows: Option<Replay>,
        is_last: bool,
        teller: &mut Teller,
        left: &mut Option<Last>,
    ) -> anyhow::Result<bool> {
        let Segment { head, checkpoint, entries, cut_short } = segment;
        let of_file = || format!("{} cannot be replayed", file.display());
        if let (Some(before), Checkpoint::Running(core)) = (follows, &checkpoint)
            && self.otherwise.is_empty()
            && !same(before.core(), core)
        {
            self.otherwise.push(format!(
                "{}: what is known at its beginning is not what the segment before leads to",
                file.display()
            ));
        }
        let begun = guarded(|| Replay::begin(checkpoint)).and_then(|begun| Ok(begun?));
        let mut replay = begun.with_context(of_file)?;
        for entry in entries {
            if let (Entry::Step { moment, .. }, Some(until)) = (&entry, self.until)
                && moment.wall > until
            {
                self.tell(replay.finish(), teller)?;
                return Ok(true);
            }
            let step = match &entry {
                Entry::Step { number, moment, .. } => Some((*number, moment.wall)),
                _ => None,
            };
            match guarded(|| replay.take(entry)) {
                Ok(batch) => self.tell(batch.with_context(of_file)?, teller)?,
                Err(panic) => {
                    let (number, wall) = step.unwrap_or_default();
                    let at = crate::model::wall::rfc3339(wall);
                    self.otherwise.push(format!("step {number}, {at}: {panic:#}"));
                    return Ok(false);
                }
            }
        }
        self.tell(replay.finish(), teller)?;
        if cut_short > 0 {
            note(&format!(
                "{}: its last {cut_short} byte(s) are the beginning of an entry that was not written to \
                 its end; they are left out",
                file.display()
            ));
        }
        if replay.undecided() {
            note(&format!(
                "{}: what came of its last step is not told: the recording stopped there, or the \
                 scheduler did",
                file.display()
            ));
        } else if is_last && !replay.ended() {
            note("the recording ends while the scheduler ran");
        }
        *left = Some(Last { head, replay, cut_short });
        Ok(false)
    }

    fn tell(&mut self, batch: Option<Batch>, teller: &mut Teller) -> anyhow::Result<()> {
        let Some(batch) = batch else { return Ok(()) };
        self.steps += batch.steps.len() as u64;
        for relived in &batch.steps {
            if let Some(differs) = &relived.differs {
                let at = crate::model::wall::rfc3339(relived.moment.wall);
                self.otherwise.push(format!("step {}, {at}: {differs}", relived.number));
            }
        }
        teller.batch(batch)
    }

    fn verdict(self) -> anyhow::Result<()> {
        let Self { steps, segments, otherwise, .. } = self;
        let Some(first) = otherwise.first() else {
            note(&format!("{steps} step(s) of {segments} segment(s), all decided as recorded"));
            return Ok(());
        };
        Err(anyhow!(
            "this build (kube-lite {}) decides otherwise than what is recorded, in {} place(s); the \
             first: {first}. What comes after it is what this build would have done, up to the next \
             segment",
            env!("CARGO_PKG_VERSION"),
            otherwise.len(),
        ))
    }
}

/// A segment at its end.
struct Last {
    head: Head,
    replay: Replay,
    cut_short: usize,
}

impl Last {
    /// Whether the next one goes on exactly where this one ends.
    fn is_before(&self, next: &Head) -> bool {
        let Head { cluster, epoch, segment, .. } = &self.head;
        next.follows && (&next.cluster, next.epoch, next.segment) == (cluster, *epoch, segment + 1)
    }
}

/// Says what happened, on standard output.
struct Teller {
    json: bool,
    workload: Option<WorkloadId>,
    look: Look,
    told: u64,
    /// Nobody reads any more.
    deaf: bool,
}

impl Teller {
    fn batch(&mut self, batch: Batch) -> anyhow::Result<()> {
        let Batch { steps, outcome } = batch;
        let mut text = String::new();
        for relived in steps {
            let relived = match &self.workload {
                Some(workload) => relived.only(workload),
                None => Some(relived),
            };
            let Some(relived) = relived else { continue };
            match self.json {
                true if !relived.is_of_interest() => {}
                true => text.push_str(&words::json(&relived, &outcome)),
                false => words::lines(&relived, &outcome, &self.look, &mut text),
            }
        }
        self.told += u64::from(!text.is_empty());
        if self.deaf {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => self.deaf = true,
            other => other.context("cannot write to standard output")?,
        }
        Ok(())
    }
}

fn look() -> Look {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    Look {
        color: std::io::stdout().is_terminal() && !is_set("NO_COLOR"),
        ..Look::plain(Timestamp::now(), TimeZone::system())
    }
}

/// About the recording, not of it.
fn note(text: &str) {
    // Whoever does not read it does not miss it.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The files of a recording, the oldest first.
fn segments_at(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read {}", path.display());
    if !std::fs::metadata(path).with_context(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    for directory in [path.to_owned(), path.join(DIRECTORY)] {
        let found = match recorder::found(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            found => found.with_context(unreadable)?,
        };
        if !found.is_empty() {
            return Ok(found.iter().map(|(number, _)| directory.join(name_of(*number))).collect());
        }
    }
    bail!(
        "there is no recording in {}: neither it nor its {DIRECTORY}/ has a segment-*.jsonl. \
         `kube-lite dev` records by itself, `kube-lite scheduler` with --record",
        path.display()
    )
}

enum Loaded {
    Whole(Box<Segment>),
    Unborn,
    Gone,
}

fn load(file: &Path) -> anyhow::Result<Loaded> {
    let unreadable = || format!("cannot read {}", file.display());
    let mut opened = match std::fs::File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Loaded::Gone),
        opened => opened.with_context(unreadable)?,
    };
    let mut bytes = Vec::new();
    // What is something else, however large, is noticed by its beginning.
    (&mut opened).take(4096).read_to_end(&mut bytes).with_context(unreadable)?;
    let unusable = || format!("cannot replay {}", file.display());
    if !recording::begins(&bytes) {
        return Err(Flaw::Foreign).with_context(unusable);
    }
    opened.read_to_end(&mut bytes).with_context(unreadable)?;
    match recording::read(&bytes) {
        Err(Flaw::Unborn) => Ok(Loaded::Unborn),
        segment => Ok(Loaded::Whole(Box::new(segment.with_context(unusable)?))),
    }
}

/// When its first step was, Unix milliseconds.
fn began(segment: &Segment) -> u64 {
    let steps = segment.entries.iter().find_map(|entry| match entry {
        Entry::Step { moment, .. } => Some(moment.wall),
        _ => None,
    });
    steps.unwrap_or(match &segment.checkpoint {
        Checkpoint::Opened { moment, .. } => moment.wall,
        Checkpoint::Running(core) => core.state.wall,
    })
}

fn introduction(file: &Path, segment: &Segment) -> String {
    let Head { version, cluster, epoch, after_step, .. } = &segment.head;
    let from = match &segment.checkpoint {
        Checkpoint::Opened { .. } => "from the scheduler's start".to_owned(),
        Checkpoint::Running(_) => format!("after step {after_step}; what was before is not kept"),
    };
    format!("{}: cluster {cluster}, epoch {epoch}, kube-lite {version}, {from}", file.display())
}

/// Whether they would decide the same from here.
fn same(one: &Core, other: &Core) -> bool {
    let json = |core| serde_json::to_vec(core).unwrap_or_default();
    json(one) == json(other)
}

/// A core that panics is what a replay is for.
fn guarded<T>(attempt: impl FnOnce() -> T) -> anyhow::Result<T> {
    catch_unwind(AssertUnwindSafe(attempt)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        anyhow!("the core of this build panics: {}", text.unwrap_or("it does not say why"))
    })
}

/// What `--until` means: a point in time, or a time of day on a screen in this
/// zone, the first that there is after the beginning. Unix milliseconds.
fn time_after(text: &str, began: u64, zone: &TimeZone) -> anyhow::Result<u64> {
    let wrong = || {
        anyhow!(
            "--until {text:?} is no time; it takes a time of day such as 14:41:17, a local time such as \
             2026-11-22T14:41:17, or one with its zone such as 2026-11-22T13:41:17Z"
        )
    };
    let millis = |at: Timestamp| u64::try_from(at.as_millisecond()).map_err(|_| wrong());
    // A second that is shown is meant as a whole.
    let whole = |at: u64| if at.is_multiple_of(1000) { at + 999 } else { at };
    if let Ok(at) = text.parse::<Timestamp>() {
        return millis(at).map(whole);
    }
    let local = |at: DateTime| zone.to_timestamp(at).map_err(|_| wrong()).and_then(millis);
    if let Ok(time) = text.parse::<Time>() {
        let began_at =
            i64::try_from(began).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let day = began_at.ok_or_else(wrong)?.to_zoned(zone.clone()).date();
        let at = whole(local(day.to_datetime(time))?);
        if at >= began {
            return Ok(at);
        }
        let next = day.checked_add(1.day()).map_err(|_| wrong())?;
        return local(next.to_datetime(time)).map(whole);
    }
    local(text.parse::<DateTime>().map_err(|_| wrong())?).map(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond() as u64;
        let began = ms("2026-11-22T13:30:00Z");
        for (text, meant) in [
            ("2026-11-22T13:41:17Z", "2026-11-22T13:41:17.999Z"),
            ("2026-11-22T13:41:17.120Z", "2026-11-22T13:41:17.120Z"),
            ("2026-11-22T14:41:17", "2026-11-22T13:41:17.999Z"),
            ("2026-11-22 14:41:17", "2026-11-22T13:41:17.999Z"),
            ("14:41:17", "2026-11-22T13:41:17.999Z"),
            ("14:29:59", "2026-11-23T13:29:59.999Z"),
        ] {
            assert_eq!(time_after(text, began, &zone).unwrap(), ms(meant), "{text}");
        }
        for text in ["", "soon", "25:00:00", "yesterday 3 pm"] {
            let said = time_after(text, began, &zone).unwrap_err().to_string();
            assert!(said.contains("14:41:17") && said.contains(&format!("{text:?}")), "{said}");
        }
    }
}
