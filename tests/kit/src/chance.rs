//! Random moments from a seed that is printed. What real processes make of a
//! moment differs from run to run; which moments there were can be had again.

use std::ops::RangeInclusive;
use std::time::Duration;

pub use fastrand::Rng as Chance;

/// The environment variable that sets the seed.
const SEED: &str = "KUBE_LITE_TEST_SEED";

/// A source of chance for a test. Prints how to have the same again.
///
/// # Panics
/// When the seed given in the environment is no number.
pub fn chance(test: &str) -> Chance {
    let seed = match std::env::var(SEED) {
        Ok(given) => given.parse().expect("the seed is a number"),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("{test}: {SEED}={seed}");
    Chance::with_seed(seed)
}

/// Lets a random while pass, so that what comes next comes at a random moment.
pub async fn a_while(chance: &mut Chance, ms: RangeInclusive<u64>) {
    tokio::time::sleep(Duration::from_millis(chance.u64(ms))).await;
}
