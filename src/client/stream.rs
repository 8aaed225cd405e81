//! Answers without an end: logs and events.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::ClientError;

/// A longer line is handed out in pieces of this size, so that a peer that
/// never sends a newline cannot fill our memory.
const LONGEST_LINE: usize = 1 << 20;

/// The body of an answer, as it arrives. Dropping it closes the connection,
/// which tells the other side that nobody listens any more.
#[derive(Debug)]
pub struct ByteStream {
    url: String,
    body: Incoming,
}

impl ByteStream {
    pub(super) fn new(url: String, body: Incoming) -> Self {
        Self { url, body }
    }

    /// The next piece, `None` at the proper end; an error when the connection
    /// broke before it. Cancel safe.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| ClientError::from_transport(&self.url, &e, false))?;
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The same, line by line.
    pub fn lines(self) -> Lines {
        Lines { stream: self, buffer: BytesMut::new(), searched: 0, ended: false }
    }
}

/// The lines of a [`ByteStream`], without their line ends.
#[derive(Debug)]
pub struct Lines {
    stream: ByteStream,
    buffer: BytesMut,
    /// So much of the buffer is known to hold no newline.
    searched: usize,
    ended: bool,
}

impl Lines {
    /// The next line, `None` at the end. A last line without a newline counts.
    /// Cancel safe.
    pub async fn next_line(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.ended {
                self.searched = 0;
                let rest = self.buffer.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            match self.stream.next_chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let newline = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let (line, skip) = match newline {
            Some(offset) => (self.searched + offset, 1),
            None if self.buffer.len() >= LONGEST_LINE => (self.buffer.len(), 0),
            None => {
                self.searched = self.buffer.len();
                return None;
            }
        };
        self.searched = 0;
        let mut line = self.buffer.split_to(line).freeze();
        self.buffer.advance(skip);
        if line.ends_with(b"\r") {
            line.truncate(line.len() - 1);
        }
        Some(line)
    }
}
