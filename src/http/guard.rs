//! Who may pass. Every request is judged here, from its head alone, before its
//! body is read or a handler sees it; handlers only ever see a [`Caller`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, HeaderValue,
    ORIGIN, USER_AGENT, VARY,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri, Version};

use super::route::Access;
use crate::identity::access::{Identity, Refusal, authorise};
use crate::identity::tls::PeerCertificate;
use crate::model::ApiError;
use crate::model::error::shown;

/// Who is behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For the history and the logs. Without credentials this is a claim and an
    /// address, e.g. `kube-lite-ctl from 127.0.0.1`.
    pub name: String,
    /// Who has proved to be.
    pub identity: Identity,
}

/// Tells who a caller is, from what was shown.
pub trait Doorkeeper: std::fmt::Debug + Send + Sync {
    /// Who shows these credentials.
    ///
    /// # Errors
    /// When they are not good.
    fn identify(
        &self,
        certificate: Option<&PeerCertificate>,
        bearer: Option<&str>,
    ) -> Result<Identity, Refusal>;

    /// Whether what was shown would still open a route that is for `access`: asked again
    /// and again while an answer goes on.
    fn still_lets(&self, _: Access, _: Option<&PeerCertificate>, _: Option<&str>) -> bool {
        true
    }

    /// Whether there is a newer certificate, which a new connection would show.
    fn is_outdated(&self, _certificate: &PeerCertificate) -> bool {
        false
    }
}

impl Caller {
    fn of(parts: &Parts, peer: SocketAddr, identity: Identity) -> Self {
        let from = peer.ip().to_canonical();
        let known = match &identity {
            Identity::Person { name, role } if name.is_empty() => {
                Some(format!("somebody ({}) from {from}", role.as_str()))
            }
            Identity::Person { name, role } => {
                Some(format!("{name} ({}) from {from}", role.as_str()))
            }
            _ => None,
        };
        if let Some(name) = known {
            return Self { name, identity };
        }
        let agent = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let product: String = agent
            .unwrap_or_default()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
            .take(40)
            .collect();
        // Only a browser says where a request comes from; its own name tells nobody
        // anything (all are called Mozilla).
        let from_page = parts.headers.get("sec-fetch-site").is_some_and(|s| s == "same-origin");
        let product = match product.as_str() {
            _ if from_page => "dashboard",
            "" => "somebody",
            product => product,
        };
        Self { name: format!("{product} from {from}"), identity }
    }
}

/// The judge.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    pub(super) origins: Origins,
    pub(super) hosts: Hosts,
    /// `None`: everybody may everything.
    pub(super) doorkeeper: Option<Arc<dyn Doorkeeper>>,
}

impl Guard {
    /// Whether a connection with this certificate should give way to a newer one.
    pub(super) fn is_outdated(&self, certificate: Option<&PeerCertificate>) -> bool {
        let both = self.doorkeeper.as_ref().zip(certificate);
        both.is_some_and(|(doorkeeper, certificate)| doorkeeper.is_outdated(certificate))
    }

    /// Completes when these credentials, which were good, are not any more: a token that
    /// is revoked or expires ends what it has opened, too.
    pub(super) fn shut_out(
        &self,
        access: Access,
        certificate: Option<Arc<PeerCertificate>>,
        bearer: Option<HeaderValue>,
        every: Duration,
    ) -> impl Future<Output = ()> + Send + 'static {
        let doorkeeper = self.doorkeeper.clone().filter(|_| access != Access::Public);
        async move {
            let Some(doorkeeper) = doorkeeper else { return std::future::pending().await };
            let bearer = bearer.as_ref().and_then(|value| value.to_str().ok());
            let token = bearer.and_then(|text| text.split_once(' ')).map(|(_, token)| token.trim());
            while doorkeeper.still_lets(access, certificate.as_deref(), token) {
                tokio::time::sleep(every).await;
            }
        }
    }

    fn identify(
        &self,
        access: Access,
        parts: &Parts,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Identity, Refusal> {
        let Some(doorkeeper) = &self.doorkeeper else { return Ok(Identity::Anybody) };
        if access == Access::Public {
            return Ok(Identity::Nobody);
        }
        let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
        let bearer = match (headers.next(), headers.next()) {
            (None, _) => None,
            (Some(value), None) => {
                let text = value.to_str().map_err(|_| Refusal::MalformedToken)?;
                let (scheme, token) = text.split_once(' ').ok_or(Refusal::MalformedToken)?;
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return Err(Refusal::MalformedToken);
                }
                Some(token.trim())
            }
            (Some(_), Some(_)) => return Err(Refusal::MalformedToken),
        };
        let identity = doorkeeper.identify(certificate, bearer)?;
        authorise(access, &identity)?;
        Ok(identity)
    }

    /// Lets a request for a route pass, or says why not.
    pub(super) fn admit(
        &self,
        access: Access,
        parts: &Parts,
        peer: SocketAddr,
        certificate: Option<&PeerCertificate>,
    ) -> Result<Caller, ApiError> {
        self.origins.check(parts)?;
        let identity = self.identify(access, parts, certificate)?;
        Ok(Caller::of(parts, peer, identity))
    }
}

/// The names under which a server is called: an exact list. A page that gives its
/// own name our address (DNS rebinding) is taken for our own page by a browser, but
/// it has to say that name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

/// Names of this very machine, which no other can give itself.
const OF_THIS_MACHINE: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl Hosts {
    /// Takes a list of names or addresses, each with or without a port (`--host`).
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<Self, String> {
        let mut hosts = Vec::new();
        for given in list {
            let given = given.as_ref();
            match host_of(given) {
                Some(host) if !host.contains('*') => hosts.push(host),
                _ => {
                    return Err(format!(
                        "--host {} is no name of a machine; it must be a name or an address, \
                         e.g. scheduler.example.com or 10.0.0.1",
                        shown(given)
                    ));
                }
            }
        }
        Ok(Self(hosts))
    }

    /// The names, lower case and without ports.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Lets a request pass that calls this server by one of its names, or by the
    /// address `local` at which it arrived.
    pub(super) fn check(&self, parts: &Parts, local: Option<IpAddr>) -> Result<(), ApiError> {
        let in_target = parts.uri.authority().map(|authority| authority.as_str());
        let mut headers = parts.headers.get_all(HOST).iter();
        let (header, more) = (headers.next(), headers.next());
        if more.is_some() || (header.is_none() && parts.version >= Version::HTTP_11) {
            return Err(ApiError::bad_request(
                "The request must have exactly one Host header, which says what server is meant.",
            ));
        }
        let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()));
        // `CONNECT` names another server by its nature, and is no method of ours.
        let in_target = in_target.filter(|_| parts.method != Method::CONNECT);
        for given in in_target.into_iter().chain(header.as_deref()) {
            if !host_of(given).is_some_and(|host| self.is_ours(&host, local)) {
                return Err(ApiError::new(
                    403,
                    "ForbiddenHost",
                    format!(
                        "This server is not known as {}. If it should be, start it with --host \
                         and exactly this name; else call it by its address.",
                        shown(given)
                    ),
                ));
            }
        }
        Ok(())
    }

    fn is_ours(&self, host: &str, local: Option<IpAddr>) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_local = || {
            let address = bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
            address.is_some() && address == local.map(|ip| ip.to_canonical())
        };
        OF_THIS_MACHINE.contains(&host) || self.0.iter().any(|known| known == host) || is_local()
    }
}

/// The host of a `host` or `host:port`, lower case; an IPv6 address in brackets.
fn host_of(given: &str) -> Option<String> {
    let bare_v6 = given.parse::<std::net::Ipv6Addr>().is_ok();
    let authority = if bare_v6 { format!("[{given}]") } else { given.to_owned() };
    let authority: hyper::http::uri::Authority = authority.parse().ok()?;
    let host = authority.host().trim_end_matches('.');
    let odd_port = || {
        let rest = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        !rest.is_empty() && authority.port_u16().is_none()
    };
    if host.is_empty() || authority.as_str().contains('@') || odd_port() {
        return None;
    }
    Some(host.to_ascii_lowercase())
}

/// The web pages that may talk to this server besides its own: an exact list of
/// origins, never a pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Takes a list as given on the command line (`--cors-origin`).
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<Self, String> {
        let mut origins = Vec::new();
        for given in list {
            let given = given.as_ref().trim_end_matches('/');
            if given == "*" {
                return Err("--cors-origin * would let every web page control this cluster; \
                            name each origin, e.g. --cors-origin http://localhost:3000"
                    .to_owned());
            }
            let exact = given.parse::<Uri>().ok().filter(|uri| {
                matches!(uri.scheme_str(), Some("http" | "https"))
                    && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                    && uri.path() == "/"
                    && uri.query().is_none()
            });
            let Some(uri) = exact else {
                return Err(format!(
                    "--cors-origin {} is no origin; it must be a scheme and a host, with a port \
                     if it is not the usual one, e.g. http://localhost:3000",
                    shown(given)
                ));
            };
            // As browsers send it: lower case, nothing after the authority.
            let scheme = uri.scheme_str().unwrap_or_default();
            let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
            origins.push(format!("{scheme}://{}", host.to_ascii_lowercase()));
        }
        Ok(Self(origins))
    }

    /// Refuses writes that a browser sends on behalf of a foreign page. Reads
    /// are answered, but without the header that would let the page see them.
    fn check(&self, parts: &Parts) -> Result<(), ApiError> {
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        let Some(origin) = parts.headers.get(ORIGIN) else { return Ok(()) };
        if reads || self.allowed(origin).is_some() || is_same_origin(origin, parts) {
            return Ok(());
        }
        Err(self.refusal(origin))
    }

    fn refusal(&self, origin: &HeaderValue) -> ApiError {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        ApiError::new(
            403,
            "ForbiddenOrigin",
            format!(
                "Web pages from {} may not change this cluster. If they should, start the server \
                 with --cors-origin and exactly this origin.",
                shown(&origin)
            ),
        )
    }

    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let listed = self.0.iter().any(|known| known.as_bytes() == origin.as_bytes());
        listed.then(|| origin.clone())
    }

    /// The headers that let a page on the list see an answer.
    pub(super) fn decorate(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin.and_then(|origin| self.allowed(origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let exposed = HeaderValue::from_static("Retry-After, X-Request-Id");
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }

    /// The answer to a browser that asks first: may pages of this origin use
    /// these methods here?
    pub(super) fn preflight(&self, parts: &Parts, allow: &str) -> Result<HeaderMap, ApiError> {
        let mut headers = HeaderMap::new();
        let Some(origin) = parts.headers.get(ORIGIN) else { return Ok(headers) };
        if self.allowed(origin).is_none() {
            return if is_same_origin(origin, parts) {
                Ok(headers)
            } else {
                Err(self.refusal(origin))
            };
        }
        if let Ok(methods) = HeaderValue::from_str(allow) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let asked = HeaderValue::from_static("Authorization, Content-Type, X-Request-Id");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        Ok(headers)
    }
}

/// Whether a page was loaded from this very server.
fn is_same_origin(origin: &HeaderValue, parts: &Parts) -> bool {
    let Some(host) = parts.headers.get(HOST).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let origin = origin.to_str().unwrap_or_default();
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_an_exact_list() {
        let hosts =
            Hosts::parse(&["Sched.example.com", "box:8080", "fd00::7", "10.1.1.1"]).unwrap();
        let local: IpAddr = "::ffff:10.0.0.5".parse().unwrap();
        let call = |host: &str| {
            let request = hyper::Request::builder().uri("/").header(HOST, host).body(()).unwrap();
            hosts.check(&request.into_parts().0, Some(local)).map_err(|error| error.status)
        };
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "[::1]:80",
            "10.0.0.5:8080",
            "sched.example.com",
            "sched.example.com.:9",
            "box",
            "[fd00::7]:8080",
            "10.1.1.1",
        ] {
            assert_eq!(call(good), Ok(()), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "xlocalhost",
            "10.0.0.6",
            "[::2]",
            "a@localhost",
            "localhost:x",
            "sched.example.com.evil",
            "",
            "box box",
        ] {
            assert_eq!(call(bad), Err(403), "{bad}");
        }
        // What a proxy sends counts as well: the target, and one header only.
        let check = |request: hyper::Request<()>| {
            hosts.check(&request.into_parts().0, None).map_err(|error| error.status)
        };
        let request = || hyper::Request::builder().header(HOST, "box");
        assert_eq!(check(request().uri("http://evil.example/").body(()).unwrap()), Err(403));
        assert_eq!(check(request().uri("http://box/").body(()).unwrap()), Ok(()));
        assert_eq!(check(request().header(HOST, "box").body(()).unwrap()), Err(400));
        assert_eq!(check(hyper::Request::new(())), Err(400));
        for bad in ["", "*", "a b", "u@a", "a:x"] {
            assert!(Hosts::parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_exact_origins_can_be_listed() {
        for good in ["http://localhost:3000", "https://dash.example.com", "http://[::1]:80/"] {
            assert!(Origins::parse(&[good]).is_ok(), "{good}");
        }
        for bad in
            ["*", "null", "", "localhost:3000", "http://", "http://a/b", "http://u@a", "ftp://a"]
        {
            assert!(Origins::parse(&[bad]).is_err(), "{bad}");
        }
        let origins = Origins::parse(&["http://Localhost:3000/"]).unwrap();
        assert!(origins.allowed(&HeaderValue::from_static("http://localhost:3000")).is_some());
        assert!(origins.allowed(&HeaderValue::from_static("http://localhost:30001")).is_none());
        assert!(origins.allowed(&HeaderValue::from_static("null")).is_none());
    }
}
