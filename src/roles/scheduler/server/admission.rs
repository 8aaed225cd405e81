//! Who belongs to the cluster: joining, renewing, tokens, and leaving.

use std::sync::Arc;

use super::{Call, SchedulerServer};
use crate::http::{Reply, Request};
use crate::identity::access::{Identity, may_advertise, speaks_for};
use crate::identity::keeper::Keeper;
use crate::identity::message::{CertificateRequest, TokenRequest};
use crate::model::view::ChangeResponse;
use crate::model::wire::RegisterRequest;
use crate::model::{ApiError, NodeId, parse};
use crate::roles::scheduler::message::UserCall;

impl SchedulerServer {
    /// A node registers itself, and where it really is.
    pub(super) fn may_register(
        &self,
        request: &Request<Call>,
        hello: &RegisterRequest,
    ) -> Result<(), ApiError> {
        speaks_for(&request.caller.identity, &hello.node_id)?;
        if self.keeper.is_some() {
            let advertised = hello.advertise.as_deref();
            may_advertise(advertised, request.peer.ip(), &self.allow_advertise)?;
        }
        Ok(())
    }

    pub(super) fn join(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let keeper = self.keeper()?;
        let asked: CertificateRequest = parse::from_machine("request to join", &request.body)?;
        let answer = keeper.join(&asked.node_id, &asked.request)?;
        tracing::info!("node {} got a certificate; it is at {}", asked.node_id, request.peer.ip());
        Ok(Reply::json(200, &answer))
    }

    pub(super) fn renew(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let keeper = self.keeper()?;
        let asked: CertificateRequest = parse::from_machine("request to renew", &request.body)?;
        speaks_for(&request.caller.identity, &asked.node_id)?;
        let (Identity::Node(node) | Identity::ExpiredNode(node)) = &request.caller.identity else {
            return Err(no_identities());
        };
        Ok(Reply::json(200, &keeper.renew(node, &asked.request)?))
    }

    pub(super) fn tokens(&self) -> Result<Reply, ApiError> {
        Ok(Reply::json(200, &self.keeper()?.tokens()))
    }

    pub(super) fn create_token(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let keeper = self.keeper()?;
        let asked: TokenRequest = parse::from_people(&request.body)?;
        let made = keeper.create_token(&asked)?;
        tracing::info!("token {} was made by {}", made.token.id, request.caller.name);
        Ok(Reply::json(200, &made))
    }

    pub(super) fn revoke_token(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let view = self.keeper()?.revoke_token(request.param("id"))?;
        tracing::info!("token {} was revoked by {}", view.id, request.caller.name);
        Ok(Reply::json(200, &view))
    }

    /// Forgets a node, and then takes its certificate back. When that broke off in
    /// between, asking again does what was left.
    pub(super) async fn remove_node(&self, request: &Request<Call>) -> Result<Reply, ApiError> {
        let node = NodeId::from(request.param("id"));
        let message = match self.keeper {
            None => "it is forgotten; its agent has to register again to come back",
            Some(_) => "it is forgotten and its certificate revoked; its machine has to join again",
        };
        let call = UserCall::RemoveNode(node.clone());
        let removed = self.change(request, call, 200, message.to_owned()).await;
        let Some(keeper) = &self.keeper else { return removed };
        match removed {
            Ok(reply) => keeper.revoke_node(&node).map(|_| reply),
            // It has joined and never registered, or what was left is to be done.
            Err(error) if error.status == 404 => match keeper.revoke_node(&node)? {
                false => Err(error),
                true => {
                    let id = node.to_string();
                    let message = "its certificate is revoked".to_owned();
                    let (warnings, unchanged) = Default::default();
                    let change = ChangeResponse { id, message, warnings, unchanged };
                    Ok(Reply::json(200, &change))
                }
            },
            Err(error) => Err(error),
        }
    }

    pub(super) fn keeper(&self) -> Result<&Arc<Keeper>, ApiError> {
        self.keeper.as_ref().ok_or_else(no_identities)
    }
}

fn no_identities() -> ApiError {
    ApiError::conflict(
        "this cluster has no certificates and no tokens: whoever reaches the scheduler may do \
         everything. To change that, stop it and run: kube-lite scheduler --init",
    )
}
