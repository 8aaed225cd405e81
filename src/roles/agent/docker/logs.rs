//! A container's log as plain bytes: Docker's frames taken off, both streams.

use std::pin::Pin;

use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::trouble::{Trouble, within};
use super::{DockerRuntime, LOOK};
use crate::model::ApiError;
use crate::roles::agent::runtime::LogQuery;

/// A log that has begun to flow.
pub struct LogStream {
    first: Option<Bytes>,
    rest: Pin<Box<dyn Stream<Item = Result<Bytes, Trouble>> + Send>>,
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogStream")
    }
}

impl LogStream {
    /// The next bytes, or why there are no more although the log goes on.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let piece = self.rest.next().await?;
        Some(piece.map_err(|trouble| trouble.to_string()))
    }
}

impl DockerRuntime {
    /// Opens a container's log. What ends at once with an error is an error.
    pub(crate) async fn logs(
        &self,
        container_id: &str,
        query: LogQuery,
    ) -> Result<LogStream, ApiError> {
        let client = self.daemon.client().await.map_err(|trouble| refusal(&trouble))?;
        let tail = query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::new()
            .follow(query.follow)
            .stdout(query.stdout)
            .stderr(query.stderr)
            .tail(&tail)
            .build();
        let log = client.logs(container_id, Some(options));
        let mut rest =
            log.map(|piece| piece.map(|it| it.into_bytes()).map_err(Trouble::from)).boxed();
        if query.follow {
            return Ok(LogStream { first: None, rest });
        }
        let first = match within(LOOK, async { rest.next().await.transpose() }).await {
            Ok(first) => first,
            Err(trouble) => return Err(refusal(&trouble)),
        };
        Ok(LogStream { first, rest })
    }
}

fn refusal(trouble: &Trouble) -> ApiError {
    match trouble {
        Trouble::Refused { status: 404, .. } => {
            ApiError::not_found("Its container is gone, and its log with it.")
        }
        Trouble::Refused { message, .. } => {
            ApiError::unprocessable("NoLog", format!("Docker has no log of it: {message}."))
        }
        other => ApiError::unavailable("DockerUnavailable", format!("{other}."), 2),
    }
}
