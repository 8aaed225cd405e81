//! Who may do what, over real TLS: every route of both servers, from their tables,
//! against every kind of credentials.

#[path = "support/secured.rs"]
mod secured;

use std::net::SocketAddr;

use kube_lite::http::{Access, Handler as _, Route};
use kube_lite::roles::agent::server::AgentServer;
use kube_lite::roles::scheduler::server::ROUTES;
use serde_json::Value;

use secured::*;

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
