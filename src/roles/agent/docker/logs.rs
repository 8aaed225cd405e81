//! A container's log as plain bytes: Docker's frames taken off, both streams.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::trouble::{Trouble, within};
use super::{DockerRuntime, LOOK};
use crate::model::ApiError;
use crate::roles::agent::runtime::{LogLine, LogQuery, LogSource};

impl DockerRuntime {
    /// Opens a container's log. What ends at once with an error is an error.
    pub(crate) async fn logs(
        &self,
        container_id: &str,
        query: LogQuery,
    ) -> Result<LogSource, ApiError> {
        let client = self.daemon.client().await.map_err(|trouble| refusal(&trouble))?;
        let tail = query.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::new()
            .follow(query.follow)
            .stdout(query.stdout)
            .stderr(query.stderr)
            .timestamps(query.lines)
            .tail(&tail)
            .build();
        let log = client.logs(container_id, Some(options));
        let mut marker = query.lines.then(Marker::default);
        let mut rest = log
            .map(move |piece| match (piece, &mut marker) {
                (Ok(piece), Some(marker)) => Ok(marker.lines_of(piece)),
                (Ok(piece), None) => Ok(piece.into_bytes()),
                (Err(error), _) => Err(Trouble::from(error)),
            })
            .boxed();
        let told = |piece: Result<Bytes, Trouble>| piece.map_err(|trouble| trouble.to_string());
        if query.follow {
            return Ok(LogSource::new(rest.map(told)));
        }
        let first = match within(LOOK, async { rest.next().await.transpose() }).await {
            Ok(first) => first,
            Err(trouble) => return Err(refusal(&trouble)),
        };
        let first = stream::iter(first.map(Ok));
        Ok(LogSource::new(first.chain(rest).map(told)))
    }
}

/// A longer line is told in pieces.
const LONGEST_LINE: usize = 64 * 1024;

/// Makes lines of what Docker sends: pieces of either stream, each with the time
/// in front, a long line in several of them.
#[derive(Default)]
struct Marker {
    stdout: Part,
    stderr: Part,
}

/// A line that has not ended yet.
#[derive(Default)]
struct Part {
    at: String,
    text: Vec<u8>,
}

impl Marker {
    fn lines_of(&mut self, piece: LogOutput) -> Bytes {
        let stream = if matches!(piece, LogOutput::StdErr { .. }) { "stderr" } else { "stdout" };
        let part = if stream == "stderr" { &mut self.stderr } else { &mut self.stdout };
        let message = piece.into_bytes();
        let space = message.iter().position(|byte| *byte == b' ').unwrap_or(0);
        let (at, text) = message.split_at(space);
        if part.text.is_empty() {
            part.at = String::from_utf8_lossy(at).into_owned();
        }
        let mut told = Vec::new();
        for piece in text.get(1..).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            part.text.extend_from_slice(piece);
            if part.text.ends_with(b"\n") || part.text.len() > LONGEST_LINE {
                part.tell(stream, &mut told);
            }
        }
        told.into()
    }
}

impl Part {
    fn tell(&mut self, stream: &str, told: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(&self.text);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        LogLine { stream, at: &self.at, line }.write(told);
        self.text.clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_their_stream_and_time() {
        let mut marker = Marker::default();
        let out =
            |text: &str| LogOutput::StdOut { message: Bytes::copy_from_slice(text.as_bytes()) };
        let err =
            |text: &str| LogOutput::StdErr { message: Bytes::copy_from_slice(text.as_bytes()) };
        let mut told = |piece| String::from_utf8(marker.lines_of(piece).to_vec()).unwrap();
        assert_eq!(
            told(out("2026-11-22T10:00:00.5Z a \"b\"\r\n")),
            "{\"stream\":\"stdout\",\"at\":\"2026-11-22T10:00:00.5Z\",\"line\":\"a \\\"b\\\"\"}\n"
        );
        // A long line comes in pieces, and the other stream in between.
        assert_eq!(told(out("2026-11-22T10:00:01Z begin, ")), "");
        assert!(told(err("2026-11-22T10:00:02Z oops\n")).contains("\"stderr\""));
        let end = told(out("2026-11-22T10:00:03Z end\n"));
        assert!(end.contains("\"begin, end\"") && end.contains("10:00:01Z"), "{end}");
        // An empty line, and one that never ends.
        assert!(told(out("2026-11-22T10:00:04Z \n")).contains("\"line\":\"\""));
        let endless = format!("2026-11-22T10:00:05Z {}", "x".repeat(LONGEST_LINE + 1));
        assert!(told(out(&endless)).ends_with("\"}\n"));
    }
}
