//! `ctl token`: who may use the cluster.

use jiff::Timestamp;

use super::args::{TokenCommand, TokenCreateArgs, TokenRole};
use super::session::Session;
use super::stop::Stop;
use crate::identity::credentials::Credentials;
use crate::identity::ledger::{Grant, TokenView};
use crate::identity::message::TokenRequest;
use crate::identity::token::{Invitation, Secret};

pub(super) async fn token(session: &Session, command: &TokenCommand) -> Result<(), Stop> {
    match command {
        TokenCommand::Create(args) => create(session, args).await,
        TokenCommand::List => {
            let tokens = session.client.tokens().await.map_err(|error| session.failed(&error))?;
            match session.json() {
                true => session.say(json(&tokens)),
                false => session.say(table(&tokens)),
            }
        }
        TokenCommand::Revoke { id } => {
            let revoked = session.client.revoke_token(id).await;
            let revoked = revoked.map_err(|error| session.failed(&error))?;
            session.remark(&format!("token {} is revoked", revoked.id));
            Ok(())
        }
    }
}

async fn create(session: &Session, args: &TokenCreateArgs) -> Result<(), Stop> {
    let role = match args.role {
        TokenRole::Join => Grant::Join,
        TokenRole::Viewer => Grant::Viewer,
        TokenRole::Operator => Grant::Operator,
        TokenRole::Admin => Grant::Admin,
    };
    if role == Grant::Join && args.write.is_some() {
        return Err(Stop::Usage("--write is for people; a machine joins with the line".to_owned()));
    }
    if let Some(file) = args.write.as_ref().filter(|file| file.exists()) {
        return Err(Stop::Usage(format!("{} exists already; nothing was done", file.display())));
    }
    let expires_in_seconds = args.expires.map(|life| life.as_secs().max(1));
    let asked = TokenRequest { role, name: args.name.clone(), expires_in_seconds };
    let made = session.client.create_token(&asked).await.map_err(|error| session.failed(&error))?;
    let server = session.client.base().to_owned();
    let until = made.token.expires.map_or("until it is revoked".to_owned(), until);
    let remark = format!("token {}, good {until}; it is not shown again", made.token.id);
    if session.json() {
        session.remark(&remark);
        return session.say(json(&made));
    }
    if role == Grant::Join {
        let secret = Secret::parse(&made.secret);
        let secret = secret.ok_or_else(|| Stop::Failed("the token is not whole".to_owned()))?;
        let scheduler = server.trim_start_matches("https://").to_owned();
        let invitation = Invitation { secret, fingerprint: made.fingerprint, scheduler };
        session.remark(&format!("{remark}. Whoever has it can add a node:"));
        return session.say(format!("kube-lite agent --join {}\n", invitation.text()));
    }
    let credentials = Credentials { server, fingerprint: made.fingerprint, token: made.secret };
    if let Some(file) = &args.write {
        let written = credentials.write(file);
        written.map_err(|error| {
            Stop::Failed(format!(
                "{error:#}. Revoke what was made: ctl token revoke {}",
                made.token.id
            ))
        })?;
        session.remark(&format!(
            "{remark}. Use it: KUBE_LITE_CREDENTIALS={} kube-lite ctl nodes",
            file.display()
        ));
        return Ok(());
    }
    session.remark(&format!("{remark}. For curl, or in a credentials file (chmod 600):"));
    session.say(json(&credentials))
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

fn until(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok());
    at.map_or("for ever".to_owned(), |at| format!("until {at}"))
}

fn table(tokens: &[TokenView]) -> String {
    let head = ["ID", "ROLE", "NAME", "STATE", "EXPIRES"].map(str::to_owned);
    let row = |token: &TokenView| {
        let expires = token.expires.map_or("never".to_owned(), |at| {
            let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_second(at).ok());
            at.map_or_else(String::new, |at| at.to_string())
        });
        let role = format!("{:?}", token.role).to_lowercase();
        let name = if token.name.is_empty() { "-" } else { &token.name };
        [token.id.clone(), role, name.to_owned(), token.state.clone(), expires]
    };
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(tokens.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_columns() {
        let view = |name: &str, role, expires| TokenView {
            id: "0123456789".into(),
            role,
            name: name.into(),
            created: 0,
            expires,
            state: "good".into(),
        };
        let text = table(&[view("root", Grant::Admin, None), view("", Grant::Join, Some(0))]);
        assert_eq!(
            text,
            "ID           ROLE    NAME   STATE   EXPIRES\n\
             0123456789   admin   root   good    never\n\
             0123456789   join    -      good    1970-01-01T00:00:00Z\n"
        );
    }
}
