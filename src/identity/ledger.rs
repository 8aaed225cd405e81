//! Who is known: tokens by their hashes, nodes by their keys. Kept in one file
//! beside the authority's key, not among the records of the cluster: a backup of
//! those opens no door.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::access::{Identity, Proof, Refusal, Role};
use crate::model::NodeId;

/// Seconds since 1970.
pub type Seconds = u64;

/// What has ended is remembered for so long, to say so to who still uses it.
const REMEMBERED: Seconds = 30 * 24 * 3600;
/// So much of a token's hash names it.
const ID_DIGITS: usize = 10;

/// Everybody who is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    /// Names under which the scheduler is called.
    pub hosts: Vec<String>,
    tokens: BTreeMap<String, Token>,
    nodes: BTreeMap<NodeId, Member>,
    /// Keys that may never come back, and whose they were.
    revoked: BTreeMap<String, NodeId>,
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// Machines may join.
    Join,
    /// A person may look.
    Viewer,
    /// A person may change workloads.
    Operator,
    /// A person may change the cluster.
    Admin,
}

impl Grant {
    fn identity(self, name: &str, proof: Proof) -> Identity {
        let role = match self {
            Grant::Join => return Identity::Joiner,
            Grant::Viewer => Role::Viewer,
            Grant::Operator => Role::Operator,
            Grant::Admin => Role::Admin,
        };
        Identity::Person { name: name.to_owned(), role, proof }
    }
}

/// A token, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    grant: Grant,
    name: String,
    created: Seconds,
    #[serde(default)]
    expires: Option<Seconds>,
    #[serde(default)]
    revoked: Option<Seconds>,
}

impl Token {
    fn is_good(&self, now: Seconds) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|at| now < at)
    }
}

/// A node that has a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    /// SHA-256 of its public key, which it keeps for its life.
    key: String,
    /// SHA-256 of its newest certificate.
    newest: String,
    expires: Seconds,
}

/// What is read from a certificate that the authority has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// The node it names.
    pub node: NodeId,
    /// SHA-256 of its public key.
    pub key: String,
    /// SHA-256 of all of it.
    pub fingerprint: String,
    /// The last second of its life.
    pub expires: Seconds,
}

/// A token as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// To revoke it by.
    pub id: String,
    /// What it is for.
    pub role: Grant,
    /// What it is called.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created: Seconds,
    /// When it ends; never when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Seconds>,
    /// `good`, `expired` or `revoked`.
    pub state: String,
}

/// Why a token was not revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrevoked {
    /// There is none with that id.
    Unknown,
    /// Nobody could make another one.
    LastAdmin,
}

impl Ledger {
    /// Of a scheduler that is called by these names, and nobody else.
    pub fn of(hosts: &[String]) -> Self {
        Self { hosts: hosts.to_vec(), ..Self::default() }
    }

    /// Keeps a new token, of which only the hash is told. Answers with its id.
    pub fn add_token(
        &mut self,
        hash: &str,
        grant: Grant,
        name: &str,
        now: Seconds,
        life: Option<Seconds>,
    ) -> TokenView {
        self.tokens.retain(|_, token| {
            let ended = token.revoked.into_iter().chain(token.expires).min();
            ended.is_none_or(|at| now < at.saturating_add(REMEMBERED))
        });
        let token = Token {
            grant,
            name: name.to_owned(),
            created: now,
            expires: life.map(|life| now.saturating_add(life)),
            revoked: None,
        };
        let view = shown(hash, &token, now);
        self.tokens.insert(hash.to_owned(), token);
        view
    }

    /// All tokens, the oldest first.
    pub fn tokens(&self, now: Seconds) -> Vec<TokenView> {
        let mut views: Vec<TokenView> =
            self.tokens.iter().map(|(hash, token)| shown(hash, token, now)).collect();
        views.sort_by_key(|view| view.created);
        views
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// When there is none, or it is the last one of an admin.
    pub fn revoke_token(&mut self, id: &str, now: Seconds) -> Result<TokenView, Unrevoked> {
        let hash = self.tokens.keys().find(|hash| id_of(hash) == id).cloned();
        let hash = hash.ok_or(Unrevoked::Unknown)?;
        // One that expires would leave nobody one day.
        let lasts = |token: &Token| {
            token.grant == Grant::Admin && token.is_good(now) && token.expires.is_none()
        };
        let admins = |(of, token): (&String, &Token)| lasts(token) && *of != hash;
        if self.tokens.get(&hash).is_some_and(lasts) && !self.tokens.iter().any(admins) {
            return Err(Unrevoked::LastAdmin);
        }
        let token = self.tokens.get_mut(&hash).ok_or(Unrevoked::Unknown)?;
        token.revoked = token.revoked.or(Some(now));
        Ok(shown(&hash, token, now))
    }

    /// Whose token has this hash.
    ///
    /// # Errors
    /// When nobody's, or it is good no more.
    pub fn holder(&self, hash: &str, now: Seconds) -> Result<Identity, Refusal> {
        self.behind(hash, Proof::Token(hash.to_owned()), now)
    }

    /// Whose token has this hash, when that is proved in another way.
    ///
    /// # Errors
    /// When nobody's, or it is good no more.
    pub fn behind(&self, hash: &str, proof: Proof, now: Seconds) -> Result<Identity, Refusal> {
        let token = self.tokens.get(hash).ok_or(Refusal::UnknownToken)?;
        if token.revoked.is_some() {
            return Err(Refusal::RevokedToken);
        }
        if !token.is_good(now) {
            return Err(Refusal::ExpiredToken);
        }
        Ok(token.grant.identity(&token.name, proof))
    }

    /// When the token with this hash ends, if it does.
    pub fn end_of(&self, hash: &str) -> Option<Seconds> {
        self.tokens.get(hash)?.expires
    }

    /// May a machine with this key become, or be again, this node?
    ///
    /// # Errors
    /// When the key was revoked, or another machine has that name.
    pub fn may_join(&self, node: &NodeId, key: &str) -> Result<(), Refusal> {
        if let Some(whose) = self.revoked.get(key) {
            return Err(Refusal::RevokedCertificate(whose.clone()));
        }
        match self.nodes.get(node) {
            Some(member) if member.key != key => Err(Refusal::NameTaken(node.clone())),
            _ => Ok(()),
        }
    }

    /// May the holder of this certificate have a new one, for this key?
    ///
    /// # Errors
    /// When it is not the node any more, or asks with another key.
    pub fn may_renew(&self, node: &NodeId, key: &str) -> Result<(), Refusal> {
        self.may_join(node, key)?;
        match self.nodes.contains_key(node) {
            true => Ok(()),
            false => Err(Refusal::RevokedCertificate(node.clone())),
        }
    }

    /// Notes a certificate that was given out.
    pub fn enrol(&mut self, certified: &Certified) {
        let member = Member {
            key: certified.key.clone(),
            newest: certified.fingerprint.clone(),
            expires: certified.expires,
        };
        self.nodes.insert(certified.node.clone(), member);
    }

    /// Takes a node's certificate back; `false`: it had none.
    pub fn revoke_node(&mut self, node: &NodeId) -> bool {
        let Some(member) = self.nodes.remove(node) else { return false };
        self.revoked.insert(member.key, node.clone());
        true
    }

    /// Who shows this certificate, which the authority has signed.
    ///
    /// # Errors
    /// When it is of no node that is known.
    pub fn bearer(&self, shown: &Certified, now: Seconds) -> Result<Identity, Refusal> {
        self.may_renew(&shown.node, &shown.key)?;
        Ok(match now <= shown.expires {
            true => Identity::Node(shown.node.clone()),
            false => Identity::ExpiredNode(shown.node.clone()),
        })
    }

    /// Whether this is a certificate that the node has got a newer one for.
    pub fn is_outdated(&self, shown: &Certified) -> bool {
        self.nodes.get(&shown.node).is_some_and(|member| member.newest != shown.fingerprint)
    }
}

fn id_of(hash: &str) -> &str {
    hash.get(..ID_DIGITS).unwrap_or(hash)
}

fn shown(hash: &str, token: &Token, now: Seconds) -> TokenView {
    let state = match (token.revoked, token.is_good(now)) {
        (Some(_), _) => "revoked",
        (None, true) => "good",
        (None, false) => "expired",
    };
    TokenView {
        id: id_of(hash).to_owned(),
        role: token.grant,
        name: token.name.clone(),
        created: token.created,
        expires: token.expires,
        state: state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(node: &str, key: &str, number: u64) -> Certified {
        let fingerprint = format!("{node}{key}{number}");
        Certified { node: node.into(), key: key.into(), fingerprint, expires: number }
    }

    #[test]
    fn a_token_s_life() {
        let mut ledger = Ledger::default();
        let admin = ledger.add_token("aaaaaaaaaaaa", Grant::Admin, "root", 100, None);
        let view = ledger.add_token("bbbbbbbbbbbb", Grant::Operator, "ci", 100, Some(50));
        ledger.add_token("cccccccccccc", Grant::Join, "", 100, Some(1000));
        let proof = Proof::Token("bbbbbbbbbbbb".into());
        let person = Identity::Person { name: "ci".into(), role: Role::Operator, proof };
        assert_eq!(ledger.end_of("bbbbbbbbbbbb"), Some(150));
        assert_eq!(ledger.end_of("aaaaaaaaaaaa"), None);
        assert_eq!(ledger.holder("bbbbbbbbbbbb", 149), Ok(person));
        assert_eq!(ledger.holder("bbbbbbbbbbbb", 150), Err(Refusal::ExpiredToken));
        assert_eq!(ledger.holder("cccccccccccc", 150), Ok(Identity::Joiner));
        assert_eq!(ledger.holder("bbbbbbbbbb", 100), Err(Refusal::UnknownToken), "an id is none");
        assert_eq!(ledger.holder("", 100), Err(Refusal::UnknownToken));
        assert_eq!(ledger.revoke_token(&view.id, 120).unwrap().state, "revoked");
        assert_eq!(ledger.holder("bbbbbbbbbbbb", 121), Err(Refusal::RevokedToken));
        assert_eq!(ledger.revoke_token("nope", 120), Err(Unrevoked::Unknown));
        assert_eq!(ledger.revoke_token(&admin.id, 120), Err(Unrevoked::LastAdmin));
        let passing = ledger.add_token("eeeeeeeeeeee", Grant::Admin, "guest", 120, Some(2000));
        assert_eq!(ledger.revoke_token(&admin.id, 121), Err(Unrevoked::LastAdmin), "soon");
        assert!(ledger.revoke_token(&passing.id, 121).is_ok());
        let states: Vec<_> = ledger.tokens(2000).into_iter().map(|view| view.state).collect();
        assert_eq!(states, ["good", "revoked", "expired", "revoked"]);
        // What has long ended is forgotten when there is something new.
        ledger.add_token("dddddddddddd", Grant::Admin, "second", 120 + REMEMBERED, None);
        assert_eq!(ledger.tokens(120 + REMEMBERED).len(), 4);
        assert!(ledger.revoke_token(&admin.id, 120 + REMEMBERED).is_ok(), "there is another one");
    }

    #[test]
    fn a_node_s_life() {
        let mut ledger = Ledger::default();
        let (node, first, second) =
            (NodeId::from("n"), certified("n", "k", 100), certified("n", "k", 200));
        let revoked = Refusal::RevokedCertificate(node.clone());
        assert_eq!(ledger.may_join(&node, "k"), Ok(()));
        assert_eq!(ledger.bearer(&first, 50), Err(revoked.clone()), "signed, but not known");
        ledger.enrol(&first);
        assert_eq!(ledger.may_join(&node, "k"), Ok(()), "its answer got lost: it asks again");
        assert_eq!(ledger.may_join(&node, "x"), Err(Refusal::NameTaken(node.clone())));
        assert_eq!(ledger.may_renew(&node, "x"), Err(Refusal::NameTaken(node.clone())));
        assert_eq!(ledger.bearer(&first, 100), Ok(Identity::Node(node.clone())));
        assert_eq!(ledger.bearer(&first, 101), Ok(Identity::ExpiredNode(node.clone())));
        ledger.enrol(&second);
        assert!(ledger.is_outdated(&first) && !ledger.is_outdated(&second));
        assert_eq!(ledger.bearer(&first, 100), Ok(Identity::Node(node.clone())));
        // Removed: neither it nor its key comes back, not under another name either.
        assert!(ledger.revoke_node(&node) && !ledger.revoke_node(&node));
        for shown in [&first, &second] {
            assert_eq!(ledger.bearer(shown, 50), Err(revoked.clone()));
        }
        assert_eq!(ledger.may_join(&node, "k"), Err(revoked.clone()));
        assert_eq!(ledger.may_join(&"m".into(), "k"), Err(revoked.clone()));
        // Another machine may have the name; the first one is still out.
        assert_eq!(ledger.may_join(&node, "new"), Ok(()));
        ledger.enrol(&certified("n", "new", 300));
        assert_eq!(ledger.bearer(&second, 50), Err(revoked));
    }
}
