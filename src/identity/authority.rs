//! The cluster's own certificate authority: a key and a certificate in the data
//! directory of the scheduler. It signs for two kinds of holders, told apart by the
//! only name in their certificates that ends in `.kube-lite`:
//! `scheduler.kube-lite`, and `NODE.node.kube-lite` (a node's name has no dots).

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use super::files;
use super::ledger::{Certified, Seconds};
use super::tls::{PeerCertificate, provider};
use super::token::sha256;
use crate::model::NodeId;

/// The name of the scheduler in its certificate.
pub const SCHEDULER: &str = "scheduler.kube-lite";
/// What follows a node's name in its certificate.
pub const OF_A_NODE: &str = ".node.kube-lite";

/// Clocks may differ by so much: certificates are good since then.
const SKEW: Seconds = 3600;
/// Longer than any of its machines lives.
const LIFE: Seconds = 50 * 365 * 24 * 3600;

/// A certificate authority that can sign.
pub struct Authority {
    pem: String,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// A certificate that was signed for a node.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate, as PEM.
    pub pem: String,
    /// What is in it.
    pub certified: Certified,
}

impl Authority {
    /// A new one, written to these two files.
    ///
    /// # Errors
    /// When there are no random numbers, or the files cannot be written.
    pub fn create(certificate: &Path, key: &Path, now: Seconds) -> anyhow::Result<()> {
        let pair = KeyPair::generate().context("cannot make a key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kube-lite cluster authority");
        // Without it, two clusters' authorities would have the same name.
        params
            .distinguished_name
            .push(DnType::OrganizationName, &sha256(pair.public_key_raw())[..16]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (moment(now - SKEW)?, moment(now + LIFE)?);
        let signed = params.self_signed(&pair).context("cannot sign")?;
        files::write(key, pair.serialize_pem().as_bytes())?;
        files::write(certificate, signed.pem().as_bytes())
    }

    /// Reads it back; `None`: there is none.
    ///
    /// # Errors
    /// When the files are damaged, one is missing, or others can read the key.
    pub fn load(certificate: &Path, key: &Path) -> anyhow::Result<Option<Self>> {
        let (there, missing) = match (files::read(certificate)?, files::read(key)?) {
            (None, None) => return Ok(None),
            (Some(certificate_pem), Some(key_pem)) => ((certificate_pem, key_pem), None),
            (None, Some(_)) => (Default::default(), Some(certificate)),
            (Some(_), None) => (Default::default(), Some(key)),
        };
        if let Some(missing) = missing {
            return Err(anyhow!("{} is missing; put it back from a copy", missing.display()));
        }
        let damaged = |path: &Path| format!("{} is damaged", path.display());
        let pair = KeyPair::from_pem(&there.1).with_context(|| damaged(key))?;
        let certificate_der = CertificateDer::from_pem_slice(there.0.as_bytes())
            .map_err(|error| anyhow!("{}: {error}", damaged(certificate)))?;
        let issuer = Issuer::from_ca_cert_der(&certificate_der, pair)
            .with_context(|| damaged(certificate))?;
        Ok(Some(Self { pem: there.0, certificate: certificate_der, issuer }))
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate.
    pub fn fingerprint(&self) -> String {
        sha256(&self.certificate)
    }

    /// Its certificate, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for exactly this node, whatever else the request asks for.
    ///
    /// # Errors
    /// When the request is none, or not signed with its own key.
    pub fn sign_node(
        &self,
        request_pem: &str,
        node: &NodeId,
        now: Seconds,
        life: Seconds,
    ) -> anyhow::Result<Issued> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)?;
        let params = leaf(vec![format!("{node}{OF_A_NODE}")], node.as_str(), now, life)?;
        let request = CertificateSigningRequestParams { params, public_key: request.public_key };
        let signed = request.signed_by(&self.issuer)?;
        let read = PeerCertificate::read(signed.der()).context("what was signed is unreadable")?;
        let certified = read.node().context("what was signed names no node")?;
        Ok(Issued { pem: signed.pem(), certified })
    }

    /// A new key and certificate for the scheduler itself, also under these names.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn sign_scheduler(
        &self,
        hosts: &[String],
        now: Seconds,
        life: Seconds,
    ) -> anyhow::Result<CertifiedKey> {
        let pair = KeyPair::generate().context("cannot make a key")?;
        let bare = |host: &String| host.trim_matches(['[', ']']).to_owned();
        let ours = |host: &String| host.ends_with(".kube-lite");
        let mut names: Vec<String> = hosts.iter().map(bare).filter(|host| !ours(host)).collect();
        names.extend([SCHEDULER, "localhost", "127.0.0.1", "::1"].map(str::to_owned));
        names.sort();
        names.dedup();
        let signed =
            leaf(names, "kube-lite scheduler", now, life)?.signed_by(&pair, &self.issuer)?;
        let chain = vec![signed.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::try_from(pair.serialize_der()).map_err(|why| anyhow!(why))?;
        Ok(CertifiedKey::from_der(chain, key, &provider())?)
    }
}

/// What certificates of both kinds have in common.
fn leaf(
    names: Vec<String>,
    called: &str,
    now: Seconds,
    life: Seconds,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, called);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (moment(now - SKEW)?, moment(now + life)?);
    Ok(params)
}

fn moment(at: Seconds) -> anyhow::Result<OffsetDateTime> {
    Ok(OffsetDateTime::from_unix_timestamp(i64::try_from(at)?)?)
}

/// A key of one's own and the request to have it certified, both as PEM.
pub(super) fn new_key() -> anyhow::Result<String> {
    Ok(KeyPair::generate().context("cannot make a key")?.serialize_pem())
}

/// The request to have a key certified. Who it is for, the authority knows itself.
pub(super) fn request_for(key_pem: &str) -> anyhow::Result<String> {
    let pair = KeyPair::from_pem(key_pem).context("the node's key is damaged")?;
    Ok(CertificateParams::default().serialize_request(&pair)?.pem()?)
}

/// A key with its certificate and the authority's, ready to be shown.
pub(super) fn ready(
    certificate_pem: &str,
    authority: &CertificateDer<'static>,
    key_pem: &str,
) -> anyhow::Result<Arc<CertifiedKey>> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    let chain = vec![certificate, authority.clone()];
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider())?))
}
