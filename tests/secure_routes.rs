//! Who may do what, over real TLS: every route of both servers, from their tables,
//! against every kind of credentials; and what a malicious node tries.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kube_lite::client::{AgentClient, Client};
use kube_lite::http::guard::Doorkeeper as _;
use kube_lite::http::{Access, Handler as _, Route};
use kube_lite::identity::credentials::Credentials;
use kube_lite::identity::keeper::{self, ADMIN_FILE, Keeper};
use kube_lite::identity::ledger::Grant;
use kube_lite::identity::membership::Membership;
use kube_lite::identity::message::TokenRequest;
use kube_lite::identity::sessions::SESSION_LIFE;
use kube_lite::identity::tls::{Badge, client_config, pinned_config};
use kube_lite::identity::token::{Invitation, Secret};
use kube_lite::model::NodeId;
use kube_lite::roles::agent::runtime::Runtime;
use kube_lite::roles::agent::server::AgentServer;
use kube_lite::roles::agent::simulated::SimulatedHandle;
use kube_lite::roles::agent::simulated::fate::Settings;
use kube_lite::roles::agent::{self, AgentConfig, RunningAgent};
use kube_lite::roles::scheduler::server::ROUTES;
use kube_lite::roles::scheduler::{self, RunningScheduler, SchedulerConfig};
use kube_lite_testkit::{SHORT, until};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: u64 = 3600;

/// What somebody shows.
#[derive(Clone)]
struct Shown {
    tls: Arc<rustls::ClientConfig>,
    token: Option<String>,
    /// What else a browser says: its cookie, and which page asks.
    headers: Vec<(&'static str, String)>,
}

/// Status and reason of an answer, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Answer(u16, String),
    Nothing(String),
}

impl Shown {
    /// Asks, and reads as much of the answer as tells whether it is a refusal.
    async fn ask(
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

    async fn speak(
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
fn certified(keeper: &Keeper, node: &str) -> (CertifiedKey, CertificateDer<'static>) {
    let pair = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&pair).unwrap();
    let answer = keeper.join(&node.into(), &request.pem().unwrap()).unwrap();
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(pair.serialize_der()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(vec![der(&answer.certificate)], key, &provider).unwrap();
    (key, der(&answer.authority))
}

fn badge(key: CertifiedKey) -> Arc<Badge> {
    let badge = Badge::default();
    badge.wear(Arc::new(key));
    Arc::new(badge)
}

/// A cluster with a scheduler in this process, and everybody who may turn up there.
struct Cluster {
    dir: TempDir,
    keeper: Arc<Keeper>,
    scheduler: RunningScheduler,
    invitation: Invitation,
    authority: CertificateDer<'static>,
    /// Names, and what they show.
    people: Vec<(&'static str, Shown)>,
}

impl Cluster {
    async fn start() -> Self {
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
        let brief = made(Grant::Admin, Some(1));
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

    fn shown(&self, who: &str) -> Shown {
        self.people.iter().find(|(name, _)| *name == who).expect("somebody known").1.clone()
    }

    fn home(&self, node: &str) -> std::path::PathBuf {
        self.dir.path().join("homes").join(node)
    }

    async fn member(&self, node: &str) -> Arc<Membership> {
        Membership::join(&self.home(node), &node.into(), &self.invitation).await.unwrap()
    }

    async fn agent(&self, node: &str) -> RunningAgent {
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

const SCHEDULER: &str = "scheduler.kube-lite";

/// A route as it can be asked for.
fn requests<C>(routes: &[Route<C>]) -> Vec<(String, String, Access)> {
    let filled = |path: &str| {
        let fill = |part: &str| match part.starts_with('{') {
            true => "nothing-like-this".to_owned(),
            false => part.to_owned(),
        };
        path.split('/').map(fill).collect::<Vec<_>>().join("/")
    };
    routes.iter().map(|r| (r.method.to_string(), filled(r.path), r.access)).collect()
}

/// The refusal of a scheduler's route; `None`: no refusal.
fn at_scheduler(who: &str, method: &str, access: Access) -> Option<(u16, &'static str)> {
    use Access::{Admin, Agent, Joiner, Operator, Public, Renewal, Scheduler, Token, Viewer};
    let kind = Some((403, "WrongKindOfCaller"));
    let small = Some((403, "RoleTooSmall"));
    let foreign = Some((403, "ForbiddenOrigin"));
    if method != "GET" && ["foreign page", "page of another port"].contains(&who) {
        return foreign;
    }
    if access == Public {
        return None;
    }
    match who {
        "nothing" => Some((401, "NoCredentials")),
        "no token of ours" | "session as a token" => Some((401, "MalformedToken")),
        "wrong" => Some((401, "UnknownToken")),
        "expired" => Some((401, "ExpiredToken")),
        "revoked" | "revoked joiner" => Some((401, "RevokedToken")),
        "removed node" => Some((401, "RevokedCertificate")),
        "expired node" if access == Renewal => None,
        "expired node" => Some((401, "ExpiredCertificate")),
        "viewer" => match access {
            Viewer | Token => None,
            Operator | Admin => small,
            _ => kind,
        },
        "operator" => match access {
            Viewer | Operator | Token => None,
            Admin => small,
            _ => kind,
        },
        "admin" => (!matches!(access, Viewer | Operator | Admin | Token)).then_some(kind).flatten(),
        // As its token, but it makes no other one.
        "page of viewer" | "page of operator" | "page of admin" if access == Token => kind,
        "page of viewer" => at_scheduler("viewer", method, access),
        "page of operator" => at_scheduler("operator", method, access),
        "page of admin" => at_scheduler("admin", method, access),
        "page of nowhere" if method == "GET" => at_scheduler("admin", method, access),
        "page of revoked" => Some((401, "RevokedToken")),
        "expired page" | "page of expired" | "forged page" | "no session of ours"
        | "token as a session" | "two sessions" => Some((401, "UnknownSession")),
        "page of nowhere"
        | "foreign page"
        | "foreign page, quietly"
        | "page of another port"
        | "page of plain HTTP" => foreign,
        "joiner" => (access != Joiner).then_some(kind).flatten(),
        "node" => (!matches!(access, Agent | Renewal)).then_some(kind).flatten(),
        "scheduler" => (!matches!(access, Viewer | Scheduler)).then_some(kind).flatten(),
        other => panic!("nobody called {other}"),
    }
}

/// The refusal of an agent's route. It knows no tokens.
fn at_agent(who: &str, method: &str, access: Access) -> Option<(u16, &'static str)> {
    match who {
        // The agent's own rule about pages, which asks for nobody's cookie.
        "foreign page" | "page of another port" if method != "GET" => {
            Some((403, "ForbiddenOrigin"))
        }
        _ if access == Access::Public => None,
        "scheduler" => None,
        "node" | "expired node" | "removed node" => Some((403, "WrongKindOfCaller")),
        _ => Some((401, "NoCredentials")),
    }
}

/// Whether this is what a guard says, and not what a handler does.
fn is_refusal(said: &Said) -> bool {
    let words = ["WrongKindOfCaller", "RoleTooSmall", "AnotherNode", "ForeignAddress"];
    match said {
        Said::Answer(401, _) | Said::Nothing(_) => true,
        Said::Answer(403, reason) => words.contains(&reason.as_str()),
        Said::Answer(..) => false,
    }
}

async fn every_route(
    cluster: &Cluster,
    addr: SocketAddr,
    peer: &str,
    routes: Vec<(String, String, Access)>,
    wanted: fn(&str, &str, Access) -> Option<(u16, &'static str)>,
) {
    let mut wrong = Vec::new();
    for (who, shown) in &cluster.people {
        for (method, path, access) in &routes {
            let said = shown.ask(addr, peer, method, path, &Value::Null).await;
            let right = if *who == "foreign" {
                matches!(&said, Said::Nothing(why) if why.contains("alert"))
            } else {
                match wanted(who, method, *access) {
                    None => !is_refusal(&said),
                    Some((status, reason)) => said == Said::Answer(status, reason.to_owned()),
                }
            };
            if !right {
                wrong.push(format!("{who}: {method} {path} ({access:?}): {said:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_against_everybody() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    // Reads first: what an admin may do must not change who is known.
    let (first, last): (Vec<_>, Vec<_>) =
        requests(ROUTES).into_iter().partition(|(method, ..)| method == "GET");
    every_route(&cluster, addr, SCHEDULER, first, at_scheduler).await;
    // Who signs out is nobody afterwards.
    let (out, last) = last
        .into_iter()
        .partition(|(method, path, _)| (method.as_str(), path.as_str()) == ("DELETE", "/session"));
    every_route(&cluster, addr, SCHEDULER, last, at_scheduler).await;
    every_route(&cluster, addr, SCHEDULER, out, at_scheduler).await;
    let agent = cluster.agent("a1").await;
    let routes = requests(AgentServer::ROUTES);
    every_route(&cluster, agent.local_addr(), "a1.node.kube-lite", routes, at_agent).await;
    agent.kill();
    cluster.scheduler.shutdown().await;
}

/// A browser's whole way: a code, a session with it, and its end, which ends what is
/// being read, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_signs_in_and_out() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let answer = |status, reason: &str| Said::Answer(status, reason.to_owned());
    let operator = cluster.shown("operator");
    let token = operator.token.clone().unwrap();
    let code = || {
        let asking = cluster.keeper.identify(None, Some(&token)).unwrap();
        cluster.keeper.offer_sign_in(&asking).unwrap().code
    };
    let nobody = cluster.shown("nothing");
    let sign_in = |shown: Shown, code: String| async move {
        shown.ask(addr, SCHEDULER, "POST", "/session", &json!({"code": code})).await
    };
    // Another page cannot, nor is it taken for what it is not.
    let foreign = cluster.shown("foreign page");
    assert_eq!(sign_in(foreign, code()).await, answer(403, "ForbiddenOrigin"));
    for bad in [String::new(), token.clone(), format!("klc_{}", "a".repeat(64))] {
        assert_eq!(sign_in(nobody.clone(), bad).await, answer(401, "UnknownCode"));
    }
    let once = code();
    assert_eq!(sign_in(nobody.clone(), once.clone()).await, answer(200, ""));
    assert_eq!(sign_in(nobody.clone(), once).await, answer(401, "UnknownCode"));

    // A code outlives its token no more than a session does.
    let brief = TokenRequest { role: Grant::Viewer, name: None, expires_in_seconds: None };
    let brief = cluster.keeper.create_token(&brief).unwrap();
    let asking = cluster.keeper.identify(None, Some(&brief.secret)).unwrap();
    let left = cluster.keeper.offer_sign_in(&asking).unwrap().code;
    cluster.keeper.revoke_token(&brief.token.id).unwrap();
    assert_eq!(sign_in(nobody.clone(), left).await, answer(401, "RevokedToken"));

    // What is read ends with the session, and so it does with the token.
    for (who, ends) in [("page of operator", "sign out"), ("page of viewer", "revoke")] {
        let shown = cluster.shown(who);
        let name = ServerName::try_from(SCHEDULER).unwrap();
        let tcp = TcpStream::connect(addr).await.unwrap();
        let mut stream = TlsConnector::from(shown.tls.clone()).connect(name, tcp).await.unwrap();
        let cookie = &shown.headers[0].1;
        let head = format!("GET /stream HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        while !String::from_utf8_lossy(&raw).contains("event: state") {
            assert_ne!(stream.read_buf(&mut raw).await.unwrap(), 0, "{raw:?}");
        }
        match ends {
            "sign out" => {
                let said = shown.ask(addr, SCHEDULER, "DELETE", "/session", &Value::Null).await;
                assert_eq!(said, answer(200, ""));
            }
            _ => {
                for token in cluster.keeper.tokens() {
                    if token.role == Grant::Viewer && token.state == "good" {
                        cluster.keeper.revoke_token(&token.id).unwrap();
                    }
                }
            }
        }
        // To its end: it says itself that there is no more.
        let read = timeout(PATIENCE, async {
            while !raw.ends_with(b"0\r\n\r\n") {
                if stream.read_buf(&mut raw).await? == 0 {
                    break;
                }
            }
            std::io::Result::Ok(())
        });
        read.await.expect("the stream ends").unwrap();
        let said = shown.ask(addr, SCHEDULER, "GET", "/stream", &Value::Null).await;
        assert!(matches!(said, Said::Answer(401, _)), "{said:?}");
    }
    // The token that signed it in is as good as before.
    let said = operator.ask(addr, SCHEDULER, "GET", "/session", &Value::Null).await;
    assert_eq!(said, answer(200, ""));
    cluster.scheduler.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malicious_node_speaks_for_itself_only() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let node = cluster.shown("node"); // n1
    let ask = |method: &'static str, path: &'static str, body: Value| {
        let node = node.clone();
        async move { node.ask(addr, SCHEDULER, method, path, &body).await }
    };
    let hello = |name: &str, advertise: Option<&str>| {
        json!({"nodeId": name, "key": "k", "incarnation": 1, "port": 9, "advertise": advertise,
            "docker": {"state": "ok"}})
    };
    let refused = |status, reason: &str| Said::Answer(status, reason.to_owned());
    // Reports for another, and registers as one.
    let beat = json!({"nodeId": "n2", "incarnation": 1, "epoch": 1, "seq": 1, "synced": true,
        "docker": {"state": "ok"}, "containers": []});
    assert_eq!(ask("POST", "/heartbeat", beat).await, refused(403, "AnotherNode"));
    assert_eq!(ask("POST", "/register", hello("n2", None)).await, refused(403, "AnotherNode"));
    // Has a certificate made for another.
    let renewal = json!({"nodeId": "n2", "request": "x"});
    assert_eq!(ask("POST", "/renew", renewal).await, refused(403, "AnotherNode"));
    // Or one for itself, for a key that it does not have.
    let pair = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&pair).unwrap();
    let renewal = json!({"nodeId": "n1", "request": request.pem().unwrap()});
    assert_eq!(ask("POST", "/renew", renewal).await, refused(409, "NameTaken"));
    // Makes the scheduler fetch an address of its choice.
    for address in ["169.254.169.254:80", "localhost:8080", "10.0.0.1:1"] {
        let said = ask("POST", "/register", hello("n1", Some(address))).await;
        assert_eq!(said, refused(403, "ForeignAddress"), "{address}");
    }
    // Reads another's specs.
    for path in ["/workloads", "/instances", "/nodes", "/events", "/backup", "/stream", "/tokens"] {
        assert_eq!(
            ask("GET", path, Value::Null).await,
            refused(403, "WrongKindOfCaller"),
            "{path}"
        );
    }
    // Itself it may be.
    let said = ask("POST", "/register", hello("n1", None)).await;
    assert_eq!(said, Said::Answer(200, String::new()));

    // With a join token it becomes nobody who is there already.
    let taken = Membership::join(&cluster.home("thief"), &"n1".into(), &cluster.invitation).await;
    let error = format!("{:#}", taken.unwrap_err());
    assert!(error.contains("There is a node n1 already"), "{error}");

    // At an address where another node answers, the scheduler says nothing.
    let agent = cluster.agent("a1").await;
    let there = agent.local_addr().to_string();
    let client = AgentClient::secured(PATIENCE, cluster.keeper.client_config().unwrap());
    let right = client.health(&client.at(&NodeId::from("a1"), &there)).await;
    assert!(right.is_ok(), "{right:?}");
    let error = client.health(&client.at(&NodeId::from("n1"), &there)).await.unwrap_err();
    assert!(error.to_string().contains("somebody else"), "{error}");
    // Nor does an agent report to another one, whose certificate is as good as its own.
    let reporter = cluster.member("m9").await.client_config().unwrap();
    let reporter = Client::secured(&format!("https://{there}"), reporter).unwrap();
    let error = reporter.health().await.unwrap_err();
    assert!(error.to_string().contains("somebody else"), "{error}");
    agent.kill();
    cluster.scheduler.shutdown().await;
}

/// A spec may hold secrets: who only looks is shown the names of variables, everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_no_values() {
    const SECRET: &str = "hunter2";
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let spec = json!({"name": "web", "image": "i", "replicas": 0, "env": {"PASSWORD": SECRET}});
    let deployed = cluster.shown("operator").ask(addr, SCHEDULER, "POST", "/deploy", &spec).await;
    assert_eq!(deployed, Said::Answer(200, String::new()));
    let reads = [
        "/workloads",
        "/workloads/web",
        "/stream",
        "/events",
        "/workloads/web/explain",
        "/workloads/web/history",
        "/metrics",
        "/instances",
    ];
    for path in reads {
        let seen = cluster.shown("viewer").read(addr, path).await;
        assert!(seen.starts_with("HTTP/1.1 200"), "{path}: {seen}");
        assert!(!seen.contains(SECRET), "{path}: {seen}");
    }
    for path in ["/workloads", "/workloads/web", "/workloads/web/history", "/stream"] {
        let (seen, all) = (cluster.shown("viewer"), cluster.shown("operator"));
        assert!(seen.read(addr, path).await.contains(r#""PASSWORD":"(hidden)""#), "{path}");
        assert!(all.read(addr, path).await.contains(SECRET), "{path}");
    }
    // What changes comes to a page that looks on, too.
    let mut stream = cluster.shown("viewer").open(addr, "/stream").await;
    let mut heard = until_heard(&mut stream, "PASSWORD").await;
    let spec = json!({"name": "web", "image": "i", "replicas": 0, "env": {"PASSWORD": "hunter22"}});
    cluster.shown("operator").ask(addr, SCHEDULER, "POST", "/deploy", &spec).await;
    heard += &until_heard(&mut stream, "\"revision\":2").await;
    assert!(!heard.contains(SECRET), "{heard}");
    cluster.scheduler.shutdown().await;
}

/// A token that is taken back ends what it had opened.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_shut_out_hears_no_more() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let asked = TokenRequest { role: Grant::Viewer, name: None, expires_in_seconds: None };
    let made = cluster.keeper.create_token(&asked).unwrap();
    let tls = client_config(&cluster.authority, None).unwrap();
    let viewer = Shown { tls, token: Some(made.secret), headers: Vec::new() };
    let mut streams = Vec::new();
    for path in ["/stream", "/events?follow=true"] {
        let mut stream = viewer.open(addr, path).await;
        let head = until_heard(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        streams.push((path, stream));
    }
    cluster.keeper.revoke_token(&made.token.id).unwrap();
    for (path, mut stream) in streams {
        let end = async {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await
        };
        assert!(timeout(PATIENCE, end).await.is_ok(), "{path} goes on");
    }
    cluster.scheduler.shutdown().await;
}

/// A node that lies about itself with numbers that cannot be must leave a scheduler that
/// reads its own records back.
#[tokio::test(flavor = "multi_thread")]
async fn a_malicious_node_does_not_keep_the_scheduler_from_starting_again() {
    let cluster = Cluster::start().await;
    let data = cluster.dir.path().join("data");
    let config = || SchedulerConfig {
        keeper: Some(cluster.keeper.clone()),
        data_dir: Some(data.clone()),
        ..SchedulerConfig::default()
    };
    let scheduler = scheduler::start(config()).await.unwrap();
    let addr = scheduler.local_addr();
    let spec = json!({"name": "web", "image": "i", "replicas": 1});
    let operator = cluster.shown("operator");
    operator.ask(addr, SCHEDULER, "POST", "/deploy", &spec).await;
    let node = cluster.shown("node");
    let hello = json!({"nodeId": "n1", "key": "k", "incarnation": 1, "port": 9,
        "docker": {"state": "ok"}});
    let mut epoch = 1_u64;
    for (number, reported) in [
        json!({"epoch": (1_u64 << 31) - 2}),
        json!({"epoch": u64::MAX}),
        json!({"containers": [{"revision": (1_u64 << 53) - 1}]}),
        json!({"containers": [{"revision": 1, "restarts": u32::MAX, "backoffStep": u32::MAX}]}),
        json!({"containers": [{"revision": 1, "replica": u32::MAX}]}),
        json!({"containers": [{"workloadId": "../x", "revision": 1}]}),
        json!({"containers": [{"id": "x\"y", "revision": 1}]}),
    ]
    .into_iter()
    .enumerate()
    {
        node.ask(addr, SCHEDULER, "POST", "/register", &hello).await;
        let mut beat = json!({"nodeId": "n1", "incarnation": 1, "epoch": epoch, "seq": number + 1,
            "synced": true, "docker": {"state": "ok"}, "containers": []});
        let whole = json!({"id": format!("web-r1-{number}"), "containerId": "c", "workloadId": "web",
            "replica": 0, "nodeId": "n1", "image": "i", "phase": "exited", "exitCode": 1});
        for (key, value) in reported.as_object().unwrap() {
            beat[key] = value.clone();
        }
        for container in beat["containers"].as_array_mut().unwrap() {
            let mut all = whole.clone();
            for (key, value) in container.as_object().unwrap() {
                all[key] = value.clone();
            }
            *container = all;
        }
        let said = node.ask(addr, SCHEDULER, "POST", "/heartbeat", &beat).await;
        assert!(matches!(said, Said::Answer(200 | 422, _)), "{number}: {said:?}");
        epoch = scheduler.handle().snapshot().state.epoch;
    }
    // What it made of that is on the disk with the next changes.
    let spec = json!({"name": "web", "image": "j", "replicas": 1});
    let said = operator.ask(addr, SCHEDULER, "POST", "/deploy", &spec).await;
    assert_eq!(said, Said::Answer(200, String::new()));
    scheduler.shutdown().await;
    for _ in 0..3 {
        scheduler::start(config()).await.expect("it starts again").shutdown().await;
    }
    cluster.scheduler.shutdown().await;
}

/// Who may ask is decided by the scheduler, whatever an agent answers.
#[tokio::test(flavor = "multi_thread")]
async fn figures_of_a_node_come_through_the_scheduler() {
    let cluster = Cluster::start().await;
    let addr = cluster.scheduler.local_addr();
    let agent = cluster.agent("a1").await;
    let viewer = cluster.shown("viewer");
    until("the node to be known", SHORT, || async {
        let seen = viewer.read_all(addr, "/nodes/a1/metrics").await;
        let good = seen.starts_with("HTTP/1.1 200") && seen.contains("kube_lite_agent_docker_up");
        if good { Ok(()) } else { Err(seen) }
    })
    .await;
    let seen = viewer.read_all(addr, "/nodes/nobody/metrics").await;
    assert!(seen.starts_with("HTTP/1.1 404"), "{seen}");
    agent.kill();
    cluster.scheduler.shutdown().await;
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// Reads on until these words have come.
async fn until_heard(stream: &mut Stream, words: &str) -> String {
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
    async fn open(&self, addr: SocketAddr, path: &str) -> Stream {
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
    async fn read(&self, addr: SocketAddr, path: &str) -> String {
        match path {
            "/stream" => until_heard(&mut self.open(addr, path).await, "\"resumed\":").await,
            _ => self.read_all(addr, path).await,
        }
    }

    async fn read_all(&self, addr: SocketAddr, path: &str) -> String {
        let mut stream = self.open(addr, path).await;
        let mut all = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("an end").unwrap();
        String::from_utf8_lossy(&all).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_is_with_the_right_scheduler_and_once() {
    let cluster = Cluster::start().await;
    let join = |home: &'static str, node: &'static str, invitation: Invitation| {
        let home = cluster.home(home);
        async move { Membership::join(&home, &NodeId::from(node), &invitation).await }
    };
    // Another authority than the token is of: the secret is not even told.
    let fingerprint = "0".repeat(64);
    let wrong = Invitation { fingerprint, ..cluster.invitation.clone() };
    let error = format!("{:#}", join("m", "m", wrong).await.unwrap_err());
    assert!(error.contains("another cluster"), "{error}");
    assert!(!error.contains(cluster.invitation.secret.reveal()), "no secret in an error");
    // That attempt left a key; the next one goes on with it.
    let member = join("m", "m", cluster.invitation.clone()).await.unwrap();
    let kept = cluster.home("m").join("identity.json");
    let before = std::fs::read(&kept).unwrap();
    assert_eq!(mode(&kept), 0o600);
    drop(member);
    // Again: nothing happens. As somebody else: no.
    join("m", "m", cluster.invitation.clone()).await.unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), before);
    let error = format!("{:#}", join("m", "other", cluster.invitation.clone()).await.unwrap_err());
    assert!(error.contains("is of node m"), "{error}");
    // Its answer got lost: the same key may ask again.
    let text = String::from_utf8(before).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["certificate"] = Value::Null;
    std::fs::write(&kept, value.to_string()).unwrap();
    join("m", "m", cluster.invitation.clone()).await.unwrap();

    // Who knows the fingerprint knows the scheduler; with another one, nobody is there.
    let tls = pinned_config(&cluster.invitation.fingerprint).unwrap();
    let shown = Shown { tls, token: None, headers: Vec::new() };
    let addr = cluster.scheduler.local_addr();
    let said = shown.ask(addr, SCHEDULER, "GET", "/health", &Value::Null).await;
    assert_eq!(said, Said::Answer(200, String::new()));
    let said = shown.ask(addr, "a1.node.kube-lite", "GET", "/health", &Value::Null).await;
    assert!(matches!(said, Said::Nothing(_)), "{said:?}");
    let _ = &cluster.authority;
    cluster.scheduler.shutdown().await;
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
