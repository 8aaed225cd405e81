//! Signing a browser in and out. It comes with a code that `kube-lite ctl dashboard`
//! has made, and gets a cookie that no script can read.

use hyper::header::SET_COOKIE;

use super::{Call, SchedulerServer};
use crate::http::guard::Doorkeeper as _;
use crate::http::{Reply, Request, cookie};
use crate::identity::access::{Identity, Role};
use crate::identity::message::{SessionView, SignInRequest};
use crate::identity::sessions::SESSION_LIFE;
use crate::model::view::ChangeResponse;
use crate::model::{ApiError, parse};

impl SchedulerServer {
    pub(super) fn sign_in_code(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        Ok(Reply::json(200, &self.keeper()?.offer_sign_in(&request.caller.identity)?))
    }

    pub(super) fn sign_in(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let keeper = self.keeper()?;
        let asked: SignInRequest = parse::from_people(&request.body)?;
        let (secret, view) = keeper.sign_in(&asked.code, SESSION_LIFE)?;
        let from = request.peer.ip().to_canonical();
        let (name, role) = (&view.name, view.role.as_str());
        tracing::info!("{name} ({role}) has signed in to the dashboard from {from}");
        let seconds = view.expires_in_seconds.unwrap_or_default();
        let cookie = keeper
            .session_cookie()
            .and_then(|name| cookie::giving(name, secret.reveal(), seconds))
            .ok_or_else(|| ApiError::new(500, "Internal", "this is a bug: no cookie"))?;
        Ok(Reply::json(200, &view).header(SET_COOKIE, cookie))
    }

    pub(super) fn session(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let view = match (&self.keeper, &request.caller.identity) {
            (Some(keeper), identity) if *identity != Identity::Scheduler => {
                keeper.session_view(identity)?
            }
            (_, identity) => {
                let all = *identity == Identity::Anybody;
                let role = if all { Role::Admin } else { Role::Viewer };
                let (name, signed_in, expires_in_seconds) = Default::default();
                SessionView { name, role, signed_in, expires_in_seconds }
            }
        };
        Ok(Reply::json(200, &view))
    }

    pub(super) fn sign_out(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let keeper = self.keeper()?;
        if !keeper.sign_out(&request.caller.identity) {
            return Err(ApiError::conflict(
                "you are not signed in by a session, but by what you show each time",
            ));
        }
        tracing::info!("{} has signed out", request.caller.name);
        let (warnings, unchanged) = Default::default();
        let (id, message) = ("session".to_owned(), "it has ended".to_owned());
        let reply = Reply::json(200, &ChangeResponse { id, message, warnings, unchanged });
        let over = keeper.session_cookie().and_then(|name| cookie::giving(name, "", 0));
        Ok(match over {
            Some(cookie) => reply.header(SET_COOKIE, cookie),
            None => reply,
        })
    }
}
