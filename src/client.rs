//! The typed HTTP client: command line → scheduler, agent → scheduler, and
//! ([`AgentClient`]) scheduler → agent.
//!
//! What is read is read leniently: fields this build does not know are ignored,
//! so that one release of skew works either way.

mod agents;
mod error;
pub mod query;
mod stream;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Uri};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use agents::AgentClient;
pub use error::ClientError;
pub use query::Query;
pub use stream::{ByteStream, Lines};
use transport::Transport;

use crate::identity::ledger::TokenView;
use crate::identity::message::{
    CertificateRequest, CertificateResponse, SignInOffer, TokenRequest, TokenResponse,
};
use crate::identity::tls;
use crate::model::ContainerInstance;
use crate::model::view::{
    ChangeResponse, DeployResponse, DiscoverView, ExplainView, HealthView, NodeView, RevisionView,
    RolloutRequest, RolloutView, ScaleRequest, UndoRequest, WorkloadView,
};
use crate::model::wire::{HeartbeatRequest, HeartbeatResponse, RegisterRequest, RegisterResponse};

/// An answer has to come within this long, unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A list of a million instances still fits.
const LARGEST_REPLY: usize = 2 << 30;

/// Nothing in the body of a request.
const NO_BODY: Option<&()> = None;

/// Talks to one scheduler. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    base: Arc<str>,
    transport: Transport,
    timeout: Duration,
}

impl Client {
    /// A client of the scheduler at `base`: `http://host:port`, or `host:port`.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        Self::with_connections(base, 4)
    }

    /// A client that speaks TLS as `tls` says.
    ///
    /// # Errors
    /// When `base` is no address.
    pub fn secured(base: &str, tls: Arc<ClientConfig>) -> Result<Self, ClientError> {
        let base = base_url(base, true)?.into();
        Ok(Self { base, transport: Transport::new(4, LARGEST_REPLY, tls), timeout: TIMEOUT })
    }

    /// A client that knows the scheduler's authority by the SHA-256 of its certificate.
    ///
    /// # Errors
    /// When `base` is no address, or there is no TLS.
    pub fn pinned(base: &str, fingerprint: &str) -> anyhow::Result<Self> {
        Ok(Self::secured(base, tls::pinned_config(fingerprint)?)?)
    }

    /// The same client, showing this token, over TLS only.
    pub fn with_token(mut self, token: &str) -> Self {
        self.transport = self.transport.with_token(token);
        self
    }

    /// The same, for many who share it: so many connections stay open unused.
    pub fn with_connections(base: &str, idle: usize) -> Result<Self, ClientError> {
        let base = base_url(base, false)?.into();
        Ok(Self {
            base,
            transport: Transport::new(idle, LARGEST_REPLY, no_tls()),
            timeout: TIMEOUT,
        })
    }

    /// The same client with another limit for each answer.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same client, saying who it is: the scheduler puts that into a
    /// workload's history.
    pub fn introduced_as(mut self, who: &'static str) -> Self {
        self.transport = self.transport.introduced_as(who);
        self
    }

    /// Where the scheduler is, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends `body` as JSON, if there is one, and reads the answer as JSON.
    pub async fn request<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let url = self.url(path);
        exchange(&self.transport, method, &url, body, timeout).await
    }

    /// Opens an answer without an end; its first bytes have to come in time.
    pub async fn stream(&self, path: &str) -> Result<ByteStream, ClientError> {
        self.transport.open(&self.url(path), self.timeout).await
    }

    /// Asks, and reads the answer.
    pub async fn get<T: DeserializeOwned>(&self, query: &Query<T>) -> Result<T, ClientError> {
        self.request(Method::GET, query.path(), NO_BODY, self.timeout).await
    }

    /// Asks, and returns the answer word for word.
    pub async fn get_raw<T>(&self, query: &Query<T>) -> Result<Bytes, ClientError> {
        self.transport.call(Method::GET, &self.url(query.path()), None, self.timeout).await
    }

    // --- for people -------------------------------------------------------

    /// Creates or changes a workload from the text of its spec; whatever is
    /// wrong with the text, the scheduler says.
    pub async fn deploy(&self, spec: Bytes) -> Result<DeployResponse, ClientError> {
        let url = self.url("/deploy");
        let reply = self.transport.call(Method::POST, &url, Some(spec), self.timeout).await?;
        read(&url, &reply)
    }

    /// All workloads.
    pub async fn workloads(&self) -> Result<Vec<WorkloadView>, ClientError> {
        self.get(&query::workloads()).await
    }

    /// One workload.
    pub async fn workload(&self, id: &str) -> Result<WorkloadView, ClientError> {
        self.get(&query::workload(id)).await
    }

    /// The story of a workload.
    pub async fn explain(&self, id: &str) -> Result<ExplainView, ClientError> {
        self.get(&query::explain(id)).await
    }

    /// The revisions of a workload.
    pub async fn history(&self, id: &str) -> Result<Vec<RevisionView>, ClientError> {
        self.get(&query::history(id)).await
    }

    /// Changes how many replicas of a workload are wanted.
    pub async fn scale(&self, id: &str, replicas: u32) -> Result<ChangeResponse, ClientError> {
        let path = format!("/workloads/{}/scale", query::segment(id));
        self.act(Method::PUT, &path, Some(&ScaleRequest { replicas })).await
    }

    /// Deletes a workload and its containers.
    pub async fn delete(&self, id: &str) -> Result<ChangeResponse, ClientError> {
        self.act(Method::DELETE, query::workload(id).path(), NO_BODY).await
    }

    /// A workload's rollout, or how the last one ended; `None` if there was none.
    pub async fn rollout(&self, id: &str) -> Result<Option<RolloutView>, ClientError> {
        self.get(&query::rollout(id)).await
    }

    /// Rolls a workload to another image.
    pub async fn start_rollout(
        &self,
        id: &str,
        wanted: &RolloutRequest,
    ) -> Result<DeployResponse, ClientError> {
        self.request(Method::POST, query::rollout(id).path(), Some(wanted), self.timeout).await
    }

    /// Freezes a workload's rollout.
    pub async fn pause_rollout(&self, id: &str) -> Result<DeployResponse, ClientError> {
        self.steer_rollout(id, "pause", NO_BODY).await
    }

    /// Lets a frozen rollout go on.
    pub async fn resume_rollout(&self, id: &str) -> Result<DeployResponse, ClientError> {
        self.steer_rollout(id, "resume", NO_BODY).await
    }

    /// Takes a workload's rollout back. Answers with the revision it goes back to.
    pub async fn abort_rollout(&self, id: &str) -> Result<DeployResponse, ClientError> {
        self.steer_rollout(id, "abort", NO_BODY).await
    }

    /// Rolls a workload back to revision `to`, or to the one before. Answers with
    /// the revision that is now wanted.
    pub async fn undo_rollout(
        &self,
        id: &str,
        to: Option<u64>,
    ) -> Result<DeployResponse, ClientError> {
        self.steer_rollout(id, "undo", Some(&UndoRequest { to })).await
    }

    /// Rolls a workload to new instances of the same. Answers with the revision
    /// that is now wanted.
    pub async fn restart(&self, id: &str) -> Result<DeployResponse, ClientError> {
        self.once(&format!("{}/restart", query::workload(id).path()), NO_BODY).await
    }

    async fn steer_rollout<B: Serialize>(
        &self,
        id: &str,
        step: &str,
        body: Option<&B>,
    ) -> Result<DeployResponse, ClientError> {
        self.once(&format!("{}/{step}", query::rollout(id).path()), body).await
    }

    /// Never a second time by itself: undone twice is done again, and restarted
    /// twice are two revisions.
    async fn once<B: Serialize>(
        &self,
        path: &str,
        body: Option<&B>,
    ) -> Result<DeployResponse, ClientError> {
        let transport = self.transport.clone().asking_once();
        exchange(&transport, Method::POST, &self.url(path), body, self.timeout).await
    }

    /// All nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ClientError> {
        self.get(&query::nodes()).await
    }

    /// Keeps new instances off a node.
    pub async fn cordon(&self, node: &str) -> Result<ChangeResponse, ClientError> {
        let path = format!("/nodes/{}/cordon", query::segment(node));
        self.act(Method::POST, &path, NO_BODY).await
    }

    /// Lets a node have new instances again.
    pub async fn uncordon(&self, node: &str) -> Result<ChangeResponse, ClientError> {
        let path = format!("/nodes/{}/uncordon", query::segment(node));
        self.act(Method::POST, &path, NO_BODY).await
    }

    /// Moves everything off a node and keeps new instances off it.
    pub async fn drain(&self, node: &str) -> Result<ChangeResponse, ClientError> {
        let path = format!("/nodes/{}/drain", query::segment(node));
        self.act(Method::POST, &path, NO_BODY).await
    }

    /// Forgets a node for good.
    pub async fn remove_node(&self, node: &str) -> Result<ChangeResponse, ClientError> {
        let path = format!("/nodes/{}", query::segment(node));
        self.act(Method::DELETE, &path, NO_BODY).await
    }

    /// All instances, or those of one workload.
    pub async fn instances(
        &self,
        workload: Option<&str>,
    ) -> Result<Vec<ContainerInstance>, ClientError> {
        self.get(&query::instances(workload)).await
    }

    /// Where a workload is reached.
    pub async fn discover(&self, name: &str) -> Result<DiscoverView, ClientError> {
        self.get(&query::discover(name)).await
    }

    /// The log of an instance, which may also be named by a container id.
    pub async fn logs(
        &self,
        instance: &str,
        tail: Option<u64>,
        follow: bool,
    ) -> Result<ByteStream, ClientError> {
        self.stream(&query::logs(instance, tail, follow)).await
    }

    /// What happened after `since`, one JSON object ([`EventView`]) per line.
    ///
    /// [`EventView`]: crate::model::view::EventView
    pub async fn events(
        &self,
        since: Option<u64>,
        workload: Option<&str>,
        follow: bool,
    ) -> Result<Lines, ClientError> {
        Ok(self.stream(&query::events(since, workload, follow)).await?.lines())
    }

    /// All durable state, as text that [`backup::read`] verifies.
    ///
    /// [`backup::read`]: crate::roles::scheduler::store::backup::read
    pub async fn backup(&self) -> Result<Vec<u8>, ClientError> {
        let mut stream = self.stream("/backup").await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next_chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// How the scheduler itself is.
    pub async fn health(&self) -> Result<HealthView, ClientError> {
        self.get(&query::health()).await
    }

    // --- for admins -------------------------------------------------------

    /// All tokens.
    pub async fn tokens(&self) -> Result<Vec<TokenView>, ClientError> {
        self.request(Method::GET, "/tokens", NO_BODY, self.timeout).await
    }

    /// Makes a token. Never a second time by itself: that would be a second token.
    pub async fn create_token(&self, asked: &TokenRequest) -> Result<TokenResponse, ClientError> {
        let transport = self.transport.clone().asking_once();
        exchange(&transport, Method::POST, &self.url("/tokens"), Some(asked), self.timeout).await
    }

    /// Takes a token back.
    pub async fn revoke_token(&self, id: &str) -> Result<TokenView, ClientError> {
        let path = format!("/tokens/{}", query::segment(id));
        self.request(Method::DELETE, &path, NO_BODY, self.timeout).await
    }

    /// Makes a code that signs a browser in, as whoever asks.
    pub async fn sign_in_code(&self) -> Result<SignInOffer, ClientError> {
        self.request(Method::POST, "/session/code", NO_BODY, self.timeout).await
    }

    // --- for agents -------------------------------------------------------

    /// Becomes a node, with a join token.
    pub async fn join(
        &self,
        request: &CertificateRequest,
    ) -> Result<CertificateResponse, ClientError> {
        self.request(Method::POST, "/join", Some(request), self.timeout).await
    }

    /// Gets a newer certificate.
    pub async fn renew(
        &self,
        request: &CertificateRequest,
    ) -> Result<CertificateResponse, ClientError> {
        self.request(Method::POST, "/renew", Some(request), self.timeout).await
    }

    /// Introduces an agent.
    pub async fn register(&self, hello: &RegisterRequest) -> Result<RegisterResponse, ClientError> {
        self.request(Method::POST, "/register", Some(hello), self.timeout).await
    }

    /// Reports what an agent has.
    pub async fn heartbeat(
        &self,
        snapshot: &HeartbeatRequest,
    ) -> Result<HeartbeatResponse, ClientError> {
        self.request(Method::POST, "/heartbeat", Some(snapshot), self.timeout).await
    }

    /// A call whose answer says what happens now.
    async fn act<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<ChangeResponse, ClientError> {
        // An empty answer is one, too.
        let answer: Option<_> = self.request(method, path, body, self.timeout).await?;
        Ok(answer.unwrap_or_default())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// One call with JSON both ways.
async fn exchange<B: Serialize, T: DeserializeOwned>(
    transport: &Transport,
    method: Method,
    url: &str,
    body: Option<&B>,
    timeout: Duration,
) -> Result<T, ClientError> {
    let body = match body.map(serde_json::to_vec).transpose() {
        Ok(body) => body.map(Bytes::from),
        Err(error) => {
            let what = format!("was not asked: the request is no JSON ({error})");
            return Err(ClientError::BadReply { url: url.to_owned(), what });
        }
    };
    let reply = transport.call(method, url, body, timeout).await?;
    read(url, &reply)
}

/// The body of a 2xx answer as a value. An empty body counts as `null`.
fn read<T: DeserializeOwned>(url: &str, reply: &[u8]) -> Result<T, ClientError> {
    let text = if reply.is_empty() { b"null" } else { reply };
    serde_json::from_slice(text).map_err(|error| {
        let quoted = transport::quote(reply);
        let what = format!("answered something unexpected ({error}): {quoted}");
        ClientError::BadReply { url: url.to_owned(), what }
    })
}

/// For those who speak plain HTTP.
fn no_tls() -> Arc<ClientConfig> {
    // Made of constants: what works once works always, and a test makes one.
    tls::no_config().expect("TLS 1.3 is compiled in")
}

/// `http://host:port` from what people write; with `tls`, `https://`.
fn base_url(given: &str, tls: bool) -> Result<String, ClientError> {
    let bad = |why: &str| {
        let scheme = if tls { "https" } else { "http" };
        let why = format!("{why}; expected something like {scheme}://127.0.0.1:8080");
        ClientError::BadUrl { given: given.to_owned(), why }
    };
    let rest = match given.trim().split_once("://") {
        None => given.trim(),
        Some(("http", rest)) if !tls => rest,
        Some(("https", rest)) if tls => rest,
        Some(("https", _)) => {
            return Err(bad(
                "https takes credentials: KUBE_LITE_CREDENTIALS=FILE for people, --join for agents",
            ));
        }
        Some(("http", _)) => return Err(bad("what needs credentials takes https")),
        Some((scheme, _)) => return Err(bad(&format!("{scheme:?} is not spoken here, only http"))),
    };
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://{}", rest.trim_end_matches('/'));
    let uri: Uri = url.parse().map_err(|error| bad(&format!("{error}")))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("it names no host"));
    }
    // What follows the last colon, outside of an IPv6 address, must be a port.
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    if let Some((_, port)) = port.filter(|_| uri.port_u16().is_none_or(|port| port == 0)) {
        return Err(bad(&format!("its port is {port:?}, and ports are from 1 to 65535")));
    }
    if uri.query().is_some() {
        return Err(bad("it must end with the port, without a query"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        let good = [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("localhost:8080", "http://localhost:8080"),
            (" http://[::1]:8080 ", "http://[::1]:8080"),
            ("http://gate.example/kube/", "http://gate.example/kube"),
        ];
        for (given, wanted) in good {
            assert_eq!(base_url(given, false).as_deref(), Ok(wanted), "{given}");
        }
        for bad in ["http://a:99999", "http://a:0", "a:x", "http://[::1]:70000", "http://a:"] {
            let error = base_url(bad, false).expect_err(bad).to_string();
            assert!(error.contains("port"), "{bad}: {error}");
        }
        for bad in ["", "/", "https://a:1", "unix:///x", "http://", "http://a b", "http://a/?x=1"] {
            let error = base_url(bad, false).expect_err(bad).to_string();
            assert!(error.contains("expected something like"), "{bad}: {error}");
        }
    }
}
