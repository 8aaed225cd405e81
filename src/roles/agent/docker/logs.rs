//! A container's log as plain bytes: Docker's frames taken off, both streams.

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

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
        let log = log.map_err(Trouble::from);
        let mut rest = match query.lines {
            true => marked(log).boxed(),
            false => log.map_ok(LogOutput::into_bytes).boxed(),
        };
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

/// The same as lines. A last one that has no end is told as well.
fn marked<E>(
    log: impl Stream<Item = Result<LogOutput, E>>,
) -> impl Stream<Item = Result<Bytes, E>> {
    let mut marker = Marker::default();
    let end = stream::once(std::future::ready(None));
    log.map(Some).chain(end).map(move |piece| match piece {
        Some(piece) => piece.map(|piece| marker.lines_of(piece)),
        None => Ok(marker.end()),
    })
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
        let (at, text) = match message.iter().position(|byte| *byte == b' ') {
            Some(space) => (&message[..space], &message[space + 1..]),
            None => (&[][..], &message[..]), // no time: not as we asked, but not lost
        };
        if part.text.is_empty() {
            part.at = String::from_utf8_lossy(at).into_owned();
        }
        let mut told = Vec::new();
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            part.text.extend_from_slice(piece);
            if part.text.ends_with(b"\n") || part.text.len() > LONGEST_LINE {
                part.tell(stream, &mut told);
            }
        }
        told.into()
    }

    /// What is left when there will be no more.
    fn end(&mut self) -> Bytes {
        let mut told = Vec::new();
        for (part, stream) in [(&mut self.stdout, "stdout"), (&mut self.stderr, "stderr")] {
            if !part.text.is_empty() {
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
        // A piece without a time, an empty line, and one that never ends.
        assert!(told(out("whole\n")).contains("\"at\":\"\",\"line\":\"whole\""));
        assert!(told(out("2026-11-22T10:00:04Z \n")).contains("\"line\":\"\""));
        let endless = format!("2026-11-22T10:00:05Z {}", "x".repeat(LONGEST_LINE + 1));
        assert!(told(out(&endless)).ends_with("\"}\n"));
    }

    #[tokio::test]
    async fn a_last_line_without_an_end_is_told() {
        let piece = |text: &'static str| {
            Ok::<_, String>(LogOutput::StdErr { message: Bytes::from_static(text.as_bytes()) })
        };
        let log = stream::iter([
            piece("2026-11-22T10:00:00Z all\n"),
            piece("2026-11-22T10:00:01Z panic"),
        ]);
        let told: Vec<Bytes> = marked(log).try_collect().await.unwrap();
        let told = String::from_utf8(told.concat()).unwrap();
        assert!(told.contains("\"all\"") && told.contains("\"panic\""), "{told}");
        assert!(told.ends_with("\"}\n") && told.contains("10:00:01Z"), "{told}");
        let none: Vec<Bytes> = marked(stream::iter([piece("")])).try_collect().await.unwrap();
        assert!(none.concat().is_empty());
    }
}
