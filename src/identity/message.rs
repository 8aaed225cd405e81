//! What is said about identities over HTTP.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use serde::{Deserialize, Serialize};

use super::ledger::{Grant, Seconds, TokenView};
use crate::model::NodeId;

/// `POST /join` and `POST /renew`: a machine wants a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequest {
    /// The node it is, or wants to be.
    pub node_id: NodeId,
    /// A request for its key, signed with it (PKCS #10), as PEM.
    pub request: String,
}

/// The answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateResponse {
    /// The certificate, as PEM.
    pub certificate: String,
    /// The authority's, as PEM.
    pub authority: String,
    /// When it was signed, in seconds since 1970.
    pub issued_at: Seconds,
    /// Until when it is good.
    pub expires_at: Seconds,
}

/// `POST /tokens`: an admin wants a new token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequest {
    /// What it is for.
    pub role: Grant,
    /// What it is called; stands in histories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How long it is good: a day for joining, for ever for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<Seconds>,
}

/// The answer to it. Its secret is told this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenResponse {
    /// What is kept of it.
    #[serde(flatten)]
    pub token: TokenView,
    /// The token.
    pub secret: String,
    /// SHA-256 of the authority's certificate.
    pub fingerprint: String,
}

impl std::fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenResponse").field("token", &self.token).finish_non_exhaustive()
    }
}
