//! The one error shape that leaves either server.

use serde::{Deserialize, Serialize};

/// An answer other than success: an HTTP status, a machine word and a sentence
/// that says what happened, to what, what was given, what is allowed and what
/// to do next. Sent as `{"error": "...", "reason": "..."}`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{error}")]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// The HTTP status; not repeated in the body.
    #[serde(skip)]
    pub status: u16,
    /// For people.
    pub error: String,
    /// For machines, e.g. `InvalidField`, `NotFound`, `Conflict`.
    #[serde(default)]
    pub reason: String,
    /// The field it is about, as a path such as `ports[0].hostPort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Seconds after which a retry makes sense (`Retry-After`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
    /// Under what the server that gave it has logged the request; `X-Request-Id` says the
    /// same. Known once it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl ApiError {
    /// An error with this status, machine word and sentence.
    pub fn new(status: u16, reason: &str, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            reason: reason.to_owned(),
            field: None,
            retry_after_seconds: None,
            request_id: None,
        }
    }

    /// 400: the request as a whole makes no sense.
    pub fn bad_request(error: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", error)
    }

    /// 400: this field holds something that is not allowed.
    pub fn invalid_field(field: impl Into<String>, error: impl Into<String>) -> Self {
        let mut made = Self::new(400, "InvalidField", error);
        made.field = Some(field.into());
        made
    }

    /// 404: there is no such thing.
    pub fn not_found(error: impl Into<String>) -> Self {
        Self::new(404, "NotFound", error)
    }

    /// 409: it contradicts what is.
    pub fn conflict(error: impl Into<String>) -> Self {
        Self::new(409, "Conflict", error)
    }

    /// 422: understood, but it cannot be done like this.
    pub fn unprocessable(reason: &str, error: impl Into<String>) -> Self {
        Self::new(422, reason, error)
    }

    /// 503: not now; try again after so many seconds.
    pub fn unavailable(reason: &str, error: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut made = Self::new(503, reason, error);
        made.retry_after_seconds = Some(retry_after_seconds);
        made
    }
}

/// A piece of foreign text as it may stand in a sentence: cut to a readable
/// length, and with nothing in it that could forge a log line or colour a
/// terminal.
pub fn tame(text: &str) -> String {
    const LONGEST: usize = 64;
    let mut tamed = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(LONGEST) {
        match character {
            '"' | '\'' | '\\' => tamed.push(character),
            other => tamed.extend(other.escape_debug()),
        }
    }
    if characters.next().is_some() {
        tamed.push('…');
    }
    tamed
}

/// The same in double quotes.
pub fn shown(text: &str) -> String {
    format!("\"{}\"", tame(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_tamed() {
        assert_eq!(shown("it's"), "\"it's\"");
        assert_eq!(tame("a\"b\n\u{1b}[31m"), "a\"b\\n\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(100)), format!("\"{}…\"", "x".repeat(64)));
    }
}
