//! Options of what runs the containers: `--runtime` and `--sim-…`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::roles::agent::simulated::fate::Settings;
use crate::roles::ctl::args::duration;

/// What runs the containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum RuntimeKind {
    /// This machine's Docker
    #[default]
    Docker,
    /// Nothing: containers are pretended, everything else is real
    Simulated,
}

/// `--runtime` and how a simulated one behaves.
#[derive(Args, Clone, Debug, Default)]
pub struct RuntimeArgs {
    /// What runs the containers
    #[arg(long, value_enum, default_value_t, value_name = "RUNTIME")]
    pub runtime: RuntimeKind,
    /// How simulated Dockers behave.
    #[command(flatten)]
    pub sim: SimArgs,
}

/// How simulated Dockers behave. What is not given has the default of [`Settings`].
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Simulated containers (--runtime simulated)")]
pub struct SimArgs {
    /// Getting an image takes about so long [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub sim_pull: Option<Duration>,
    /// Starting a container takes about so long [default: 200ms]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub sim_start: Option<Duration>,
    /// A started container passes its health probe after about so long [default: 300ms]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub sim_warmup: Option<Duration>,
    /// Stopping a container takes about so long [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub sim_stop: Option<Duration>,
    /// So many starts fail, e.g. 1% [default: 0%]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub sim_fail: Option<f64>,
    /// A container crashes so often, e.g. 0.1/min or 2/h [default: never]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub sim_crash: Option<f64>,
    /// A node loses its power so often, e.g. 0.5/h [default: never]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub sim_outage: Option<f64>,
    /// … and is gone for about so long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub sim_outage_length: Option<Duration>,
    /// The same number means the same luck [default: 0]
    #[arg(long, value_name = "NUMBER")]
    pub sim_seed: Option<u64>,
}

impl RuntimeArgs {
    /// How simulated Dockers are to behave; `None`: real Docker is to be used.
    ///
    /// # Errors
    /// When something is said about simulated containers and real ones are to run.
    pub fn simulated(&self) -> anyhow::Result<Option<Settings>> {
        match self.runtime {
            RuntimeKind::Simulated => Ok(Some(self.sim.settings())),
            RuntimeKind::Docker if self.sim != SimArgs::default() => anyhow::bail!(
                "options that begin with --sim- are about simulated containers; add \
                 --runtime simulated, or leave them out"
            ),
            RuntimeKind::Docker => Ok(None),
        }
    }
}

impl SimArgs {
    fn settings(&self) -> Settings {
        let usual = Settings::default();
        let ms = |given: Option<Duration>, usual| {
            given.map_or(usual, |given| u64::try_from(given.as_millis()).unwrap_or(u64::MAX))
        };
        Settings {
            pull_ms: ms(self.sim_pull, usual.pull_ms),
            start_ms: ms(self.sim_start, usual.start_ms),
            warm_up_ms: ms(self.sim_warmup, usual.warm_up_ms),
            stop_ms: ms(self.sim_stop, usual.stop_ms),
            fail: self.sim_fail.unwrap_or(usual.fail),
            crashes_per_minute: self.sim_crash.unwrap_or(usual.crashes_per_minute),
            outages_per_minute: self.sim_outage.unwrap_or(usual.outages_per_minute),
            outage_ms: ms(self.sim_outage_length, usual.outage_ms),
            seed: self.sim_seed.unwrap_or(usual.seed),
        }
    }
}

/// A share of all: `1%`, or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let parsed = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse(),
    };
    let wanted = || "expected a share from 0% to 100%, such as 1%".to_owned();
    parsed.ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(wanted)
}

/// How often something happens, per minute: `0.1/min`, `2/h`, `1/s`.
fn rate(text: &str) -> Result<f64, String> {
    let wanted = || "expected how often, such as 0.1/min, 2/h or 1/s, at most 10/s".to_owned();
    let (count, unit) = text.trim().split_once('/').unwrap_or((text.trim(), "min"));
    let per_minute = match unit.trim() {
        "s" | "sec" => 60.0,
        "m" | "min" => 1.0,
        "h" => 1.0 / 60.0,
        "d" => 1.0 / 1_440.0,
        _ => return Err(wanted()),
    };
    let count = count.trim().parse::<f64>().map_err(|_| wanted())?;
    let rate = count * per_minute;
    if (0.0..=600.0).contains(&rate) { Ok(rate) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        runtime: RuntimeArgs,
    }

    fn parse(line: &str) -> Result<RuntimeArgs, clap::Error> {
        Cli::try_parse_from(format!("x {line}").split_whitespace()).map(|cli| cli.runtime)
    }

    #[test]
    fn what_is_said_is_meant() {
        let line = "--runtime simulated --sim-start 250ms --sim-fail 1% --sim-crash 0.1/min \
                    --sim-outage 6/h --sim-seed 7";
        let settings = parse(line).unwrap().simulated().unwrap().unwrap();
        let wanted = Settings {
            start_ms: 250,
            fail: 0.01,
            crashes_per_minute: 0.1,
            outages_per_minute: 0.1,
            seed: 7,
            ..Settings::default()
        };
        assert_eq!(settings, wanted);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in ["--sim-fail 101%", "--sim-crash often", "--sim-crash 1/y", "--sim-crash -1/s"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--sim-seed 1").unwrap().simulated().is_err());
        assert_eq!(parse("").unwrap().simulated().unwrap(), None);
    }
}
