//! The command line: asks the scheduler over HTTP, shows what comes back.
//!
//! What things look like and what to think of them is decided by plain
//! functions ([`render`], [`progress`], [`evacuation`]); the rest reads, asks and prints.

pub mod args;
mod backup;
mod change;
mod completion;
mod dashboard;
pub mod evacuation;
mod events;
mod explain;
mod live;
mod logs;
pub mod progress;
pub mod render;
mod rollout;
mod session;
mod show;
pub mod spec_file;
mod stop;
mod token;
mod wait;
mod watch;

use std::process::ExitCode;

pub use args::CtlArgs;
use args::{Command, NodeCommand};
use session::Session;
use stop::Stop;

/// Runs one command and says how it went. `whole` is the definition of the whole
/// binary's command line, for shell completion.
pub async fn run(args: CtlArgs, whole: impl FnOnce() -> clap::Command) -> ExitCode {
    match obey(args, whole).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            if let Some(message) = stop.message() {
                eprintln!("{message}");
            }
            stop.code()
        }
    }
}

async fn obey(args: CtlArgs, whole: impl FnOnce() -> clap::Command) -> Result<(), Stop> {
    let session = &Session::new(&args)?;
    match &args.command {
        Command::Deploy(args) => change::deploy(session, args).await,
        Command::Workloads(args) => show::workloads(session, args.watch).await,
        Command::Nodes(args) => show::nodes(session, args.watch).await,
        Command::Instances(args) => {
            show::instances(session, args.workload.as_deref(), args.watch).await
        }
        Command::Status(args) => show::status(session, &args.workload, args.watch).await,
        Command::Scale(args) => change::scale(session, args).await,
        Command::Delete(args) => change::delete(session, args).await,
        Command::Discover(args) => show::discover(session, &args.workload).await,
        Command::Logs(args) => logs::logs(session, args).await,
        Command::Explain(args) => explain::explain(session, &args.of).await,
        Command::Events(args) => events::events(session, args).await,
        Command::Cordon(args) => change::cordon(session, &args.node).await,
        Command::Uncordon(args) => change::uncordon(session, &args.node).await,
        Command::Node(NodeCommand::Remove(args)) => change::remove_node(session, &args.node).await,
        Command::Drain(args) => change::drain(session, args).await,
        Command::Rollout(command) => rollout::rollout(session, command).await,
        Command::Dashboard => dashboard::dashboard(session).await,
        Command::Token(command) => token::token(session, command).await,
        Command::Backup(args) => backup::backup(session, args).await,
        Command::Completion { shell } => session.say(completion::script(*shell, whole())),
    }
}
