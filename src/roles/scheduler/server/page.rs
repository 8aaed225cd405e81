//! The dashboard's files, built by `make ui` and compiled in, compressed.
//!
//! The page may load nothing but what comes from here, talk to nobody but this
//! server, and turn no text into markup: its policy says so to the browser.

use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, VARY,
};

use crate::http::Reply;
use crate::model::ApiError;
use crate::model::error::shown;

/// A file as it was built.
struct Asset {
    /// `index.html`, or a name that holds a hash of its contents.
    name: &'static str,
    content_type: &'static str,
    /// A hash of its contents, in quotes.
    etag: &'static str,
    gzip: &'static [u8],
}

// ASSETS: &[Asset], empty when the page was not built.
include!(concat!(env!("OUT_DIR"), "/assets.rs"));

const INDEX: &str = "index.html";
const HTML: &str = "text/html; charset=utf-8";

/// Only what comes from here, and no text is ever taken for markup or script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const NOT_BUILT: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>kube-lite</title>\
    <h1>kube-lite runs</h1>\
    <p>This binary was built without the dashboard. In its sources, run <code>make build</code> \
    (or <code>make ui</code> and then <code>cargo build</code>) and start it again.</p>\
    <p>Everything else works: try <code>kube-lite ctl workloads</code>, or <code>curl</code> this \
    address for the list of what can be asked.</p></html>\n";

/// `GET /`: the dashboard for browsers, text for others.
pub(super) fn front(headers: &HeaderMap, text: impl FnOnce() -> Reply) -> Reply {
    front_of(ASSETS, headers, text)
}

/// `GET /assets/{file}`: its name holds its hash, so it may be kept for ever.
pub(super) fn asset(name: &str, headers: &HeaderMap) -> Result<Reply, ApiError> {
    asset_of(ASSETS, name, headers)
}

fn front_of(assets: &'static [Asset], headers: &HeaderMap, text: impl FnOnce() -> Reply) -> Reply {
    let reply = match wants_html(headers) {
        false => text(),
        true => match find(assets, INDEX) {
            Some(index) => sent(index, headers, "no-cache"),
            None => Reply::bytes(200, HTML, NOT_BUILT),
        },
    };
    reply.header(VARY, HeaderValue::from_static("Accept"))
}

fn asset_of(assets: &'static [Asset], name: &str, headers: &HeaderMap) -> Result<Reply, ApiError> {
    match find(assets, name).filter(|asset| asset.name != INDEX) {
        Some(asset) => Ok(sent(asset, headers, "public, max-age=31536000, immutable")),
        None => Err(ApiError::not_found(format!(
            "There is no file {}; after an upgrade, load the page again.",
            shown(name)
        ))),
    }
}

fn find(assets: &'static [Asset], name: &str) -> Option<&'static Asset> {
    assets.iter().find(|asset| asset.name == name)
}

/// Browsers name the type; curl takes anything and gets text.
fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|range| {
        range.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
    })
}

fn sent(asset: &'static Asset, headers: &HeaderMap, keep: &'static str) -> Reply {
    let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let same = |tag: &str| tag.trim().trim_start_matches("W/") == asset.etag || tag.trim() == "*";
    let reply = if known.is_some_and(|tags| tags.split(',').any(same)) {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        // Compressed whatever is asked for: every browser reads it.
        Reply::bytes(200, asset.content_type, asset.gzip)
            .header(CONTENT_ENCODING, HeaderValue::from_static("gzip"))
    };
    reply
        .header(CACHE_CONTROL, HeaderValue::from_static(keep))
        .header(ETAG, HeaderValue::from_static(asset.etag))
        .header(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY))
        .header(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
        .header(own("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"))
        .header(own("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"))
}

fn own(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const BUILT: &[Asset] = &[
        Asset { name: INDEX, content_type: HTML, etag: "\"i1\"", gzip: b"the page" },
        Asset { name: "app-x1.js", content_type: "text/javascript", etag: "\"a1\"", gzip: b"code" },
    ];

    fn headers(given: &[(HeaderName, &'static str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn front(assets: &'static [Asset], given: &[(HeaderName, &'static str)]) -> Reply {
        front_of(assets, &headers(given), || Reply::text(200, "in words".to_owned()))
    }

    fn body(reply: &mut Reply) -> Vec<u8> {
        reply.next_piece().now_or_never().flatten().unwrap_or_default().to_vec()
    }

    fn header<'a>(reply: &'a Reply, name: &HeaderName) -> &'a str {
        reply.headers().get(name).map_or("", |value| value.to_str().expect("text"))
    }

    const BROWSER: (HeaderName, &str) =
        (ACCEPT, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");

    #[test]
    fn browsers_get_the_page_under_its_policy() {
        let mut reply = front(BUILT, &[BROWSER]);
        assert_eq!((reply.status().as_u16(), body(&mut reply)), (200, b"the page".to_vec()));
        assert_eq!(header(&reply, &CONTENT_ENCODING), "gzip");
        assert_eq!(header(&reply, &CACHE_CONTROL), "no-cache", "asked for anew after an upgrade");
        assert_eq!(header(&reply, &VARY), "Accept");
        let policy = header(&reply, &CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        for rule in ["script-src 'self'", "frame-ancestors 'none'", "trusted-types 'none'"] {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    }

    #[test]
    fn what_is_known_is_not_sent_again() {
        for (tags, status) in [
            ("\"i1\"", 304),
            ("W/\"i1\"", 304),
            ("\"i0\", \"i1\"", 304),
            ("*", 304),
            ("\"i0\"", 200),
            ("i1", 200),
        ] {
            let mut reply = front(BUILT, &[BROWSER, (IF_NONE_MATCH, tags)]);
            assert_eq!(reply.status().as_u16(), status, "{tags}");
            assert_eq!(body(&mut reply).is_empty(), status == 304, "{tags}");
            assert_eq!(header(&reply, &ETAG), "\"i1\"", "{tags}");
        }
    }

    #[test]
    fn others_get_text() {
        for accept in [None, Some("*/*"), Some("application/json"), Some("text/plain, */*")] {
            let given: Vec<_> = accept.map(|accept| (ACCEPT, accept)).into_iter().collect();
            let mut reply = front(BUILT, &given);
            assert_eq!(body(&mut reply), b"in words", "{accept:?}");
            assert_eq!(header(&reply, &VARY), "Accept", "{accept:?}");
        }
    }

    #[test]
    fn without_the_page_browsers_are_told_how_to_build_it() {
        let mut reply = front(&[], &[BROWSER]);
        let text = String::from_utf8(body(&mut reply)).expect("text");
        assert!(text.contains("make build"), "{text}");
        assert_eq!(body(&mut front(&[], &[])), b"in words");
        assert!(asset_of(&[], "app-x1.js", &HeaderMap::new()).is_err());
    }

    #[test]
    fn files_are_kept_for_ever_and_only_they_are_found() {
        let mut reply = asset_of(BUILT, "app-x1.js", &HeaderMap::new()).expect("found");
        assert_eq!(body(&mut reply), b"code");
        assert_eq!(header(&reply, &CACHE_CONTROL), "public, max-age=31536000, immutable");
        for other in ["app-x2.js", "", INDEX] {
            let error = asset_of(BUILT, other, &HeaderMap::new()).expect_err("not found");
            assert_eq!(error.status, 404, "{other}");
        }
    }
}
