//! The agent's side: joins a cluster once, is that node from then on, and has its
//! certificate renewed in time. All of it is in one file of its data directory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};

use super::access::{Identity, Refusal};
use super::authority::{new_key, ready, request_for};
use super::ledger::Seconds;
use super::message::{CertificateRequest, CertificateResponse};
use super::tls::{Badge, PeerCertificate, client_config, server_config};
use super::token::{Invitation, sha256};
use super::{files, now};
use crate::client::Client;
use crate::http::guard::Doorkeeper;
use crate::model::NodeId;

const FILE: &str = "identity.json";
/// A join has to be answered within this long.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    node: NodeId,
    /// `https://host:port`.
    scheduler: String,
    key: String,
    /// Missing until it has joined.
    #[serde(default)]
    certificate: Option<CertificateResponse>,
    /// When it got that, by its own clock.
    #[serde(default)]
    received_at: Seconds,
}

/// A node's place in its cluster.
pub struct Membership {
    path: PathBuf,
    node: NodeId,
    scheduler: String,
    authority: CertificateDer<'static>,
    badge: Arc<Badge>,
    kept: Mutex<Kept>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Membership {
    /// What is in this directory; `None`: this machine has joined nothing.
    ///
    /// # Errors
    /// When the file is damaged, readable by others, or of another node than `node`.
    pub fn open(dir: &Path, node: &NodeId) -> anyhow::Result<Option<Arc<Self>>> {
        let path = dir.join(FILE);
        let Some(kept) = read(&path)? else { return Ok(None) };
        if kept.certificate.is_none() {
            return Ok(None);
        }
        Self::new(path, kept, node).map(Some)
    }

    /// Joins the cluster, or goes on as what it has become.
    ///
    /// # Errors
    /// When the scheduler cannot be reached, is not the right one, or refuses.
    pub async fn join(
        dir: &Path,
        node: &NodeId,
        invitation: &Invitation,
    ) -> anyhow::Result<Arc<Self>> {
        files::make_dir(dir)?;
        let path = dir.join(FILE);
        let mut kept = match read(&path)? {
            Some(kept) if kept.certificate.is_some() => {
                let member = Self::new(path.clone(), kept, node)?;
                if sha256(&member.authority) != invitation.fingerprint {
                    bail!(
                        "this machine is node {node} of another cluster already. To leave that: \
                         remove {}",
                        path.display()
                    );
                }
                return Ok(member);
            }
            // The same key again: the answer to the first attempt may have got lost.
            Some(kept) => Kept { node: node.clone(), ..kept },
            None => Kept {
                node: node.clone(),
                scheduler: String::new(),
                key: new_key()?,
                certificate: None,
                received_at: 0,
            },
        };
        kept.scheduler = format!("https://{}", invitation.scheduler);
        write(&path, &kept)?;
        let client = Client::pinned(&kept.scheduler, &invitation.fingerprint)?
            .with_token(invitation.secret.reveal())
            .with_timeout(PATIENCE);
        let request =
            CertificateRequest { node_id: node.clone(), request: request_for(&kept.key)? };
        let answer = client.join(&request).await;
        let answer = answer.with_context(|| format!("cannot join {}", kept.scheduler))?;
        let authority = CertificateDer::from_pem_slice(answer.authority.as_bytes());
        if !authority.is_ok_and(|der| sha256(&der) == invitation.fingerprint) {
            bail!("the scheduler answered with another authority than the token is of");
        }
        (kept.certificate, kept.received_at) = (Some(answer), now());
        write(&path, &kept)?;
        Self::new(path, kept, node)
    }

    fn new(path: PathBuf, kept: Kept, node: &NodeId) -> anyhow::Result<Arc<Self>> {
        let damaged = || format!("{} is damaged", path.display());
        if kept.node != *node {
            bail!(
                "{} is of node {}, and this is to be node {node}. Leave --node-id as it was, or \
                 remove the file and join anew",
                path.display(),
                kept.node
            );
        }
        let answer = kept.certificate.as_ref().with_context(damaged)?;
        let authority = CertificateDer::from_pem_slice(answer.authority.as_bytes())
            .map_err(|error| anyhow!("{}: {error}", damaged()))?;
        let badge = Arc::new(Badge::default());
        badge.wear(ready(&answer.certificate, &authority, &kept.key).with_context(damaged)?);
        Ok(Arc::new(Self {
            node: kept.node.clone(),
            scheduler: kept.scheduler.clone(),
            authority,
            badge,
            path,
            kept: Mutex::new(kept),
        }))
    }

    /// The node.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Where the scheduler was when it joined.
    pub fn scheduler(&self) -> &str {
        &self.scheduler
    }

    /// For calls to the scheduler.
    ///
    /// # Errors
    /// When the authority's certificate is none.
    pub fn client_config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        client_config(&self.authority, Some(self.badge.clone()))
    }

    /// For the agent's listener.
    ///
    /// # Errors
    /// When the authority's certificate is none.
    pub fn server_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        server_config(&self.authority, self.badge.clone())
    }

    /// Renews the certificate in time, for as long as it is polled; first of all, if
    /// it is too old already.
    pub async fn stay_fresh(self: Arc<Self>, client: Client) {
        loop {
            let (due, life) = self.due();
            if !due.is_zero() {
                tokio::time::sleep(nap(due)).await;
                continue;
            }
            if let Err(error) = self.renew(&client).await {
                tracing::warn!(
                    node = self.node.as_str(),
                    "the certificate is not renewed: {error:#}"
                );
                tokio::time::sleep((life / 30).clamp(Duration::from_millis(500), HOUR)).await;
            }
        }
    }

    /// How long until two thirds of the certificate's life are over, and that life.
    fn due(&self) -> (Duration, Duration) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(answer) = &kept.certificate else { return (Duration::ZERO, HOUR) };
        let life = answer.expires_at.saturating_sub(answer.issued_at);
        // By its own clock alone. One that was set back makes it due, too.
        let age = now().checked_sub(kept.received_at).unwrap_or(life);
        (Duration::from_secs((life * 2 / 3).saturating_sub(age)), Duration::from_secs(life))
    }

    async fn renew(&self, client: &Client) -> anyhow::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let request =
            CertificateRequest { node_id: self.node.clone(), request: request_for(&kept.key)? };
        let answer = client.renew(&request).await?;
        let key = ready(&answer.certificate, &self.authority, &kept.key)?;
        (kept.certificate, kept.received_at) = (Some(answer), now());
        write(&self.path, &kept)?;
        self.badge.wear(key);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        tracing::info!(node = self.node.as_str(), "its certificate was renewed");
        Ok(())
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// How long to sleep at once when something is due then: timers stand still while a
/// machine sleeps, and certificates do not.
pub(super) fn nap(due: Duration) -> Duration {
    due.min(HOUR)
}

/// An agent obeys the scheduler of its cluster, and knows nobody else.
impl Doorkeeper for Membership {
    fn identify(
        &self,
        certificate: Option<&PeerCertificate>,
        _: Option<&str>,
    ) -> Result<Identity, Refusal> {
        let Some(certificate) = certificate else { return Ok(Identity::Nobody) };
        if certificate.is_scheduler(now()) {
            return Ok(Identity::Scheduler);
        }
        match certificate.node() {
            _ if certificate.names_scheduler() => Err(Refusal::ExpiredScheduler),
            Some(other) => Ok(Identity::Node(other.node)),
            None => Err(Refusal::UnknownCertificate),
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    // Without the parser's words, which may quote the key.
    serde_json::from_str(&text).map(Some).map_err(|_| {
        anyhow!("{} is damaged; remove it and join anew: --join TOKEN@HOST:PORT", path.display())
    })
}

fn write(path: &Path, kept: &Kept) -> anyhow::Result<()> {
    files::write(path, &serde_json::to_vec_pretty(kept)?)
}
