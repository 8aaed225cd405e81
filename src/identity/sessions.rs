//! Browsers that are signed in: a code that is good once becomes a session, which a
//! cookie carries. Of both only hashes are kept, and in memory only: a scheduler that
//! starts anew has everybody sign in again.
//!
//! A session is never more than the token it comes from: who asks by a session is
//! judged as that token is at that moment.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use std::collections::BTreeMap;

use super::access::Refusal;
use super::ledger::Seconds;

/// How long a code may wait to be used.
pub const CODE_LIFE: Seconds = 5 * 60;
/// How long a session lasts, however much it is used.
pub const SESSION_LIFE: Seconds = 12 * 3600;
/// Of one token, so many codes wait and so many sessions last; then the oldest goes.
const OF_ONE_TOKEN: usize = 10;
/// Of all together.
const OF_ALL: usize = 1_000;

/// All codes and sessions that are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    codes: Passes,
    sessions: Passes,
}

/// What a code or a session was made from, by the hash of it.
type Passes = BTreeMap<String, Pass>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pass {
    /// The hash of the token.
    token: String,
    expires: Seconds,
    /// Grows: which came first.
    number: u64,
}

impl Sessions {
    /// Keeps a code that was made with a token.
    pub fn offer(&mut self, code: &str, token: &str, now: Seconds) {
        add(&mut self.codes, code, token, now, now.saturating_add(CODE_LIFE));
    }

    /// Uses a code up. Answers with the token that it was made with.
    ///
    /// # Errors
    /// When there is none, any more or ever: which of both is not said.
    pub fn redeem(&mut self, code: &str, now: Seconds) -> Result<String, Refusal> {
        let pass = self.codes.remove(code).filter(|pass| now < pass.expires);
        pass.map(|pass| pass.token).ok_or(Refusal::UnknownCode)
    }

    /// Keeps a session for a token, until `expires`.
    pub fn begin(&mut self, session: &str, token: &str, now: Seconds, expires: Seconds) {
        add(&mut self.sessions, session, token, now, expires);
    }

    /// The token that a session stands for, and when it ends.
    ///
    /// # Errors
    /// When there is none, any more or ever: which of both is not said.
    pub fn find(&self, session: &str, now: Seconds) -> Result<(&str, Seconds), Refusal> {
        let pass = self.sessions.get(session).filter(|pass| now < pass.expires);
        pass.map(|pass| (pass.token.as_str(), pass.expires)).ok_or(Refusal::UnknownSession)
    }

    /// Ends a session; `false`: there was none.
    pub fn end(&mut self, session: &str) -> bool {
        self.sessions.remove(session).is_some()
    }
}

fn add(passes: &mut Passes, hash: &str, token: &str, now: Seconds, expires: Seconds) {
    passes.retain(|_, pass| now < pass.expires);
    let number = passes.values().map(|pass| pass.number + 1).max().unwrap_or_default();
    let pass = Pass { token: token.to_owned(), expires, number };
    passes.insert(hash.to_owned(), pass);
    drop_oldest(passes, OF_ONE_TOKEN, |pass| pass.token == token);
    drop_oldest(passes, OF_ALL, |_| true);
}

/// Leaves at most `most` of those that count.
fn drop_oldest(passes: &mut Passes, most: usize, counts: impl Fn(&Pass) -> bool) {
    while passes.values().filter(|pass| counts(pass)).count() > most {
        let those = passes.iter().filter(|(_, pass)| counts(pass));
        let Some(oldest) = those.min_by_key(|(_, pass)| pass.number) else { return };
        let oldest = oldest.0.clone();
        passes.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_for_a_while() {
        let mut sessions = Sessions::default();
        sessions.offer("c1", "t", 100);
        assert_eq!(sessions.redeem("c2", 100), Err(Refusal::UnknownCode));
        assert_eq!(sessions.redeem("c1", 100 + CODE_LIFE - 1), Ok("t".to_owned()));
        assert_eq!(sessions.redeem("c1", 100), Err(Refusal::UnknownCode), "used up");
        sessions.offer("c1", "t", 100);
        assert_eq!(sessions.redeem("c1", 100 + CODE_LIFE), Err(Refusal::UnknownCode), "too old");
        assert_eq!(sessions.redeem("c1", 100), Err(Refusal::UnknownCode), "a try uses it up");
    }

    #[test]
    fn a_session_ends() {
        let mut sessions = Sessions::default();
        sessions.begin("s1", "t", 100, 200);
        assert_eq!(sessions.find("s1", 199), Ok(("t", 200)));
        for (hash, now) in [("s1", 200), ("s2", 100), ("", 100), ("t", 100)] {
            assert_eq!(sessions.find(hash, now), Err(Refusal::UnknownSession), "{hash} at {now}");
        }
        assert!(sessions.end("s1") && !sessions.end("s1"));
        assert_eq!(sessions.find("s1", 100), Err(Refusal::UnknownSession));
        // A code is no session, and a session no code.
        sessions.offer("c", "t", 100);
        sessions.begin("s", "t", 100, 200);
        assert_eq!(sessions.find("c", 100), Err(Refusal::UnknownSession));
        assert_eq!(sessions.redeem("s", 100), Err(Refusal::UnknownCode));
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut sessions = Sessions::default();
        sessions.begin("other", "u", 0, 1_000);
        for number in 0..=OF_ONE_TOKEN {
            sessions.begin(&format!("s{number}"), "t", 0, 1_000);
            sessions.offer(&format!("c{number}"), "t", 0);
        }
        assert_eq!(sessions.find("s0", 1), Err(Refusal::UnknownSession), "the oldest went");
        assert_eq!(sessions.redeem("c0", 1), Err(Refusal::UnknownCode));
        assert!(sessions.find("s1", 1).is_ok() && sessions.find("other", 1).is_ok());
        for number in 0..2 * OF_ALL {
            sessions.begin(&format!("x{number}"), &format!("t{number}"), 0, 1_000);
        }
        assert_eq!(sessions.sessions.len(), OF_ALL);
        // What has ended makes room.
        sessions.begin("last", "t", 1_000, 2_000);
        assert_eq!(sessions.sessions.len(), 1);
    }
}
