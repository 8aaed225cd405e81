//! Paths, queries, names of hosts and origins.

use hyper::Method;
use kube_lite::client::query::{events, logs, segment};
use kube_lite::http::route::{Match, Router};
use kube_lite::http::{Access, Hosts, Origins, Query, Route};
use kube_lite::roles::scheduler::server::{Call, ROUTES};

use crate::is_a_sentence;

/// The largest number that any reader sees exactly.
const LARGEST: u64 = 1 << 53;

/// What stands in the first line of a request, and in the headers that are judged: method,
/// path, query, host and origin, a line each.
pub fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (method, path, raw) = (next(), next(), next());
    found(method, path, raw);
    listed(next(), next());
    sent(path, raw);
}

fn found(method: &str, path: &str, raw: &str) {
    let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
    match Router::<Call>::new(ROUTES).find(&method, path) {
        Match::Found(route, params) => {
            for name in names(route) {
                let value = params.get(name);
                assert!((1..=128).contains(&value.len()), "{name}: {value:?}");
                let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
                assert!(value.bytes().all(fine) && !value.starts_with('.'), "{name}: {value:?}");
            }
            asked(route, raw);
        }
        Match::WrongMethod { allow } => assert!(allow.ends_with("OPTIONS"), "{allow}"),
        Match::Unknown { similar } => assert!(similar.len() <= 3, "{similar:?}"),
        Match::BadPath(error) => {
            assert!([400, 404].contains(&error.status), "{error:?}");
            is_a_sentence(&error.error);
        }
    }
}

/// The parameters in a route's path.
fn names(route: &Route<Call>) -> impl Iterator<Item = &'static str> {
    route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn asked(route: &Route<Call>, raw: &str) {
    match Query::parse(Some(raw), route.query, true) {
        Ok(query) => {
            for name in route.query {
                if let Ok(Some(number)) = query.number(name, LARGEST) {
                    assert!(number <= LARGEST);
                }
                if let Err(error) = query.flag(name) {
                    assert_eq!(error.field.as_deref(), Some(*name));
                    is_a_sentence(&error.error);
                }
            }
            // Who is not strict takes whatever a strict one takes, and as the same.
            assert_eq!(Query::parse(Some(raw), route.query, false), Ok(query));
        }
        Err(error) => {
            assert_eq!((error.status, error.field.is_some()), (400, true), "{error:?}");
            is_a_sentence(&error.error);
        }
    }
}

/// Names that are taken are found again as they were taken.
fn listed(host: &str, origin: &str) {
    match Hosts::parse(&[host]) {
        Ok(hosts) => {
            let names: Vec<&str> = hosts.names().collect();
            assert_eq!(Hosts::parse(&names), Ok(hosts.clone()), "{names:?}");
            let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"*@/".contains(c);
            assert!(names.iter().all(|name| !name.is_empty() && name.chars().all(plain)));
        }
        Err(said) => is_a_sentence(&said),
    }
    match Origins::parse(&[origin]) {
        Ok(_) => assert!(origin.contains("://") && !origin.contains('*'), "{origin}"),
        Err(said) => is_a_sentence(&said),
    }
}

/// Whatever stands in a name, it is one segment of the path that is asked for, and
/// there it is read as the name again, if it is one.
fn sent(name: &str, other: &str) {
    const TABLE: &[Route<()>] =
        &[Route::new(Method::GET, "/logs/{id}", (), Access::Viewer, "Shows")
            .query(&["tail", "follow"])];
    let encoded = segment(name);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b);
    assert!(encoded.bytes().all(plain), "{encoded:?}");
    assert!(!matches!(encoded.as_str(), "." | ".."), "{encoded:?}");
    let path = logs(name, Some(other.len() as u64), true);
    let (path, raw) = path.split_once('?').expect("a query");
    match Router::new(TABLE).find(&Method::GET, path) {
        Match::Found(_, params) => assert_eq!(params.get("id"), name),
        Match::BadPath(error) => is_a_sentence(&error.error),
        other => panic!("{path} leads to {other:?}"),
    }
    let query = Query::parse(Some(raw), TABLE[0].query, true).expect("ours is understood");
    assert_eq!(query.number("tail", LARGEST), Ok(Some(other.len() as u64)));
    assert_eq!(query.flag("follow"), Ok(true));

    let path = events(Some(7), Some(other), false);
    let (_, raw) = path.split_once('?').expect("a query");
    let query = Query::parse(Some(raw), &["since", "workload"], true).expect("as well");
    assert_eq!(query.get("workload"), Some(other));
}
