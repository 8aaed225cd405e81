//! What every command has at hand: the scheduler, and where to write.

use std::io::{self, IsTerminal, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args::{CtlArgs, Output};
use super::render::Look;
use super::stop::{self, Stop};
use crate::client::{Client, ClientError};
use crate::identity::credentials::Credentials;

/// Where the scheduler is looked for when nobody says.
const SERVER: &str = "http://127.0.0.1:8080";

/// The way to the scheduler. Credentials are shown over TLS only, to the scheduler
/// that they are for.
fn client(args: &CtlArgs) -> Result<Client, Stop> {
    // A variable that is set to nothing says nothing.
    let set = std::env::var(crate::cli::SERVER_VARIABLE).ok().filter(|text| !text.is_empty());
    let given = match (&args.server, set) {
        (Some(given), _) => Some((given.clone(), "--server")),
        (None, Some(set)) => Some((set, crate::cli::SERVER_VARIABLE)),
        (None, None) => None,
    };
    let plain = |server: &str, from: &str| {
        let client = Client::new(server);
        client.map_err(|error| Stop::Usage(format!("{error}. It comes from {from}")))
    };
    if let Some((server, from)) = &given
        && !server.trim().starts_with("https://")
    {
        return plain(server, from);
    }
    let found = Credentials::find().map_err(|error| Stop::Usage(format!("{error:#}")))?;
    let Some(credentials) = found else {
        let (server, from) = given.unwrap_or((SERVER.to_owned(), "the default"));
        return plain(&server, from);
    };
    let server = given.map_or(credentials.server, |(server, _)| server);
    let client = Client::pinned(&server, &credentials.fingerprint);
    let client = client.map_err(|error| Stop::Usage(format!("{error:#}")))?;
    Ok(client.with_token(&credentials.token))
}

/// One run of the command line.
#[derive(Clone, Debug)]
pub struct Session {
    /// The scheduler.
    pub client: Client,
    /// How answers are shown.
    pub output: Output,
    /// Whether standard output is a terminal.
    pub on_terminal: bool,
    /// Whether lines on standard error can be redrawn.
    pub can_redraw: bool,
    color: bool,
}

impl Session {
    /// From the command line and the environment.
    pub fn new(args: &CtlArgs) -> Result<Self, Stop> {
        let client = client(args)?.introduced_as("kube-lite-ctl");
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let on_terminal = io::stdout().is_terminal();
        Ok(Self {
            client,
            output: args.output,
            on_terminal,
            can_redraw: io::stderr().is_terminal() && !dumb,
            color: on_terminal && !dumb && !is_set("NO_COLOR"),
        })
    }

    /// How things look on standard output right now.
    pub fn look(&self) -> Look {
        Look {
            color: self.color,
            wide: self.output == Output::Wide,
            width: self.size().map(|(width, _)| width),
            ages: true,
            now: Timestamp::now(),
            zone: TimeZone::system(),
        }
    }

    /// Width and height of the terminal, if standard output is one.
    pub fn size(&self) -> Option<(u16, u16)> {
        let (width, height) = terminal_size::terminal_size_of(io::stdout())?;
        Some((width.0, height.0))
    }

    /// Whether answers go out word for word.
    pub fn json(&self) -> bool {
        self.output == Output::Json
    }

    /// Writes `text` to standard output as it is.
    pub fn say(&self, text: impl AsRef<[u8]>) -> Result<(), Stop> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref())
            .and_then(|()| out.flush())
            .map_err(|error| Stop::from_output(&error))
    }

    /// Writes a remark to standard error. If nobody reads those, nobody misses it.
    pub fn remark(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// What to do about a call that failed.
    pub fn failed(&self, error: &ClientError) -> Stop {
        Stop::from_call(self.client.base(), error)
    }

    /// The same in words, without stopping.
    pub fn in_words(&self, error: &ClientError) -> String {
        stop::in_words(self.client.base(), error)
    }

    /// A name that fits nothing of `kind`; `others` are names that may have been
    /// meant, besides those of workloads.
    pub async fn unknown(&self, kind: &str, given: &str, others: &[&str]) -> Stop {
        let list = self.client.workloads().await.unwrap_or_default();
        let names = list.iter().map(|view| view.spec.name.as_str()).chain(others.iter().copied());
        let advice = match stop::closest(given, names) {
            Some(name) => format!("Did you mean {name}?"),
            None => "See: kube-lite ctl workloads, ctl instances, ctl nodes".to_owned(),
        };
        Stop::Failed(format!("there is no {kind} {given:?}. {advice}"))
    }

    /// What to do about a call about this node.
    pub async fn failed_about_node(&self, node: &str, error: &ClientError) -> Stop {
        if error.status() != Some(404) {
            return self.failed(error);
        }
        let nodes = self.client.nodes().await.unwrap_or_default();
        let names: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        match stop::closest(node, names.iter().copied()) {
            Some(name) if name != node => {
                Stop::advised(&self.in_words(error), &format!("Did you mean {name}?"), error)
            }
            _ => self.failed(error),
        }
    }

    /// What to do about a call about this workload: if there is no such, the
    /// user hears which there are.
    pub async fn failed_about(&self, workload: &str, error: &ClientError) -> Stop {
        let stop = self.failed(error);
        if error.status() != Some(404) {
            return stop;
        }
        let text = self.in_words(error);
        let Ok(list) = self.client.workloads().await else { return stop };
        let names = || list.iter().map(|view| view.spec.name.as_str());
        let says_more = text.contains("kube-lite ctl ") || text.contains("known are: ");
        let advice = match stop::closest(workload, names()) {
            // It exists after all: something else is missing.
            Some(name) if name == workload => return stop,
            Some(name) => format!("Did you mean {name}?"),
            None if says_more => return stop,
            None if list.is_empty() => {
                "There are no workloads yet; try: kube-lite ctl deploy -f examples/hello.json"
                    .into()
            }
            None => "These are all there is: kube-lite ctl workloads".to_owned(),
        };
        Stop::advised(&text, &advice, error)
    }
}
