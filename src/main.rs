//! The `kube-lite` binary: parse the command line, run a role, exit.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use kube_lite::cli::{Cli, Role};
use kube_lite::roles::{agent, ctl, dev, scheduler};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let threads = match &cli.role {
        Role::Ctl(_) => 1,
        _ => std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)),
    };
    log_to_stderr(match &cli.role {
        Role::Ctl(_) => "warn",
        Role::Dev(_) => "warn,kube_lite=warn,kube_lite::events=info",
        Role::Scheduler(_) | Role::Agent(_) => "info",
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start threads")),
    };
    let outcome = runtime.block_on(async {
        match cli.role {
            Role::Scheduler(args) => scheduler::run(args).await.map(|()| ExitCode::SUCCESS),
            Role::Agent(args) => agent::run(args).await.map(|()| ExitCode::SUCCESS),
            Role::Dev(args) => dev::run(args).await.map(|()| ExitCode::SUCCESS),
            Role::Ctl(args) => Ok(ctl::run(args, Cli::command).await),
        }
    });
    // Whatever still hangs (a Docker that does not answer) must not hold up the end.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Logs go to stderr; `RUST_LOG` overrides what of them.
fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .compact()
        .init();
}
