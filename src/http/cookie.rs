//! A browser's session: the cookie that carries it, and the page that it is good for.

use hyper::Method;
use hyper::header::{COOKIE, HOST, HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;

use crate::identity::access::Refusal;

/// What a browser says about who asks.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the cookie of this name says; `None`: there is no such.
///
/// # Errors
/// When it is there twice, or is no text: then somebody plays tricks.
pub(super) fn read<'a>(parts: &'a Parts, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut found = None;
    for header in parts.headers.get_all(COOKIE) {
        // Other cookies may hold what they like.
        for pair in header.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let Some(value) =
                pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
            else {
                continue;
            };
            let value = std::str::from_utf8(value).map_err(|_| Refusal::UnknownSession)?;
            if found.replace(value).is_some() {
                return Err(Refusal::UnknownSession);
            }
        }
    }
    Ok(found)
}

/// A browser sends a cookie along whoever makes it ask. This lets pass what our own
/// page asks, of this very origin; a page of another port, or of plain HTTP, is
/// another one, and no list changes that.
///
/// # Errors
/// When it is asked by another page, or changes something and does not say by which.
pub(super) fn check_page(parts: &Parts) -> Result<(), Refusal> {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    let own = match (origins.next(), origins.next()) {
        (None, _) => reads,
        (Some(origin), None) => is_own(origin, parts),
        (Some(_), Some(_)) => false,
    };
    let mut sites = parts.headers.get_all(FETCH_SITE).iter();
    // `none`: somebody has typed the address.
    let from_here = sites.all(|site| site == "same-origin" || (reads && site == "none"));
    match own && from_here {
        true => Ok(()),
        false => Err(Refusal::ForeignPage),
    }
}

fn is_own(origin: &HeaderValue, parts: &Parts) -> bool {
    let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
    origin.zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
}

/// Gives a browser a session. Over TLS only, out of reach of scripts, only with what
/// our own page asks, and of this host alone: the name must begin with `__Host-`.
pub fn giving(name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
    let rules = "Path=/; Secure; HttpOnly; SameSite=Strict";
    HeaderValue::from_str(&format!("{name}={value}; Max-Age={seconds}; {rules}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "__Host-x";

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = hyper::Request::builder().method(method).uri("/deploy");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        for (cookies, wanted) in [
            (vec![], Ok(None)),
            (vec!["a=b"], Ok(None)),
            (vec!["__Host-x=v"], Ok(Some("v"))),
            (vec!["a=b; __Host-x=v;c"], Ok(Some("v"))),
            (vec!["a=b", "__Host-x=v"], Ok(Some("v"))),
            (vec!["__Host-xy=v; x__Host-x=v; __host-x=v; __Host-x"], Ok(None)),
            (vec!["__Host-x="], Ok(Some(""))),
            (vec!["__Host-x=a; __Host-x=b"], Err(Refusal::UnknownSession)),
            (vec!["__Host-x=a", "__Host-x=a"], Err(Refusal::UnknownSession)),
        ] {
            let headers: Vec<_> = cookies.iter().map(|value| ("cookie", *value)).collect();
            assert_eq!(read(&parts("GET", &headers), NAME), wanted, "{cookies:?}");
        }
    }

    #[test]
    fn only_our_own_page_may_use_it() {
        let (host, own) = (("host", "Box:8080"), ("origin", "https://box:8080"));
        let site = |site| ("sec-fetch-site", site);
        for (method, headers, wanted) in [
            ("GET", vec![host], true),
            ("HEAD", vec![host, site("same-origin")], true),
            ("GET", vec![host, site("none")], true),
            ("GET", vec![host, site("cross-site")], false),
            ("GET", vec![host, site("same-site")], false),
            ("GET", vec![host, ("origin", "https://evil.example")], false),
            ("POST", vec![host], false),
            ("POST", vec![host, own], true),
            ("POST", vec![host, own, site("same-origin")], true),
            ("DELETE", vec![host, own, site("none")], false),
            ("POST", vec![host, own, site("cross-site")], false),
            ("POST", vec![host, own, ("origin", "https://evil.example")], false),
            ("POST", vec![host, ("origin", "http://box:8080")], false),
            ("POST", vec![host, ("origin", "https://box:5173")], false),
            ("POST", vec![host, ("origin", "https://box:8080.evil.example")], false),
            ("POST", vec![host, ("origin", "null")], false),
            ("POST", vec![own], false),
        ] {
            let passed = check_page(&parts(method, &headers));
            assert_eq!(passed.is_ok(), wanted, "{method} {headers:?}");
        }
    }

    #[test]
    fn what_a_browser_is_told() {
        let header = giving(NAME, "v", 60).unwrap();
        let text = "__Host-x=v; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Strict";
        assert_eq!(header, text);
        assert_eq!(giving(NAME, "a\nb", 60), None);
    }
}
