//! What a handler gives back: a value, bytes, or a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::crowd::Work;

use crate::model::ApiError;

/// The content type of values.
pub const JSON: &str = "application/json";
/// The content type of streams of values, one per line.
pub const JSON_LINES: &str = "application/x-ndjson";
/// The content type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// The content type of text for people.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// An answer, before it becomes HTTP.
#[derive(Debug)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Content,
}

/// What is in an answer.
#[derive(Debug)]
pub(super) enum Content {
    Whole(Bytes),
    /// Pieces as they come; `live` when it may never end by itself.
    Stream {
        pieces: mpsc::Receiver<Piece>,
        live: bool,
    },
}

/// A part of a stream, or the news that there will be no more although it is
/// not complete.
type Piece = Result<Bytes, Broken>;

/// A stream ended before its time: the connection is cut, so that the reader
/// does not take what it got for the whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the stream broke off at its source")]
pub(super) struct Broken;

impl Reply {
    /// A value as JSON.
    pub fn json<T: Serialize + ?Sized>(status: u16, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n'); // kind to terminals
                Self::bytes(status, JSON, body)
            }
            Err(error) => Self::bytes(
                500,
                JSON,
                format!(
                    r#"{{"error":"The answer cannot be written as JSON: {error}.","reason":"Internal"}}"#
                ),
            ),
        }
    }

    /// Text for people.
    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self::bytes(status, TEXT, body)
    }

    /// Bytes of some type.
    pub fn bytes(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: Content::Whole(body.into()) }
    }

    /// Nothing but a status, as to a preflight.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Content::Whole(Bytes::new()) }
    }

    /// A stream that ends when its [`Outflow`] is dropped: a body whose length is
    /// not known. Its reader gets all of it, also after closing its own sending side.
    pub fn stream(content_type: &'static str) -> (Outflow, Self) {
        Self::streaming(content_type, false)
    }

    /// A stream that may never end by itself. It ends when the client closes its
    /// side, or when the server shuts down; the [`Outflow`] notices both.
    pub fn live_stream(content_type: &'static str) -> (Outflow, Self) {
        Self::streaming(content_type, true)
    }

    fn streaming(content_type: &'static str, live: bool) -> (Outflow, Self) {
        let (sender, pieces) = mpsc::channel(PIECES_IN_FLIGHT);
        let mut reply = Self::bytes(200, content_type, Bytes::new());
        reply.body = Content::Stream { pieces, live };
        (Outflow(sender), reply)
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Its headers, for tests of what sets them.
    #[cfg(test)]
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The far end of a stream, for tests of what writes to it.
    #[cfg(test)]
    pub(crate) async fn next_piece(&mut self) -> Option<Bytes> {
        match &mut self.body {
            Content::Whole(bytes) => (!bytes.is_empty()).then(|| std::mem::take(bytes)),
            Content::Stream { pieces, .. } => pieces.recv().await.and_then(Result::ok),
        }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        let mut reply = Self::json(error.status, &error);
        if let Some(seconds) = error.retry_after_seconds {
            reply.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply
    }
}

/// How much of a stream may wait for a slow reader: so many pieces of at most
/// so many bytes, 64 KiB in all.
const PIECES_IN_FLIGHT: usize = 4;
const LARGEST_PIECE: usize = 16 * 1024;

/// The end of a stream that a handler writes to. Dropping it ends the stream.
#[derive(Clone, Debug)]
pub struct Outflow(mpsc::Sender<Piece>);

/// Nobody reads the stream any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader has left")]
pub struct ReaderLeft;

impl Outflow {
    /// Sends some bytes, waiting while the reader is slow.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), ReaderLeft> {
        let mut bytes = bytes.into();
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(LARGEST_PIECE));
            self.0.send(Ok(piece)).await.map_err(|_| ReaderLeft)?;
        }
        Ok(())
    }

    /// Waits until nobody reads any more, however quiet the stream is.
    pub async fn reader_left(&self) {
        self.0.closed().await;
    }

    /// Ends the stream as broken: the reader sees that it is not complete.
    pub async fn break_off(self) {
        // An error means that the reader has left: nothing to tell.
        let _ = self.0.send(Err(Broken)).await;
    }
}

/// Completes when a live stream has to end: its client left or the server shuts
/// down.
pub(super) type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an answer keeps until it has been sent.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) work: Option<Work>,
    pub(super) stream: Option<OwnedSemaphorePermit>,
}

/// An answer's body as hyper reads it.
pub(super) struct ReplyBody {
    pub(super) rest: Rest,
    pub(super) _held: Held,
}

/// What is still to be sent.
pub(super) enum Rest {
    Whole(Option<Bytes>),
    Stream { pieces: mpsc::Receiver<Piece>, ending: Option<Ending> },
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.get_mut().rest {
            Rest::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Rest::Stream { pieces, ending } => {
                if ending.as_mut().is_some_and(|ending| ending.as_mut().poll(cx).is_ready()) {
                    *ending = None;
                    pieces.close(); // what was already sent is still delivered
                }
                Poll::Ready(ready!(pieces.poll_recv(cx)).map(|piece| piece.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.rest {
            Rest::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Rest::Stream { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Rest::Stream { .. } => SizeHint::default(),
        }
    }
}
