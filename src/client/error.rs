//! What can go wrong between asking and having the answer.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::model::ApiError;

/// Why a call has no result. Each reads as one sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The other side answered with an error of its own; `status` is set.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Nobody could be spoken to: nothing was done there.
    #[error("cannot reach {url} ({cause})")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// In a few words, e.g. `connection refused`.
        cause: String,
    },
    /// No answer in time: it may or may not have been done.
    #[error("no answer from {url} within {}", seconds(*after))]
    TimedOut {
        /// What was asked for.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// Something answered, or began to, but not with what was expected: it may
    /// or may not have been done.
    #[error("{url} {what}")]
    BadReply {
        /// What was asked for.
        url: String,
        /// Completes a sentence that begins with the URL, e.g. `closed the
        /// connection without an answer`.
        what: String,
    },
    /// The address is none we can talk to.
    #[error("{given:?} is not an address to talk to: {why}")]
    BadUrl {
        /// What was given.
        given: String,
        /// What is wrong with it, and what is expected.
        why: String,
    },
}

impl ClientError {
    /// The HTTP status, if the other side answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Api(error) => Some(error.status),
            _ => None,
        }
    }

    /// Whether asking again later may help: nobody there, no answer, or busy.
    pub fn is_transient(&self) -> bool {
        match self {
            ClientError::Api(error) => matches!(error.status, 429 | 502 | 503 | 504),
            ClientError::BadUrl { .. } => false,
            _ => true,
        }
    }

    /// From what the HTTP layer says about a call that got no answer.
    pub(super) fn from_transport(
        url: &str,
        error: &(dyn Error + 'static),
        nothing_done: bool,
    ) -> Self {
        let cause = in_short(error);
        let url = url.to_owned();
        if nothing_done {
            ClientError::Unreachable { url, cause }
        } else {
            ClientError::BadReply { url, what: format!("closed the connection early ({cause})") }
        }
    }
}

/// What goes wrong with certificates, and what it means here.
const TLS_SIGNS: &[(&str, &str)] = &[
    (
        "alert: UnknownCA",
        "it does not know the authority of our certificate: is it another cluster?",
    ),
    ("alert: BadCertificate", "it does not accept our certificate: is it of another cluster?"),
    ("alert: DecryptError", "it does not accept our certificate: is it of another cluster?"),
    ("invalid peer certificate: UnknownIssuer", "its certificate is of another cluster"),
    ("invalid peer certificate: BadSignature", "its certificate is of another cluster"),
    ("certificate not valid for name", "its certificate is of somebody else"),
    (
        "invalid peer certificate: certificate expired",
        "its certificate has expired; is a clock wrong?",
    ),
    ("certificate not valid yet", "its certificate is not good yet; is a clock wrong?"),
    ("InvalidContentType", "it speaks no TLS; is it http:// there?"),
];

/// The innermost cause in a few words, without numbers that only a programmer
/// would look up.
fn in_short(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if let Some(io) = innermost.downcast_ref::<io::Error>() {
        match io.kind() {
            io::ErrorKind::ConnectionRefused => return "connection refused".to_owned(),
            io::ErrorKind::ConnectionReset => return "connection reset".to_owned(),
            io::ErrorKind::TimedOut => return "no answer to the connection attempt".to_owned(),
            _ => {}
        }
    }
    let text = innermost.to_string();
    for (sign, words) in TLS_SIGNS {
        if text.contains(sign) {
            return (*words).to_owned();
        }
    }
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// `1.5 s`, `10 s`: as people write it.
fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f64() * 10.0).round() / 10.0)
}
