//! One HTTP exchange: bytes out, bytes or a [`ClientError`] back. Connections
//! are kept and used again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, ResolveServerName};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::{ByteStream, ClientError};
use crate::identity::authority::{OF_A_NODE, SCHEDULER};
use crate::model::ApiError;
use crate::model::error::tame;

/// A TCP connection must stand within this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An idle connection is closed after this long; below the servers' own limit,
/// so that we are the ones who close it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// So much of an answer is taken in before somebody wants it.
const LARGEST_BUFFER: usize = 64 * 1024;
/// A silent peer of a stream is probed by TCP this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// So much of an unexpected answer is quoted.
const QUOTED: usize = 80;

/// Who asks, unless said otherwise.
const SOMEBODY: HeaderValue =
    HeaderValue::from_static(concat!("kube-lite/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A pool of connections. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    largest_reply: usize,
    user_agent: HeaderValue,
    repeats: bool,
    /// `Bearer …`
    token: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
}

/// Of a TLS connection: who is expected at the other end. A node, where the address
/// is `NODE@HOST:PORT`; else the scheduler.
struct Expected;

impl ResolveServerName for Expected {
    fn resolve(&self, uri: &Uri) -> Result<ServerName<'static>, Box<dyn Error + Sync + Send>> {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let name = match authority.rsplit_once('@') {
            Some((node, _)) => format!("{node}{OF_A_NODE}"),
            None => SCHEDULER.to_owned(),
        };
        Ok(ServerName::try_from(name)?)
    }
}

/// Under what a request is logged, at both ends.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl Transport {
    /// A pool that keeps up to `idle_per_host` unused connections to each host
    /// and refuses replies of more than `largest_reply` bytes.
    /// `tls` is for addresses that begin with `https`.
    pub fn new(idle_per_host: usize, largest_reply: usize, tls: Arc<ClientConfig>) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(KEEP_ALIVE));
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(idle_per_host)
            .http1_max_buf_size(LARGEST_BUFFER)
            .build(HttpsConnector::new(connector, tls, false, Arc::new(Expected)));
        Self {
            http,
            largest_reply,
            user_agent: SOMEBODY,
            repeats: true,
            token: None,
            request_id: None,
        }
    }

    /// The same pool, with calls that say who makes them.
    pub fn introduced_as(mut self, who: &'static str) -> Self {
        let product = format!("{who}/{}", env!("CARGO_PKG_VERSION"));
        self.user_agent = HeaderValue::try_from(product).unwrap_or(SOMEBODY);
        self
    }

    /// The same pool, with calls that show this token.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = HeaderValue::try_from(format!("Bearer {token}")).ok().map(|mut value| {
            value.set_sensitive(true); // out of logs
            value
        });
        self
    }

    /// The same pool, for calls that would do something else the second time.
    pub fn asking_once(mut self) -> Self {
        self.repeats = false;
        self
    }

    /// The same pool, for calls that belong to the request of this id.
    pub fn on_behalf_of(&self, request: &str) -> Self {
        Self { request_id: HeaderValue::try_from(request).ok(), ..self.clone() }
    }

    /// Asks and returns the whole body of a 2xx answer.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        body: Option<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, ClientError> {
        let exchange = async {
            let response = self.send(method, url, body).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = self.collect(url, response).await?;
            if status.is_success() { Ok(body) } else { Err(refusal(url, status, &headers, &body)) }
        };
        within(url, timeout, exchange).await
    }

    /// Asks and returns the body of a 2xx answer as it arrives; only its head
    /// has to come within `timeout`.
    pub async fn open(&self, url: &str, timeout: Duration) -> Result<ByteStream, ClientError> {
        let exchange = async {
            let response = self.send(Method::GET, url, None).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            if status.is_success() {
                return Ok(ByteStream::new(url.to_owned(), response.into_body()));
            }
            let body = self.collect(url, response).await?;
            Err(refusal(url, status, &headers, &body))
        };
        within(url, timeout, exchange).await
    }

    /// Asks and returns the head of the answer. A kept connection that the
    /// other side had closed meanwhile is not held against the call: it is
    /// repeated once. That is safe with all calls but those of
    /// [`Transport::asking_once`] (orders carry ids, heartbeats numbers, and a
    /// deploy says what is wanted, not what to add). What was sent before may have
    /// been done, even if nobody is there any more to be asked again.
    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Incoming>, ClientError> {
        let uri: Uri = url.parse().map_err(|e: hyper::http::uri::InvalidUri| {
            ClientError::BadUrl { given: url.to_owned(), why: e.to_string() }
        })?;
        let mut sent = false;
        loop {
            match self.http.request(self.build(&method, &uri, body.clone())).await {
                Ok(response) => return Ok(response),
                Err(error) if self.repeats && !sent && was_closed(&error) => sent = true,
                Err(error) => {
                    let nothing_done = error.is_connect() && !sent;
                    return Err(ClientError::from_transport(url, &error, nothing_done));
                }
            }
        }
    }

    fn build(&self, method: &Method, uri: &Uri, body: Option<Bytes>) -> Request<Full<Bytes>> {
        let has_body = body.is_some();
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        request.headers_mut().insert(header::USER_AGENT, self.user_agent.clone());
        if let Some(token) = self.token.as_ref().filter(|_| uri.scheme_str() == Some("https")) {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        if let Some(id) = &self.request_id {
            request.headers_mut().insert(REQUEST_ID, id.clone());
        }
        if has_body {
            request.headers_mut().insert(header::CONTENT_TYPE, JSON);
        }
        request
    }

    async fn collect(&self, url: &str, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        match Limited::new(response.into_body(), self.largest_reply).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                let what = format!("answered with more than {} bytes", self.largest_reply);
                Err(ClientError::BadReply { url: url.to_owned(), what })
            }
            Err(error) => Err(ClientError::from_transport(url, error.as_ref(), false)),
        }
    }
}

async fn within<T>(
    url: &str,
    timeout: Duration,
    exchange: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::TimedOut { url: url.to_owned(), after: timeout }),
    }
}

/// Whether the connection ended before an answer began.
fn was_closed(error: &legacy::Error) -> bool {
    let Some(source) = error.source() else { return false };
    source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
}

/// An answer other than 2xx: ours, or one that no kube-lite would give.
fn refusal(url: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ClientError {
    let Ok(mut error) = serde_json::from_slice::<ApiError>(body) else {
        let what = format!("answered {status} and {}; is it kube-lite?", quote(body));
        return ClientError::BadReply { url: url.to_owned(), what };
    };
    error.status = status.as_u16();
    let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    error.request_id = id.or(error.request_id.as_deref()).map(tame);
    if error.retry_after_seconds.is_none() {
        let value = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        error.retry_after_seconds = value.and_then(|text| text.parse().ok());
    }
    ClientError::Api(error)
}

/// The beginning of a body, for an error message.
pub(super) fn quote(body: &[u8]) -> String {
    if body.is_empty() {
        return "nothing more".to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(QUOTED) {
        words.truncate(end);
        words.push('…');
    }
    format!("{words:?}")
}
