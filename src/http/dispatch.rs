//! One request's way: route → guard → query → body → handler → reply.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::crowd::Seat;
use super::guard::Guard;
use super::reply::{Content, Ending, Held, Reply, ReplyBody, Rest};
use super::request::{Query, Request};
use super::route::{Match, Route, Router};
use super::server::{Phase, reached};
use super::wire::{Ear, client_left};
use super::{Handler, body};
use crate::identity::access::{Identity, Proof};
use crate::identity::tls::PeerCertificate;
use crate::model::ApiError;
use crate::model::error::shown;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// How often it is looked whether a reader of a live stream may still read it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What all connections of a server share.
pub(super) struct Desk<H: Handler> {
    pub(super) handler: H,
    pub(super) router: Router<H::Call>,
    pub(super) guard: Guard,
    pub(super) ids: RequestIds,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) tls: Option<TlsAcceptor>,
    /// Places for streams.
    pub(super) streams: Arc<Semaphore>,
    /// Room for bodies that are on their way, in bytes.
    pub(super) bodies: Arc<Semaphore>,
}

/// What is known of a request's connection.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) peer: SocketAddr,
    /// Where it arrived.
    pub(super) local: Option<IpAddr>,
    pub(super) ear: Ear,
    /// What the peer has shown and proved.
    pub(super) certificate: Option<Arc<PeerCertificate>>,
    /// The connection's place among all.
    pub(super) seat: Arc<Seat>,
}

/// What a request has come to on its way.
#[derive(Default)]
struct Way {
    /// Something of its body was not read.
    unread: bool,
    /// What it keeps until it is answered.
    held: Held,
    /// By what a person was let in.
    proof: Option<Proof>,
}

impl<H: Handler> Desk<H> {
    /// Answers a request. There is no request without an answer.
    pub(super) async fn answer(
        &self,
        line: &Line,
        request: hyper::Request<Incoming>,
    ) -> Result<Response<ReplyBody>, Infallible> {
        let (mut parts, incoming) = request.into_parts();
        let mut way = Way { unread: !incoming.is_end_stream(), ..Way::default() };
        let id = self.ids.of(&parts);
        let origin = parts.headers.get(ORIGIN).cloned();
        let mut reply = self
            .reply(line, &id, &mut parts, incoming, &mut way)
            .await
            .unwrap_or_else(|error| told(error, &id));
        // Something of the body is left, or the caller has (or may have) a newer
        // certificate: this connection is spent.
        let spent = line.certificate.is_some() && reply.status == StatusCode::UNAUTHORIZED;
        if way.unread || spent || self.guard.is_outdated(line.certificate.as_deref()) {
            reply.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if reply.status == StatusCode::UNAUTHORIZED {
            reply.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let status = reply.status;
        tracing::debug!(%id, peer = %line.peer, method = %parts.method, path = parts.uri.path(), %status);
        if let Ok(id) = HeaderValue::from_str(&id) {
            reply.headers.insert(REQUEST_ID, id);
        }
        // What is, is asked for anew; only a handler knows of what may be kept.
        reply.headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        reply.headers.insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
        self.guard.origins.decorate(origin.as_ref(), &mut reply.headers);
        Ok(self.response(line, reply, way))
    }

    async fn reply(
        &self,
        line: &Line,
        id: &str,
        parts: &mut Parts,
        incoming: Incoming,
        way: &mut Way,
    ) -> Result<Reply, ApiError> {
        self.guard.hosts.check(parts, line.local)?;
        let (route, params) = match self.router.find(&parts.method, parts.uri.path()) {
            Match::Found(route, params) => (route, params),
            Match::WrongMethod { allow } if parts.method == Method::OPTIONS => {
                return self.options(parts, &allow);
            }
            Match::WrongMethod { allow } => return Ok(wrong_method(parts, &allow, id)),
            Match::Unknown { similar } => {
                return Err(unknown_path(parts, &similar, H::ELSEWHERE));
            }
            Match::BadPath(error) => return Err(error),
        };
        let caller =
            self.guard.admit(route.access, parts, line.peer, line.certificate.as_deref())?;
        if let Identity::Person { proof: shown, .. } = &caller.identity {
            way.proof = Some(shown.clone());
        }
        let strict = !route.access.is_machine();
        let query = Query::parse(parts.uri.query(), route.query, strict)?;
        body::check_headers(route, &parts.headers, &incoming)?;
        let body = body::read(route, incoming, &self.bodies).await?;
        way.unread = false;
        way.held.work = Some(line.seat.work());
        if route.timeouts.handler.is_none() {
            let place = self.streams.clone().try_acquire_owned();
            way.held.stream = Some(place.map_err(|_| too_many_streams())?);
        }
        let request = Request {
            call: route.call,
            id: id.to_owned(),
            peer: line.peer,
            caller,
            params,
            query,
            headers: std::mem::take(&mut parts.headers),
            body,
        };
        self.handle(route, request).await
    }

    /// Calls the handler, and survives it.
    async fn handle(
        &self,
        route: &Route<H::Call>,
        request: Request<H::Call>,
    ) -> Result<Reply, ApiError> {
        let id = request.id.clone();
        // In an async block, so that a panic before the first await counts too.
        let handled = AssertUnwindSafe(async { self.handler.handle(request).await }).catch_unwind();
        let finished = match route.timeouts.handler {
            None => handled.await,
            Some(limit) => match tokio::time::timeout(limit, handled).await {
                Ok(finished) => finished,
                Err(_) => {
                    tracing::warn!(%id, call = ?route.call, "no answer within {limit:?}");
                    return Err(ApiError::unavailable(
                        "Timeout",
                        format!(
                            "{} {} was not done within {} s and may still be done later; look \
                             at the state before trying again.",
                            route.method,
                            route.path,
                            limit.as_secs_f64()
                        ),
                        1,
                    ));
                }
            },
        };
        finished.unwrap_or_else(|_panic| {
            // The panic hook has already logged what and where.
            tracing::error!(%id, call = ?route.call, "the handler panicked");
            Err(ApiError::new(
                500,
                "Internal",
                format!(
                    "This is a bug in kube-lite: {} {} failed unexpectedly. The server runs on; \
                     its log says more about request {id}.",
                    route.method, route.path
                ),
            ))
        })
    }

    /// `OPTIONS` says what a path takes, and answers browsers that ask first.
    fn options(&self, parts: &Parts, allow: &str) -> Result<Reply, ApiError> {
        let mut reply = Reply::empty(StatusCode::NO_CONTENT);
        reply.headers = self.guard.origins.preflight(parts, allow)?;
        Ok(with_allow(reply, allow))
    }

    fn response(&self, line: &Line, reply: Reply, way: Way) -> Response<ReplyBody> {
        let rest = match reply.body {
            Content::Whole(bytes) => Rest::Whole(Some(bytes)),
            Content::Stream { pieces, live } => {
                Rest::Stream { pieces, ending: live.then(|| self.ending(line, way.proof)) }
            }
        };
        let body = ReplyBody { rest, _held: way.held };
        let mut response = Response::new(body);
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        response
    }

    fn ending(&self, line: &Line, proof: Option<Proof>) -> Ending {
        let (ear, mut phase) = (line.ear.clone(), self.phase.clone());
        let guard = self.guard.clone();
        Box::pin(async move {
            tokio::select! {
                () = client_left(ear) => {}
                () = refused(guard, proof) => {}
                () = reached(&mut phase, Phase::Draining) => {}
            }
        })
    }
}

/// Completes when who was let in by `proof` would not be any more: a token that was
/// revoked, a browser that has signed out.
async fn refused(guard: Guard, proof: Option<Proof>) {
    let Some(proof) = proof else { return std::future::pending().await };
    while guard.still_good(&proof) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// An error, with the id under which it is found in the log.
fn told(error: ApiError, id: &str) -> Reply {
    Reply::from(ApiError { request_id: Some(id.to_owned()), ..error })
}

fn too_many_streams() -> ApiError {
    let text = "So many logs and events are being followed that there is no room for more; try \
                again, or end some of them.";
    ApiError::unavailable("TooManyStreams", text, 5)
}

fn wrong_method(parts: &Parts, allow: &str, id: &str) -> Reply {
    let (method, path) = (&parts.method, parts.uri.path());
    let error = ApiError::new(
        405,
        "MethodNotAllowed",
        format!("{} does not take {}; it takes {allow}.", shown(path), shown(method.as_str())),
    );
    with_allow(told(error, id), allow)
}

fn with_allow(reply: Reply, allow: &str) -> Reply {
    match HeaderValue::from_str(allow) {
        Ok(allow) => reply.header(ALLOW, allow),
        Err(_) => reply,
    }
}

fn unknown_path(parts: &Parts, similar: &[String], elsewhere: &str) -> ApiError {
    let path = shown(parts.uri.path());
    let hint = match similar {
        [] => elsewhere.to_owned(),
        names => format!("did you mean {}?", names.join(" or ")),
    };
    ApiError::not_found(format!("There is nothing at {path}; {hint}"))
}

/// Gives each request an id, so that one line in a log can be found for one
/// answer: the caller's own if it brought a sane one, which then goes through
/// several hops.
pub(super) struct RequestIds {
    start: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        // Without randomness ids repeat after a restart; nothing depends on it.
        let start = getrandom::u32().unwrap_or_else(|_| std::process::id());
        Self { start, next: AtomicU64::new(1) }
    }

    fn of(&self, parts: &Parts) -> String {
        let fine = |text: &&str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let brought = parts.headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        match brought.filter(fine) {
            Some(id) => id.to_owned(),
            None => format!("{:08x}-{}", self.start, self.next.fetch_add(1, Ordering::Relaxed)),
        }
    }
}
