//! The scheduler's side: founds the cluster's authority, judges whoever calls, lets
//! nodes join, renews and takes back. Its files are in `identity/` of the data
//! directory: the authority, and the [`Ledger`].

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::{ClientConfig, ServerConfig};

use super::access::{Identity, Proof, Refusal};
use super::authority::Authority;
use super::credentials::Credentials;
use super::ledger::{Grant, Ledger, Seconds, TokenView, Unrevoked};
use super::membership::nap;
use super::message::{CertificateResponse, SessionView, SignInOffer, TokenRequest, TokenResponse};
use super::sessions::{CODE_LIFE, Sessions};
use super::tls::{Badge, PeerCertificate, client_config, server_config};
use super::token::{Invitation, Secret};
use super::{files, now};
use crate::http::guard::Doorkeeper;
use crate::model::error::shown;
use crate::model::{ApiError, NodeId};

/// How long a join token is good, unless said otherwise.
pub const JOIN_LIFE: Seconds = 24 * 3600;
/// How long a certificate is good, unless said otherwise.
pub const CERTIFICATE_LIFE: Seconds = 90 * 24 * 3600;
/// The credentials of the first admin, in the data directory.
pub const ADMIN_FILE: &str = "admin.json";

const DIRECTORY: &str = "identity";
const LEDGER: &str = "ledger.json";
/// The longest name of a token.
const LONGEST_NAME: usize = 64;

/// Owns the authority and the ledger.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    authority: Authority,
    badge: Arc<Badge>,
    /// When that was signed.
    signed_at: AtomicU64,
    hosts: Vec<String>,
    life: Seconds,
    ledger: RwLock<Ledger>,
    /// Browsers that are signed in.
    sessions: RwLock<Sessions>,
    /// The name of their cookies: a browser keeps those of all clusters on one host
    /// together.
    cookie: String,
    /// Held while the ledger is changed: readers do not wait for the disk.
    writing: Mutex<()>,
}

/// What came of `--init`.
#[derive(Debug)]
pub struct Founded {
    /// What `--join` of the agents takes.
    pub invitation: Invitation,
    /// The first admin's credentials.
    pub admin_file: PathBuf,
}

/// Makes an authority, an admin and an invitation; `None`: all that is there already.
/// Nothing that exists is ever overwritten. `scheduler` is `host:port` as agents and
/// people reach it, `hosts` are its names.
///
/// # Errors
/// When the files cannot be read or written.
pub fn found(
    data_dir: &Path,
    scheduler: &str,
    hosts: &[String],
) -> anyhow::Result<Option<Founded>> {
    let dir = data_dir.join(DIRECTORY);
    files::make_dir(data_dir)?;
    files::make_dir(&dir)?;
    let ledger_file = dir.join(LEDGER);
    if files::read(&ledger_file)?.is_some() {
        return Ok(None);
    }
    let (certificate, key) = authority_files(&dir);
    let now = now();
    if Authority::load(&certificate, &key)?.is_none() {
        Authority::create(&certificate, &key, now)?;
    }
    let authority = Authority::load(&certificate, &key)?.context("the authority has gone")?;
    let admin_file = data_dir.join(ADMIN_FILE);
    // The ledger comes last: an attempt that broke off is taken up again here.
    let token = match Credentials::read(&admin_file)? {
        Some(left) => Secret::parse(&left.token)
            .with_context(|| format!("{} is damaged; remove it", admin_file.display()))?,
        None => {
            let token = Secret::for_person(&random()?);
            let kept = Credentials {
                server: format!("https://{scheduler}"),
                fingerprint: authority.fingerprint(),
                token: token.reveal().to_owned(),
            };
            kept.write(&admin_file)?;
            token
        }
    };
    let secret = Secret::for_joining(&random()?);
    let mut ledger = Ledger::of(hosts);
    ledger.add_token(&token.hash(), Grant::Admin, "admin", now, None);
    ledger.add_token(&secret.hash(), Grant::Join, "init", now, Some(JOIN_LIFE));
    files::write(&ledger_file, &serde_json::to_vec_pretty(&ledger)?)?;
    let (fingerprint, scheduler) = (authority.fingerprint(), scheduler.to_owned());
    Ok(Some(Founded { invitation: Invitation { secret, fingerprint, scheduler }, admin_file }))
}

impl Keeper {
    /// What was founded in this directory; `None`: nothing. The scheduler's own
    /// certificate is made anew at each start, under these names and those of
    /// `--init`; all certificates are good for `life`.
    ///
    /// # Errors
    /// When a file is damaged, missing, or readable by others.
    pub fn open(
        data_dir: &Path,
        hosts: &[String],
        life: Seconds,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let dir = data_dir.join(DIRECTORY);
        let (certificate, key) = authority_files(&dir);
        let Some(authority) = Authority::load(&certificate, &key)? else { return Ok(None) };
        let file = dir.join(LEDGER);
        let Some(text) = files::read(&file)? else {
            bail!(
                "{} is missing. If `--init` was broken off: run it again. Else put the file back \
                 from a copy; without it, no node and no token is known",
                file.display()
            );
        };
        let ledger: Ledger = serde_json::from_str(&text)
            .with_context(|| format!("{} is damaged; put it back from a copy", file.display()))?;
        let hosts = ledger.hosts.iter().chain(hosts).cloned().collect();
        let cookie = format!("__Host-kube-lite-{:.12}", authority.fingerprint());
        let keeper = Self {
            dir,
            authority,
            badge: Arc::default(),
            signed_at: AtomicU64::new(0),
            hosts,
            life,
            ledger: RwLock::new(ledger),
            sessions: RwLock::default(),
            cookie,
            writing: Mutex::new(()),
        };
        keeper.renew_badge()?;
        Ok(Some(Arc::new(keeper)))
    }

    /// Names under which the scheduler is called.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// For the scheduler's listener.
    ///
    /// # Errors
    /// When the authority's certificate is none.
    pub fn server_config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        server_config(self.authority.certificate(), self.badge.clone())
    }

    /// For calls to agents.
    ///
    /// # Errors
    /// When the authority's certificate is none.
    pub fn client_config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        client_config(self.authority.certificate(), Some(self.badge.clone()))
    }

    /// Renews the scheduler's own certificate in time, for as long as it is polled.
    pub async fn stay_fresh(self: Arc<Self>) {
        loop {
            let due = due(self.signed_at.load(Ordering::Relaxed), now(), self.life);
            if !due.is_zero() {
                tokio::time::sleep(nap(due)).await;
            } else if let Err(error) = self.renew_badge() {
                tracing::error!("the scheduler's certificate is not renewed: {error:#}");
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    }

    fn renew_badge(&self) -> anyhow::Result<()> {
        let now = now();
        let signed = self.authority.sign_scheduler(&self.hosts, now, self.life)?;
        self.badge.wear(Arc::new(signed));
        self.signed_at.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// A machine with a join token becomes a node.
    ///
    /// # Errors
    /// When the name is taken, its key was revoked, or the disk refuses.
    pub fn join(&self, node: &NodeId, request: &str) -> Result<CertificateResponse, ApiError> {
        if let Some(problem) = crate::model::ids::dns_label_problem(node.as_str()) {
            let text = format!("node id {node:?} {problem}; choose another with --node-id");
            return Err(ApiError::invalid_field("nodeId", text));
        }
        self.certify(node, request, Ledger::may_join)
    }

    /// A node gets a new certificate for its old key.
    ///
    /// # Errors
    /// When it is not a node any more, asks for another key, or the disk refuses.
    pub fn renew(&self, node: &NodeId, request: &str) -> Result<CertificateResponse, ApiError> {
        self.certify(node, request, Ledger::may_renew)
    }

    fn certify(
        &self,
        node: &NodeId,
        request: &str,
        may: fn(&Ledger, &NodeId, &str) -> Result<(), Refusal>,
    ) -> Result<CertificateResponse, ApiError> {
        let now = now();
        let issued = self.authority.sign_node(request, node, now, self.life).map_err(|error| {
            tracing::debug!("a request for a certificate was refused: {error:#}");
            let text = "This is no request for a certificate (PKCS #10, PEM), signed with the key \
                        that it is for.";
            ApiError::invalid_field("request", text)
        })?;
        self.change(|ledger| {
            may(ledger, node, &issued.certified.key)?;
            ledger.enrol(&issued.certified);
            Ok(())
        })?;
        Ok(CertificateResponse {
            certificate: issued.pem,
            authority: self.authority.pem().to_owned(),
            issued_at: now,
            expires_at: issued.certified.expires,
        })
    }

    /// Takes a node's certificate back; `false`: it had none.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn revoke_node(&self, node: &NodeId) -> Result<bool, ApiError> {
        self.change(|ledger| Ok(ledger.revoke_node(node)))
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When its name or its time make no sense, or the disk refuses.
    pub fn create_token(&self, asked: &TokenRequest) -> Result<TokenResponse, ApiError> {
        let name = asked.name.as_deref().unwrap_or_default();
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if name.len() > LONGEST_NAME || !name.chars().all(fine) {
            return Err(ApiError::invalid_field(
                "name",
                format!(
                    "The name {} of a token must be at most {LONGEST_NAME} letters, digits and \
                     any of - _ . @",
                    shown(name)
                ),
            ));
        }
        if asked.expires_in_seconds == Some(0) {
            let text = "A token that expires at once is of no use; give it at least a second.";
            return Err(ApiError::invalid_field("expiresInSeconds", text));
        }
        let random = random_or_bug()?;
        let (secret, life) = match asked.role {
            Grant::Join => {
                (Secret::for_joining(&random), Some(asked.expires_in_seconds.unwrap_or(JOIN_LIFE)))
            }
            _ => (Secret::for_person(&random), asked.expires_in_seconds),
        };
        let hash = secret.hash();
        let add = |ledger: &mut Ledger| Ok(ledger.add_token(&hash, asked.role, name, now(), life));
        let token = self.change(add)?;
        let fingerprint = self.authority.fingerprint();
        Ok(TokenResponse { token, secret: secret.reveal().to_owned(), fingerprint })
    }

    /// All tokens.
    pub fn tokens(&self) -> Vec<TokenView> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner).tokens(now())
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// When there is none, it is the last admin's, or the disk refuses.
    pub fn revoke_token(&self, id: &str) -> Result<TokenView, ApiError> {
        self.change(|ledger| {
            ledger.revoke_token(id, now()).map_err(|why| match why {
                Unrevoked::Unknown => ApiError::not_found(format!(
                    "there is no token {}; list them: kube-lite ctl token list",
                    shown(id)
                )),
                Unrevoked::LastAdmin => ApiError::conflict(
                    "this is the last token of an admin; make another one first: kube-lite ctl \
                     token create --role admin",
                ),
            })
        })
    }

    /// Makes a code that signs a browser in, as whoever shows this token.
    ///
    /// # Errors
    /// When it is shown by nobody with a token.
    pub fn offer_sign_in(&self, asking: &Identity) -> Result<SignInOffer, ApiError> {
        let Identity::Person { name, role, proof: Proof::Token(token) } = asking else {
            return Err(ApiError::conflict("only who shows a token can have a browser signed in"));
        };
        let code = Secret::for_signing_in(&random_or_bug()?);
        self.sessions_to_change().offer(&code.hash(), token, now());
        Ok(SignInOffer {
            code: code.reveal().to_owned(),
            name: name.clone(),
            role: *role,
            expires_in_seconds: CODE_LIFE,
            certificate: self.badge.fingerprint().unwrap_or_default(),
        })
    }

    /// Uses such a code up: a browser is signed in for at most `life`, but no longer
    /// than its token is good. Answers with the secret for its cookie.
    ///
    /// # Errors
    /// When the code, or what it was made with, is good no more.
    pub fn sign_in(&self, code: &str, life: Seconds) -> Result<(Secret, SessionView), ApiError> {
        let code = Secret::parse_code(code.trim()).ok_or(Refusal::UnknownCode)?;
        let session = Secret::for_session(&random_or_bug()?);
        let now = now();
        let token = self.sessions_to_change().redeem(&code.hash(), now)?;
        let proof = Proof::Session(session.hash());
        let (identity, ends) = {
            let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
            (ledger.behind(&token, proof, now)?, ledger.end_of(&token))
        };
        let expires = ends.into_iter().chain([now.saturating_add(life)]).min().unwrap_or(now);
        self.sessions_to_change().begin(&session.hash(), &token, now, expires);
        Ok((session, self.session_view(&identity)?))
    }

    /// Who is signed in.
    ///
    /// # Errors
    /// When that is over, or it is no person.
    pub fn session_view(&self, asking: &Identity) -> Result<SessionView, ApiError> {
        let Identity::Person { name, role, proof } = asking else {
            return Err(ApiError::conflict("you are no person, and so not signed in"));
        };
        let expires_in_seconds = match proof {
            Proof::Token(_) => None,
            Proof::Session(session) => {
                let now = now();
                Some(self.sessions().find(session, now)?.1.saturating_sub(now))
            }
        };
        let (name, role) = (name.clone(), *role);
        Ok(SessionView { name, role, signed_in: expires_in_seconds.is_some(), expires_in_seconds })
    }

    /// Ends the session by which somebody asks; `false`: it is by none.
    pub fn sign_out(&self, asking: &Identity) -> bool {
        match asking {
            Identity::Person { proof: Proof::Session(session), .. } => {
                self.sessions_to_change().end(session)
            }
            _ => false,
        }
    }

    fn sessions(&self) -> RwLockReadGuard<'_, Sessions> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions_to_change(&self) -> RwLockWriteGuard<'_, Sessions> {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the ledger: on disk first, and then for everybody.
    fn change<T>(
        &self,
        edit: impl FnOnce(&mut Ledger) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner).clone();
        let outcome = edit(&mut ledger)?;
        let written = serde_json::to_vec_pretty(&ledger)
            .map_err(anyhow::Error::new)
            .and_then(|bytes| files::write(&self.dir.join(LEDGER), &bytes));
        written.map_err(|error| {
            tracing::error!("{error:#}; nothing was changed");
            ApiError::unavailable("StorageFailed", format!("{error:#}; nothing was changed"), 5)
        })?;
        *self.ledger.write().unwrap_or_else(PoisonError::into_inner) = ledger;
        Ok(outcome)
    }
}

impl Doorkeeper for Keeper {
    fn identify(
        &self,
        certificate: Option<&PeerCertificate>,
        bearer: Option<&str>,
    ) -> Result<Identity, Refusal> {
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bearer) = bearer {
            let secret = Secret::parse(bearer).ok_or(Refusal::MalformedToken)?;
            return ledger.holder(&secret.hash(), now());
        }
        let Some(certificate) = certificate else { return Ok(Identity::Nobody) };
        match certificate.node() {
            Some(shown) => ledger.bearer(&shown, now()),
            None if certificate.is_scheduler(now()) => Ok(Identity::Scheduler),
            None if certificate.names_scheduler() => Err(Refusal::ExpiredScheduler),
            None => Err(Refusal::UnknownCertificate),
        }
    }

    fn session_cookie(&self) -> Option<&str> {
        Some(&self.cookie)
    }

    fn identify_session(&self, session: &str) -> Result<Identity, Refusal> {
        let session = Secret::parse_session(session).ok_or(Refusal::UnknownSession)?.hash();
        // One lock at a time.
        let token = self.sessions().find(&session, now())?.0.to_owned();
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        ledger.behind(&token, Proof::Session(session), now())
    }

    fn still_good(&self, proof: &Proof) -> bool {
        let token = match proof {
            Proof::Token(token) => token.clone(),
            Proof::Session(session) => match self.sessions().find(session, now()) {
                Ok((token, _)) => token.to_owned(),
                Err(_) => return false,
            },
        };
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        ledger.holder(&token, now()).is_ok()
    }

    fn is_outdated(&self, certificate: &PeerCertificate) -> bool {
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        certificate.node().is_some_and(|shown| ledger.is_outdated(&shown))
    }
}

/// How long until two thirds of a certificate's life are over, at least a second of it.
fn due(signed_at: Seconds, now: Seconds, life: Seconds) -> Duration {
    // A clock that was set back makes it due, too.
    let age = now.checked_sub(signed_at).unwrap_or(life);
    Duration::from_secs((life * 2 / 3).max(1).saturating_sub(age))
}

fn authority_files(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("authority.crt"), dir.join("authority.key"))
}

fn random_or_bug() -> Result<[u8; 32], ApiError> {
    random().map_err(|error| ApiError::new(500, "Internal", error.to_string()))
}

fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system has no random numbers")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_sleeps_renews_when_it_wakes() {
        let day = 24 * 3600;
        assert_eq!(due(0, 0, 90 * day), Duration::from_secs(60 * day));
        assert_eq!(due(0, 60 * day, 90 * day), Duration::ZERO);
        assert_eq!(due(100, 0, 90 * day), Duration::ZERO, "set back");
        assert_eq!(due(0, 0, 1), Duration::from_secs(1), "not again and again");
        // Its timers knew nothing of the time in between.
        assert_eq!(nap(due(0, 0, 90 * day)), Duration::from_secs(3600));
        assert_eq!(nap(due(0, 0, 30)), Duration::from_secs(20));
    }
}
