//! Wall times: for display, and for what has to outlive a process. Inside they are
//! Unix milliseconds, outside RFC 3339.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

/// Wall time for display, e.g. `2026-11-22T13:35:23.120Z`.
pub fn rfc3339(unix_ms: u64) -> String {
    i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "?".to_owned(), |t| format!("{t:.3}"))
}

/// The Unix milliseconds of an RFC 3339 time; `None`: it is none, or before 1970, as
/// Docker's times are of what has not happened yet.
pub fn unix_ms(text: &str) -> Option<u64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().filter(|ms| *ms > 0)
}
