//! What is said about identities over HTTP.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use serde::{Deserialize, Serialize};

use super::access::Role;
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

/// `POST /session/code`: what signs a browser in, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignInOffer {
    /// To be given to the page.
    pub code: String,
    /// Whose token it was made with.
    pub name: String,
    /// What the browser will be allowed.
    pub role: Role,
    /// How long it may wait to be used.
    pub expires_in_seconds: Seconds,
    /// SHA-256 of the certificate that the browser will be shown.
    pub certificate: String,
}

impl std::fmt::Debug for SignInOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInOffer").field("role", &self.role).finish_non_exhaustive()
    }
}

/// `POST /session`: a browser signs in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInRequest {
    /// The code of a [`SignInOffer`].
    pub code: String,
}

impl std::fmt::Debug for SignInRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInRequest").finish_non_exhaustive()
    }
}

/// `GET /session`, and the answer to `POST /session`: who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// What the token is called; empty where nobody is asked who he is.
    pub name: String,
    /// What is allowed.
    pub role: Role,
    /// Whether this is a browser that was signed in, and can sign out.
    pub signed_in: bool,
    /// How long that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_seconds: Option<Seconds>,
}
