//! Tokens, files with secrets, and certificates.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_lite::identity::authority::Authority;
use kube_lite::identity::credentials::Credentials;
use kube_lite::identity::membership::Membership;
use kube_lite::identity::tls::PeerCertificate;
use kube_lite::identity::token::{Invitation, Secret};
use kube_lite::model::NodeId;

use crate::{is_a_sentence, survives_writing};

/// What stands behind `Bearer`, and what `--join` takes.
pub fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(secret) = Secret::parse(&text) {
        assert_eq!(secret.reveal(), text);
        assert_eq!((secret.hash().len(), text.len()), (64, 68));
        assert!(!format!("{secret:?}").contains(&text[4..]), "it shows itself");
    }
    match Invitation::parse(&text) {
        Ok(invitation) => {
            assert_eq!(invitation.text(), text.trim());
            assert_eq!(Invitation::parse(&invitation.text()), Ok(invitation));
        }
        Err(said) => {
            is_a_sentence(&said);
            let own = Invitation::parse("").expect_err("nothing is no invitation");
            // Nothing of what was given: it may be most of a secret.
            let longest = text.split(['@', '_', ' ']).max_by_key(|part| part.len()).unwrap_or("");
            assert!(
                longest.len() < 12 || own.contains(longest) || !said.contains(longest),
                "{said}"
            );
        }
    }
}

/// A place for files, for as long as the process runs.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Mutex<Self> {
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = base.join(format!("kube-lite-fuzz-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Mutex::new(Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path).and_then(|mut file| file.write_all(bytes)).expect("a file");
        path
    }
}

/// The files with secrets: that of `ctl`, and that of an agent that has joined.
pub fn credentials(bytes: &[u8]) {
    static PLACE: LazyLock<Mutex<Place>> = LazyLock::new(|| Place::new("credentials"));
    let place = PLACE.lock().unwrap_or_else(|broken| broken.into_inner());
    let path = place.write("identity.json", bytes);
    match Credentials::read(&path) {
        Ok(Some(found)) => {
            survives_writing(&found);
            let shown = format!("{found:?}");
            assert!(found.token.len() < 8 || !shown.contains(&found.token), "{shown}");
        }
        Ok(None) => panic!("there is a file"),
        Err(error) => refused(&format!("{error:#}")),
    }
    if let Err(error) = Membership::open(&place.0, &NodeId::from("n1")) {
        refused(&format!("{error:#}"));
    }
    std::fs::remove_file(path).expect("removed");
}

#[track_caller]
fn refused(said: &str) {
    assert!(said.contains("identity.json"), "which file? {said}");
    assert!(!said.contains("PRIVATE KEY"), "it tells a secret: {said}");
}

/// What is shown in a handshake, and what a machine sends that wants a certificate.
/// The text of such a request is taken as it is, and as the armour of these bytes.
pub fn certificate(bytes: &[u8]) {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
        let place = Place::new("certificate").into_inner().expect("new");
        let (certificate, key) = (place.0.join("ca.pem"), place.0.join("ca.key"));
        Authority::create(&certificate, &key, NOW).expect("an authority");
        let authority = Authority::load(&certificate, &key).expect("readable").expect("there");
        std::fs::remove_dir_all(&place.0).expect("removed");
        authority
    });
    if let Some(shown) = PeerCertificate::read(bytes) {
        assert!(!(shown.node().is_some() && shown.is_scheduler(NOW)), "it is both: {shown:?}");
    }
    let node = NodeId::from("n1");
    let armour = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        STANDARD.encode(bytes)
    );
    for text in [String::from_utf8_lossy(bytes).into_owned(), armour] {
        match AUTHORITY.sign_node(&text, &node, NOW, 3_600) {
            // Whatever was asked for, it is a certificate of this node and no other.
            Ok(issued) => {
                assert_eq!(issued.certified.node, node);
                assert_eq!(issued.certified.expires, NOW + 3_600);
            }
            Err(error) => assert!(!format!("{error:#}").is_empty()),
        }
    }
}

const NOW: u64 = 1_800_000_000;
