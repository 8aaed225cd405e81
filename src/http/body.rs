//! Reading a request's body: at most so much, for at most so long, only JSON.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::route::{Route, size};
use crate::model::ApiError;
use crate::model::error::shown;

/// So much of a body counts against nothing, so that small requests always get through.
const FREE: usize = 16 * 1024;

/// What can be refused from the headers alone, before a byte of the body is
/// read (and before `100 Continue` is sent).
pub(super) fn check_headers<C>(
    route: &Route<C>,
    headers: &HeaderMap,
    body: &Incoming,
) -> Result<(), ApiError> {
    if body.is_end_stream() {
        return Ok(());
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if route.body_limit == 0 {
        return match announced {
            Some(length) => Err(unwanted(route, &format!("Content-Length is {length}"))),
            None => Ok(()), // chunked: may turn out to be empty
        };
    }
    if let Some(length) = announced
        && length.parse().is_ok_and(|length: u64| length > route.body_limit as u64)
    {
        return Err(too_large(route, &format!("Content-Length is {length}")));
    }
    if let Some(encoding) = headers.get(CONTENT_ENCODING) {
        let given = shown(&String::from_utf8_lossy(encoding.as_bytes()));
        return Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            format!("The body has Content-Encoding {given}; send it as it is, not compressed."),
        ));
    }
    check_content_type(headers)
}

/// Writes must say that they are JSON. It catches mistakes, and no web page can
/// send that type to another origin without being asked about it first.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = given.as_deref().map(|text| text.split(';').next().unwrap_or_default().trim());
    let problem = match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => return Ok(()),
        Some(other) => format!("is {}", shown(other)),
        None => "is missing".to_owned(),
    };
    Err(ApiError::new(
        415,
        "UnsupportedMediaType",
        format!(
            "The Content-Type {problem}; it must be application/json \
             (with curl: -H 'Content-Type: application/json')."
        ),
    ))
}

/// Reads the body to its end, within the route's limits.
/// What is on its way counts against `room`, in bytes.
pub(super) async fn read<C>(
    route: &Route<C>,
    body: Incoming,
    room: &Arc<Semaphore>,
) -> Result<Bytes, ApiError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = route.timeouts.body_read;
    match tokio::time::timeout(limit, collect(route, body, room)).await {
        Ok(result) => result,
        Err(_) => Err(too_slow(route, limit)),
    }
}

async fn collect<C>(
    route: &Route<C>,
    mut body: Incoming,
    room: &Arc<Semaphore>,
) -> Result<Bytes, ApiError> {
    let mut taken: Option<OwnedSemaphorePermit> = None;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!(
                "The body broke off after {length} bytes ({error}); send the request again."
            ))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > route.body_limit {
            return Err(match route.body_limit {
                0 => unwanted(route, "one was sent"),
                _ => too_large(route, &format!("{length} bytes have arrived so far")),
            });
        }
        if length > FREE {
            let more =
                room.clone().try_acquire_many_owned(u32::try_from(data.len()).unwrap_or(u32::MAX));
            let more = more.map_err(|_| too_much())?;
            match &mut taken {
                Some(taken) => taken.merge(more),
                None => taken = Some(more),
            }
        }
        // Most bodies come in one piece, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn too_large<C>(route: &Route<C>, given: &str) -> ApiError {
    let (method, path, limit) = (&route.method, route.path, size(route.body_limit));
    ApiError::new(
        413,
        "TooLarge",
        format!("The body is too large: {given}, but {method} {path} takes at most {limit}."),
    )
}

fn too_much() -> ApiError {
    let text =
        "So many large requests arrive at once that there is no room for this one; try again.";
    ApiError::unavailable("TooMuchAtOnce", text, 1)
}

fn unwanted<C>(route: &Route<C>, given: &str) -> ApiError {
    let (method, path) = (&route.method, route.path);
    ApiError::bad_request(format!("{method} {path} takes no body, but {given}; leave it out."))
}

fn too_slow<C>(route: &Route<C>, limit: Duration) -> ApiError {
    let (method, path) = (&route.method, route.path);
    ApiError::new(
        408,
        "RequestTimeout",
        format!(
            "The body of {method} {path} did not arrive within {} s; send it faster, and end it.",
            limit.as_secs_f64()
        ),
    )
}
