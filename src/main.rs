//! The `kube-lite` binary.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use kube_lite::roles::ctl;

/// A mini Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Ask a scheduler for things and see what is
    Ctl(ctl::CtlArgs),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Cli::parse().role {
        Role::Ctl(args) => ctl::run(args, Cli::command).await,
    }
}
