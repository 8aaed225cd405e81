//! A cluster with TLS in this process, everybody who may turn up there, and what they
//! are told.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube_lite::client::Client;
use kube_lite::http::guard::Doorkeeper as _;
use kube_lite::identity::credentials::Credentials;
use kube_lite::identity::keeper::{self, ADMIN_FILE, Keeper};
use kube_lite::identity::ledger::Grant;
use kube_lite::identity::membership::Membership;
use kube_lite::identity::message::TokenRequest;
use kube_lite::identity::sessions::SESSION_LIFE;
use kube_lite::identity::tls::{Badge, client_config};
use kube_lite::identity::token::{Invitation, Secret};
use kube_lite::roles::agent::runtime::Runtime;
use kube_lite::roles::agent::simulated::SimulatedHandle;
use kube_lite::roles::agent::simulated::fate::Settings;
use kube_lite::roles::agent::{self, AgentConfig, RunningAgent};
use kube_lite::roles::scheduler::{self, RunningScheduler, SchedulerConfig};
use kube_lite_testkit::{SHORT, until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const HOUR: u64 = 3600;

/// What somebody shows.
#[derive(Clone)]
pub struct Shown {
    pub tls: Arc<rustls::ClientConfig>,
    pub token: Option<String>,
    /// What else a browser says: its cookie, and which page asks.
    pub headers: Vec<(&'static str, String)>,
}

/// Status and reason of an answer, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Answer(u16, String),
    Nothing(String),
}

impl Shown {
    /// Asks, and reads as much of the answer as tells whether it is a refusal.
    pub async fn ask(
        &self,
        addr: SocketAddr,
        peer: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Said {
        let spoken = self.speak(addr, peer, method, path, body);
        match timeout(PATIENCE, spoken).await.expect("an answer in time") {
            Ok(said) => said,
            Err(error) => Said::Nothing(error.to_string()),
        }
    }

    pub async fn speak(
        &self,
        addr: SocketAddr,
        peer: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> std::io::Result<Said> {
        let tcp = TcpStream::connect(addr).await?;
        let name = ServerName::try_from(peer.to_owned()).unwrap();
        let mut stream = TlsConnector::from(self.tls.clone()).connect(name, tcp).await?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if let Some(token) = &self.token {
            text += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            let length = body.len();
            text += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        text += "\r\n";
        text += &body;
        stream.write_all(text.as_bytes()).await?;
        let mut raw = Vec::new();
        // Streams have no end; their heads are enough.
        while !raw.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut raw).await? == 0 {
                break;
            }
        }
        let head = String::from_utf8_lossy(&raw).into_owned();
        let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        if status >= 400 {
            stream.read_to_end(&mut raw).await?;
        }
        let text = String::from_utf8_lossy(&raw).into_owned();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let value: Value = serde_json::from_str(body).unwrap_or_default();
        Ok(Said::Answer(status, value["reason"].as_str().unwrap_or_default().to_owned()))
    }
}

/// A key and a certificate of this authority for this node, good for so long.
pub fn certified(keeper: &Keeper, node: &str) -> (CertifiedKey, CertificateDer<'static>) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&pair).unwrap();
    let answer = keeper.join(&node.into(), &request.pem().unwrap()).unwrap();
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(vec![der(&answer.certificate)], key, &provider).unwrap();
    (key, der(&answer.authority))
}

pub fn badge(key: CertifiedKey) -> Arc<Badge> {
    let badge = Badge::default();
    badge.wear(Arc::new(key));
    Arc::new(badge)
}

/// A cluster with a scheduler in this process, and everybody who may turn up there.
pub struct Cluster {
    pub dir: TempDir,
    pub keeper: Arc<Keeper>,
    pub scheduler: RunningScheduler,
    pub invitation: Invitation,
    pub authority: CertificateDer<'static>,
    /// Names, and what they show.
    pub people: Vec<(&'static str, Shown)>,
}

impl Cluster {
    pub async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let founded = keeper::found(dir.path(), "127.0.0.1:8080", &[]).unwrap().unwrap();
        // Somebody whose certificate is too old by the time that it is used.
        let short = Keeper::open(dir.path(), &[], 1).unwrap().unwrap();
        let (old, authority) = certified(&short, "old");
        drop(short);
        let keeper = Keeper::open(dir.path(), &[], HOUR).unwrap().unwrap();
        let (removed, _) = certified(&keeper, "removed");
        assert!(keeper.revoke_node(&"removed".into()).unwrap());
        let other = TempDir::new().unwrap();
        keeper::found(other.path(), "127.0.0.1:8080", &[]).unwrap().unwrap();
        let foreign = Keeper::open(other.path(), &[], HOUR).unwrap().unwrap();
        let (foreign, _) = certified(&foreign, "n1");
        let (node, _) = certified(&keeper, "n1");

        let plain = client_config(&authority, None).unwrap();
        let nothing = Shown { tls: plain, token: None, headers: Vec::new() };
        let token = |token: &str| Shown { token: Some(token.to_owned()), ..nothing.clone() };
        let wears = |key| {
            let tls = client_config(&authority, Some(badge(key))).unwrap();
            Shown { tls, ..nothing.clone() }
        };
        let made = |role, life| {
            let asked = TokenRequest { role, name: None, expires_in_seconds: life };
            keeper.create_token(&asked).unwrap()
        };
        // A browser that was signed in with this token, and what asks from there.
        let cookie = keeper.session_cookie().unwrap().to_owned();
        let signed_in = |secret: &str, life| {
            let asking = keeper.identify(None, Some(secret)).unwrap();
            let code = keeper.offer_sign_in(&asking).unwrap().code;
            keeper.sign_in(&code, life).unwrap().0.reveal().to_owned()
        };
        let asked_by = |session: &str, page: &[(&'static str, &str)]| {
            let mut headers = vec![("Cookie", format!("{cookie}={session}"))];
            headers.extend(page.iter().map(|(name, value)| (*name, (*value).to_owned())));
            Shown { headers, ..nothing.clone() }
        };
        let own = [("Origin", "https://localhost"), ("Sec-Fetch-Site", "same-origin")];
        let page = |session: &str| asked_by(session, &own);
        let page_of = |role| page(&signed_in(&made(role, None).secret, SESSION_LIFE));
        let gone = made(Grant::Admin, None);
        let page_of_gone = page(&signed_in(&gone.secret, SESSION_LIFE));
        keeper.revoke_token(&gone.token.id).unwrap();
        // Long enough to be used, on a busy machine too.
        let brief = made(Grant::Admin, Some(3));
        let page_of_brief = page(&signed_in(&brief.secret, SESSION_LIFE));
        let good = signed_in(&made(Grant::Admin, None).secret, SESSION_LIFE);
        let (evil, near) = (("Origin", "https://evil.example"), ("Origin", "https://localhost:1"));
        let cross = |site| ("Sec-Fetch-Site", site);
        let forged = Secret::for_session(&[7; 32]);

        let admin = Credentials::read(&dir.path().join(ADMIN_FILE)).unwrap().unwrap();
        let revoked = made(Grant::Admin, None);
        keeper.revoke_token(&revoked.token.id).unwrap();
        let revoked_join = made(Grant::Join, None);
        keeper.revoke_token(&revoked_join.token.id).unwrap();
        let expired = made(Grant::Admin, Some(1));
        let people = vec![
            ("nothing", nothing.clone()),
            ("no token of ours", token("secret")),
            ("wrong", token(&format!("klu_{}", "a".repeat(64)))),
            ("expired", token(&expired.secret)),
            ("revoked", token(&revoked.secret)),
            ("viewer", token(&made(Grant::Viewer, None).secret)),
            ("operator", token(&made(Grant::Operator, None).secret)),
            ("admin", token(&admin.token)),
            ("joiner", token(founded.invitation.secret.reveal())),
            ("revoked joiner", token(&revoked_join.secret)),
            ("node", wears(node)),
            ("expired node", wears(old)),
            ("removed node", wears(removed)),
            ("foreign", wears(foreign)),
            ("scheduler", Shown { tls: keeper.client_config().unwrap(), ..nothing.clone() }),
            ("page of viewer", page_of(Grant::Viewer)),
            ("page of operator", page_of(Grant::Operator)),
            ("page of admin", page_of(Grant::Admin)),
            ("expired page", page(&signed_in(&made(Grant::Admin, None).secret, 1))),
            ("page of expired", page_of_brief),
            ("page of revoked", page_of_gone),
            ("forged page", page(forged.reveal())),
            ("no session of ours", page("secret")),
            ("token as a session", page(&made(Grant::Admin, None).secret)),
            ("session as a token", token(&good)),
            ("two sessions", asked_by(&format!("{good}; {cookie}={good}"), &own)),
            ("foreign page", asked_by(&good, &[evil, cross("cross-site")])),
            ("foreign page, quietly", asked_by(&good, &[cross("cross-site")])),
            ("page of another port", asked_by(&good, &[near, cross("same-site")])),
            ("page of plain HTTP", asked_by(&good, &[("Origin", "http://localhost")])),
            ("page of nowhere", asked_by(&good, &[])),
        ];
        let scheduler = scheduler::start(SchedulerConfig {
            keeper: Some(keeper.clone()),
            ..SchedulerConfig::default()
        })
        .await
        .unwrap();
        let invitation =
            Invitation { scheduler: scheduler.local_addr().to_string(), ..founded.invitation };
        let cluster = Self { dir, keeper, scheduler, invitation, authority, people };
        // Until what was made for a second is too old.
        let addr = cluster.scheduler.local_addr();
        for (who, reason) in [
            ("expired", "ExpiredToken"),
            ("expired node", "ExpiredCertificate"),
            ("expired page", "UnknownSession"),
            ("page of expired", "UnknownSession"),
        ] {
            until("a second to pass", SHORT, || async {
                let shown = cluster.shown(who);
                match shown.ask(addr, SCHEDULER, "GET", "/nodes", &Value::Null).await {
                    Said::Answer(401, is) if is == reason => Ok(()),
                    other => Err(format!("{who}: {other:?}")),
                }
            })
            .await;
        }
        cluster
    }

    pub fn shown(&self, who: &str) -> Shown {
        self.people.iter().find(|(name, _)| *name == who).expect("somebody known").1.clone()
    }

    pub fn home(&self, node: &str) -> std::path::PathBuf {
        self.dir.path().join("homes").join(node)
    }

    pub async fn member(&self, node: &str) -> Arc<Membership> {
        Membership::join(&self.home(node), &node.into(), &self.invitation).await.unwrap()
    }

    pub async fn agent(&self, node: &str) -> RunningAgent {
        let member = self.member(node).await;
        let tls = member.client_config().unwrap();
        agent::start(AgentConfig {
            scheduler: Client::secured(member.scheduler(), tls).unwrap(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            node_id: Some(node.into()),
            data_dir: None,
            runtime: Runtime::Simulated(SimulatedHandle::new(Settings::default())),
            timing: SimulatedHandle::timing(Default::default()),
            insecure: false,
            member: Some(member),
        })
        .await
        .unwrap()
    }
}

pub const SCHEDULER: &str = "scheduler.kube-lite";

pub type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// Reads on until these words have come.
pub async fn until_heard(stream: &mut Stream, words: &str) -> String {
    let mut heard = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&heard).contains(words) {
            assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "it ended before {words:?}");
        }
    };
    timeout(PATIENCE, reading).await.expect("these words in time");
    String::from_utf8_lossy(&heard).into_owned()
}

impl Shown {
    /// A GET whose answer is not read yet.
    pub async fn open(&self, addr: SocketAddr, path: &str) -> Stream {
        let tcp = TcpStream::connect(addr).await.unwrap();
        let name = ServerName::try_from(SCHEDULER).unwrap();
        let mut stream = TlsConnector::from(self.tls.clone()).connect(name, tcp).await.unwrap();
        let token = self.token.as_deref().unwrap_or_default();
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// An answer to its end; of a stream, its first message.
    pub async fn read(&self, addr: SocketAddr, path: &str) -> String {
        match path {
            "/stream" => until_heard(&mut self.open(addr, path).await, "\"resumed\":").await,
            _ => self.read_all(addr, path).await,
        }
    }

    pub async fn read_all(&self, addr: SocketAddr, path: &str) -> String {
        let mut stream = self.open(addr, path).await;
        let mut all = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("an end").unwrap();
        String::from_utf8_lossy(&all).into_owned()
    }
}
