//! The command line of the binary: one subcommand per role.

mod allow;
mod runtime;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::roles::ctl::CtlArgs;
use crate::roles::ctl::args::duration;
pub use allow::AllowArgs;
pub use runtime::{RuntimeArgs, RuntimeKind};

/// Says where the scheduler is, where `--server` or `--scheduler` do not.
pub const SERVER_VARIABLE: &str = "KUBE_LITE_SERVER";

/// A mini Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(name = "kube-lite", version = crate::VERSION, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Start here:\n  \
    kube-lite dev                              a scheduler and three nodes on this machine's Docker\n  \
    kube-lite ctl deploy -f examples/hello.json\n  \
    kube-lite ctl explain hello                what is wanted, what is, and why")]
pub struct Cli {
    /// The role to run.
    #[command(subcommand)]
    pub role: Role,
}

/// What the binary can be.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// A sandbox: a scheduler and N nodes in one process, on one Docker daemon
    Dev(DevArgs),
    /// Ask and tell a running scheduler
    Ctl(CtlArgs),
    /// The scheduler: who is alive, desired versus actual, close the gap
    Scheduler(SchedulerArgs),
    /// An agent: owns Docker on its machine and reports
    Agent(AgentArgs),
}

/// `kube-lite scheduler`
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
State is one file, scheduler.redb, in the data directory, of which one scheduler at a time makes use.
Back it up while the scheduler runs: kube-lite ctl backup FILE. It holds the environment of all
workloads, passwords included. So does a recording (--record).

Examples:
  kube-lite scheduler --check                      is the state whole, and what is in it
  kube-lite scheduler --init --host NAME           for several machines: TLS, tokens, a join line
  kube-lite scheduler --restore FILE               put a backup in the place of no state
  kube-lite scheduler --restore FILE --check       is the backup whole; changes nothing
  kube-lite scheduler --replay DIR --workload web  what was decided about web, and why")]
pub struct SchedulerArgs {
    /// Where to listen: HOST:PORT, or :PORT for every interface
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub listen: String,
    /// Where state is kept [default: $XDG_STATE_HOME/kube-lite/scheduler]
    #[arg(long, value_name = "DIR", conflicts_with = "in_memory")]
    pub data_dir: Option<PathBuf>,
    /// Keep no state: everything is forgotten when it stops
    #[arg(long)]
    pub in_memory: bool,
    /// Verify the state, say what is in it, and end. Changes nothing
    #[arg(long, conflicts_with = "in_memory")]
    pub check: bool,
    /// Put a backup (`kube-lite ctl backup`) in the place of the state, and end
    #[arg(long, value_name = "FILE|-", conflicts_with = "in_memory")]
    pub restore: Option<PathBuf>,
    /// With --restore: although there is state already
    #[arg(long, requires = "restore")]
    pub force: bool,
    /// A browser origin that may use the API, e.g. http://localhost:5173; repeatable
    #[arg(long, value_name = "ORIGIN")]
    pub cors_origin: Vec<String>,
    /// A name under which it is called, besides its address and localhost; repeatable
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Listen without protection also where other machines reach it: whoever does can command it
    #[arg(long)]
    pub insecure: bool,
    /// Make the cluster safe, once: an authority of its own, an admin, and the line with which
    /// machines join; then end. Changes nothing that is there
    #[arg(long, conflicts_with_all = ["in_memory", "check", "restore", "replay"])]
    pub init: bool,
    /// A host at which a node may be called back although it comes from elsewhere; repeatable
    #[arg(long, value_name = "HOST")]
    pub allow_advertise: Vec<String>,
    /// How long certificates are good: for tests.
    #[arg(long, hide = true, value_name = "TIME", value_parser = duration)]
    pub certificate_life: Option<Duration>,
    /// How its log is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Record what is decided, in the data directory: the last 64 MiB of it
    #[arg(long, conflicts_with = "in_memory")]
    pub record: bool,
    /// Decide again what was recorded, say all of it with its reasons, and end
    #[arg(
        long,
        value_name = "FILE|DIR",
        conflicts_with_all = ["data_dir", "in_memory", "check", "restore", "record"]
    )]
    pub replay: Option<PathBuf>,
    /// With --replay: show only what is about this workload
    #[arg(long, value_name = "NAME", requires = "replay")]
    pub workload: Option<String>,
    /// With --replay: go no further than this: 14:41:17, or 2026-11-22T13:41:17Z
    #[arg(long, value_name = "TIME", requires = "replay")]
    pub until: Option<String>,
    /// With --replay: how it is shown
    #[arg(short, long, value_name = "FORMAT", requires = "replay")]
    pub output: Option<ReplayOutput>,
}

/// How a log is written, on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// How a replay is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplayOutput {
    /// Lines for people, as `kube-lite ctl events` shows them
    Table,
    /// One object per step, with everything in it, the environment of workloads included
    Json,
}

/// `kube-lite agent`
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Become a node of a cluster, with what `kube-lite scheduler --init` or `kube-lite ctl token
    /// create --role join` printed. Needed once; later starts find it in the data directory. In the
    /// environment, other users of this machine do not see it
    #[arg(long, env = "KUBE_LITE_JOIN", hide_env_values = true)]
    #[arg(value_name = "TOKEN@HOST:PORT", conflicts_with_all = ["nodes", "insecure"])]
    pub join: Option<String>,
    /// The scheduler to report to, e.g. http://10.0.0.1:8080 [env: KUBE_LITE_SERVER]
    #[arg(long, value_name = "URL")]
    pub scheduler: Option<String>,
    /// Where to listen: HOST:PORT, or :PORT for every interface
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "HOST:PORT")]
    pub listen: String,
    /// Listen without protection also where other machines reach it: whoever does can command it
    #[arg(long)]
    pub insecure: bool,
    /// Where the scheduler and clients reach this machine [default: the address the scheduler sees]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// This node's name [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,
    /// Where the node's key is kept [default: $XDG_STATE_HOME/kube-lite/agent-NODE]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How its log is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// Simulate so many nodes, called NAME-1, NAME-2 …; takes --runtime simulated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub nodes: Option<u32>,
    /// What containers see of this machine.
    #[command(flatten)]
    pub allow: AllowArgs,
    /// What runs the containers.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// `kube-lite dev`
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = nodes, allow_negative_numbers = true)]
    pub nodes: u32,
    /// Where the scheduler listens; the nodes' agents take the ports after it, and any free
    /// ones where those are taken or there are none after it (see: kube-lite ctl nodes)
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub listen: String,
    /// A workload to deploy once all nodes are alive
    #[arg(long, value_name = "FILE")]
    pub deploy: Option<PathBuf>,
    /// Where state is kept [default: $XDG_STATE_HOME/kube-lite/dev-PORT, or simulated-PORT]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Forget what was deployed before; the sandbox stays the same cluster
    #[arg(long)]
    pub fresh: bool,
    /// A browser origin that may use the API, e.g. http://localhost:5173; repeatable
    #[arg(long, value_name = "ORIGIN")]
    pub cors_origin: Vec<String>,
    /// A name under which it is called, besides its address and localhost; repeatable
    #[arg(long, value_name = "NAME")]
    pub host: Vec<String>,
    /// Listen without protection also where other machines reach it: whoever does can command it
    #[arg(long)]
    pub insecure: bool,
    /// What containers see of this machine.
    #[command(flatten)]
    pub allow: AllowArgs,
    /// What runs the containers.
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// As many nodes as one machine can play.
fn nodes(text: &str) -> Result<u32, String> {
    let fits = text.parse().ok().filter(|nodes| (1..=10_000).contains(nodes));
    fits.ok_or_else(|| "expected a whole number from 1 to 10000".to_owned())
}
