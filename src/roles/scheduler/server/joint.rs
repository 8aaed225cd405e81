//! `GET /workloads/{id}/logs`: what all instances of a workload write, as one
//! stream of lines of JSON. A browser has few connections to one server; this
//! takes one of them, however many instances there are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::Call;
use crate::client::AgentClient;
use crate::http::reply::JSON_LINES;
use crate::http::{Outflow, Reply, Request};
use crate::model::{ApiError, InstanceId, WorkloadId};
use crate::roles::scheduler::driver::SchedulerHandle;
use crate::roles::scheduler::state::State;

/// So many instances are read at once: each is a connection to an agent.
const READ_AT_ONCE: usize = 50;
/// Before a log that broke off is taken up again.
const RETRY: Duration = Duration::from_secs(1);
/// Lines of the tail of a log that is taken up again; the reader knows some.
const TAIL_AGAIN: u64 = 1_000;
/// The most lines of a tail.
const LONGEST_TAIL: u64 = 1_000_000;

/// Starts to read.
pub(super) fn logs(
    handle: &SchedulerHandle,
    agents: &AgentClient,
    request: &Request<Call>,
) -> Result<Reply, ApiError> {
    let workload = WorkloadId::from(request.param("id"));
    let tail = request.query.number("tail", LONGEST_TAIL)?;
    let follow = request.query.flag("follow")?;
    let only = request.query.get("instance").map(InstanceId::from);
    let state = handle.snapshot().state;
    if !state.workloads.contains_key(&workload) && !state.cohorts.contains_key(&workload) {
        return Err(state.no_such_workload(workload.as_str()));
    }
    if let Some(id) = only.as_ref().filter(|id| !state.instances.contains_key(*id)) {
        return Err(ApiError::not_found(format!(
            "there is no instance {:?} of {workload}; it may be gone, and its log with it",
            id.as_str()
        )));
    }
    let (out, reply) =
        if follow { Reply::live_stream(JSON_LINES) } else { Reply::stream(JSON_LINES) };
    let (handle, agents) = (handle.clone(), agents.on_behalf_of(&request.id));
    let reader = Reader { handle, agents, out, workload, only, follow };
    tokio::spawn(reader.run(tail));
    Ok(reply)
}

/// Somebody who reads the logs of a workload.
struct Reader {
    handle: SchedulerHandle,
    agents: AgentClient,
    out: Outflow,
    workload: WorkloadId,
    only: Option<InstanceId>,
    follow: bool,
}

/// How the reading of one log ended.
enum End {
    /// For good.
    Over,
    /// It may go on.
    Broken(InstanceId),
}

impl Reader {
    async fn run(self, tail: Option<u64>) {
        let mut published = self.handle.snapshots();
        // Read now or to their end, and read at all.
        let (mut known, mut opened) = (BTreeSet::new(), BTreeSet::new());
        let mut reading: JoinSet<End> = JoinSet::new();
        let mut first = true;
        loop {
            let found = self.to_read(&published.borrow_and_update().state, &known);
            for (id, agent) in found {
                if reading.len() >= READ_AT_ONCE {
                    break;
                }
                known.insert(id.clone());
                let again = !opened.insert(id.clone());
                // Those that come later are read from their beginning.
                let tail = match (first, again) {
                    (true, _) => tail,
                    (false, true) => Some(TAIL_AGAIN),
                    (false, false) => None,
                };
                reading.spawn(self.log(id, agent, tail, again));
            }
            first = false;
            if !self.follow && reading.is_empty() {
                return;
            }
            tokio::select! {
                () = self.out.reader_left() => return,
                changed = published.changed() => if changed.is_err() { return },
                Some(end) = reading.join_next() => if let Ok(End::Broken(id)) = end {
                    known.remove(&id);
                },
            }
        }
    }

    /// Instances that have a log and are not known yet, and their agents.
    fn to_read(&self, state: &State, known: &BTreeSet<InstanceId>) -> Vec<(InstanceId, String)> {
        let Some(cohort) = state.cohorts.get(&self.workload) else { return Vec::new() };
        let wanted = |id: &&InstanceId| {
            !known.contains(*id) && self.only.as_ref().is_none_or(|only| only == *id)
        };
        let ids = cohort.ids.iter().filter(wanted);
        ids.filter_map(|id| {
            let instance = state.instances.get(id)?;
            let has_log = instance.seen.as_ref().is_some_and(|s| !s.container_id.is_none());
            let node = state.nodes.get(&instance.node).filter(|_| has_log)?;
            Some((id.clone(), self.agents.at(&instance.node, &node.address)))
        })
        .collect()
    }

    /// Reads one log to its end; when not for the first time, without complaint.
    fn log(
        &self,
        id: InstanceId,
        agent: String,
        tail: Option<u64>,
        again: bool,
    ) -> impl Future<Output = End> + Send + 'static {
        let (agents, out, follow) = (self.agents.clone(), self.out.clone(), self.follow);
        async move {
            let problem = match agents.log_lines(&agent, id.as_str(), tail, follow).await {
                Err(error) => error,
                Ok(mut lines) => loop {
                    match lines.next_line().await {
                        Ok(Some(line)) => {
                            if out.send(with_instance(&id, &line)).await.is_err() {
                                return End::Over;
                            }
                        }
                        Ok(None) => {
                            if follow {
                                let _ = out.send(note(&id, "its log ends here")).await;
                            }
                            return End::Over;
                        }
                        Err(error) => break error,
                    }
                },
            };
            if !again {
                let _ = out.send(note(&id, &problem.to_string())).await;
            }
            if !follow {
                return End::Over;
            }
            tokio::time::sleep(RETRY).await;
            End::Broken(id)
        }
    }
}

/// A line of a log, and whose it is.
#[derive(Serialize)]
struct Told<'a> {
    instance: &'a str,
    #[serde(flatten)]
    line: Line<'a>,
}

/// What an agent says of a line.
#[derive(Default, Deserialize, Serialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(borrow, default)]
    at: Cow<'a, str>,
    #[serde(borrow, default)]
    line: Cow<'a, str>,
}

/// The agent's line, with the instance it is of. It is read and written anew: as it is,
/// it could say that it is of another one.
fn with_instance(id: &InstanceId, line: &Bytes) -> Vec<u8> {
    let line = serde_json::from_slice(line)
        .unwrap_or_else(|_| Line { line: String::from_utf8_lossy(line), ..Line::default() });
    let mut text = serde_json::to_vec(&Told { instance: id.as_str(), line }).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Instead of lines: why there are no more.
#[derive(Serialize)]
struct Note<'a> {
    instance: &'a str,
    ended: &'a str,
}

fn note(id: &InstanceId, ended: &str) -> Vec<u8> {
    let note = Note { instance: id.as_str(), ended };
    let mut text = serde_json::to_vec(&note).unwrap_or_default();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> String {
        let text = with_instance(&"web-1".into(), &Bytes::from(line.to_owned()));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_line_is_of_the_instance_that_was_asked_for() {
        let good = r#"{"stream":"stderr","at":"2026-01-01T00:00:00Z","line":"a \"b\"\u0001"}"#;
        let whole = format!("{{\"instance\":\"web-1\",{}\n", &good[1..]);
        assert_eq!(told(good), whole);
        for forged in [
            r#"{"line":"x","instance":"db-1"}"#,
            r#"{"line":"x"}, {"instance":"db-1"}"#,
            r#"{"instance":"db-1"}"#,
            "not JSON at all",
            "",
        ] {
            let value: serde_json::Value = serde_json::from_str(&told(forged)).unwrap();
            assert_eq!(value["instance"], "web-1", "{forged}");
            assert!(!told(forged).contains(r#""instance":"db-1""#), "{forged}");
        }
    }
}
