//! Answers that may have no end: events, and logs handed on from an agent. Both
//! wait for a slow reader and end when the reader leaves.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Call;
use crate::client::{AgentClient, ByteStream, ClientError};
use crate::http::reply::{JSON_LINES, TEXT};
use crate::http::{Outflow, Reply, Request};
use crate::metrics::OPEN_METRICS;
use crate::model::view::EventView;
use crate::model::{ApiError, NodeId};
use crate::roles::scheduler::driver::SchedulerHandle;
use crate::roles::scheduler::views::Snapshot;

/// The largest number that any JSON reader sees exactly.
const LARGEST: u64 = 1 << 53;

/// `GET /events`: what is kept, and with `follow` what happens from then on.
pub(super) fn events(handle: &SchedulerHandle, request: &Request<Call>) -> Result<Reply, ApiError> {
    let workload = request.query.get("workload");
    let since = request.query.number("since", LARGEST)?;
    let snapshot = handle.snapshot();
    if !request.query.flag("follow")? {
        let kept = snapshot.events(since, workload)?;
        return Ok(Reply::bytes(200, JSON_LINES, lines(&kept, None)));
    }
    snapshot.events(since, None)?; // too old is said with a status, while that is possible
    let (out, reply) = Reply::live_stream(JSON_LINES);
    let follower = Follower { handle: handle.clone(), since, workload: workload.map(Into::into) };
    tokio::spawn(follower.run(out));
    Ok(reply)
}

/// Somebody who reads events as they happen.
struct Follower {
    handle: SchedulerHandle,
    /// The last event that was looked at, whether or not it was of interest.
    since: Option<u64>,
    workload: Option<Box<str>>,
}

impl Follower {
    async fn run(mut self, out: Outflow) {
        let mut published = self.handle.snapshots();
        loop {
            // Cloned at once: a borrow would keep the publisher waiting.
            let snapshot = published.borrow_and_update().clone();
            // All of them, not only those of interest: a quiet workload must not
            // look as if its reader had fallen behind.
            let news = match snapshot.events(self.since, None) {
                Ok(news) => news,
                Err(gone) => {
                    let _ = out.send(fell_behind(&snapshot, self.since, &gone)).await;
                    return;
                }
            };
            if let Some(last) = news.last() {
                self.since = Some(last.seq);
            }
            if out.send(lines(&news, self.workload.as_deref())).await.is_err() {
                return;
            }
            drop((news, snapshot)); // do not hold on to old state while waiting
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                () = out.reader_left() => return,
            }
        }
    }
}

/// Events as lines of JSON, all of them or those of one workload.
fn lines(events: &[Arc<EventView>], workload: Option<&str>) -> Bytes {
    let mut text = BytesMut::new();
    for event in events {
        let about = event.workload.as_ref().map(|id| id.as_str());
        if workload.is_none() || workload == about {
            text.extend_from_slice(&line(event));
        }
    }
    text.freeze()
}

fn line(event: &EventView) -> Vec<u8> {
    let mut text = serde_json::to_vec(event).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The last line for a reader that was too slow: an event like any other, so
/// that whoever reads events can read it.
fn fell_behind(snapshot: &Snapshot, since: Option<u64>, gone: &ApiError) -> Vec<u8> {
    let kept = snapshot.events(None, None).unwrap_or_default();
    line(&EventView {
        seq: since.unwrap_or_default(),
        at: kept.first().map(|event| event.at.clone()).unwrap_or_default(),
        kind: "FellBehind".to_owned(),
        workload: None,
        node: None,
        instance: None,
        message: format!("This reader was too slow and has missed something: {}", gone.error),
    })
}

/// `GET /logs/{id}`: what the instance's agent sends, handed on as it comes.
pub(super) async fn logs(
    snapshot: &Snapshot,
    agents: &AgentClient,
    request: &Request<Call>,
) -> Result<Reply, ApiError> {
    let tail = request.query.number("tail", LARGEST)?;
    let follow = request.query.flag("follow")?;
    let (instance, node, agent) = snapshot.find_instance(request.param("id"))?;
    let source = agents
        .on_behalf_of(&request.id)
        .logs(&agents.at(&node, &agent), instance.as_str(), tail, follow)
        .await
        .map_err(|error| agent_trouble(&agent, &format!("the log of {instance}"), error))?;
    let (out, reply) = if follow { Reply::live_stream(TEXT) } else { Reply::stream(TEXT) };
    tokio::spawn(hand_on(source, out));
    Ok(reply)
}

/// `GET /nodes/{id}/metrics`: what the node's agent tells Prometheus. An agent obeys its
/// scheduler alone and knows no tokens.
pub(super) async fn metrics(
    snapshot: &Snapshot,
    agents: &AgentClient,
    request: &Request<Call>,
) -> Result<Reply, ApiError> {
    let id = NodeId::from(request.param("id"));
    let node = snapshot.state.nodes.get(&id).ok_or_else(|| {
        ApiError::not_found(format!("there is no node {id}; list them: kube-lite ctl nodes"))
    })?;
    let source =
        agents.on_behalf_of(&request.id).metrics(&agents.at(&id, &node.address)).await.map_err(
            |error| agent_trouble(&node.address, &format!("the figures of {id}"), error),
        )?;
    let (out, reply) = Reply::stream(OPEN_METRICS);
    tokio::spawn(hand_on(source, out));
    Ok(reply)
}

/// Hands on what comes, no faster than it is read. Returning closes the
/// connection to the agent, which then knows that nobody reads any more.
async fn hand_on(mut source: ByteStream, out: Outflow) {
    loop {
        let piece = tokio::select! {
            piece = source.next_chunk() => piece,
            () = out.reader_left() => return,
        };
        match piece {
            Ok(Some(bytes)) => {
                if out.send(bytes).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::debug!("a log broke off: {error}");
                return out.break_off().await;
            }
        }
    }
}

/// Why a log cannot be had from its agent.
fn agent_trouble(agent: &str, what: &str, error: ClientError) -> ApiError {
    match error {
        // The agent knows best why not; but who may ask is decided here, and nothing that
        // it says may look as if it were.
        ClientError::Api(error) if matches!(error.status, 400 | 404 | 409 | 429 | 500 | 503) => {
            error
        }
        ClientError::Unreachable { .. } | ClientError::TimedOut { .. } => ApiError::unavailable(
            "AgentUnreachable",
            format!(
                "The agent at {agent} has {what}, and does not answer ({error}); `kube-lite ctl \
                 nodes` says how it is. Try again once it is back."
            ),
            3,
        ),
        error => ApiError::new(
            502,
            "BadAgentReply",
            format!("The agent at {agent} gave no usable answer about {what}: {error}."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterId, Timing};
    use crate::roles::scheduler::core::Core;
    use crate::roles::scheduler::driver::{Clock, Driver};
    use crate::roles::scheduler::message::UserCall;
    use crate::roles::scheduler::state::State;
    use crate::roles::scheduler::store::Store;

    /// A node could else tell people that their token is no good, or send them elsewhere.
    #[test]
    fn an_agent_does_not_speak_for_the_scheduler() {
        let passed_on = |status| {
            let error = ApiError::new(status, "Reason", "words");
            agent_trouble("10.0.0.2:8081", "the log of web-1", ClientError::Api(error)).status
        };
        for status in [400, 404, 409, 503] {
            assert_eq!(passed_on(status), status);
        }
        for status in [101, 204, 302, 401, 403, 407, 413, 421] {
            assert_eq!(passed_on(status), 502, "{status}");
        }
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_told() {
        let timing = Timing { events_kept: 10, ..Timing::default() };
        let core = Core::new(State::new(ClusterId::from("test"), 1), timing);
        let (driver, handle) = Driver::new(core, Arc::new(Store::Memory), Clock::start());
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(driver.run(handle.clone(), stopped));
        let spec = serde_json::json!({"name": "web", "image": "nginx"});
        let spec = Box::new(serde_json::from_value(spec).unwrap());
        handle.user("me".into(), UserCall::Deploy(spec)).await.unwrap();

        let (out, mut reply) = Reply::live_stream(JSON_LINES);
        let follower = Follower { handle: handle.clone(), since: None, workload: None };
        let follower = tokio::spawn(follower.run(out));
        // Far more than fits into the stream and the ring together.
        for replicas in 0..100 {
            let call = UserCall::Scale { id: "web".into(), replicas };
            handle.user("me".into(), call).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut text = Vec::new();
        while let Some(piece) = reply.next_piece().await {
            text.extend_from_slice(&piece);
        }
        let events: Vec<EventView> = text
            .split_inclusive(|b| *b == b'\n')
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        let (last, before) = events.split_last().unwrap();
        assert_eq!(last.kind, "FellBehind");
        assert!(last.message.contains("the oldest kept is"), "{}", last.message);
        assert!(!before.is_empty(), "something was read before");
        assert!(before.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq), "without a gap");
        follower.await.unwrap();
    }
}
