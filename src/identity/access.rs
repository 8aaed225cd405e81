//! What a caller may do. The only judge: a route says in its table who may call it
//! ([`Access`]), and this compares.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use serde::{Deserialize, Serialize};

use crate::http::Access;
use crate::model::{ApiError, NodeId};

/// What a person may do; each may what those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Change workloads.
    Operator,
    /// Change the cluster: nodes, tokens, backups.
    Admin,
}

impl Role {
    /// In lower case, as on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

/// By what a person has proved to be one. Of secrets, hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The token itself.
    Token(String),
    /// The session of a browser that was signed in with one.
    Session(String),
}

/// Who has proved to be behind a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// This server asks nobody who he is.
    Anybody,
    /// No credentials were shown.
    Nobody,
    /// A person, by a token or by what came of one.
    Person {
        /// What the token is called.
        name: String,
        /// What it allows.
        role: Role,
        /// How that is known.
        proof: Proof,
    },
    /// The holder of a token that lets machines join.
    Joiner,
    /// The agent of this node.
    Node(NodeId),
    /// The same, with a certificate that has expired.
    ExpiredNode(NodeId),
    /// The cluster's scheduler.
    Scheduler,
}

/// Why a caller is turned away. What it says helps who made a mistake; whether a
/// guess was near is not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such token, and perhaps never was.
    UnknownToken,
    /// Neither `Bearer TOKEN` nor a token of ours.
    MalformedToken,
    /// It was good once.
    ExpiredToken,
    /// It was taken back.
    RevokedToken,
    /// No code that signs in, any more or ever.
    UnknownCode,
    /// No session, any more or ever.
    UnknownSession,
    /// A cookie came with what another page asks.
    ForeignPage,
    /// The certificate says neither a node nor the scheduler.
    UnknownCertificate,
    /// The node was removed, or its certificate taken back.
    RevokedCertificate(NodeId),
    /// Nothing was shown, and something is needed.
    NoCredentials(Access),
    /// The certificate has expired, and only renewing it is possible.
    ExpiredCertificate(NodeId),
    /// The scheduler's has, by the clock of whom it calls.
    ExpiredScheduler,
    /// The role is too small.
    RoleTooSmall {
        /// The role there is.
        has: Role,
        /// The one it takes.
        needs: Role,
    },
    /// Known, but of the wrong kind.
    WrongKind {
        /// Who calls.
        is: &'static str,
        /// For whom the route is.
        needs: Access,
    },
    /// A node speaks for another one.
    AnotherNode {
        /// Whose certificate it is.
        is: NodeId,
    },
    /// A node names an address that is not its own.
    ForeignAddress {
        /// Where the connection came from.
        from: String,
    },
    /// Somebody else has that name, with another key.
    NameTaken(NodeId),
}

/// May this caller use a route that is for `access`?
///
/// # Errors
/// When not: why.
pub fn authorise(access: Access, caller: &Identity) -> Result<(), Refusal> {
    let needs = match access {
        Access::Public => return Ok(()),
        Access::Viewer => Some(Role::Viewer),
        Access::Operator => Some(Role::Operator),
        Access::Admin => Some(Role::Admin),
        Access::Token | Access::Agent | Access::Renewal | Access::Joiner | Access::Scheduler => {
            None
        }
    };
    match (caller, needs) {
        (Identity::Anybody, _) => Ok(()),
        (Identity::Nobody, _) => Err(Refusal::NoCredentials(access)),
        // Otherwise a session could make another one, and so last for ever.
        (Identity::Person { proof: Proof::Token(_), .. }, _) if access == Access::Token => Ok(()),
        (Identity::Person { role, .. }, Some(needs)) if *role >= needs => Ok(()),
        (Identity::Person { role, .. }, Some(needs)) => {
            Err(Refusal::RoleTooSmall { has: *role, needs })
        }
        // It asks agents for what those want to see whom it has let pass itself.
        (Identity::Scheduler, _) if matches!(access, Access::Scheduler | Access::Viewer) => Ok(()),
        (Identity::Node(_), _) if matches!(access, Access::Agent | Access::Renewal) => Ok(()),
        (Identity::ExpiredNode(_), _) if access == Access::Renewal => Ok(()),
        (Identity::ExpiredNode(node), _) => Err(Refusal::ExpiredCertificate(node.clone())),
        (Identity::Joiner, _) if access == Access::Joiner => Ok(()),
        (other, _) => Err(Refusal::WrongKind { is: kind(other), needs: access }),
    }
}

/// May this caller speak for `node`?
///
/// # Errors
/// When it is another node.
pub fn speaks_for(caller: &Identity, node: &NodeId) -> Result<(), Refusal> {
    match caller {
        Identity::Node(is) | Identity::ExpiredNode(is) if is != node => {
            Err(Refusal::AnotherNode { is: is.clone() })
        }
        _ => Ok(()),
    }
}

/// May this caller see the values in the environment of workloads? They may be secrets,
/// and who only looks needs none of them.
pub fn may_see_values(caller: &Identity) -> bool {
    match caller {
        Identity::Anybody => true,
        Identity::Person { role, .. } => *role >= Role::Operator,
        _ => false,
    }
}

/// May a node that calls from `peer` be called back at `advertised` (`host:port`)?
/// Hosts in `allowed` were named by the operator.
///
/// # Errors
/// When it is not the address it comes from.
pub fn may_advertise(
    advertised: Option<&str>,
    peer: std::net::IpAddr,
    allowed: &[String],
) -> Result<(), Refusal> {
    let Some(advertised) = advertised else { return Ok(()) };
    let host = advertised.rsplit_once(':').map_or(advertised, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let peer = peer.to_canonical();
    let own = bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical() == peer);
    match own || allowed.iter().any(|known| known.eq_ignore_ascii_case(bare)) {
        true => Ok(()),
        false => Err(Refusal::ForeignAddress { from: peer.to_string() }),
    }
}

fn kind(caller: &Identity) -> &'static str {
    match caller {
        Identity::Anybody | Identity::Nobody => "somebody unknown",
        Identity::Person { proof: Proof::Session(_), .. } => "a page of the dashboard",
        Identity::Person { .. } => "a person",
        Identity::Joiner => "the holder of a join token",
        Identity::Node(_) | Identity::ExpiredNode(_) => "a node",
        Identity::Scheduler => "the scheduler",
    }
}

fn meant(access: Access) -> &'static str {
    match access {
        Access::Public => "everybody",
        Access::Viewer => "people with a token (viewer, operator or admin)",
        Access::Operator => "people with a token (operator or admin)",
        Access::Admin => "people with an admin's token",
        Access::Token => "people who show their token, as kube-lite ctl does",
        Access::Agent | Access::Renewal => "agents with their node's certificate",
        Access::Joiner => "machines that join, with a join token",
        Access::Scheduler => "the scheduler of this cluster, with its certificate",
    }
}

impl Refusal {
    /// For machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::UnknownToken => "UnknownToken",
            Refusal::MalformedToken => "MalformedToken",
            Refusal::ExpiredToken => "ExpiredToken",
            Refusal::RevokedToken => "RevokedToken",
            Refusal::UnknownCode => "UnknownCode",
            Refusal::UnknownSession => "UnknownSession",
            Refusal::ForeignPage => "ForbiddenOrigin",
            Refusal::UnknownCertificate => "UnknownCertificate",
            Refusal::RevokedCertificate(_) => "RevokedCertificate",
            Refusal::NoCredentials(_) => "NoCredentials",
            Refusal::ExpiredCertificate(_) | Refusal::ExpiredScheduler => "ExpiredCertificate",
            Refusal::RoleTooSmall { .. } => "RoleTooSmall",
            Refusal::WrongKind { .. } => "WrongKindOfCaller",
            Refusal::AnotherNode { .. } => "AnotherNode",
            Refusal::ForeignAddress { .. } => "ForeignAddress",
            Refusal::NameTaken(_) => "NameTaken",
        }
    }

    /// 401 when other credentials would help, 403 when these are known and not
    /// enough.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::UnknownToken
            | Refusal::MalformedToken
            | Refusal::ExpiredToken
            | Refusal::RevokedToken
            | Refusal::UnknownCode
            | Refusal::UnknownSession
            | Refusal::UnknownCertificate
            | Refusal::RevokedCertificate(_)
            | Refusal::NoCredentials(_)
            | Refusal::ExpiredCertificate(_)
            | Refusal::ExpiredScheduler => 401,
            Refusal::RoleTooSmall { .. }
            | Refusal::WrongKind { .. }
            | Refusal::AnotherNode { .. }
            | Refusal::ForeignPage
            | Refusal::ForeignAddress { .. } => 403,
            Refusal::NameTaken(_) => 409,
        }
    }

    fn sentence(&self) -> String {
        match self {
            Refusal::UnknownToken => "This token is not known here. Is it of this cluster, and \
                copied whole? An admin makes a new one: kube-lite ctl token create"
                .to_owned(),
            Refusal::MalformedToken => "The Authorization header must be `Bearer TOKEN`, with a \
                token as kube-lite gives it out."
                .to_owned(),
            Refusal::ExpiredToken => "This token has expired. An admin makes a new one: \
                kube-lite ctl token create"
                .to_owned(),
            Refusal::RevokedToken => "This token was revoked. An admin makes a new one: \
                kube-lite ctl token create"
                .to_owned(),
            Refusal::UnknownCode => "This code does not sign in: each is good once, and for five \
                minutes. Make another one: kube-lite ctl dashboard"
                .to_owned(),
            Refusal::UnknownSession => "You are not signed in any more. Make another link to sign \
                in: kube-lite ctl dashboard"
                .to_owned(),
            Refusal::ForeignPage => "A browser's session is for the dashboard's own page alone: \
                what comes from another page, or does not say from where, is refused."
                .to_owned(),
            Refusal::UnknownCertificate => {
                "This certificate is of no node of this cluster.".to_owned()
            }
            Refusal::RevokedCertificate(node) => format!(
                "Node {node} was removed from this cluster, and its certificate with it. To let it \
                 in again: remove identity.json in the agent's data directory, then start it with \
                 a new join token (kube-lite ctl token create --role join)."
            ),
            Refusal::NoCredentials(access) => format!(
                "This is for {} only. For people: kube-lite ctl finds its token in the file that \
                 KUBE_LITE_CREDENTIALS names; others send the header `Authorization: Bearer TOKEN`.",
                meant(*access)
            ),
            Refusal::ExpiredCertificate(node) => format!(
                "The certificate of node {node} has expired; its agent renews it by itself. If it \
                 does not: is the clock of one of the two machines wrong?"
            ),
            Refusal::ExpiredScheduler => "The scheduler's certificate has expired, by the clock \
                here; it has a newer one for a new connection. If that does not help: is the \
                clock of one of the two machines wrong?"
                .to_owned(),
            Refusal::RoleTooSmall { has, needs } => format!(
                "This takes the role {}, and your token has the role {}.",
                needs.as_str(),
                has.as_str()
            ),
            Refusal::WrongKind { is, needs } => {
                format!("This is for {}, and not for {is}.", meant(*needs))
            }
            Refusal::AnotherNode { is } => format!(
                "This is the certificate of node {is}, which speaks for itself only. Does the \
                 agent use the data directory of another one?"
            ),
            Refusal::ForeignAddress { from } => format!(
                "A node is called back only at the address it comes from, {from}. Leave out \
                 --advertise, or allow its host where the scheduler is started: \
                 --allow-advertise HOST"
            ),
            Refusal::NameTaken(node) => format!(
                "There is a node {node} already, with another key. Choose another --node-id; or, \
                 if that machine is gone for good: kube-lite ctl node remove {node}"
            ),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        ApiError::new(refusal.status(), refusal.reason(), refusal.sentence())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of caller against every kind of route: `+`, or the reason.
    #[test]
    fn everybody_against_everything() {
        use Access::{Admin, Agent, Joiner, Operator, Public, Renewal, Scheduler, Token, Viewer};
        let by = |role, proof| Identity::Person { name: "x".to_owned(), role, proof };
        let person = |role| by(role, Proof::Token("t".to_owned()));
        let page = |role| by(role, Proof::Session("s".to_owned()));
        let columns = [Public, Viewer, Operator, Admin, Token, Agent, Renewal, Joiner, Scheduler];
        const NO: &str = "NoCredentials";
        const SMALL: &str = "RoleTooSmall";
        const KIND: &str = "WrongKindOfCaller";
        const OLD: &str = "ExpiredCertificate";
        let rows = [
            (Identity::Anybody, ["+", "+", "+", "+", "+", "+", "+", "+", "+"]),
            (Identity::Nobody, ["+", NO, NO, NO, NO, NO, NO, NO, NO]),
            (person(Role::Viewer), ["+", "+", SMALL, SMALL, "+", KIND, KIND, KIND, KIND]),
            (person(Role::Operator), ["+", "+", "+", SMALL, "+", KIND, KIND, KIND, KIND]),
            (person(Role::Admin), ["+", "+", "+", "+", "+", KIND, KIND, KIND, KIND]),
            (page(Role::Viewer), ["+", "+", SMALL, SMALL, KIND, KIND, KIND, KIND, KIND]),
            (page(Role::Operator), ["+", "+", "+", SMALL, KIND, KIND, KIND, KIND, KIND]),
            (page(Role::Admin), ["+", "+", "+", "+", KIND, KIND, KIND, KIND, KIND]),
            (Identity::Joiner, ["+", KIND, KIND, KIND, KIND, KIND, KIND, "+", KIND]),
            (Identity::Node("n".into()), ["+", KIND, KIND, KIND, KIND, "+", "+", KIND, KIND]),
            (Identity::ExpiredNode("n".into()), ["+", OLD, OLD, OLD, OLD, OLD, "+", OLD, OLD]),
            (Identity::Scheduler, ["+", "+", KIND, KIND, KIND, KIND, KIND, KIND, "+"]),
        ];
        for (caller, wanted) in rows {
            for (access, wanted) in columns.into_iter().zip(wanted) {
                let is = authorise(access, &caller).map_or_else(|no| no.reason(), |()| "+");
                assert_eq!(is, wanted, "{caller:?} at {access:?}");
            }
        }
    }

    #[test]
    fn values_are_for_those_who_can_set_them() {
        let proof = Proof::Token(String::new());
        let person = |role| Identity::Person { name: String::new(), role, proof: proof.clone() };
        assert!(may_see_values(&Identity::Anybody), "nobody is asked who he is");
        assert!(may_see_values(&person(Role::Admin)) && may_see_values(&person(Role::Operator)));
        for caller in [person(Role::Viewer), Identity::Nobody, Identity::Node("n".into())] {
            assert!(!may_see_values(&caller), "{caller:?}");
        }
    }

    #[test]
    fn a_node_speaks_for_itself() {
        let (me, other) = (NodeId::from("me"), NodeId::from("other"));
        assert_eq!(speaks_for(&Identity::Node(me.clone()), &me), Ok(()));
        assert_eq!(speaks_for(&Identity::Anybody, &me), Ok(()));
        for caller in [Identity::Node(me.clone()), Identity::ExpiredNode(me.clone())] {
            assert_eq!(speaks_for(&caller, &other), Err(Refusal::AnotherNode { is: me.clone() }));
        }
    }

    #[test]
    fn a_node_is_called_back_where_it_came_from() {
        let peer = "::ffff:10.0.0.7".parse().unwrap();
        let allowed = ["gate.example".to_owned(), "10.9.9.9".to_owned()];
        for good in [
            None,
            Some("10.0.0.7:1"),
            Some("[::ffff:10.0.0.7]:1"),
            Some("Gate.example:1"),
            Some("10.9.9.9:2"),
        ] {
            assert_eq!(may_advertise(good, peer, &allowed), Ok(()), "{good:?}");
        }
        for bad in ["10.0.0.8:1", "localhost:1", "169.254.169.254:80", "10.0.0.7.evil:1", ""] {
            let refusal = may_advertise(Some(bad), peer, &allowed).unwrap_err();
            assert_eq!(refusal.reason(), "ForeignAddress", "{bad}");
        }
    }

    #[test]
    fn no_refusal_says_more_than_its_reader_knows() {
        let error = ApiError::from(Refusal::UnknownToken);
        assert_eq!((error.status, error.reason.as_str()), (401, "UnknownToken"));
        let small = Refusal::RoleTooSmall { has: Role::Viewer, needs: Role::Admin };
        assert!(ApiError::from(small).error.contains("role admin"));
    }
}
