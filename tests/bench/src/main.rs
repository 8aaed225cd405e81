//! `make bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum as _};
use kube_lite_bench::report::{Results, table};
use kube_lite_bench::run::{Plan, machine};
use kube_lite_bench::{Bench, core, publish};

/// Measures kube-lite, each figure beside its floor or peer from the same run
#[derive(Debug, Parser)]
struct Args {
    /// The kube-lite to measure
    #[arg(long, default_value = "target/release/kube-lite")]
    binary: PathBuf,
    /// As little as possible of each, to see whether it still runs; nothing is kept
    #[arg(long)]
    smoke: bool,
    /// Only these [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Bench>,
    /// How often each thing is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Simulated nodes of the largest cluster
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(2..))]
    nodes: u32,
    /// Containers in it
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..))]
    containers: u32,
    /// Where the figures are kept; those of benchmarks that do not run are left
    #[arg(long, default_value = "bench/results.json")]
    results: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Parts that are measured in processes of their own.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// The core in a cluster of one size
    #[command(hide = true)]
    CorePass {
        /// That many instances
        instances: usize,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.part {
        Some(Part::CorePass { instances }) => part(instances),
        // What was started ends with the benchmark that started it.
        None => tokio::select! {
            outcome = all(args) => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        },
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn part(instances: usize) -> anyhow::Result<bool> {
    println!("{}", serde_json::to_string(&core::measure(instances)?)?);
    Ok(true)
}

/// Whether all went well. One that fails does not keep the others from running.
async fn all(args: Args) -> anyhow::Result<bool> {
    let plan = Plan {
        binary: args.binary.canonicalize().map_err(|error| {
            anyhow::anyhow!("{}: {error}; build it first: make build", args.binary.display())
        })?,
        smoke: args.smoke,
        rounds: if args.smoke { 1 } else { args.rounds.into() },
        itself: (!args.smoke).then(std::env::current_exe).transpose()?,
        million: (args.nodes as usize, args.containers as usize),
    };
    let wanted = if args.only.is_empty() { Bench::value_variants().to_vec() } else { args.only };
    let mut results = Results::read(&args.results);
    results.machine = machine();
    let mut whole = true;
    let began = Instant::now();
    for bench in wanted {
        let group = bench.run(&plan).await;
        println!("{}\n", table(bench.name(), &group));
        whole &= group.is_whole();
        results.groups.insert(bench.name().to_owned(), group);
        if !plan.smoke {
            results.write(&args.results)?;
            publish::publish(&results, Path::new("docs"))?;
        }
    }
    println!("in {:.1} minutes, on {}", began.elapsed().as_secs_f64() / 60.0, results.machine);
    Ok(whole)
}
