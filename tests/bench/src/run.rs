//! What all benchmarks share: how much is to be measured, and helpers to measure.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How a run is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `kube-lite` to measure.
    pub binary: PathBuf,
    /// Only whether everything still works: as little as possible of each.
    pub smoke: bool,
    /// How often each thing is measured.
    pub rounds: usize,
    /// This program, to measure in processes of its own; none in a test.
    pub itself: Option<PathBuf>,
    /// Simulated nodes and containers of the largest cluster.
    pub million: (usize, usize),
}

impl Plan {
    /// `full`, or `small` in a smoke run.
    pub fn or<T>(&self, full: T, small: T) -> T {
        if self.smoke { small } else { full }
    }

    /// The binary as text.
    ///
    /// # Errors
    /// When its path is not Unicode.
    pub fn binary(&self) -> anyhow::Result<&str> {
        self.binary.to_str().context("the path of the binary is not Unicode")
    }
}

/// A bar that says how far something has come.
pub fn bar(what: &str, steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    let style = ProgressStyle::with_template("{msg:44} {bar:30} {human_pos}/{human_len} {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Nanoseconds since 1970, as in Docker's events.
pub fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// How many milliseconds lie between two such.
pub fn ms_between(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1e6
}

/// Milliseconds since then.
pub fn ms_since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// Waits until `condition` gives something.
///
/// # Errors
/// When it has not after `limit`, or failed.
pub async fn until<T, F: Future<Output = anyhow::Result<Option<T>>>>(
    what: &str,
    limit: Duration,
    every: Duration,
    mut condition: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = condition().await? {
            return Ok(found);
        }
        if began.elapsed() > limit {
            bail!("{what}: not after {} s", limit.as_secs());
        }
        tokio::time::sleep(every).await;
    }
}

/// Runs a program to its end, in a thread of its own: progress goes on being shown.
///
/// # Errors
/// When it cannot be started.
pub async fn output(mut command: Command) -> anyhow::Result<Output> {
    let what = command.get_program().to_string_lossy().into_owned();
    tokio::task::spawn_blocking(move || command.output()).await?.with_context(|| what)
}

/// Resident memory of a process, bytes.
///
/// # Errors
/// When there is no such process.
pub fn resident(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<f64>()? * 1024.0)
}

/// Processor time of a process so far, seconds.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = stat.rsplit_once(')').context("no stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// The processes of this name.
pub fn named(name: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id: &u32| {
            let comm = std::fs::read_to_string(format!("/proc/{id}/comm"));
            comm.is_ok_and(|comm| comm.trim() == name)
        })
        .collect()
}

/// The mean number of processes that wanted to run in the last minute.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// Processors, memory and kernel, in a few words.
pub fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
        line.map(|line| line.trim_start_matches([' ', '\t', ':']).to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kib: f64 =
        field("/proc/meminfo", "MemTotal:").trim_end_matches(" kB").parse().unwrap_or(0.0);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} × {}, {:.0} GB, Linux {}",
        field("/proc/cpuinfo", "model name"),
        kib / 1e6,
        kernel.trim().split('-').next().unwrap_or_default()
    )
}
