//! What the world's scheduler is given and decides, as a recording has it.

use kube_lite::roles::scheduler::core::Core;
use kube_lite::roles::scheduler::message::{Input, Moment, Step};
use kube_lite::roles::scheduler::recording::{self, Checkpoint, Digest, Entry, FORMAT, Head, line};
use kube_lite::roles::scheduler::replay::{Batch, Replay};

use super::World;

/// The recording so far.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    /// The files it would be in.
    pub segments: Vec<Vec<u8>>,
    steps: u64,
}

impl World {
    /// From now on, everything is recorded.
    pub fn record(&mut self) {
        self.tape = Some(Tape::default());
        self.next_segment(false);
    }

    /// The recording goes on in a new segment.
    pub fn next_segment(&mut self, follows: bool) {
        let checkpoint = Checkpoint::Running(Box::new(self.core.clone()));
        self.begin_segment(&checkpoint, follows);
    }

    pub(super) fn begin_segment(&mut self, checkpoint: &Checkpoint, follows: bool) {
        let epoch = self.epoch;
        let Some(tape) = &mut self.tape else { return };
        if let Checkpoint::Opened { .. } = checkpoint {
            tape.steps = 0;
        }
        let head = Head {
            kube_lite_recording: FORMAT,
            version: "test".to_owned(),
            cluster: "test".into(),
            epoch,
            segment: tape.segments.len() as u64 + 1,
            follows,
            after_step: tape.steps,
        };
        tape.segments.push([line(&head), line(checkpoint)].concat());
    }

    pub(super) fn record_input(&mut self, moment: Moment, input: &Input) {
        let Some(tape) = &mut self.tape else { return };
        tape.steps += 1;
        let number = tape.steps;
        self.note(&Entry::Step { number, first: true, moment, input: input.clone() });
    }

    pub(super) fn record_decision(&mut self, step: &Step) {
        if self.tape.is_some() {
            self.note(&Entry::Decided(Digest::of(step)));
        }
    }

    pub(super) fn note(&mut self, entry: &Entry) {
        if let Some(segment) = self.tape.as_mut().and_then(|tape| tape.segments.last_mut()) {
            segment.extend_from_slice(&line(entry));
        }
    }
}

/// A segment decided again: its batches, and the core at its end.
///
/// # Panics
/// When it cannot be read.
pub fn relive(segment: &[u8]) -> (Vec<Batch>, Core) {
    let segment = recording::read(segment).expect("a segment");
    assert_eq!(segment.cut_short, 0);
    let mut replay = Replay::begin(segment.checkpoint).expect("a checkpoint");
    let mut batches = Vec::new();
    for entry in segment.entries {
        batches.extend(replay.take(entry).expect("an entry in its place"));
    }
    batches.extend(replay.finish());
    (batches, replay.core().clone())
}

/// Everything that the core's next steps depend on, also what its JSON would leave
/// out; not the draws of the last step, which are over.
///
/// # Panics
/// When there are no draws any more.
pub fn image(core: &Core) -> String {
    let text = format!("{core:?}");
    let (before, rest) = text.split_once("draws: Draws(").expect("draws");
    let (_, after) = rest.split_once(')').expect("their end");
    format!("{before}{after}")
}
