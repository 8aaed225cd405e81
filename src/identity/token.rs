//! Secrets as people carry them. Only their hashes are ever kept.
//!
//! `klu_SECRET` is a person's token. `klj_SECRET_FINGERPRINT` lets machines join:
//! with it comes the fingerprint of the authority, so that the secret is told to
//! nobody but the right scheduler. `klj_…@HOST:PORT` also says where that is.
//! `klc_SECRET` is a code that signs a browser in, `kls_SECRET` the session it gets.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use sha2::{Digest as _, Sha256};

const PERSON: &str = "klu_";
const JOIN: &str = "klj_";
const CODE: &str = "klc_";
const SESSION: &str = "kls_";
/// 256 bits, in hexadecimal.
const DIGITS: usize = 64;

/// Any of them, without a fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A person's token, of 256 random bits.
    pub fn for_person(random: &[u8; 32]) -> Self {
        Self(format!("{PERSON}{}", hex(random)))
    }

    /// A join token, of 256 random bits.
    pub fn for_joining(random: &[u8; 32]) -> Self {
        Self(format!("{JOIN}{}", hex(random)))
    }

    /// A code that signs a browser in, of 256 random bits.
    pub fn for_signing_in(random: &[u8; 32]) -> Self {
        Self(format!("{CODE}{}", hex(random)))
    }

    /// A browser's session, of 256 random bits.
    pub fn for_session(random: &[u8; 32]) -> Self {
        Self(format!("{SESSION}{}", hex(random)))
    }

    /// Reads a token as it stands in a header, after `Bearer`: a person's, or one to
    /// join with.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of_kind(PERSON, text).or_else(|| Self::of_kind(JOIN, text))
    }

    /// Reads a code that signs a browser in.
    pub fn parse_code(text: &str) -> Option<Self> {
        Self::of_kind(CODE, text)
    }

    /// Reads a session as it stands in a cookie.
    pub fn parse_session(text: &str) -> Option<Self> {
        Self::of_kind(SESSION, text)
    }

    fn of_kind(kind: &str, text: &str) -> Option<Self> {
        is_hex(text.strip_prefix(kind)?).then(|| Self(text.to_owned()))
    }

    /// The text itself, to be shown once to whom it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> String {
        sha256(self.0.as_bytes())
    }
}

/// What `--join` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Shown to the scheduler.
    pub secret: Secret,
    /// SHA-256 of the authority's certificate.
    pub fingerprint: String,
    /// `host:port` of the scheduler.
    pub scheduler: String,
}

impl Invitation {
    /// Reads `TOKEN@HOST:PORT`.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "--join takes TOKEN@HOST:PORT, as `kube-lite ctl token create --role join` prints \
                 it; {what}"
            )
        };
        let (token, scheduler) =
            text.trim().split_once('@').ok_or_else(|| wrong("there is no @ in it"))?;
        let port = scheduler.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(wrong("after the @ it must say HOST:PORT"));
        }
        if token.starts_with(PERSON) {
            return Err(wrong("this is a person's token"));
        }
        let broken = || wrong("the token is not whole");
        let (secret, fingerprint) = token.rsplit_once('_').ok_or_else(broken)?;
        let secret = Secret::parse(secret).ok_or_else(broken)?;
        if !is_hex(fingerprint) {
            return Err(broken());
        }
        let (fingerprint, scheduler) = (fingerprint.to_owned(), scheduler.to_owned());
        Ok(Self { secret, fingerprint, scheduler })
    }

    /// As [`Invitation::parse`] reads it.
    pub fn text(&self) -> String {
        format!("{}_{}@{}", self.secret.reveal(), self.fingerprint, self.scheduler)
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_hex(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let secret = Secret::for_joining(&[7; 32]);
        assert_eq!(Secret::parse(secret.reveal()), Some(secret.clone()));
        assert_ne!(secret.hash(), Secret::for_person(&[7; 32]).hash());
        assert!(!format!("{secret:?}").contains("07"), "no secret in a log");
        for scheduler in ["10.0.0.1:8080", "[fd00::1]:8080", "box:1"] {
            let fingerprint = sha256(b"x");
            let whole =
                Invitation { secret: secret.clone(), fingerprint, scheduler: scheduler.into() };
            assert_eq!(Invitation::parse(&whole.text()), Ok(whole.clone()));
            assert!(!format!("{whole:?}").contains("0707"));
        }
    }

    #[test]
    fn what_is_broken_is_said_without_repeating_it() {
        let secret = Secret::for_joining(&[7; 32]);
        let good = format!("{}_{}@box:1", secret.reveal(), sha256(b"x"));
        for bad in [
            "",
            "@box:1",
            "x@box:1",
            &good.replace("box:1", "box"),
            &good.replace("box:1", "box:0"),
            &good.replace('@', ""),
            &good.replace("klj_", "klx_"),
            &good.replace("klj_", "klu_"),
            &good.replace("klj_07", "klj_"),
            &good.replace("klj_07", "klj_0G"),
            &format!("{}@box:1", secret.reveal()),
        ] {
            let error = Invitation::parse(bad).unwrap_err();
            assert!(error.contains("TOKEN@HOST:PORT") && !error.contains("0707"), "{bad}: {error}");
        }
        for bad in ["", "klu_", "klu_zz", "Bearer x", &format!("klu_{}", "A".repeat(64))] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_kind_is_not_taken_for_another() {
        let random = [7; 32];
        let kinds = [
            Secret::for_person(&random),
            Secret::for_joining(&random),
            Secret::for_signing_in(&random),
            Secret::for_session(&random),
        ];
        let read = |parse: fn(&str) -> Option<Secret>| {
            kinds.each_ref().map(|secret| parse(secret.reveal()).is_some())
        };
        assert_eq!(read(Secret::parse), [true, true, false, false]);
        assert_eq!(read(Secret::parse_code), [false, false, true, false]);
        assert_eq!(read(Secret::parse_session), [false, false, false, true]);
    }
}
