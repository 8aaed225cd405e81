//! Runs seeds, as many as asked, or shows one.

use clap::Parser;
use kube_lite_sim::run::run;
use kube_lite_sim::trace::Detail;

/// Runs the simulator.
#[derive(Debug, Parser)]
struct Args {
    /// Run this one seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Tell its story.
    #[arg(long)]
    trace: bool,
    /// Tell everything.
    #[arg(long)]
    everything: bool,
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// From which on.
    #[arg(long, default_value_t = 1)]
    from: u64,
}

fn main() {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        let detail = match (args.everything, args.trace) {
            (true, _) => Detail::Everything,
            (_, true) => Detail::Story,
            _ => Detail::Nothing,
        };
        let outcome = run(seed, detail);
        for line in &outcome.lines {
            println!("{line}");
        }
        println!("{:?} steps {} ms {}", outcome.objection, outcome.steps, outcome.time_ms);
        return;
    }
    let started = std::time::Instant::now();
    let (mut failed, mut steps, mut time) = (0, 0, 0);
    for seed in args.from..args.from + args.seeds {
        let outcome = run(seed, Detail::Nothing);
        steps += outcome.steps;
        time += outcome.time_ms;
        if let Some(objection) = outcome.objection {
            failed += 1;
            let text: String = objection.text.chars().take(300).collect();
            println!("seed {seed}: {}: {text}", objection.invariant);
        }
    }
    println!(
        "{failed} of {} failed, {steps} steps, {} s of time in {:?}",
        args.seeds,
        time / 1000,
        started.elapsed()
    );
}
