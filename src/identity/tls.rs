//! What both ends of a connection check. TLS 1.3 only, one authority, no other roots.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::authority::{OF_A_NODE, SCHEDULER};
use super::ledger::{Certified, Seconds};
use super::token::sha256;
use crate::model::NodeId;

/// The cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What is read from the certificate of a peer. It was signed by our authority, and
/// the peer has its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    names: Vec<String>,
    key: String,
    fingerprint: String,
    expires: Seconds,
}

impl PeerCertificate {
    /// Reads a certificate; `None`: it cannot be read.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let names = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Some(Self {
            names: names.collect(),
            key: sha256(certificate.public_key().raw),
            fingerprint: sha256(der),
            expires: Seconds::try_from(certificate.validity().not_after.timestamp()).ok()?,
        })
    }

    /// The node that it names, and nothing but a node.
    pub fn node(&self) -> Option<Certified> {
        let [name] = self.names.as_slice() else { return None };
        let node = name.strip_suffix(OF_A_NODE).filter(|node| !node.contains('.'))?;
        Some(Certified {
            node: NodeId::from(node),
            key: self.key.clone(),
            fingerprint: self.fingerprint.clone(),
            expires: self.expires,
        })
    }

    /// Whether it is the scheduler's, and good at `now`.
    pub fn is_scheduler(&self, now: Seconds) -> bool {
        now <= self.expires && self.names_scheduler()
    }

    /// The same, also when it is too old.
    pub fn names_scheduler(&self) -> bool {
        self.names.iter().any(|name| name == SCHEDULER)
    }
}

/// The certificate that one shows, which is replaced when it has been renewed.
#[derive(Debug, Default)]
pub struct Badge(RwLock<Option<Arc<CertifiedKey>>>);

impl Badge {
    /// From now on this one is shown.
    pub fn wear(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// SHA-256 of the certificate that is shown now.
    pub fn fingerprint(&self) -> Option<String> {
        Some(sha256(self.worn()?.cert.first()?))
    }

    fn worn(&self) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Badge {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.worn()
    }
}

impl ResolvesClientCert for Badge {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.worn()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A server of the cluster: shows `badge`, and lets in whoever shows no certificate
/// or one of the authority. What they may then do is decided for each request.
///
/// # Errors
/// When the authority's certificate is none.
pub fn server_config(
    authority: &CertificateDer<'static>,
    badge: Arc<Badge>,
) -> anyhow::Result<Arc<ServerConfig>> {
    let inner = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider())
        .allow_unauthenticated()
        .build()?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Members { inner }))
        .with_cert_resolver(badge);
    Ok(Arc::new(config))
}

/// A client of the cluster that knows the authority; shows `badge`, if it has one.
///
/// # Errors
/// When the authority's certificate is none.
pub fn client_config(
    authority: &CertificateDer<'static>,
    badge: Option<Arc<Badge>>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(authority)?, provider()).build()?;
    client_with(verifier, badge)
}

/// A client that knows the authority by the SHA-256 of its certificate.
///
/// # Errors
/// When this build of rustls cannot do TLS 1.3.
pub fn pinned_config(fingerprint: &str) -> anyhow::Result<Arc<ClientConfig>> {
    client_with(
        Arc::new(Pinned { fingerprint: fingerprint.to_owned(), provider: provider() }),
        None,
    )
}

/// A client that trusts nobody: what plain HTTP takes.
///
/// # Errors
/// When this build of rustls cannot do TLS 1.3.
pub fn no_config() -> anyhow::Result<Arc<ClientConfig>> {
    pinned_config("")
}

fn client_with(
    verifier: Arc<dyn ServerCertVerifier>,
    badge: Option<Arc<Badge>>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match badge {
        Some(badge) => config.with_client_cert_resolver(badge),
        None => config.with_no_client_auth(),
    };
    // A resumed session would go on under the certificate it began with.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(authority: &CertificateDer<'static>) -> anyhow::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(Arc::new(roots))
}

/// Lets in certificates of the authority, also expired ones: who shows one of those
/// may have it renewed, and is told that nothing else is possible.
#[derive(Debug)]
struct Members {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Members {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.inner.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => self.inner.verify_client_cert(end_entity, intermediates, not_after),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Trusts the authority with this fingerprint, which the server has to show.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|shown| sha256(shown) == self.fingerprint);
        let Some(authority) = pinned else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let unusable = |error: &dyn std::fmt::Display| Error::General(error.to_string());
        let roots = roots(&authority.clone().into_owned()).map_err(|error| unusable(&error))?;
        WebPkiServerVerifier::builder_with_provider(roots, self.provider.clone())
            .build()
            .map_err(|error| unusable(&error))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        only_tls13()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The configurations above offer nothing older.
fn only_tls13() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
}
