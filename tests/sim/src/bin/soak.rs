//! Runs seeds of the simulator, as many as asked, or tells the story of one.

use std::collections::BTreeMap;
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kube_lite::planted::Fault;
use kube_lite_sim::run::{Options, Outcome, run};
use kube_lite_sim::soak::{replay, soak};
use kube_lite_sim::trace::Detail;

/// Failed seeds are shown one by one up to so many; after that they are counted.
const SHOWN: usize = 20;
/// Where there is no terminal, progress is told this often.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// Runs the simulator: the real scheduler and agents with made-up Docker, disks,
/// network and people. A seed decides everything, so the same seed is the same run.
#[derive(Debug, Parser)]
#[command(name = "soak", max_term_width = 100)]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 1000, value_name = "N")]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    from: u64,
    /// On how many threads; all cores by default
    #[arg(long, value_name = "J")]
    jobs: Option<NonZeroUsize>,
    /// Run this one seed and say what came of it
    #[arg(long, conflicts_with_all = ["seeds", "from", "jobs"], value_name = "SEED")]
    seed: Option<u64>,
    /// With --seed: tell its story, line by line
    #[arg(long, requires = "seed")]
    trace: bool,
    /// With --seed: tell every message, heartbeat and probe too
    #[arg(long, requires = "seed")]
    everything: bool,
    /// Do this wrong on purpose; see docs/simulator.md
    #[arg(long, value_name = "NAME", ignore_case = true, hide_possible_values = true,
          value_parser = PossibleValuesParser::new(Fault::ALL.map(name)))]
    fault: Option<String>,
}

fn name(fault: Fault) -> &'static str {
    // A handful, for the life of the program.
    String::leak(format!("{fault:?}"))
}

fn main() -> ExitCode {
    let args = Args::parse();
    let is_meant = |fault: &&Fault| {
        args.fault.as_ref().is_some_and(|asked| asked.eq_ignore_ascii_case(&format!("{fault:?}")))
    };
    let fault = Fault::ALL.iter().find(is_meant).copied();
    let options = Options { fault, ..Options::default() };
    match args.seed {
        Some(seed) => {
            let detail = match (args.everything, args.trace) {
                (true, _) => Detail::Everything,
                (_, true) => Detail::Story,
                _ => Detail::Nothing,
            };
            show(&run(seed, Options { detail, ..options }))
        }
        None => many(&args, options),
    }
}

/// The story of one seed. Whoever reads it may stop reading.
fn show(outcome: &Outcome) -> ExitCode {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let told = (|| {
        for line in &outcome.lines {
            writeln!(out, "{line}")?;
        }
        let Outcome { seed, steps, time_ms, struck, .. } = outcome;
        let time = time_ms / 1000;
        match &outcome.objection {
            None => writeln!(out, "seed {seed}: everything held")?,
            Some(what) => writeln!(out, "seed {seed}: {}: {}", what.invariant, what.text)?,
        }
        writeln!(out, "{steps} steps, {time} s of virtual time, {struck} pieces of trouble")?;
        out.flush()
    })();
    match told {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write: {error}");
            ExitCode::FAILURE
        }
        _ if outcome.objection.is_some() => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// What came of many.
#[derive(Debug, Default)]
struct Sums {
    run: u64,
    steps: u64,
    time_ms: u64,
    struck: u64,
    failed: usize,
    by_invariant: BTreeMap<String, (u64, u64)>,
}

fn many(args: &Args, options: Options) -> ExitCode {
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok());
    let jobs = jobs.unwrap_or(NonZeroUsize::MIN);
    let stop = Arc::new(AtomicBool::new(false));
    stop_at_ctrl_c(Arc::clone(&stop));
    let end = args.from.saturating_add(args.seeds);
    let bar = bar(args.seeds);
    let (started, mut told_at) = (Instant::now(), Instant::now());
    let mut sums = Sums::default();
    soak(args.from..end, jobs, options, &stop, |outcome| {
        sums.run += 1;
        sums.steps += outcome.steps;
        sums.time_ms += outcome.time_ms;
        sums.struck += outcome.struck;
        if let Some(what) = &outcome.objection {
            sums.failed += 1;
            let entry =
                sums.by_invariant.entry(what.invariant.clone()).or_insert((0, outcome.seed));
            *entry = (entry.0 + 1, entry.1.min(outcome.seed));
            if sums.failed <= SHOWN {
                let text: String = what.text.chars().take(300).collect();
                let told = format!(
                    "seed {}: {}: {text}\n    {}",
                    outcome.seed,
                    what.invariant,
                    replay(outcome.seed, options)
                );
                bar.suspend(|| say(&told));
            }
            bar.set_message(format!("{} failed", sums.failed));
        }
        bar.inc(1);
        if bar.is_hidden() && told_at.elapsed() >= TOLD_EVERY {
            told_at = Instant::now();
            say(&format!("{} of {} seeds, {} failed", sums.run, args.seeds, sums.failed));
        }
    });
    bar.finish_and_clear();
    sums.print(started.elapsed(), jobs);
    match (sums.failed, sums.run < args.seeds) {
        (0, false) => ExitCode::SUCCESS,
        (0, true) => ExitCode::from(INTERRUPTED),
        _ => ExitCode::FAILURE,
    }
}

impl Sums {
    fn print(&self, took: Duration, jobs: NonZeroUsize) {
        for (invariant, (count, first)) in &self.by_invariant {
            say(&format!("{count:>7}  {invariant} (first: seed {first})"));
        }
        say(&format!(
            "{} of {} seeds failed; {} pieces of trouble in {} hours of virtual time, {} steps, in {} \
             on {jobs} thread(s)",
            self.failed,
            self.run,
            self.struck,
            self.time_ms / 3_600_000,
            self.steps,
            HumanDuration(took)
        ));
    }
}

/// Whoever reads may stop reading; the seeds go on.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn bar(seeds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seeds);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template = "{wide_bar} {pos}/{len} seeds, {per_sec:.0}, {eta} left {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// The first Ctrl-C lets the seeds under way end, the second one ends everything.
fn stop_at_ctrl_c(stop: Arc<AtomicBool>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    thread::spawn(move || {
        runtime.block_on(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.store(true, Ordering::Relaxed);
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(i32::from(INTERRUPTED));
            }
        });
    });
}
