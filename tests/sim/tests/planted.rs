//! That it can fail: every planted fault is found within a bounded number of
//! seeds, by seeds in which nothing is found without it, and as something that is
//! not found in any seed without it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use kube_lite::planted::Fault;
use kube_lite_sim::judge::Objection;
use kube_lite_sim::run::{Options, run};
use kube_lite_sim::soak::{replay, soak};

/// Each fault is found within so many seeds.
const WITHIN: u64 = 1_000;
const JOBS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

/// The seeds and what is found in them without any fault.
struct Clean(BTreeMap<u64, String>);

impl Clean {
    fn of(seeds: Range<u64>) -> Self {
        let mut found = BTreeMap::new();
        soak(seeds, JOBS, Options::default(), &AtomicBool::new(false), |outcome| {
            if let Some(objection) = outcome.objection {
                found.insert(outcome.seed, objection.invariant);
            }
        });
        Self(found)
    }

    /// Whether the fault, and nothing else, can be what was found: this seed holds
    /// without it, and none fails like this. A fault changes the course of things,
    /// and might only lead into something that is wrong anyway.
    fn lets_count(&self, seed: u64, objection: &Objection) -> bool {
        !self.0.contains_key(&seed) && self.0.values().all(|known| *known != objection.invariant)
    }
}

/// The first seed that finds it, and what it finds.
fn find(fault: Fault, clean: &Clean) -> Option<(u64, Objection)> {
    let options = Options { fault: Some(fault), ..Options::default() };
    (1..=WITHIN).find_map(|seed| {
        let objection = run(seed, options).objection?;
        clean.lets_count(seed, &objection).then_some((seed, objection))
    })
}

#[test]
fn every_planted_fault_is_found() {
    let (next, clean) = (AtomicUsize::new(0), Clean::of(1..WITHIN + 1));
    let found = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..JOBS.get() {
            scope.spawn(|| {
                while let Some(fault) = Fault::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = find(*fault, &clean);
                    found.lock().unwrap().insert(*fault, result);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.len() >= 14, "{} faults are planted", found.len());
    let mut missed = Vec::new();
    for (fault, result) in &found {
        match result {
            Some((seed, objection)) => {
                let text: String = objection.text.chars().take(100).collect();
                println!("{fault:?}: seed {seed}, {}: {text}", objection.invariant);
                let options = Options { fault: Some(*fault), ..Options::default() };
                println!("    {}", replay(*seed, options));
            }
            None => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "not found within {WITHIN} seeds: {missed:?}");
}
