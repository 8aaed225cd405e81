//! How a command ends when it does not simply succeed.

use std::io;
use std::process::ExitCode;

use crate::client::ClientError;
use crate::model::ApiError;

/// Why a command stops here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It failed; what happened, and what to do next.
    Failed(String),
    /// It was asked for in a way that makes no sense.
    Usage(String),
    /// What was waited for has not happened in time.
    TimedOut(String),
    /// The user pressed Ctrl-C; what goes on nevertheless.
    Interrupted(String),
    /// Nobody reads our output any more (`… | head`): nothing to complain about.
    NobodyReads,
}

impl Stop {
    /// What to say on standard error, if anything.
    pub fn message(&self) -> Option<String> {
        match self {
            Stop::Failed(text) | Stop::Usage(text) | Stop::TimedOut(text) => {
                Some(format!("error: {text}"))
            }
            Stop::Interrupted(text) => Some(text.clone()),
            Stop::NobodyReads => None,
        }
    }

    /// The exit code, as documented in the help text.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Stop::Failed(_) => 1,
            Stop::Usage(_) => 2,
            Stop::TimedOut(_) => 3,
            Stop::Interrupted(_) => 130,
            Stop::NobodyReads => 0,
        })
    }

    /// From an attempt to write output.
    pub fn from_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::NobodyReads,
            _ => Stop::Failed(format!("cannot write the output: {error}")),
        }
    }

    /// From a call to the scheduler at `base`.
    pub fn from_call(base: &str, error: &ClientError) -> Self {
        match error {
            ClientError::BadUrl { .. } => Stop::Usage(error.to_string()),
            _ => Stop::Failed(format!("{}{}", in_words(base, error), request_of(error))),
        }
    }

    /// From a call to the scheduler, when something can be said about what to do next.
    pub fn advised(words: &str, advice: &str, error: &ClientError) -> Self {
        let words = words.trim_end_matches('.');
        Stop::Failed(format!("{words}. {advice}{}", request_of(error)))
    }
}

/// What went wrong with a call, and what to do about it.
pub fn in_words(base: &str, error: &ClientError) -> String {
    match error {
        ClientError::Unreachable { cause, .. } => format!(
            "cannot reach the scheduler at {base} ({cause}). Is it running? Start one with \
             `kube-lite dev`, or point --server / KUBE_LITE_SERVER at it."
        ),
        ClientError::TimedOut { after, .. } => format!(
            "the scheduler at {base} did not answer within {} s. It may be very busy; \
             try again, or look at its own output.",
            after.as_secs_f64()
        ),
        ClientError::Api(answer) => {
            let mut text = answer.error.clone();
            if let Some(field) = &answer.field
                && !text.contains(field.as_str())
            {
                text = format!("{field}: {text}");
            }
            if let Some(seconds) = answer.retry_after_seconds {
                text = format!("{text} (try again in {seconds} s)");
            }
            text
        }
        ClientError::BadReply { .. } | ClientError::BadUrl { .. } => error.to_string(),
    }
}

/// Where more about a failed call is in the scheduler's log: said last.
fn request_of(error: &ClientError) -> String {
    match error {
        ClientError::Api(ApiError { request_id: Some(id), .. }) => format!(" [request {id}]"),
        _ => String::new(),
    }
}

/// The name that was probably meant, if one is close enough.
pub fn closest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One slip of the finger, and one more for every four letters.
    let slips = 1 + given.chars().count() / 4;
    let distance = |name: &str| strsim::damerau_levenshtein(given, name);
    let near = |name: &&str| distance(name) <= slips && distance(name) < name.chars().count();
    let by_distance = |name: &&str| (distance(name), name.to_string());
    names.into_iter().filter(near).min_by_key(by_distance)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_said_about_failed_calls() {
        let url = "http://h:1/nodes".to_owned();
        let mut with_field = ApiError::invalid_field("ports[0].hostPort", "70000 is too large");
        with_field.status = 400;
        let cases: Vec<(ClientError, &str)> = vec![
            (
                ClientError::Unreachable { url: url.clone(), cause: "connection refused".into() },
                "cannot reach the scheduler at http://h:1 (connection refused). Is it running? \
                 Start one with `kube-lite dev`, or point --server / KUBE_LITE_SERVER at it.",
            ),
            (
                ClientError::TimedOut { url: url.clone(), after: Duration::from_secs(10) },
                "the scheduler at http://h:1 did not answer within 10 s. It may be very busy; \
                 try again, or look at its own output.",
            ),
            (ClientError::Api(with_field), "ports[0].hostPort: 70000 is too large"),
            (
                ClientError::Api(ApiError::invalid_field("image", "image must not be empty")),
                "image must not be empty",
            ),
            (
                ClientError::Api(ApiError::unavailable("Busy", "too many requests", 2)),
                "too many requests (try again in 2 s)",
            ),
            (
                ClientError::BadReply { url, what: "closed the connection early".into() },
                "http://h:1/nodes closed the connection early",
            ),
        ];
        for (error, wanted) in cases {
            assert_eq!(in_words("http://h:1", &error), wanted);
        }
    }

    #[test]
    fn the_request_is_named_last() {
        let mut answer = ApiError::not_found("there is no workload \"wbe\".");
        answer.request_id = Some("0123abcd-7".to_owned());
        let error = ClientError::Api(answer);
        let said = |stop: Stop| stop.message().unwrap_or_default();
        assert_eq!(
            said(Stop::from_call("http://h:1", &error)),
            "error: there is no workload \"wbe\". [request 0123abcd-7]"
        );
        let words = in_words("http://h:1", &error);
        assert_eq!(
            said(Stop::advised(&words, "Did you mean web?", &error)),
            "error: there is no workload \"wbe\". Did you mean web? [request 0123abcd-7]"
        );
    }

    #[test]
    fn names_that_were_meant() {
        let names = ["web", "worker", "api"];
        assert_eq!(closest("wbe", names), Some("web"));
        assert_eq!(closest("workers", names), Some("worker"));
        assert_eq!(closest("database", names), None);
        assert_eq!(closest("x", []), None);
    }
}
