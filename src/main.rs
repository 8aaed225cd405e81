//! The `kube-lite` binary: parse the command line, run a role, exit.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use kube_lite::cli::{Cli, LogFormat, Role, RuntimeKind};
use kube_lite::roles::{agent, ctl, dev, scheduler};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let threads = match &cli.role {
        Role::Ctl(_) => 1,
        _ => std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)),
    };
    match &cli.role {
        Role::Ctl(_) => log_to_stderr("warn", Style::Lines),
        // A thousand nodes have too much to tell: `ctl events`.
        Role::Dev(args) if args.runtime.runtime == RuntimeKind::Simulated => {
            log_to_stderr("error", Style::Brief);
        }
        Role::Dev(_) => log_to_stderr("warn,kube_lite::events=info", Style::Brief),
        Role::Agent(args) if args.nodes.is_some() => log_to_stderr(
            "error,kube_lite=info,kube_lite::roles::agent::driver=error",
            args.log_format.into(),
        ),
        Role::Scheduler(args) => log_to_stderr("info", args.log_format.into()),
        Role::Agent(args) => log_to_stderr("info", args.log_format.into()),
    }
    if !matches!(cli.role, Role::Ctl(_)) {
        raise_descriptor_limit();
    }
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
    outcome.unwrap_or_else(|error| match error.downcast_ref::<agent::Replaced>() {
        Some(replaced) => {
            eprintln!("error: {replaced}");
            ExitCode::from(agent::Replaced::EXIT_CODE)
        }
        None => failed(&error),
    })
}

/// How a log looks.
enum Style {
    /// For somebody who looks on, not for a file.
    Brief,
    Lines,
    Json,
}

impl From<LogFormat> for Style {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Lines,
            LogFormat::Json => Self::Json,
        }
    }
}

/// As many descriptors as the system grants: usually there is no reason to ask for
/// fewer but programs that use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Logs go to stderr; `RUST_LOG` overrides what of them: `debug`, or a level for each
/// part, as `info,kube_lite::http=debug`. What it does not understand counts as not given.
fn log_to_stderr(default: &str, style: Style) {
    let asked = std::env::var("RUST_LOG").ok().filter(|words| !words.is_empty());
    let asked = asked.and_then(|words| words.parse::<Targets>().ok());
    let filter = asked.or_else(|| default.parse().ok()).unwrap_or_default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .with_target(false)
        // A terminal that was closed takes no complaints either.
        .log_internal_errors(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match style {
        Style::Brief => subscriber.event_format(Brief).finish().with(filter).init(),
        Style::Lines => subscriber.compact().finish().with(filter).init(),
        Style::Json => {
            let json = subscriber.json().flatten_event(true).with_current_span(false);
            json.finish().with(filter).init();
        }
    }
}

/// `15:13:17  hello-r1-x7k2p on node-1 is ready`, as `ctl events` shows it.
struct Brief;

impl<S, N> FormatEvent<S, N> for Brief
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let time = jiff::Zoned::now().strftime("%H:%M:%S");
        match writer.has_ansi_escapes() {
            true => write!(writer, "\x1b[2m{time}\x1b[0m  ")?,
            false => write!(writer, "{time}  ")?,
        }
        let level = *event.metadata().level();
        if level != Level::INFO {
            write!(writer, "{level}: ")?;
        }
        let mut said = Said::default();
        event.record(&mut said);
        if !said.node.is_empty() {
            write!(writer, "{}: ", said.node)?;
        }
        writeln!(writer, "{}", said.message)
    }
}

/// The sentence of an event, and the node that says it.
#[derive(Default)]
struct Said {
    message: String,
    node: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "node" {
            self.node = value.to_owned();
        }
    }
}
