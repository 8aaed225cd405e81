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
    let reply = match wants_html(headers) {
        false => text(),
        true => match find(ASSETS, INDEX) {
            Some(index) => sent(index, headers, "no-cache"),
            None => Reply::bytes(200, HTML, NOT_BUILT),
        },
    };
    reply.header(VARY, HeaderValue::from_static("Accept"))
}

/// `GET /assets/{file}`: its name holds its hash, so it may be kept for ever.
pub(super) fn asset(name: &str, headers: &HeaderMap) -> Result<Reply, ApiError> {
    match find(ASSETS, name).filter(|asset| asset.name != INDEX) {
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
