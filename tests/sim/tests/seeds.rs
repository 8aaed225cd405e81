//! Seeds: thousands of new ones, and those that found something once.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::AtomicBool;

use kube_lite_sim::run::{Options, Outcome, run};
use kube_lite_sim::soak::{replay, soak};

/// Takes well under two minutes on two cores; `make soak` runs more.
const SEEDS: Range<u64> = 1..3_001;
const JOBS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// What did not hold, and how to look at it.
fn report(failed: &mut [Outcome], of: usize) -> String {
    failed.sort_by_key(|outcome| outcome.seed);
    let mut text = format!("{} of {of} seeds failed", failed.len());
    for outcome in failed.iter().take(10) {
        let Some(what) = &outcome.objection else { continue };
        let seen: String = what.text.chars().take(400).collect();
        let command = replay(outcome.seed, Options::default());
        text += &format!("\nseed {}: {}: {seen}\n    {command}", outcome.seed, what.invariant);
    }
    text
}

#[test]
fn thousands_of_seeds_hold() {
    let mut failed = Vec::new();
    let mut run = 0;
    let mut steps = 0;
    soak(SEEDS, JOBS, Options::default(), &AtomicBool::new(false), |outcome| {
        run += 1;
        steps += outcome.steps;
        if outcome.objection.is_some() {
            failed.push(outcome);
        }
    });
    assert_eq!(run, SEEDS.count(), "every seed was run");
    assert!(steps > 100_000, "there was something to hold: {steps} steps");
    assert!(failed.is_empty(), "{}", report(&mut failed, run));
}

/// `seed  what it found` per line; lines that begin with `#` are for people.
fn regressions() -> Vec<(u64, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (seed, what) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let seed = seed.parse().unwrap_or_else(|_| panic!("{path}: no seed in {line:?}"));
            assert!(!what.trim().is_empty(), "{path}: seed {seed}: say what it found");
            (seed, what.trim().to_owned())
        })
        .collect()
}

#[test]
fn what_was_found_once_stays_mended() {
    let known = regressions();
    assert!(!known.is_empty(), "there are regressions");
    let mut failed = Vec::new();
    for (seed, what) in &known {
        let mut outcome = run(*seed, Options::default());
        if let Some(objection) = &mut outcome.objection {
            objection.text = format!("{} (once: {what})", objection.text);
            failed.push(outcome);
        }
    }
    assert!(failed.is_empty(), "{}", report(&mut failed, known.len()));
}
