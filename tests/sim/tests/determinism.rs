//! DESIGN 7.8: the same seed is the same run, byte for byte.

use std::thread;

use kube_lite_sim::run::{Options, Outcome, run};
use kube_lite_sim::trace::Detail;

const SEEDS: u64 = 24;

fn told(seed: u64) -> Outcome {
    run(seed, Options { detail: Detail::Everything, ..Options::default() })
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 1..=SEEDS {
        let first = told(seed);
        // In another thread, and after another seed: nothing is left behind.
        let second = thread::spawn(move || {
            run(seed + 1, Options::default());
            told(seed)
        });
        let second = second.join().unwrap();
        assert!(first.lines.len() > 100, "seed {seed} has a story: {}", first.lines.len());
        let differs = first.lines.iter().zip(&second.lines).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let (was, is) = (&first.lines[at], &second.lines[at]);
            panic!("seed {seed} differs from line {}:\n{was}\n{is}", at + 1);
        }
        assert_eq!(first.lines.len(), second.lines.len(), "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}

#[test]
fn whether_a_story_is_told_changes_nothing() {
    for seed in 1..=SEEDS {
        let (told, untold) = (told(seed), run(seed, Options::default()));
        assert_eq!(told.objection, untold.objection, "seed {seed}");
        assert_eq!(
            (told.steps, told.time_ms, told.struck),
            (untold.steps, untold.time_ms, untold.struck),
            "seed {seed}"
        );
        assert!(untold.lines.is_empty());
    }
}

#[test]
fn other_seeds_tell_other_stories() {
    let mut hashes: Vec<u64> = (1..=SEEDS).map(|seed| told(seed).hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len() as u64, SEEDS);
}
