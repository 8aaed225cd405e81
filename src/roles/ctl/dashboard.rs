//! `ctl dashboard`: a link that signs a browser in.

use serde_json::json;

use super::session::Session;
use super::stop::Stop;
use crate::identity::message::SignInOffer;

pub(super) async fn dashboard(session: &Session) -> Result<(), Stop> {
    let server = session.client.base();
    let offer = match session.client.sign_in_code().await {
        Ok(offer) => Some(offer),
        // A cluster without tokens asks nobody who he is.
        Err(error) if error.status() == Some(409) => None,
        Err(error) => return Err(session.failed(&error)),
    };
    let link = link(server, offer.as_ref());
    if session.json() {
        let mut value = serde_json::to_value(&offer).unwrap_or_default();
        if !value.is_object() {
            value = json!({});
        }
        value["url"] = link.into();
        return session.say(format!("{value:#}\n"));
    }
    if let Some(offer) = &offer {
        session.remark(&remark(offer));
    }
    session.say(format!("{link}\n"))
}

/// The code is behind the `#`, which a browser sends to nobody: it is in no log.
fn link(server: &str, offer: Option<&SignInOffer>) -> String {
    let server = server.trim_end_matches('/');
    match offer {
        Some(offer) => format!("{server}/#/sign-in/{}", offer.code),
        None => format!("{server}/"),
    }
}

fn remark(offer: &SignInOffer) -> String {
    let role = offer.role.as_str();
    let who = match offer.name.as_str() {
        "" => role.to_owned(),
        name => format!("{name} ({role})"),
    };
    format!(
        "Signs one browser in as {who}, within {} minutes. It will not know the cluster's \
         authority and warn; compare the SHA-256 fingerprint of the certificate that it shows:\n  \
         {}",
        offer.expires_in_seconds / 60,
        grouped(&offer.certificate)
    )
}

/// As browsers show it.
fn grouped(hex: &str) -> String {
    let pairs: Vec<_> = hex.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
    pairs.join(":").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::access::Role;

    #[test]
    fn the_link_and_what_is_said_about_it() {
        let offer = SignInOffer {
            code: "klc_1".into(),
            name: "ann".into(),
            role: Role::Viewer,
            expires_in_seconds: 300,
            certificate: "0a1b2c".into(),
        };
        assert_eq!(link("https://box:1", Some(&offer)), "https://box:1/#/sign-in/klc_1");
        assert_eq!(link("http://box:1/", None), "http://box:1/");
        let said = remark(&offer);
        assert!(said.contains("as ann (viewer), within 5 minutes"), "{said}");
        assert!(said.contains("0A:1B:2C") && !said.contains("klc_1"), "{said}");
        assert!(remark(&SignInOffer { name: String::new(), ..offer }).contains("as viewer, "));
    }
}
