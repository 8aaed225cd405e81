//! What Docker says when something goes wrong, sorted by what follows from it.

use std::time::Duration;

use bollard::errors::Error;

use crate::model::Reason;
use crate::roles::agent::message::{BoundPort, PullError};

/// Why a call to Docker did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It answered that it will not, with a status.
    #[error("{message}")]
    Refused { status: u16, message: String },
    /// It cannot be reached: nothing was asked of it.
    #[error("Docker cannot be reached at {endpoint}: {cause}")]
    Away { endpoint: String, cause: String },
    /// It did not answer in time: it may or may not have done it.
    #[error("Docker did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection broke: it may or may not have done it.
    #[error("the connection to Docker broke: {0}")]
    Broken(String),
}

impl Trouble {
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Trouble::Refused { status: 404, .. })
    }

    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Trouble::Refused { status: 409, .. })
    }

    /// What Docker said, if it said no. Otherwise what was asked may or may not
    /// have been done.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            Trouble::Refused { message, .. } => Some(message),
            Trouble::Away { .. } | Trouble::TimedOut(_) | Trouble::Broken(_) => None,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Trouble::Refused { status: status_code, message: one_line(&message) }
            }
            Error::DockerStreamError { error } => {
                Trouble::Refused { status: 500, message: one_line(&error) }
            }
            other => Trouble::Broken(with_causes(&other)),
        }
    }
}

/// The outcome of a call, if it comes in time.
pub(super) async fn within<T, E: Into<Trouble>>(
    limit: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(limit, call).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(Trouble::TimedOut(limit)),
    }
}

/// An error and what caused it, each part once.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    one_line(&text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a machine says that has no room for one more: on its disk, in its memory,
/// among its addresses, ports, processes or files.
fn lacks_room(lower: &str) -> bool {
    [
        "no space left on device",
        "disk quota exceeded",
        "cannot allocate memory",
        "out of memory",
        "no available ipv4 addresses",
        "no available ipv6 addresses",
        "non-overlapping ipv4 address pool",
        "predefined address pools have been fully subnetted",
        "all ports are allocated",
        "resource temporarily unavailable",
        "too many open files",
    ]
    .iter()
    .any(|phrase| lower.contains(phrase))
}

/// Why a container could not be created: the word and the sentence.
pub(super) fn create_reason(said: &str) -> (Reason, String) {
    match lacks_room(&said.to_ascii_lowercase()) {
        true => (Reason::NoRoom, format!("the node has no room for it (Docker: {said})")),
        false => (Reason::CreateFailed, format!("Docker could not create it: {said}")),
    }
}

/// Why a container could not be started: the word and the sentence.
///
/// A daemon that was killed in the middle of a start does not know the process
/// that it had made, and refuses to start the container again. That is no fault of
/// what was to be started.
pub(super) fn start_reason(said: &str, ports: &[BoundPort]) -> (Reason, String) {
    let lower = said.to_ascii_lowercase();
    if ["port is already allocated", "address already in use"].iter().any(|p| lower.contains(p)) {
        let taken = ports.iter().find(|port| {
            port.host_port != 0 && lower.contains(&format!(":{} ", port.host_port))
                || lower.contains(&format!(":{}:", port.host_port))
        });
        let text = match taken {
            Some(port) => format!(
                "host port {} on {} is taken by something else (Docker: {said})",
                port.host_port, port.host_ip
            ),
            None => format!("a host port it needs is taken by something else (Docker: {said})"),
        };
        return (Reason::PortTaken, text);
    }
    if lower.contains("id already in use")
        || (lower.contains("task ") && lower.contains("already exists"))
    {
        let text = format!(
            "Docker was interrupted while it started this and has lost sight of its process, which \
             may still run; `ctr --namespace moby tasks list` on the node shows it (Docker: {said})"
        );
        return (Reason::DockerUnavailable, text);
    }
    if lower.contains("cannot assign requested address") {
        let text = format!("the node's address is none of this machine (Docker: {said})");
        return (Reason::StartFailed, text);
    }
    if lacks_room(&lower) {
        return (Reason::NoRoom, format!("the node has no room for it (Docker: {said})"));
    }
    (Reason::StartFailed, format!("Docker could not start it: {said}"))
}

/// Whether a pull that failed like this would fail again.
pub(super) fn pull_error(image: &str, trouble: &Trouble) -> PullError {
    let said = trouble.to_string();
    let lower = said.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| lower.contains(phrase));
    if trouble.refusal().is_none() {
        return PullError::Transient(said);
    }
    if says(&["denied", "unauthorized", "authentication required", "no basic auth credentials"]) {
        let message = format!("the registry refuses access to {image} ({said})");
        return PullError::Final { reason: Reason::ImageDenied, message };
    }
    if lacks_room(&lower) {
        let message = format!("the node has no room for {image} ({said})");
        return PullError::Final { reason: Reason::NoRoom, message };
    }
    let missing = ["manifest unknown", "not found", "no such image", "no matching manifest"];
    // A registry that cannot be resolved or is told "not found" by a proxy may
    // come back; an image that its own registry does not know will not.
    let passing = ["no such host", "connection refused", "i/o timeout", "tls handshake"];
    if says(&missing) && !says(&passing) {
        let message = format!("there is no image {image} ({said})");
        return PullError::Final { reason: Reason::ImageNotFound, message };
    }
    if says(&["invalid reference format", "invalid tag format"]) {
        let message = format!("{image} is no image reference ({said})");
        return PullError::Final { reason: Reason::ImageNotFound, message };
    }
    PullError::Transient(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn refused(message: &str) -> Trouble {
        Trouble::Refused { status: 500, message: message.to_owned() }
    }

    #[test]
    fn a_taken_port_is_named() {
        let port = BoundPort {
            container_port: 80,
            protocol: Protocol::Tcp,
            host_ip: "127.0.0.1".parse().unwrap(),
            host_port: 8088,
        };
        for said in [
            "driver failed programming external connectivity on endpoint web (0a1): Bind for 127.0.0.1:8088 failed: port is already allocated",
            "driver failed programming external connectivity on endpoint web (0a1): Error starting userland proxy: listen tcp4 127.0.0.1:8088: bind: address already in use",
        ] {
            let (reason, text) = start_reason(said, std::slice::from_ref(&port));
            assert_eq!(reason, Reason::PortTaken);
            assert!(text.starts_with("host port 8088 on 127.0.0.1 is taken"), "{text}");
            assert_eq!(start_reason(said, &[]).0, Reason::PortTaken);
        }
        assert_eq!(start_reason("exec: \"nope\": not found", &[port]).0, Reason::StartFailed);
    }

    #[test]
    fn a_full_machine_is_no_fault_of_what_was_to_run() {
        for said in [
            "error creating overlay mount to /var/lib/docker/overlay2/0a/merged: no space left on device",
            "failed to create endpoint web on network bridge: no available IPv4 addresses on this network's address pools: bridge (0a1)",
            "OCI runtime create failed: fork/exec /proc/self/exe: cannot allocate memory: unknown",
            "failed to start shim: fork/exec: resource temporarily unavailable: unknown",
        ] {
            assert_eq!(create_reason(said).0, Reason::NoRoom, "{said}");
            let (reason, text) = start_reason(said, &[]);
            assert_eq!(reason, Reason::NoRoom, "{said}");
            assert!(text.contains(said), "{text}");
        }
        assert_eq!(create_reason("invalid hostname").0, Reason::CreateFailed);
        let said = "failed to register layer: write /hello: no space left on device";
        assert!(
            matches!(
                pull_error("x:1", &refused(said)),
                PullError::Final { reason: Reason::NoRoom, .. }
            ),
            "it would not fit the next time either; another node may have room"
        );
    }

    #[test]
    fn what_docker_has_lost_sight_of_is_dockers_trouble() {
        for said in ["id already in use", "task 0f3a: already exists"] {
            let (reason, text) = start_reason(said, &[]);
            assert_eq!(reason, Reason::DockerUnavailable, "{said}");
            assert!(text.contains("may still run") && text.contains(said), "{text}");
        }
        let said = "OCI runtime create failed: mkdir /x: file already exists";
        assert_eq!(start_reason(said, &[]).0, Reason::StartFailed);
    }

    #[test]
    fn what_would_fail_again_is_told_from_what_may_pass() {
        let final_reason = |said: &str| match pull_error("x:1", &refused(said)) {
            PullError::Final { reason, .. } => Some(reason),
            _ => None,
        };
        for (said, reason) in [
            (
                "manifest for x:1 not found: manifest unknown: manifest unknown",
                Some(Reason::ImageNotFound),
            ),
            (
                "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                Some(Reason::ImageDenied),
            ),
            (
                "Get https://r/v2/x/manifests/1: unauthorized: authentication required",
                Some(Reason::ImageDenied),
            ),
            ("Get https://r/v2/: no basic auth credentials", Some(Reason::ImageDenied)),
            (
                "invalid reference format: repository name must be lowercase",
                Some(Reason::ImageNotFound),
            ),
            ("Get https://r/v2/: dial tcp: lookup r on 10.0.0.1:53: no such host", None),
            ("Get https://r/v2/: dial tcp 10.0.0.2:443: connect: connection refused", None),
            ("toomanyrequests: You have reached your pull rate limit", None),
            ("received unexpected HTTP status: 503 Service Unavailable", None),
            ("unexpected EOF", None),
        ] {
            assert_eq!(final_reason(said), reason, "{said}");
        }
        let broken = Trouble::Broken("not found".into());
        assert!(matches!(pull_error("x:1", &broken), PullError::Transient(_)));
    }
}
