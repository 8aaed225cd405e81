//! A client that never rests: it picks endpoints from `/discover` and counts what
//! they do not answer.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use kube_lite::model::view::{DiscoverView, WorkloadView};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http;

/// How often the endpoints are asked for anew.
const REFRESH: Duration = Duration::from_millis(40);
/// An answer of `/discover` older than this is not used any more. Well under the
/// second of `drainSeconds` in which what has left the list still serves.
const FRESH: Duration = Duration::from_millis(400);
/// A request may take this long; the machine is busy with other things, too.
const LIMIT: Duration = Duration::from_secs(10);
/// What each of the clients does between two requests.
const PAUSE: Duration = Duration::from_millis(6);
/// So many clients; every other keeps its connections.
const CLIENTS: usize = 8;

/// What came of it all.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests that were answered as they should be.
    pub answered: u64,
    /// Those that were not, and how.
    pub failed: Vec<String>,
    /// Answers by the version that the app names.
    pub versions: BTreeMap<String, u64>,
    /// The fewest ready instances that `GET /workloads/{id}` ever told of.
    pub fewest_ready: Option<u32>,
    /// How often that was asked.
    pub samples: u64,
}

impl Report {
    /// # Panics
    /// When a request failed, when fewer than `enough` were made, or when fewer
    /// than `desired` instances were ever ready.
    pub fn assert_flawless(&self, enough: u64, desired: u32) {
        let shown = &self.failed[..self.failed.len().min(10)];
        assert!(self.failed.is_empty(), "{} failed, e.g. {shown:#?}", self.failed.len());
        assert!(self.answered >= enough, "only {} requests", self.answered);
        assert!(self.samples > 20, "only {} samples", self.samples);
        assert_eq!(self.fewest_ready.map(|n| n.min(desired)), Some(desired), "the fewest ready");
    }
}

/// An answer of `/discover`, and when it was asked for.
type Listed = (Instant, Vec<(String, String)>);

/// Constant load on a workload, until it is told to end.
#[derive(Debug)]
pub struct Load {
    report: Arc<Mutex<Report>>,
    stop: watch::Sender<bool>,
    clients: Vec<JoinHandle<()>>,
    helpers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts it. The workload must have an endpoint already.
    pub async fn start(scheduler: &str, workload: &str) -> Self {
        let report = Arc::new(Mutex::new(Report::default()));
        let (stop, stopped) = watch::channel(false);
        let (list, listed) = watch::channel::<Listed>((Instant::now() - LIMIT, Vec::new()));
        let refresher = tokio::spawn(refresh(scheduler.to_owned(), workload.to_owned(), list));
        let sampler =
            tokio::spawn(sample(scheduler.to_owned(), workload.to_owned(), Arc::clone(&report)));
        let clients = (0..CLIENTS)
            .map(|number| {
                let mut client = Client {
                    number,
                    keeps: number % 2 == 0,
                    listed: listed.clone(),
                    kept: HashMap::new(),
                    turn: number,
                };
                let (report, stopped) = (Arc::clone(&report), stopped.clone());
                tokio::spawn(async move {
                    while !*stopped.borrow() {
                        let outcome = client.one_request().await;
                        {
                            let mut report = report.lock().unwrap_or_else(|e| e.into_inner());
                            match outcome {
                                Ok(version) => {
                                    report.answered += 1;
                                    *report.versions.entry(version).or_default() += 1;
                                }
                                Err(error) => report.failed.push(error),
                            }
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                })
            })
            .collect();
        Self { report, stop, clients, helpers: vec![refresher, sampler] }
    }

    /// What came of it so far.
    pub fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Ends it, requests under way included.
    pub async fn finish(mut self) -> Report {
        let _ = self.stop.send(true);
        for client in std::mem::take(&mut self.clients) {
            let _ = client.await;
        }
        self.report()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clients.iter().chain(&self.helpers).for_each(JoinHandle::abort);
    }
}

async fn refresh(scheduler: String, workload: String, list: watch::Sender<Listed>) {
    let path = format!("/discover/{workload}");
    loop {
        let asked = Instant::now();
        if let Ok(answer) = http::get(&scheduler, &path).await
            && let Ok(view) = serde_json::from_str::<DiscoverView>(&answer.body)
        {
            let endpoints = view
                .endpoints
                .into_iter()
                .map(|e| (e.instance_id.as_str().to_owned(), e.address))
                .collect();
            if list.send((asked, endpoints)).is_err() {
                return;
            }
        }
        tokio::time::sleep(REFRESH).await;
    }
}

async fn sample(scheduler: String, workload: String, report: Arc<Mutex<Report>>) {
    let path = format!("/workloads/{workload}");
    loop {
        if let Ok(answer) = http::get(&scheduler, &path).await
            && let Ok(view) = serde_json::from_str::<WorkloadView>(&answer.body)
        {
            let mut report = report.lock().unwrap_or_else(|e| e.into_inner());
            report.samples += 1;
            report.fewest_ready =
                Some(report.fewest_ready.map_or(view.ready, |n| n.min(view.ready)));
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

struct Client {
    number: usize,
    keeps: bool,
    listed: watch::Receiver<Listed>,
    kept: HashMap<String, SendRequest<Empty<Bytes>>>,
    turn: usize,
}

impl Client {
    /// Asks the next endpoint of the newest list; the version that answered.
    async fn one_request(&mut self) -> Result<String, String> {
        let endpoints = self.fresh_list().await?;
        if endpoints.is_empty() {
            return Err("no endpoint is listed".to_owned());
        }
        self.kept.retain(|address, _| endpoints.iter().any(|(_, listed)| listed == address));
        self.turn += 1;
        let (instance, address) = &endpoints[self.turn % endpoints.len()];
        let began = Instant::now();
        match tokio::time::timeout(LIMIT, self.ask(address)).await {
            Ok(Ok((who, version))) if who == *instance => Ok(version),
            Ok(Ok((who, _))) => Err(format!("{who} answered at {address}, not {instance}")),
            Ok(Err(error)) => {
                self.kept.remove(address);
                let (asked, newest) = self.listed.borrow().clone();
                let kind = if self.keeps { "keeps connections" } else { "a connection each" };
                Err(format!(
                    "{instance} at {address}, asked by client {} ({kind}): {error:#} after {:?}; \
                     the list is {:?} old, and {} there",
                    self.number,
                    began.elapsed(),
                    asked.elapsed(),
                    if newest.iter().any(|(id, _)| id == instance) { "still" } else { "not" },
                ))
            }
            Err(_) => {
                self.kept.remove(address);
                Err(format!("{instance} at {address}: no answer in {LIMIT:?}"))
            }
        }
    }

    async fn fresh_list(&mut self) -> Result<Vec<(String, String)>, String> {
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            {
                let listed = self.listed.borrow_and_update();
                if listed.0.elapsed() < FRESH {
                    return Ok(listed.1.clone());
                }
            }
            let _ = tokio::time::timeout(LIMIT, self.listed.changed()).await;
        }
        Err(format!("/discover did not answer for {LIMIT:?}"))
    }

    async fn ask(&mut self, address: &str) -> anyhow::Result<(String, String)> {
        let usable = match self.kept.get_mut(address).filter(|_| self.keeps) {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let stream = TcpStream::connect(address).await.context("connect")?;
            let _ = stream.set_nodelay(true);
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            self.kept.insert(address.to_owned(), sender);
        }
        let sender = self.kept.get_mut(address).context("a connection")?;
        let mut request = Request::builder().uri("/json").header("host", address);
        if !self.keeps {
            request = request.header("connection", "close");
        }
        let response = sender.send_request(request.body(Empty::new())?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !self.keeps {
            self.kept.remove(address);
        }
        anyhow::ensure!(status.is_success(), "status {status}");
        let said: serde_json::Value = serde_json::from_slice(&body)?;
        let word = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        Ok((word("instance"), word("version")))
    }
}
