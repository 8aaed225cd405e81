//! Finding the daemon, agreeing on an API version, and telling daemons apart.

use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, ClientVersion, Docker};

use super::trouble::{Trouble, with_causes, within};
use super::{Daemon, lock};
use crate::model::DaemonId;

/// Longer than any call takes; each has its own limit.
const NO_LIMIT_SECONDS: u64 = 24 * 3600;
/// Agreeing on a version.
const GREETING: Duration = Duration::from_secs(5);

/// Where a Docker daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in the file system.
    Unix(String),
    /// `tcp://host:port`, without TLS.
    Tcp(String),
}

impl Default for Endpoint {
    fn default() -> Self {
        Endpoint::Unix("/var/run/docker.sock".to_owned())
    }
}

impl Endpoint {
    /// From `DOCKER_HOST`, else the default socket.
    ///
    /// # Errors
    /// When `DOCKER_HOST` is set to something that cannot be used.
    pub fn from_env() -> anyhow::Result<Self> {
        match std::env::var("DOCKER_HOST") {
            Ok(text) if !text.is_empty() => Self::parse(&text),
            _ => Ok(Self::default()),
        }
    }

    /// From `unix:///path` or `tcp://host:port`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Endpoint::Unix(path.to_owned()));
        }
        if text.starts_with("tcp://") || text.starts_with("http://") {
            return Ok(Endpoint::Tcp(text.to_owned()));
        }
        anyhow::bail!("DOCKER_HOST is {text:?}; use unix:///path/to/docker.sock or tcp://host:port")
    }

    fn connect(&self, version: &ClientVersion) -> Result<Docker, Trouble> {
        let connected = match self {
            Endpoint::Unix(path) => Docker::connect_with_unix(path, NO_LIMIT_SECONDS, version),
            Endpoint::Tcp(url) => Docker::connect_with_http(url, NO_LIMIT_SECONDS, version),
        };
        connected.map_err(|error| self.away(with_causes(&error)))
    }

    fn away(&self, cause: String) -> Trouble {
        Trouble::Away { endpoint: self.to_string(), cause: advice(&cause).unwrap_or(cause) }
    }
}

/// What is in the way, and what to do about it, where that is known.
fn advice(cause: &str) -> Option<String> {
    let known = [
        (
            "Permission denied",
            "permission denied; `sudo usermod -aG docker $USER` and log in again, or run as root",
        ),
        (
            "No such file",
            "there is no such socket; install and start Docker, or say where it is: DOCKER_HOST",
        ),
        ("Connection refused", "nobody listens there; start Docker, or set DOCKER_HOST"),
    ];
    known.iter().find(|(word, _)| cause.contains(word)).map(|(_, text)| (*text).to_owned())
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => f.write_str(path),
            Endpoint::Tcp(url) => f.write_str(url),
        }
    }
}

impl Daemon {
    /// A client that speaks a version the daemon understands.
    pub(super) async fn client(&self) -> Result<Docker, Trouble> {
        if let Some(client) = lock(&self.client).clone() {
            return Ok(client);
        }
        let client = self.greet().await?;
        *lock(&self.client) = Some(client.clone());
        Ok(client)
    }

    /// Agrees on a version anew: the daemon may be another one by now.
    pub(super) async fn greet(&self) -> Result<Docker, Trouble> {
        let newest = self.endpoint.connect(API_DEFAULT_VERSION)?;
        let said = match within(GREETING, newest.version()).await {
            Ok(version) => version.api_version.unwrap_or_default(),
            // An older daemon refuses, and names the version to use.
            Err(Trouble::Refused { message, .. }) => message,
            Err(Trouble::Broken(cause)) => return Err(self.endpoint.away(cause)),
            Err(other) => return Err(other),
        };
        match version_in(&said) {
            Some(version) if version < *API_DEFAULT_VERSION => self.endpoint.connect(&version),
            Some(_) => Ok(newest),
            None => Err(Trouble::Broken(format!("no API version in {said:?}"))),
        }
    }

    /// Which daemon this is, and its clock.
    pub(super) async fn identify(&self, client: &Docker) -> Result<(DaemonId, f64), Trouble> {
        let info = within(GREETING, client.info()).await?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let parts = [
            info.id.unwrap_or_default(),
            info.docker_root_dir.unwrap_or_default(),
            boot.unwrap_or_default().trim().to_owned(),
        ];
        let clock = info.system_time.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let unix_seconds = clock.map_or(0.0, |at| at.as_millisecond() as f64 / 1_000.0);
        Ok((daemon_id(&parts), unix_seconds))
    }

    /// The next call agrees on a version again.
    pub(super) fn forget_client(&self) {
        *lock(&self.client) = None;
    }
}

/// The last `N.M` in a sentence: `… Maximum supported API version is 1.41`.
fn version_in(said: &str) -> Option<ClientVersion> {
    let number = said.split_whitespace().last()?.trim_end_matches('.');
    let (major, minor) = number.split_once('.')?;
    Some(ClientVersion { major_version: major.parse().ok()?, minor_version: minor.parse().ok()? })
}

/// The same on every agent that uses this daemon (FNV-1a, so also across
/// releases), and different for daemons that share an id, as copies of a machine
/// do.
fn daemon_id(parts: &[String]) -> DaemonId {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
    format!("{hash:016x}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_answers_and_refusals() {
        let version = |major_version, minor_version| ClientVersion { major_version, minor_version };
        assert_eq!(version_in("1.41"), Some(version(1, 41)));
        let refusal = "client version 1.53 is too new. Maximum supported API version is 1.41";
        assert_eq!(version_in(refusal), Some(version(1, 41)));
        for bad in ["", "no", "1", "1.x", "a.b"] {
            assert_eq!(version_in(bad), None, "{bad}");
        }
    }

    #[test]
    fn endpoints() {
        let unix = Endpoint::parse("unix:///run/d.sock").unwrap();
        assert_eq!(unix, Endpoint::Unix("/run/d.sock".into()));
        assert!(matches!(Endpoint::parse("tcp://127.0.0.1:2375").unwrap(), Endpoint::Tcp(_)));
        assert!(Endpoint::parse("ssh://host").is_err());
    }

    #[test]
    fn daemons_differ_in_any_part() {
        let id = |a: &str, b: &str| daemon_id(&[a.to_owned(), b.to_owned()]);
        assert_eq!(id("a", "b"), id("a", "b"));
        assert_ne!(id("a", "b"), id("ab", ""));
        assert_ne!(id("a", "b"), id("a", "c"));
    }
}
