//! Many seeds, on several threads. Each seed is a world of its own, so how they
//! are shared out changes nothing.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::run::{Options, Outcome, run};

/// Runs these seeds on so many threads and hands each outcome to `each` as it
/// comes, in no particular order. Once `stop` is set, no seed is begun any more.
pub fn soak(
    seeds: Range<u64>,
    jobs: NonZeroUsize,
    options: Options,
    stop: &AtomicBool,
    mut each: impl FnMut(Outcome),
) {
    let next = AtomicU64::new(seeds.start);
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.get() {
            let (sender, next, end) = (sender.clone(), &next, seeds.end);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || sender.send(run(seed, options)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for outcome in outcomes {
            each(outcome);
        }
    });
}

/// The command that shows what happens in a seed.
pub fn replay(seed: u64, options: Options) -> String {
    let fault = options.fault.map_or_else(String::new, |fault| format!(" --fault {fault:?}"));
    format!(
        "cargo run --quiet --locked --profile sim -p kube-lite-sim -- --seed {seed} --trace{fault}"
    )
}
