//! Whether a server may be reached from other machines the way it was started.

use std::net::SocketAddr;

/// Said at the start, and in `GET /health`, of a server that anybody may command.
pub const INSECURE: &str = "anybody who reaches this server over the network can command it, and \
    so start containers, which is root on the hosts: there is no TLS (--insecure)";

/// Whether a server that listens at `address` is safe there, or declared not to be.
///
/// Answers what to warn of, if of anything.
///
/// # Errors
/// When others could reach it unprotected and nobody said that they may: what is
/// wrong, and `remedy`, the commands that mend it.
pub fn check(
    address: SocketAddr,
    has_tls: bool,
    insecure: bool,
    remedy: &str,
) -> Result<Option<&'static str>, String> {
    match (address.ip().to_canonical().is_loopback() || has_tls, insecure) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(INSECURE)),
        (false, false) => Err(format!(
            "will not listen on {address}: other machines reach it there, and whoever does could \
             start containers, which is root on the hosts. Nothing was changed.\n{remedy}\n\
             Only for a network that nobody else is on, as it protects nothing: add --insecure"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_needs_no_protection() {
        for (address, tls, insecure, fine, warned) in [
            ("127.0.0.1:80", false, false, true, false),
            ("127.9.9.9:80", false, true, true, false),
            ("[::1]:80", false, false, true, false),
            ("[::ffff:127.0.0.1]:80", false, false, true, false),
            ("0.0.0.0:80", false, false, false, false),
            ("[::]:80", false, false, false, false),
            ("10.0.0.1:80", false, false, false, false),
            ("10.0.0.1:80", true, false, true, false),
            ("10.0.0.1:80", true, true, true, false),
            ("10.0.0.1:80", false, true, true, true),
        ] {
            let outcome = check(address.parse().unwrap(), tls, insecure, "do that");
            assert_eq!(outcome.is_ok(), fine, "{address} {tls} {insecure}");
            match outcome {
                Ok(warning) => assert_eq!(warning.is_some(), warned, "{address}"),
                Err(text) => assert!(text.contains(address) && text.contains("do that"), "{text}"),
            }
        }
    }
}
