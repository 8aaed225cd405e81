//! How the daemon is, and what happens to our containers: one event stream and
//! one ping at a time per daemon, for all agents of the process.
//!
//! Events are asked for from a moment *before* the daemon is reported to be
//! there, so whatever happens between an agent's first listing and the stream's
//! first byte is in the stream. When events may have been missed, the daemon is
//! reported anew, and every agent lists again.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::broadcast;

use super::trouble::{Trouble, within};
use super::{Daemon, lock};
use crate::model::wire::labels;
use crate::model::{DaemonId, NodeId};
use crate::roles::agent::message::{ContainerEvent, DockerReport, EventKind, Input};
use crate::roles::agent::runtime::Report;

/// An agent that is so many pieces of news behind lists everything instead.
const NEWS_KEPT: usize = 4096;
/// Events are asked for from so much earlier than needed.
const OVERLAP_SECONDS: f64 = 1.0;
/// A daemon that is away is looked for this often.
const LOOK_FOR_IT: Duration = Duration::from_millis(250);

/// Everybody who wants to know about one daemon.
#[derive(Debug)]
pub(super) struct Watch {
    news: broadcast::Sender<News>,
    /// The last report, for those who come later.
    last: std::sync::Mutex<Option<DockerReport>>,
    started: AtomicBool,
}

#[derive(Clone, Debug)]
enum News {
    Report(DockerReport),
    Event { node: NodeId, event: ContainerEvent },
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            news: broadcast::channel(NEWS_KEPT).0,
            last: std::sync::Mutex::default(),
            started: AtomicBool::new(false),
        }
    }

    fn tell(&self, report: DockerReport) {
        let mut last = lock(&self.last);
        *last = Some(report.clone());
        let _ = self.news.send(News::Report(report));
    }
}

impl Daemon {
    /// Reports to one agent until it has ended.
    pub(super) async fn follow(self: &Arc<Self>, node: &NodeId, report: &Report) {
        if !self.watch.started.swap(true, Ordering::AcqRel) {
            tokio::spawn(keep_watching(Arc::downgrade(self)));
        }
        // Subscribed and caught up in one breath: nothing is told in between.
        let (mut news, last) = {
            let last = lock(&self.watch.last);
            (self.watch.news.subscribe(), last.clone())
        };
        let mut next = last.map(Input::Docker);
        loop {
            if let Some(input) = next.take()
                && report.send(input).await.is_err()
            {
                return;
            }
            let heard = tokio::select! {
                () = report.closed() => return,
                heard = news.recv() => heard,
            };
            next = match heard {
                Ok(News::Report(report)) => Some(Input::Docker(report)),
                Ok(News::Event { node: of, event }) => (of == *node).then_some(Input::Event(event)),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    lock(&self.watch.last).clone().map(Input::Docker)
                }
                Err(broadcast::error::RecvError::Closed) => return,
            };
        }
    }
}

/// Watches the daemon for as long as anybody uses it.
async fn keep_watching(daemon: Weak<Daemon>) {
    let mut away_since_said = None;
    while let Some(daemon) = daemon.upgrade() {
        let trouble = match meet(&daemon).await {
            Ok(met) => {
                away_since_said = None;
                watch_until_trouble(&daemon, met).await
            }
            Err(trouble) => trouble,
        };
        daemon.forget_client();
        let report = report_of(trouble);
        if away_since_said.as_ref() != Some(&report) {
            away_since_said = Some(report.clone());
            daemon.watch.tell(report);
        }
        drop(daemon);
        tokio::time::sleep(LOOK_FOR_IT).await;
    }
}

fn report_of(trouble: Trouble) -> DockerReport {
    match trouble {
        Trouble::TimedOut(_) => DockerReport::Hung(trouble.to_string()),
        other => DockerReport::Away(other.to_string()),
    }
}

/// A daemon that answered.
struct Met {
    client: Docker,
    id: DaemonId,
    /// From when on its events are wanted, by its own clock.
    since: f64,
}

async fn meet(daemon: &Daemon) -> Result<Met, Trouble> {
    let client = daemon.greet().await?;
    let (id, clock) = daemon.identify(&client).await?;
    *lock(&daemon.client) = Some(client.clone());
    Ok(Met { client, id, since: clock - OVERLAP_SECONDS })
}

/// Passes events on and pings, until the daemon is gone or its stream breaks.
async fn watch_until_trouble(daemon: &Daemon, met: Met) -> Trouble {
    let ping_every = Duration::from_millis(daemon.timing.docker_ping_ms);
    let hung_after = Duration::from_millis(daemon.timing.docker_hung_after_ms);
    let mut events = pin!(events(&met.client, met.since));
    let fine = DockerReport::Ok { daemon: met.id };
    daemon.watch.tell(fine.clone());
    let mut hung = false;
    let mut ping = pin!(ping(&met.client, ping_every, hung_after));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => pass_on(daemon, event),
                Some(Err(error)) => return error.into(),
                None => return Trouble::Broken("its event stream ended".to_owned()),
            },
            outcome = &mut ping => {
                match outcome {
                    Ok(()) if hung => {
                        hung = false;
                        daemon.watch.tell(fine.clone());
                    }
                    Ok(()) => {}
                    Err(trouble @ Trouble::TimedOut(_)) => {
                        if !hung {
                            daemon.watch.tell(report_of(trouble));
                        }
                        hung = true;
                    }
                    Err(trouble) => return trouble,
                }
                ping.set(self::ping(&met.client, ping_every, hung_after));
            }
        }
    }
}

async fn ping(client: &Docker, after: Duration, limit: Duration) -> Result<(), Trouble> {
    tokio::time::sleep(after).await;
    within(limit, client.ping()).await.map(drop)
}

fn events(
    client: &Docker,
    since: f64,
) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + use<> {
    let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    let filters: HashMap<String, Vec<String>> = HashMap::from([
        ("type".to_owned(), strings(&["container"])),
        ("event".to_owned(), strings(&["create", "start", "die", "oom", "destroy"])),
        ("label".to_owned(), vec![format!("{}={}", labels::SCHEMA, labels::SCHEMA_VERSION)]),
    ]);
    let since = format!("{:.3}", since.max(0.0));
    client.events(Some(EventsOptionsBuilder::new().since(&since).filters(&filters).build()))
}

fn pass_on(daemon: &Daemon, message: EventMessage) {
    if let Some((node, event)) = read(message) {
        // Nobody listening is fine.
        let _ = daemon.watch.news.send(News::Event { node, event });
    }
}

fn read(message: EventMessage) -> Option<(NodeId, ContainerEvent)> {
    let actor = message.actor?;
    let attributes = actor.attributes?;
    let kind = match message.action.as_deref()? {
        "create" => EventKind::Create,
        "start" => EventKind::Start,
        "die" => EventKind::Die { exit_code: attributes.get("exitCode")?.parse().ok()? },
        "oom" => EventKind::Oom,
        "destroy" => EventKind::Destroy,
        _ => return None,
    };
    let node = attributes.get(labels::NODE)?.as_str().into();
    let id = attributes.get(labels::INSTANCE)?.as_str().into();
    let cluster = attributes.get(labels::CLUSTER)?.as_str().into();
    Some((node, ContainerEvent { container_id: actor.id?, cluster, id, kind }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_with_their_node_and_exit_code() {
        let message = |action: &str| -> EventMessage {
            serde_json::from_value(serde_json::json!({
                "Type": "container", "Action": action,
                "Actor": {"ID": "c1", "Attributes": {
                    "kube-lite.cluster": "c1", "kube-lite.node": "n1", "kube-lite.instance": "web-r1-x", "exitCode": "137",
                }},
            }))
            .unwrap()
        };
        let (node, event) = read(message("die")).unwrap();
        assert_eq!((node.as_str(), event.id.as_str()), ("n1", "web-r1-x"));
        assert_eq!(event.kind, EventKind::Die { exit_code: 137 });
        assert_eq!(read(message("exec_start: sh")), None);
    }
}
