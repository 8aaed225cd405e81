//! `GET /workloads/{id}/logs`: what all instances of a workload write, as one
//! stream of lines of JSON. A browser has few connections to one server; this
//! takes one of them, however many instances there are.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
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
/// Whether there are more is looked at this often.
const LOOK: Duration = Duration::from_millis(100);
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
        // Those that were there when the reading began; and how many of all wait for their turn.
        let mut there: Option<BTreeSet<InstanceId>> = None;
        let (mut queue, mut outdated) = (VecDeque::new(), true);
        let mut told_waiting = 0;
        // Something is published hundreds of times per second; who has a log seldom changes.
        let mut pace = tokio::time::interval(LOOK);
        loop {
            if std::mem::take(&mut outdated) {
                queue = self.to_read(&published.borrow_and_update().state, &known);
            }
            let there =
                there.get_or_insert_with(|| queue.iter().map(|(id, _)| id.clone()).collect());
            let room = READ_AT_ONCE.saturating_sub(reading.len()).min(queue.len());
            for (id, agent) in queue.drain(..room) {
                known.insert(id.clone());
                let again = !opened.insert(id.clone());
                // Those that come later are read from their beginning.
                let tail = match (again, there.contains(&id)) {
                    (true, _) => Some(TAIL_AGAIN),
                    (false, true) => tail,
                    (false, false) => None,
                };
                reading.spawn(self.log(id, agent, tail, again));
            }
            // To who does not follow, that some wait is soon over.
            let waiting = queue.len();
            let is_news = self.follow || waiting == 0 || told_waiting == 0;
            if waiting != told_waiting && is_news {
                told_waiting = waiting;
                if self.out.send(unread(waiting)).await.is_err() {
                    return;
                }
            }
            if !self.follow && reading.is_empty() {
                return;
            }
            tokio::select! {
                () = self.out.reader_left() => return,
                _ = pace.tick(), if self.follow => match published.has_changed() {
                    Ok(changed) => outdated |= changed,
                    Err(_) => return,
                },
                Some(end) = reading.join_next() => if let Ok(End::Broken(id)) = end {
                    known.remove(&id);
                    outdated = true;
                },
            }
        }
    }

    /// Instances that have a log and are not known yet, and their agents.
    fn to_read(
        &self,
        state: &State,
        known: &BTreeSet<InstanceId>,
    ) -> VecDeque<(InstanceId, String)> {
        let Some(cohort) = state.cohorts.get(&self.workload) else { return VecDeque::new() };
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

/// What is known of a line in what an agent sends.
#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow)]
    line: Cow<'a, str>,
}

/// The same, with the instance it is of.
#[derive(Serialize)]
struct Line<'a> {
    instance: &'a str,
    stream: &'a str,
    at: &'a str,
    line: &'a str,
}

/// A line that an agent has sent of a log, with the instance it is of. Whatever the
/// agent says, it is a line of this instance and of no other, and nothing but a line.
pub fn with_instance(id: &InstanceId, line: &Bytes) -> Vec<u8> {
    let lossy;
    let (stream, at, said) = match serde_json::from_slice::<Sent<'_>>(line) {
        Ok(Sent { stream, at, line }) => (stream, at, line),
        // No line of ours: what it is, is for people to see.
        Err(_) => {
            lossy = String::from_utf8_lossy(line);
            ("".into(), "".into(), Cow::Borrowed(&*lossy))
        }
    };
    let told = Line { instance: id.as_str(), stream: &stream, at: &at, line: &said };
    let mut text = serde_json::to_vec(&told).unwrap_or_default();
    text.push(b'\n');
    text
}

/// How many logs are not read, as so many others are.
fn unread(instances: usize) -> Vec<u8> {
    format!("{{\"unread\":{instances},\"readAtOnce\":{READ_AT_ONCE}}}\n").into_bytes()
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

    #[test]
    fn no_agent_writes_lines_of_another_instance() {
        let told = |line: &'static str| {
            let text = with_instance(&"web-r1-x".into(), &Bytes::from(line));
            let text = String::from_utf8(text).unwrap();
            assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
            serde_json::from_str::<serde_json::Value>(&text).unwrap()
        };
        let line = told(r#"{"stream":"stdout","at":"2026-11-22T10:00:00Z","line":"a \"b\""}"#);
        assert_eq!((&line["instance"], &line["line"]), (&"web-r1-x".into(), &"a \"b\"".into()));
        assert_eq!(
            (&line["stream"], &line["at"]),
            (&"stdout".into(), &"2026-11-22T10:00:00Z".into())
        );
        let forged =
            told(r#"{"stream":"stdout","at":"","line":"x","instance":"db-r1-y","ended":"no"}"#);
        assert_eq!((&forged["instance"], &forged["line"]), (&"web-r1-x".into(), &"x".into()));
        assert!(forged.get("ended").is_none(), "{forged}");
        for broken in ["", "{", "{}", "{\"line\":", "no JSON", "[1]"] {
            let line = told(broken);
            assert_eq!((&line["instance"], &line["line"]), (&"web-r1-x".into(), &broken.into()));
        }
    }
}
