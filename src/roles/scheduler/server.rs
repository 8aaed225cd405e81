//! The scheduler's HTTP face: its route table, and what each route does. Reads
//! are answered from the published snapshot in the caller's own task; writes go
//! to the task that owns the cluster and are answered once they are durable.

mod admission;
mod backup;
mod joint;
mod live;
mod metrics;
mod page;
pub mod routes;
mod session;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use self::joint::with_instance;
pub use self::routes::{Call, ROUTES, route_docs};
use super::driver::SchedulerHandle;
use super::message::{Noted, Reply as Answer, RolloutCall, UserCall};
use super::views::Snapshot;
use crate::client::AgentClient;
use crate::http::{Handler, Reply, Request, Route};
use crate::identity::access::{may_see_values, speaks_for};
use crate::identity::keeper::Keeper;
use crate::metrics::Requests;
use crate::model::view::{
    ChangeResponse, RevisionView, RolloutRequest, ScaleRequest, UndoRequest, WorkloadView,
};
use crate::model::wire::{HeartbeatRequest, RegisterRequest};
use crate::model::{ApiError, WorkloadSpec, parse, validate};

/// Answers requests to the scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerServer {
    handle: SchedulerHandle,
    agents: AgentClient,
    watchers: live::Watchers,
    warning: Option<&'static str>,
    keeper: Option<Arc<Keeper>>,
    /// Hosts that nodes may name although they come from elsewhere.
    allow_advertise: Arc<[String]>,
    requests: Requests,
}

/// An agent has to begin its answer within this long.
pub(super) const AGENT_TIMEOUT: Duration = Duration::from_secs(5);

impl SchedulerServer {
    /// A server in front of the task behind `handle`.
    pub fn new(handle: SchedulerHandle) -> Self {
        Self {
            handle,
            agents: AgentClient::new(AGENT_TIMEOUT),
            watchers: live::Watchers::new(),
            warning: None,
            keeper: None,
            allow_advertise: Arc::default(),
            requests: Requests::new(),
        }
    }

    /// The same, of a cluster with identities. Nodes may be called back at the address
    /// they come from, or at one of `allow_advertise`.
    pub fn kept_by(
        self,
        keeper: Option<Arc<Keeper>>,
        agents: AgentClient,
        allow_advertise: Vec<String>,
    ) -> Self {
        Self { keeper, agents, allow_advertise: allow_advertise.into(), ..self }
    }

    /// The same, with something to be said in `GET /health`.
    pub fn warning_of(self, warning: Option<&'static str>) -> Self {
        Self { warning, ..self }
    }

    /// Asks the task that owns the cluster, on behalf of the caller.
    async fn ask(&self, request: &Request<Call>, call: UserCall) -> Result<Answer, ApiError> {
        self.handle.user(request.caller.name.clone(), call).await
    }

    /// The same, for what is only to be confirmed.
    async fn change(
        &self,
        request: &Request<Call>,
        call: UserCall,
        status: u16,
        message: String,
    ) -> Result<Reply, ApiError> {
        match self.ask(request, call).await? {
            Answer::Done(Noted { unchanged, warnings }) => {
                let id = request.param("id").to_owned();
                Ok(Reply::json(status, &ChangeResponse { id, message, warnings, unchanged }))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// A long list: made on a thread that may take its time, so that it holds
    /// up no heartbeat.
    async fn list<T, F>(&self, view: F) -> Result<Reply, ApiError>
    where
        T: Serialize,
        F: FnOnce(&Snapshot) -> Result<T, ApiError> + Send + 'static,
    {
        let snapshot = self.handle.snapshot();
        aside(move || view(&snapshot).map(|value| Reply::json(200, &value))).await
    }

    async fn metrics(&self) -> Result<Reply, ApiError> {
        let (handle, requests) = (self.handle.clone(), self.requests.clone());
        aside(move || metrics::metrics(&handle, &requests)).await
    }

    async fn deploy(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let spec: WorkloadSpec = parse::from_people(&request.body)?;
        validate::validate(&spec)?;
        match self.ask(request, UserCall::Deploy(Box::new(spec))).await? {
            Answer::Deployed(response) => Ok(Reply::json(200, &response)),
            other => Err(unexpected(&other)),
        }
    }

    async fn scale(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let ScaleRequest { replicas } = parse::from_people(&request.body)?;
        validate::check_replicas(replicas)?;
        let id = request.param("id");
        let call = UserCall::Scale { id: id.into(), replicas };
        let message = format!(
            "{replicas} replicas are wanted; see `kube-lite ctl status {id}` for how many run"
        );
        self.change(request, call, 200, message).await
    }

    async fn delete(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let call = UserCall::Delete(request.param("id").into());
        self.change(request, call, 202, "its containers are being stopped".to_owned()).await
    }

    async fn set_schedulable(
        &self,
        request: &Request<Call>,
        schedulable: bool,
    ) -> Result<Reply, ApiError> {
        let call = UserCall::SetSchedulable { id: request.param("id").into(), schedulable };
        let message = match schedulable {
            true => "it may get new instances again",
            false => "it gets no new instances; those it has stay",
        };
        self.change(request, call, 200, message.to_owned()).await
    }

    async fn rollout(&self, request: &Request<Call>, step: RolloutCall) -> Result<Reply, ApiError> {
        let call = UserCall::Rollout { id: request.param("id").into(), step };
        match self.handle.user(request.caller.name.clone(), call).await? {
            Answer::Deployed(response) => Ok(Reply::json(200, &response)),
            other => Err(unexpected(&other)),
        }
    }

    async fn register(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let hello: RegisterRequest = parse::from_machine("registration", &request.body)?;
        self.may_register(request, &hello)?;
        match self.handle.register(request.peer.ip(), hello).await? {
            Answer::Registered(response) => Ok(Reply::json(200, &response)),
            other => Err(unexpected(&other)),
        }
    }

    async fn heartbeat(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let beat: HeartbeatRequest = parse::from_machine("heartbeat", &request.body)?;
        speaks_for(&request.caller.identity, &beat.node_id)?;
        match self.handle.heartbeat(beat).await? {
            Answer::Beat(response) => Ok(Reply::json(200, &response)),
            other => Err(unexpected(&other)),
        }
    }

    fn health(&self) -> Result<Reply, ApiError> {
        // Nobody publishes any more: the task that owns the cluster is gone.
        if self.handle.snapshots().has_changed().is_err() {
            return Err(stopping());
        }
        let mut health = self.handle.snapshot().health();
        health.warnings.extend(self.warning.map(str::to_owned));
        Ok(Reply::json(200, &health))
    }

    fn text_page(&self) -> Reply {
        let health = self.handle.snapshot().health();
        let (version, cluster) = (health.version, health.cluster.unwrap_or_default());
        Reply::text(
            200,
            format!(
                "kube-lite {version}, the scheduler of cluster {cluster}\n\n\
                 You say what you want, it keeps it running on the nodes. Try\n\n    \
                 kube-lite ctl workloads\n    \
                 kube-lite ctl nodes\n    \
                 kube-lite ctl events --follow\n\n\
                 or ask it yourself; answers are JSON:\n\n{}",
                route_list()
            ),
        )
    }
}

impl Handler for SchedulerServer {
    type Call = Call;
    const ROUTES: &'static [Route<Call>] = ROUTES;

    async fn handle(&self, request: Request<Call>) -> Result<Reply, ApiError> {
        let begun = self.requests.begin(request.call);
        begun.end(self.answer(request).await)
    }
}

impl SchedulerServer {
    async fn answer(&self, request: Request<Call>) -> Result<Reply, ApiError> {
        let snapshot = || self.handle.snapshot();
        match request.call {
            Call::Page => Ok(page::front(&request.headers, || self.text_page())),
            Call::Asset => page::asset(request.param("file"), &request.headers),
            Call::Health => self.health(),
            Call::Metrics => self.metrics().await,
            Call::NodeMetrics => streams::metrics(&snapshot(), &self.agents, &request).await,
            Call::Register => self.register(&request).await,
            Call::Heartbeat => self.heartbeat(&request).await,
            Call::Join => self.join(&request),
            Call::Renew => self.renew(&request),
            Call::Tokens => self.tokens(),
            Call::CreateToken => self.create_token(&request),
            Call::RevokeToken => self.revoke_token(&request),
            Call::SignInCode => self.sign_in_code(&request),
            Call::SignIn => self.sign_in(&request),
            Call::Session => self.session(&request),
            Call::SignOut => self.sign_out(&request),
            Call::Deploy => self.deploy(&request).await,
            Call::Scale => self.scale(&request).await,
            Call::Delete => self.delete(&request).await,
            Call::Drain => {
                let call = UserCall::Drain(request.param("id").into());
                let message = "its instances move elsewhere; it gets no new ones".to_owned();
                self.change(&request, call, 202, message).await
            }
            Call::RolloutStart => {
                let asked: RolloutRequest = parse::from_people(&request.body)?;
                let step = RolloutCall::Start {
                    image: asked.image,
                    max_surge: asked.max_surge,
                    max_unavailable: asked.max_unavailable,
                };
                self.rollout(&request, step).await
            }
            Call::Rollout => {
                one(&request, "id", &snapshot(), |s, id| Some(s.workload(id)?.rollout))
            }
            Call::RolloutPause => self.rollout(&request, RolloutCall::Pause).await,
            Call::RolloutResume => self.rollout(&request, RolloutCall::Resume).await,
            Call::RolloutAbort => self.rollout(&request, RolloutCall::Abort).await,
            Call::RolloutUndo => {
                let asked: UndoRequest = match request.body.is_empty() {
                    true => UndoRequest::default(),
                    false => parse::from_people(&request.body)?,
                };
                self.rollout(&request, RolloutCall::Undo { to: asked.to }).await
            }
            Call::Restart => self.rollout(&request, RolloutCall::Restart).await,
            Call::Cordon => self.set_schedulable(&request, false).await,
            Call::Uncordon => self.set_schedulable(&request, true).await,
            Call::RemoveNode => self.remove_node(&request).await,
            Call::Workloads => {
                let values = may_see_values(&request.caller.identity);
                self.list(move |snapshot| Ok(shown_to(values, snapshot.workloads()))).await
            }
            Call::Nodes => self.list(|snapshot| Ok(snapshot.nodes())).await,
            Call::Instances => {
                let workload = request.query.get("workload").map(str::to_owned);
                self.list(move |snapshot| {
                    let workload = workload.as_deref();
                    let found = snapshot.instances(workload);
                    found.ok_or_else(|| snapshot.no_workload(workload.unwrap_or_default()))
                })
                .await
            }
            Call::Workload => {
                let values = may_see_values(&request.caller.identity);
                one(&request, "id", &snapshot(), |snapshot, id| {
                    let view = snapshot.workload(id)?;
                    Some(if values { view } else { view.without_values() })
                })
            }
            Call::Explain => one(&request, "id", &snapshot(), Snapshot::explain),
            Call::History => {
                let values = may_see_values(&request.caller.identity);
                one(&request, "id", &snapshot(), |snapshot, id| {
                    let mut revisions = snapshot.history(id)?;
                    if !values {
                        revisions =
                            revisions.into_iter().map(RevisionView::without_values).collect();
                    }
                    Some(revisions)
                })
            }
            Call::Discover => discover(&snapshot(), request.param("name")),
            Call::WorkloadLogs => joint::logs(&self.handle, &self.agents, &request),
            Call::Logs => streams::logs(&snapshot(), &self.agents, &request).await,
            Call::Events => streams::events(&self.handle, &request),
            Call::Backup => backup::backup(&self.handle).await,
            Call::Stream => live::stream(&self.handle, &self.watchers, &request),
        }
    }
}

/// Makes an answer on a thread that may take its time.
async fn aside(
    make: impl FnOnce() -> Result<Reply, ApiError> + Send + 'static,
) -> Result<Reply, ApiError> {
    let made = tokio::task::spawn_blocking(make);
    match made.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(result) => result,
        // Let the one place that handles panics handle this one, too.
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_cancelled)) => Err(stopping()),
    }
}

/// Workloads for a reader who may see the values of their environment, or may not.
fn shown_to(values: bool, workloads: Vec<WorkloadView>) -> Vec<WorkloadView> {
    match values {
        true => workloads,
        false => workloads.into_iter().map(WorkloadView::without_values).collect(),
    }
}

/// A view of the workload that the path names.
fn one<T: Serialize>(
    request: &Request<Call>,
    param: &str,
    snapshot: &Snapshot,
    view: impl FnOnce(&Snapshot, &str) -> Option<T>,
) -> Result<Reply, ApiError> {
    let id = request.param(param);
    let value = view(snapshot, id).ok_or_else(|| snapshot.no_workload(id))?;
    Ok(Reply::json(200, &value))
}

/// Where a workload is reached. Just after a start the scheduler may not have heard
/// yet from anybody who runs it: an empty list would then be a lie that takes
/// clients off what serves on.
fn discover(snapshot: &Snapshot, name: &str) -> Result<Reply, ApiError> {
    let view = snapshot.discover(name).ok_or_else(|| snapshot.no_workload(name))?;
    if view.endpoints.is_empty() && snapshot.is_recovering(name) {
        let message = format!(
            "the scheduler has just started and has not heard yet where {} runs; go on with what \
             you knew, and ask again",
            view.name
        );
        return Err(ApiError::unavailable("Recovering", message, 1));
    }
    Ok(Reply::json(200, &view))
}

fn stopping() -> ApiError {
    ApiError::unavailable("Stopping", "The scheduler is stopping; try again once it is back.", 2)
}

/// The core answered another question than was asked.
fn unexpected(answer: &Answer) -> ApiError {
    tracing::error!(?answer, "the core's answer does not fit the question");
    ApiError::new(500, "Internal", "This is a bug in kube-lite: the answer does not fit.")
}

fn route_list() -> String {
    let listed = || ROUTES.iter().filter(|route| !route.access.is_machine());
    let widest = listed().map(|route| route.path.len()).max().unwrap_or(0);
    let row = |route: &Route<Call>| {
        format!("    {:6} {:widest$}  {}\n", route.method.as_str(), route.path, route.summary)
    };
    listed().map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::Access;
    use hyper::Method;

    #[test]
    fn every_route_can_be_documented() {
        let docs = route_docs();
        assert_eq!(docs.lines().count(), ROUTES.len() + 2);
        for route in ROUTES {
            assert!(!route.summary.is_empty(), "{} has no summary", route.path);
            assert!(!route.summary.ends_with('.'), "{}: not a sentence", route.path);
            assert!(docs.contains(&format!("`{} {}", route.method, route.path)), "{}", route.path);
        }
        assert!(docs.contains("| `GET /logs/{id}?tail=&follow=` | viewer | none | streams |"));
    }

    #[test]
    fn the_list_for_people_is_in_columns() {
        let list = route_list();
        for route in ROUTES.iter().filter(|route| !route.access.is_machine()) {
            assert!(list.contains(&format!(" {} ", route.path)), "{}: {list}", route.path);
        }
    }

    #[test]
    fn every_route_is_reached_in_one_way() {
        let all: BTreeSet<_> = ROUTES.iter().map(|r| (r.method.as_str(), r.path)).collect();
        assert_eq!(all.len(), ROUTES.len());
        let calls: BTreeSet<_> = ROUTES.iter().map(|route| format!("{:?}", route.call)).collect();
        assert_eq!(calls.len(), ROUTES.len());
    }

    #[test]
    fn only_agents_and_people_who_look_need_no_operator() {
        for route in ROUTES {
            // A session is its caller's own, and changes nothing of the cluster.
            if route.path.starts_with("/session") {
                let own = matches!(route.access, Access::Public | Access::Viewer | Access::Token);
                assert!(own, "{} {}", route.method, route.path);
                continue;
            }
            let reads = route.method == Method::GET;
            let looks = matches!(route.access, Access::Viewer | Access::Public);
            if matches!(route.call, Call::Backup | Call::Tokens) {
                assert_eq!((reads, route.access), (true, Access::Admin), "{}", route.path);
                continue;
            }
            assert_eq!(reads, looks, "{} {}", route.method, route.path);
            assert!(!(reads && route.body_limit > 0), "{} takes a body", route.path);
        }
    }
}
