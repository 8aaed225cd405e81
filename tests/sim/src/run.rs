//! A seed, from its start to its end.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

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
}

/// Runs a seed.
pub fn run(seed: u64, detail: Detail) -> Outcome {
    keep_panics_quiet();
    let mut rng = Rng::new(seed);
    let setup = Setup::of(seed, &mut rng);
    let mut world = None;
    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        let world = world.insert(World::new(setup, rng, Trace::new(detail)));
        live(world);
    }));
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
        },
        Some(world) => Outcome {
            seed,
            objection: panicked.or_else(|| world.judge.objection().cloned()),
            steps: world.steps,
            time_ms: world.now,
            struck: world.faults.struck,
            hash: world.trace.hash(),
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
}

/// A panic of a core is a finding like any other, told once and in its place.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            LAST_PANIC.with_borrow_mut(|text| *text = info.to_string());
        }));
    });
}
