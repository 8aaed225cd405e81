//! Who may pass. Every request is judged here, from its head alone, before its
//! body is read or a handler sees it. Host names, tokens and certificates
//! belong here too, once they exist; handlers only ever see a [`Caller`].

use std::net::SocketAddr;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HOST, HeaderValue, ORIGIN, USER_AGENT,
    VARY,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Uri};

use super::route::Access;
use crate::model::ApiError;
use crate::model::error::shown;

/// Who is behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For the history and the logs. Without credentials this is a claim and an
    /// address, e.g. `kube-lite-ctl from 127.0.0.1`.
    pub name: String,
}

impl Caller {
    fn of(parts: &Parts, peer: SocketAddr) -> Self {
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
        Self { name: format!("{product} from {}", peer.ip().to_canonical()) }
    }
}

/// The judge.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    pub(super) origins: Origins,
}

impl Guard {
    /// Lets a request for a route pass, or says why not.
    pub(super) fn admit(
        &self,
        _access: Access,
        parts: &Parts,
        peer: SocketAddr,
    ) -> Result<Caller, ApiError> {
        self.origins.check(parts)?;
        Ok(Caller::of(parts, peer))
    }
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
