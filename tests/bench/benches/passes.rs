//! The pure core under a microscope: `cargo bench -p kube-lite-bench`. What a step
//! costs with a thousand instances, and with a hundred thousand.

use divan::Bencher;
use kube_lite_bench::core::{CHANGES, Cluster};

fn main() {
    divan::main();
}

/// Larger ones only where it is measured, not where each is tried once.
fn sizes() -> Vec<usize> {
    let measured = std::env::args().any(|argument| argument == "--bench");
    if measured { vec![1_000, 10_000, 100_000] } else { vec![1_000] }
}

fn cluster(instances: usize) -> Cluster {
    Cluster::of(instances).expect("a cluster")
}

#[divan::bench(args = sizes())]
fn idle_pass(bencher: Bencher<'_, '_>, instances: usize) {
    let mut cluster = cluster(instances);
    bencher.bench_local(|| cluster.idle());
}

#[divan::bench(args = sizes())]
fn digest(bencher: Bencher<'_, '_>, instances: usize) {
    let mut cluster = cluster(instances);
    bencher.bench_local(|| cluster.digest(0));
}

#[divan::bench(args = sizes(), sample_count = 20, sample_size = 1)]
fn hundred_changes(bencher: Bencher<'_, '_>, instances: usize) {
    let cluster = cluster(instances);
    bencher
        .with_inputs(|| {
            let mut cluster = cluster.clone();
            let input = cluster.crash(0);
            (cluster, input)
        })
        .bench_local_values(|(mut cluster, input)| {
            let given = cluster.take(input);
            assert_eq!(given.len(), CHANGES);
            (cluster, given)
        });
}
