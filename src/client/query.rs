//! What can be asked of the scheduler, each question with the type of its
//! answer, so that a reader can have it typed or word for word.

use std::fmt::Write;
use std::marker::PhantomData;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::ContainerInstance;
use crate::model::view::{
    DiscoverView, ExplainView, HealthView, NodeView, RevisionView, RolloutView, WorkloadView,
};

/// What may stand in a path segment as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A GET whose answer is a `T`.
#[derive(Debug)]
pub struct Query<T> {
    path: String,
    answer: PhantomData<fn() -> T>,
}

impl<T> Query<T> {
    fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), answer: PhantomData }
    }

    /// Path and query string.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// All workloads.
pub fn workloads() -> Query<Vec<WorkloadView>> {
    Query::new("/workloads")
}

/// One workload.
pub fn workload(id: &str) -> Query<WorkloadView> {
    Query::new(format!("/workloads/{}", segment(id)))
}

/// The story of one workload.
pub fn explain(id: &str) -> Query<ExplainView> {
    Query::new(format!("/workloads/{}/explain", segment(id)))
}

/// The revisions of one workload.
pub fn history(id: &str) -> Query<Vec<RevisionView>> {
    Query::new(format!("/workloads/{}/history", segment(id)))
}

/// The rollout of one workload, or how its last one ended.
pub fn rollout(id: &str) -> Query<Option<RolloutView>> {
    Query::new(format!("/workloads/{}/rollout", segment(id)))
}

/// All nodes.
pub fn nodes() -> Query<Vec<NodeView>> {
    Query::new("/nodes")
}

/// All instances, or those of one workload.
pub fn instances(workload: Option<&str>) -> Query<Vec<ContainerInstance>> {
    match workload {
        Some(id) => Query::new(format!("/instances?workload={}", segment(id))),
        None => Query::new("/instances"),
    }
}

/// Where a workload is reached.
pub fn discover(name: &str) -> Query<DiscoverView> {
    Query::new(format!("/discover/{}", segment(name)))
}

/// How the scheduler itself is.
pub fn health() -> Query<HealthView> {
    Query::new("/health")
}

/// The path of an instance's log, with the last `tail` lines, or all of it.
pub fn logs(instance: &str, tail: Option<u64>, follow: bool) -> String {
    let mut path = format!("/logs/{}", segment(instance));
    let mut join = '?';
    if let Some(tail) = tail {
        let _ = write!(path, "{join}tail={tail}");
        join = '&';
    }
    if follow {
        let _ = write!(path, "{join}follow=true");
    }
    path
}

/// The path of the events after `since`, of one workload or of all.
pub fn events(since: Option<u64>, workload: Option<&str>, follow: bool) -> String {
    let path = "/events?".to_owned();
    let query_begins = path.len();
    let mut query = form_urlencoded::Serializer::for_suffix(path, query_begins);
    if let Some(since) = since {
        query.append_pair("since", &since.to_string());
    }
    if let Some(workload) = workload {
        query.append_pair("workload", workload);
    }
    if follow {
        query.append_pair("follow", "true");
    }
    let path = query.finish();
    path.trim_end_matches('?').to_owned()
}

/// `text` as one segment of a path, whatever it holds.
pub fn segment(text: &str) -> String {
    match text {
        // Dots alone would be taken for directories, even when encoded.
        "." | ".." | "" => text.replace('.', "%2E"),
        _ => utf8_percent_encode(text, PLAIN).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cases = [
            (workload("web").path, "/workloads/web"),
            (workload("../x y").path, "/workloads/..%2Fx%20y"),
            (rollout("web").path, "/workloads/web/rollout"),
            (instances(None).path, "/instances"),
            (instances(Some("a&b")).path, "/instances?workload=a%26b"),
            (logs("web-r1-x", None, false), "/logs/web-r1-x"),
            (logs("web-r1-x", Some(5), false), "/logs/web-r1-x?tail=5"),
            (logs("web-r1-x", None, true), "/logs/web-r1-x?follow=true"),
            (logs("web-r1-x", Some(0), true), "/logs/web-r1-x?tail=0&follow=true"),
            (events(None, None, false), "/events"),
            (events(Some(7), Some("web"), true), "/events?since=7&workload=web&follow=true"),
        ];
        for (made, wanted) in cases {
            assert_eq!(made, wanted);
        }
    }
}
