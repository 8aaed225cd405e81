//! Writes down what the core is given and decides, into a ring of segment files:
//! see [`super::recording`].
//!
//! The scheduler never waits for it. The driver puts copies into a queue; a thread
//! of its own encodes and writes them. If the queue gets too long, or the disk
//! refuses, the recording has a gap and the log says so; it goes on later with a
//! new checkpoint.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::core::Core;
use super::message::{Input, Millis, Moment, Step};
use super::recording::{Checkpoint, Digest, Entry, FORMAT, Head, line};
use crate::model::ClusterId;

/// The directory of a recording, in the scheduler's data directory.
pub const DIRECTORY: &str = "recording";

/// What waits to be written takes at most about so many bytes of memory.
const BACKLOG_BYTES: usize = 16 << 20;
/// Bytes collected before they are written, if more are waiting.
const BUFFER_BYTES: usize = 256 << 10;
/// After the first gap, going on is tried no sooner than this; after each further
/// one it takes twice as long, up to the last.
const GO_ON_AFTER: Duration = Duration::from_secs(10);
const GO_ON_AFTER_AT_MOST: Duration = Duration::from_secs(3600);
/// At the end, what waits has so long to be written.
const END: Duration = Duration::from_secs(2);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    /// All segments together take at most so many bytes; the oldest goes first.
    pub total_bytes: u64,
    /// A segment that has grown by this since its checkpoint is the last but one.
    pub segment_bytes: u64,
}

impl Default for Ring {
    fn default() -> Self {
        Self { total_bytes: 64 << 20, segment_bytes: 8 << 20 }
    }
}

/// The driver's end.
#[derive(Debug)]
pub struct Recorder {
    lane: Sender<Item>,
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
    steps: u64,
    /// Since when nothing is recorded.
    gap_since: Option<Instant>,
    go_on_after: Duration,
}

/// What both ends look at.
#[derive(Debug, Default)]
struct Shared {
    /// About so many bytes of memory are waiting.
    backlog: AtomicUsize,
    /// The segment is long enough.
    segment_full: AtomicBool,
    /// Writing has failed, and what comes is thrown away.
    failed: AtomicBool,
}

/// What goes over the queue, with about its size in memory.
enum Item {
    Begin { checkpoint: Checkpoint, follows: bool, after_step: u64 },
    Entry(Entry, usize),
    Decided(Step, usize),
}

impl Recorder {
    /// Begins to record a scheduler of this cluster and epoch into `directory`.
    /// That it cannot be written to is told by the log, and by nothing else.
    pub fn start(
        directory: PathBuf,
        ring: Ring,
        cluster: ClusterId,
        epoch: u64,
        opened: Checkpoint,
    ) -> Option<Self> {
        let (lane, items) = channel();
        let shared = Arc::new(Shared::default());
        let (at_end, ended) = oneshot::channel();
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            directory,
            ring,
            cluster,
            epoch,
            segments: VecDeque::new(),
            file: None,
            buffer: Vec::new(),
            full_at: 0,
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            writer.run(&items);
            let _ = at_end.send(());
        });
        if let Err(error) = thread {
            tracing::warn!("nothing is recorded: {error}");
            return None;
        }
        let mut recorder =
            Self { lane, shared, ended, steps: 0, gap_since: None, go_on_after: GO_ON_AFTER };
        recorder.send(Item::Begin { checkpoint: opened, follows: false, after_step: 0 });
        Some(recorder)
    }

    /// A batch is about to begin; if it is time, the recording goes on in a new
    /// segment.
    pub fn before_batch(&mut self, core: &Core) {
        let follows = match self.gap_since {
            None if self.shared.failed.load(Ordering::Relaxed) => {
                self.gap_since = Some(Instant::now());
                return;
            }
            None if self.shared.segment_full.swap(false, Ordering::Relaxed) => true,
            Some(since) if since.elapsed() >= self.go_on_after && self.backlog() == 0 => {
                self.go_on_after = (self.go_on_after * 2).min(GO_ON_AFTER_AT_MOST);
                false
            }
            _ => return,
        };
        let checkpoint = Checkpoint::Running(Box::new(core.clone()));
        self.gap_since = None;
        self.shared.failed.store(false, Ordering::Relaxed);
        self.send(Item::Begin { checkpoint, follows, after_step: self.steps });
    }

    /// The core is about to be given this input.
    pub fn before_step(&mut self, first: bool, moment: Moment, input: &Input) {
        self.steps += 1;
        if self.is_on() {
            let entry = Entry::Step { number: self.steps, first, moment, input: input.clone() };
            self.send(Item::Entry(entry, size_of_input(input)));
        }
    }

    /// It has decided this.
    pub fn decided(&mut self, step: &Step) {
        if self.is_on() {
            self.send(Item::Decided(step.clone(), size_of_step(step)));
        }
    }

    /// The records of the batch are on the disk.
    pub fn stored(&mut self) {
        self.send(Item::Entry(Entry::Stored {}, 0));
    }

    /// The disk has refused them.
    pub fn rolled_back(&mut self, now: Millis, why: String) {
        self.send(Item::Entry(Entry::RolledBack { now, why }, 0));
    }

    /// The scheduler stops; returns when all is written, or after two seconds.
    pub async fn end(mut self) {
        self.send(Item::Entry(Entry::Ended {}, 0));
        drop(self.lane);
        let _ = tokio::time::timeout(END, self.ended).await;
    }

    fn is_on(&self) -> bool {
        self.gap_since.is_none()
    }

    fn backlog(&self) -> usize {
        self.shared.backlog.load(Ordering::Relaxed)
    }

    fn send(&mut self, item: Item) {
        if !self.is_on() {
            return;
        }
        let size = item.size();
        if self.backlog() + size > BACKLOG_BYTES {
            tracing::warn!("more happens than can be recorded: the recording has a gap here");
            self.gap_since = Some(Instant::now());
            return;
        }
        self.shared.backlog.fetch_add(size, Ordering::Relaxed);
        if self.lane.send(item).is_err() {
            // It has panicked, and said so; there is nobody to go on with.
            self.shared.failed.store(true, Ordering::Relaxed);
        }
    }
}

impl Item {
    fn size(&self) -> usize {
        const EACH: usize = 256;
        match self {
            Item::Begin { .. } => EACH,
            Item::Entry(_, size) | Item::Decided(_, size) => EACH + size,
        }
    }
}

/// About how much memory a copy takes.
fn size_of_input(input: &Input) -> usize {
    match input {
        Input::Heartbeat { request, .. } => request.containers.len() * 1024,
        Input::User { .. } => 4096,
        _ => 512,
    }
}

fn size_of_step(step: &Step) -> usize {
    let orders: usize = step.orders.iter().map(|order| order.body.size()).sum();
    orders + 16 * 1024 * step.records.len() + 512 * (step.replies.len() + step.events.len())
}

/// The thread's end.
struct Writer {
    shared: Arc<Shared>,
    directory: PathBuf,
    ring: Ring,
    cluster: ClusterId,
    epoch: u64,
    /// Number and size of those there are, the oldest first.
    segments: VecDeque<(u64, u64)>,
    /// The last of them, while it is written to.
    file: Option<File>,
    /// Lines that are not written yet.
    buffer: Vec<u8>,
    /// The size at which the segment is long enough.
    full_at: u64,
}

impl Writer {
    fn run(&mut self, items: &Receiver<Item>) {
        loop {
            let item = match items.try_recv() {
                Ok(item) => item,
                Err(TryRecvError::Empty) => {
                    self.attempt(Self::flush);
                    match items.recv() {
                        Ok(item) => item,
                        Err(_) => return,
                    }
                }
                Err(TryRecvError::Disconnected) => return self.attempt(Self::flush),
            };
            let size = item.size();
            self.take(item);
            self.shared.backlog.fetch_sub(size, Ordering::Relaxed);
        }
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Begin { checkpoint, follows, after_step } => {
                self.attempt(|writer| writer.begin(&checkpoint, follows, after_step));
            }
            Item::Entry(entry, _) => self.append(&entry),
            Item::Decided(step, _) => self.append(&Entry::Decided(Digest::of(&step))),
        }
    }

    fn append(&mut self, entry: &Entry) {
        if self.file.is_none() {
            return;
        }
        self.buffer.extend_from_slice(&line(entry));
        if self.buffer.len() >= BUFFER_BYTES {
            self.attempt(Self::flush);
        }
    }

    /// Whatever goes wrong ends the segment and is told once.
    fn attempt(&mut self, what: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        if let Err(error) = what(self) {
            self.file = None;
            self.buffer.clear();
            self.shared.failed.store(true, Ordering::Relaxed);
            tracing::warn!("the recording has a gap here: {error:#}; the scheduler goes on");
        }
    }

    fn begin(
        &mut self,
        checkpoint: &Checkpoint,
        follows: bool,
        after_step: u64,
    ) -> anyhow::Result<()> {
        // One that was given up cannot be followed.
        let follows = follows && self.file.is_some();
        self.flush()?;
        self.file = None;
        let cannot = || format!("cannot write to {}", self.directory.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .with_context(cannot)?;
        self.segments = found(&self.directory).with_context(cannot)?.into();
        let segment = self.segments.back().map_or(1, |(last, _)| last + 1);
        let head = Head {
            kube_lite_recording: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.cluster.clone(),
            epoch: self.epoch,
            segment,
            follows,
            after_step,
        };
        let mut lines = line(&head);
        lines.extend_from_slice(&line(checkpoint));
        let bytes = lines.len() as u64;
        self.make_room(bytes)?;
        let path = self.directory.join(name_of(segment));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        self.file = Some(file.with_context(|| format!("cannot write {}", path.display()))?);
        self.segments.push_back((segment, 0));
        // Of a large cluster, checkpoints must not be most of what is written.
        self.full_at = bytes + bytes.max(self.ring.segment_bytes);
        self.buffer = lines;
        self.flush()
    }

    /// Writes what is in the buffer, wholly or not at all.
    fn flush(&mut self) -> anyhow::Result<()> {
        if self.buffer.is_empty() || self.file.is_none() {
            return Ok(());
        }
        let bytes = self.buffer.len() as u64;
        self.make_room(bytes)?;
        let Some((number, size)) = self.segments.back_mut() else { return Ok(()) };
        let path = self.directory.join(name_of(*number));
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write_all(&self.buffer) {
            // A line that is there in part could as well be that of a crash.
            let _ = file.set_len(*size);
            return Err(error).with_context(|| format!("cannot write {}", path.display()));
        }
        let before = *size;
        *size += bytes;
        if before < self.full_at && *size >= self.full_at {
            self.shared.segment_full.store(true, Ordering::Relaxed);
        }
        self.buffer.clear();
        Ok(())
    }

    /// Removes old segments, until so many bytes more are within the ring.
    fn make_room(&mut self, more: u64) -> anyhow::Result<()> {
        let in_use = usize::from(self.file.is_some());
        loop {
            let total: u64 = self.segments.iter().map(|(_, bytes)| bytes).sum();
            if total + more <= self.ring.total_bytes {
                return Ok(());
            }
            if self.segments.len() <= in_use {
                anyhow::bail!(
                    "it needs {} bytes, and all of it is to take at most {}",
                    total + more,
                    self.ring.total_bytes
                );
            }
            if let Some((oldest, _)) = self.segments.pop_front() {
                let path = self.directory.join(name_of(oldest));
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        let what = format!("cannot remove {}", path.display());
                        return Err(error).context(what);
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The name of a segment's file.
pub fn name_of(segment: u64) -> String {
    format!("segment-{segment:08}.jsonl")
}

/// The segments in a directory with their sizes, the oldest first. What else is in
/// there is none of ours.
///
/// # Errors
/// When the directory cannot be read.
pub fn found(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("segment-")?.strip_suffix(".jsonl")?.parse().ok())
            .filter(|number| name.to_str() == Some(&name_of(*number)));
        let Some(number) = number else { continue };
        match entry.metadata() {
            Ok(metadata) => segments.push((number, metadata.len())),
            // The ring has gone on meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Removes all segments of a data directory, if there are any.
///
/// # Errors
/// When one cannot be removed.
pub fn forget(data_dir: &Path) -> anyhow::Result<()> {
    let directory = data_dir.join(DIRECTORY);
    let segments = match found(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        segments => segments,
    };
    let cannot = || format!("cannot forget the recording in {}", directory.display());
    for (number, _) in segments.with_context(cannot)? {
        std::fs::remove_file(directory.join(name_of(number))).with_context(cannot)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timing;
    use crate::roles::scheduler::state::State;

    fn core() -> Core {
        Core::new(State::new("test".into(), 1), Timing::default())
    }

    fn beat() -> Input {
        let docker = serde_json::json!({"state": "ok"});
        let container = serde_json::json!({"id": "a-r1-b", "containerId": "c", "workloadId": "a",
            "replica": 0, "revision": 1, "nodeId": "n", "image": "i", "phase": "running",
            "health": "healthy", "ready": true, "ports": [], "restarts": 0});
        let request = serde_json::json!({"nodeId": "n", "incarnation": 1, "epoch": 1, "seq": 1,
            "synced": true, "docker": docker, "containers": vec![container; 200]});
        Input::Heartbeat { ticket: 1, request: serde_json::from_value(request).unwrap() }
    }

    /// A disk that hangs: nobody takes anything out of the queue.
    #[test]
    fn what_cannot_be_written_is_not_kept_in_memory_without_bound() {
        let (lane, items) = channel();
        let (_at_end, ended) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let mut recorder = Recorder {
            lane,
            shared: Arc::clone(&shared),
            ended,
            steps: 0,
            gap_since: None,
            go_on_after: Duration::ZERO,
        };
        let (moment, beat) = (Moment { now: 1, wall: 1, draw: 1 }, beat());
        for _ in 0..1000 {
            recorder.before_batch(&core());
            recorder.before_step(true, moment, &beat);
            recorder.decided(&Step::default());
        }
        assert!(recorder.gap_since.is_some());
        let queued: Vec<Item> = items.try_iter().collect();
        let bytes: usize = queued.iter().map(Item::size).sum();
        assert!(queued.len() > 50 && bytes <= BACKLOG_BYTES, "{} of {bytes}", queued.len());
        assert_eq!(shared.backlog.load(Ordering::Relaxed), bytes);

        // All of it is written after all: the recording goes on, after a gap.
        shared.backlog.store(0, Ordering::Relaxed);
        recorder.before_batch(&core());
        recorder.before_step(true, moment, &Input::Tick);
        let queued: Vec<Item> = items.try_iter().collect();
        let [Item::Begin { follows: false, after_step: 1000, .. }, step] = &queued[..] else {
            panic!("{} items", queued.len())
        };
        assert!(matches!(step, Item::Entry(Entry::Step { number: 1001, .. }, _)));
        // And if there is nobody any more, nothing happens.
        drop(items);
        for _ in 0..3 {
            recorder.before_batch(&core());
            recorder.before_step(true, moment, &Input::Tick);
        }
    }
}
