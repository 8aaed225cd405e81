//! A seed, from its start to its end.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use kube_lite::planted::{Fault, plant};

use crate::disk::Taped;
use crate::judge::Objection;
use crate::rng::Rng;
use crate::setup::Setup;
use crate::trace::{Detail, Trace};
use crate::world::World;

/// Rounds are this far apart.
const ROUND_MS: u64 = 2_500;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub objection: Option<Objection>,
    /// Steps of both cores.
    pub steps: u64,
    /// Virtual milliseconds.
    pub time_ms: u64,
    /// Pieces of trouble.
    pub struck: u64,
    /// The story, as far as it was wanted.
    pub lines: Vec<String>,
    /// Its hash.
    pub hash: u64,
    /// What the scheduler's disk was told, if that was to be kept.
    pub tape: Vec<Taped>,
}

/// How a seed is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is told.
    pub detail: Detail,
    /// What is done wrong on purpose.
    pub fault: Option<Fault>,
    /// What the disk is told is kept.
    pub tapes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { detail: Detail::Nothing, fault: None, tapes: false }
    }
}

/// Runs a seed.
pub fn run(seed: u64, options: Options) -> Outcome {
    keep_panics_quiet();
    let mut rng = Rng::new(seed);
    let setup = Setup { tapes: options.tapes, ..Setup::of(seed, &mut rng) };
    let mut world = None;
    let caught = quietly(options.fault, || {
        let world = world.insert(World::new(setup, rng, Trace::new(options.detail)));
        live(world);
    });
    let panicked = caught.is_err().then(|| Objection {
        invariant: "panic".to_owned(),
        text: LAST_PANIC.with_borrow_mut(std::mem::take),
    });
    match world {
        None => Outcome {
            seed,
            objection: panicked,
            steps: 0,
            time_ms: 0,
            struck: 0,
            lines: Vec::new(),
            hash: 0,
            tape: Vec::new(),
        },
        Some(mut world) => Outcome {
            seed,
            objection: panicked.or_else(|| world.judge.objection().cloned()),
            steps: world.steps,
            time_ms: world.now,
            struck: world.faults.struck,
            hash: world.trace.hash(),
            tape: world.scheduler.disk.take_tape(),
            lines: world.trace.into_lines(),
        },
    }
}

fn live(world: &mut World) {
    while world.judge.is_content() && world.now < world.setup.chaos_until {
        world.run_until((world.now + ROUND_MS).min(world.setup.chaos_until));
        world.judge_round();
    }
    if world.judge.is_content() {
        world.end();
    }
    if !world.judge.is_content() && world.trace.wants(Detail::Story) {
        world.tell_all();
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// Runs something that may panic, with a fault planted.
fn quietly(fault: Option<Fault>, run: impl FnOnce()) -> std::thread::Result<()> {
    RUNS.set(true);
    plant(fault);
    let caught = panic::catch_unwind(AssertUnwindSafe(run));
    plant(None);
    RUNS.set(false);
    caught
}

/// A panic of a core is a finding like any other, told once and in its place; one
/// of anything else is told as ever.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match RUNS.get() {
            true => LAST_PANIC.with_borrow_mut(|text| *text = info.to_string()),
            false => before(info),
        }));
    });
}
