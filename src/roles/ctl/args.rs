//! The command line of `kube-lite ctl`, as a value.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use crate::model::Extent;
use crate::model::validate::MAX_REPLICAS;

/// Asks a scheduler for things and shows what is.
#[derive(Clone, Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  kube-lite ctl deploy -f examples/hello.json     run it, and wait until it is ready
  kube-lite ctl status hello --watch              everything about it on one screen
  kube-lite ctl explain hello                     why it is as it is
  kube-lite ctl logs hello --follow               what all its instances say

What changes something waits until that is carried out, and tells its progress on standard error;
--no-wait leaves it to itself. Then -o json prints the workload (after a drain the node) as it is
in the end, or with --no-wait, or where there is nothing to wait for, what the scheduler answered.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out waiting, 130 interrupted."
)]
pub struct CtlArgs {
    /// Where the scheduler is [env: KUBE_LITE_SERVER] [default: http://127.0.0.1:8080]
    // Not clap's own `env`: that would stand in each usage line as if it had been typed.
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        value_name = "URL",
        value_hint = ValueHint::Url
    )]
    pub server: Option<String>,
    /// How to show what is asked for
    #[arg(
        short,
        long,
        global = true,
        help_heading = "Global options",
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table for people
    #[default]
    Table,
    /// The same with more columns
    Wide,
    /// What the API says, word for word; events: one object per line
    Json,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Create a workload or change it, from a file
    #[command(after_help = "\
Examples:
  kube-lite ctl deploy -f examples/hello.json
  kube-lite ctl deploy -f api.json -f worker.json --timeout 5m
  generate-spec | kube-lite ctl deploy -f - --no-wait")]
    Deploy(DeployArgs),
    /// List the workloads
    #[command(visible_alias = "ps")]
    Workloads(WatchArgs),
    /// List the nodes
    Nodes(WatchArgs),
    /// List the instances of a workload, or of all
    Instances(InstancesArgs),
    /// Everything about one workload on one screen
    Status(StatusArgs),
    /// Change how many replicas of a workload are wanted
    #[command(after_help = "\
Example:
  kube-lite ctl scale hello 10")]
    Scale(ScaleArgs),
    /// Delete a workload and all its containers
    Delete(DeleteArgs),
    /// Show where a workload is reached
    Discover(WorkloadArgs),
    /// Show what instances wrote to their standard output and error
    #[command(after_help = "\
Examples:
  kube-lite ctl logs hello --follow            all instances, each line marked with its own
  kube-lite ctl logs hello-r1-x7k2p --tail 20  one instance")]
    Logs(LogsArgs),
    /// Tell why a workload, an instance or a node is as it is, and what it waits for
    Explain(ExplainArgs),
    /// Show what happened, and why
    #[command(after_help = "\
Examples:
  kube-lite ctl events --workload hello
  kube-lite ctl events --follow -o json | jq .kind")]
    Events(EventsArgs),
    /// Keep new instances off a node; what runs there runs on
    Cordon(NodeArgs),
    /// Let a node have new instances again
    Uncordon(NodeArgs),
    /// Manage nodes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Move everything off a node, elsewhere first, and keep new instances off it
    #[command(after_help = "\
Examples:
  kube-lite ctl drain box-2        before maintenance; waits until nothing is left there
  kube-lite ctl uncordon box-2     afterwards")]
    Drain(DrainArgs),
    /// Change what runs without downtime, and take it back
    #[command(
        subcommand,
        after_help = "\
Examples:
  kube-lite ctl rollout start hello --image hello:2
  kube-lite ctl rollout status hello --watch
  kube-lite ctl rollout undo hello"
    )]
    Rollout(RolloutCommand),
    /// Print a link to the dashboard; where one has to sign in, it does that, once
    #[command(after_help = "\
What is done there is done with your own role. The link is good for five minutes; the browser stays
signed in for at most twelve hours, and no longer than your token is good.")]
    Dashboard,
    /// Who may use the cluster: tokens for people, and for machines to join
    #[command(
        subcommand,
        after_help = "\
Examples:
  kube-lite ctl token create --role join                  a line for a new node, good for a day
  kube-lite ctl token create --role operator --name ci --write ci.json
  kube-lite ctl token list
  kube-lite ctl token revoke ID"
    )]
    Token(TokenCommand),
    /// Write all the scheduler keeps to a file, for `kube-lite scheduler --restore`
    #[command(after_help = "\
The file holds the environment of all workloads, passwords included; only you can read it.

Examples:
  kube-lite ctl backup kube-lite.backup
  kube-lite ctl backup - | age -r KEY > kube-lite.backup.age")]
    Backup(BackupArgs),
    /// Print a script that teaches your shell to complete our commands
    #[command(after_help = "\
Examples:
  source <(kube-lite ctl completion bash)
  kube-lite ctl completion zsh  > \"${fpath[1]}/_kube-lite\"
  kube-lite ctl completion fish > ~/.config/fish/completions/kube-lite.fish")]
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// `token`
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token. It is shown this once; only its hash is kept
    Create(TokenCreateArgs),
    /// All tokens, without their secrets
    List,
    /// Take a token back, at once
    Revoke {
        /// Its id, as `token list` shows it
        id: String,
    },
}

/// `token create`
#[derive(Clone, Debug, Args)]
pub struct TokenCreateArgs {
    /// What it allows: join is for machines, the others for people
    #[arg(long, value_enum)]
    pub role: TokenRole,
    /// Whose it is; stands in the history of workloads
    #[arg(long)]
    pub name: Option<String>,
    /// How long it is good: 90s, 5m, 12h [default: to join 24h, for people for ever]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub expires: Option<Duration>,
    /// For people: write the credentials to this file instead of showing the token
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub write: Option<std::path::PathBuf>,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenRole {
    /// Machines may join
    Join,
    /// Look
    Viewer,
    /// Change workloads
    Operator,
    /// Change the cluster
    Admin,
}

/// Whether and how long to wait for a change to be carried out.
#[derive(Clone, Copy, Debug, Args)]
pub struct WaitArgs {
    /// Return as soon as the scheduler has noted it, instead of waiting until it is carried out
    #[arg(long)]
    pub no_wait: bool,
    /// Wait no longer than this: 90, 90s, 5m, 1h30m [default: 2m; for rollouts and drains 10m]
    #[arg(
        long,
        value_parser = duration,
        value_name = "TIME",
        conflicts_with = "no_wait",
        allow_negative_numbers = true
    )]
    pub timeout: Option<Duration>,
}

/// Whether to wait where waiting cannot help.
#[derive(Clone, Copy, Debug, Args)]
pub struct FailArgs {
    /// Do not wait on when waiting hardly helps, e.g. when the image cannot be pulled
    #[arg(long, conflicts_with = "no_wait")]
    pub fail_fast: bool,
}

/// `deploy`
#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    /// The spec, as JSON; `-` reads it from standard input. May be repeated
    #[arg(short, long = "file", required = true, value_name = "FILE|-", value_hint = ValueHint::FilePath)]
    pub files: Vec<String>,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Whether to wait in vain.
    #[command(flatten)]
    pub fail: FailArgs,
}

/// A list that can be watched.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub watch: bool,
}

/// `instances`
#[derive(Clone, Debug, Args)]
pub struct InstancesArgs {
    /// Only those of this workload
    pub workload: Option<String>,
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub watch: bool,
}

/// `status`
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The workload's name
    pub workload: String,
    /// Show it again whenever it changes
    #[arg(short, long)]
    pub watch: bool,
}

/// `scale`
#[derive(Clone, Debug, Args)]
pub struct ScaleArgs {
    /// The workload's name
    pub workload: String,
    /// How many replicas are wanted
    #[arg(value_parser = replicas, allow_negative_numbers = true)]
    pub replicas: u32,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `delete`
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    /// The workload's name
    pub workload: String,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// A command about one workload.
#[derive(Clone, Debug, Args)]
pub struct WorkloadArgs {
    /// The workload's name
    pub workload: String,
}

/// `explain`
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A workload, an instance or a node
    #[arg(value_name = "WORKLOAD|INSTANCE|NODE")]
    pub of: String,
}

/// `logs`
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// A workload (all its instances), an instance, or the beginning of a container id
    #[arg(value_name = "WORKLOAD|INSTANCE")]
    pub of: String,
    /// Only the last lines of each instance
    #[arg(
        short = 'n',
        long,
        value_name = "LINES",
        value_parser = number,
        allow_negative_numbers = true
    )]
    pub tail: Option<u64>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
}

/// `events`
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// Only those about this workload
    #[arg(long, value_name = "NAME")]
    pub workload: Option<String>,
    /// Only those after this number
    #[arg(long, value_name = "SEQ", value_parser = number, allow_negative_numbers = true)]
    pub since: Option<u64>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub follow: bool,
}

/// A command about one node.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The node's name
    pub node: String,
}

/// `backup`
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// Where to write it; `-` is standard output
    #[arg(value_name = "FILE|-", value_hint = ValueHint::FilePath)]
    pub file: String,
}

/// `node …`
#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// Forget a node for good; what it ran is replaced elsewhere
    Remove(NodeArgs),
}

/// `drain`
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// The node's name
    pub node: String,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `rollout …`
#[derive(Clone, Debug, Subcommand)]
pub enum RolloutCommand {
    /// Roll a workload to another image, a few instances at a time
    #[command(after_help = "\
Examples:
  kube-lite ctl rollout start hello --image hello:2
  kube-lite ctl rollout start hello --image hello:2 --max-surge 25% --max-unavailable 0")]
    Start(RolloutStartArgs),
    /// Show how far a rollout is, or how the last one ended
    Status(RolloutStatusArgs),
    /// Freeze a rollout where it is; what crashes is still replaced
    Pause(WorkloadArgs),
    /// Let a frozen rollout go on
    Resume(RolloutStepArgs),
    /// Take a rollout back to the revision before it
    Abort(RolloutStepArgs),
    /// Roll back to the revision before, or to another one in the history
    Undo(RolloutUndoArgs),
    /// Replace all instances by new ones of the same, a few at a time
    Restart(RolloutStepArgs),
    /// List the revisions of a workload
    History(WorkloadArgs),
}

/// `rollout start`
#[derive(Clone, Debug, Args)]
pub struct RolloutStartArgs {
    /// The workload's name
    pub workload: String,
    /// The image to roll to
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// How many instances more than wanted may run meanwhile: 2, or 25%
    #[arg(long, value_parser = extent, value_name = "N|P%", allow_negative_numbers = true)]
    pub max_surge: Option<Extent>,
    /// How many ready instances fewer than wanted there may be meanwhile: 2, or 25%
    #[arg(long, value_parser = extent, value_name = "N|P%", allow_negative_numbers = true)]
    pub max_unavailable: Option<Extent>,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Whether to wait in vain.
    #[command(flatten)]
    pub fail: FailArgs,
}

/// `rollout status`
#[derive(Clone, Debug, Args)]
pub struct RolloutStatusArgs {
    /// The workload's name
    pub workload: String,
    /// Follow it to its end; exit code 1 if that is an abort
    #[arg(short, long)]
    pub watch: bool,
}

/// `rollout resume`, `rollout abort`, `rollout restart`
#[derive(Clone, Debug, Args)]
pub struct RolloutStepArgs {
    /// The workload's name
    pub workload: String,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Whether to wait in vain.
    #[command(flatten)]
    pub fail: FailArgs,
}

/// `rollout undo`
#[derive(Clone, Debug, Args)]
pub struct RolloutUndoArgs {
    /// The workload's name
    pub workload: String,
    /// The revision to go back to; see `rollout history`
    #[arg(long, value_name = "REVISION", value_parser = number, allow_negative_numbers = true)]
    pub to: Option<u64>,
    /// Whether to wait.
    #[command(flatten)]
    pub wait: WaitArgs,
    /// Whether to wait in vain.
    #[command(flatten)]
    pub fail: FailArgs,
}

/// A number of replicas or a share of them.
fn extent(text: &str) -> Result<Extent, String> {
    let parsed = match text.strip_suffix('%') {
        Some(share) => share.parse().ok().filter(|share| *share <= 100).map(Extent::Percent),
        None => text.parse().ok().map(Extent::Count),
    };
    parsed.ok_or_else(|| "expected a number such as 1, or a share from 0% to 100%".to_owned())
}

/// A number of replicas.
fn replicas(text: &str) -> Result<u32, String> {
    let fits = text.parse().ok().filter(|replicas| *replicas <= MAX_REPLICAS);
    fits.ok_or_else(|| format!("expected a whole number from 0 to {MAX_REPLICAS}"))
}

/// A number of anything else.
fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number, 0 or more".to_owned())
}

/// A length of time as people write it; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let wanted = "expected a time such as 90s, 5m or 1h30m";
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => text
            .parse::<jiff::SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok()),
    };
    match parsed {
        Some(duration) if duration > Duration::from_secs(365 * 86_400) => {
            Err("longer than a year".to_owned())
        }
        Some(duration) => Ok(duration),
        None => Err(wanted.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        ctl: CtlArgs,
    }

    fn parse(line: &str) -> Result<CtlArgs, clap::Error> {
        Cli::try_parse_from(format!("ctl {line}").split_whitespace()).map(|cli| cli.ctl)
    }

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "x", "-5s", "5 parsecs", "99999999999999999999", "9000h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn extents() {
        for (text, wanted) in
            [("0", Extent::Count(0)), ("12", Extent::Count(12)), ("25%", Extent::Percent(25))]
        {
            assert_eq!(extent(text), Ok(wanted), "{text}");
        }
        for bad in ["", "%", "-1", "101%", "1.5", "5 %", "99999999999"] {
            assert!(extent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for line in ["-o json --server http://a:1 nodes", "nodes --server http://a:1 -o json"] {
            let args = parse(line).expect(line);
            assert_eq!((args.server.as_deref(), args.output), (Some("http://a:1"), Output::Json));
        }
    }

    #[test]
    fn what_changes_something_step_by_step_can_be_left_to_itself() {
        for line in [
            "deploy -f x",
            "scale web 3",
            "delete web",
            "drain box-1",
            "rollout start web --image a:2",
            "rollout resume web",
            "rollout abort web",
            "rollout undo web",
        ] {
            for one in ["--no-wait", "--timeout 5m"] {
                assert!(parse(&format!("{line} {one}")).is_ok(), "{line} {one}");
            }
            // Who does not wait has no use for a limit.
            assert!(parse(&format!("{line} --no-wait --timeout 5m")).is_err(), "{line}");
        }
        for line in ["deploy -f x", "rollout start web --image a:2", "rollout undo web"] {
            assert!(parse(&format!("{line} --fail-fast")).is_ok(), "{line}");
            assert!(parse(&format!("{line} --fail-fast --no-wait")).is_err(), "{line}");
        }
    }

    #[test]
    fn wrong_usage() {
        for line in [
            "",
            "deploy",
            "scale web",
            "scale web -1",
            "scale web x",
            "-o yaml nodes",
            "nope",
            "drain",
            "rollout",
            "rollout start web",
            "rollout start web --image a:2 --max-surge 200%",
            "rollout undo web --to x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        // What is wrong with a number is said in words for people.
        for line in [
            "scale web -1",
            "scale web 100001",
            "rollout undo web --to x",
            "rollout undo web --to -1",
            "logs web --tail -1",
            "events --since 1.5",
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains("expected a whole number"), "{line}: {error}");
        }
    }
}
