//! Calling the scheduler: registration and heartbeats over HTTP, their failures
//! sorted into those it answered with and those it did not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::message::{CallError, Input, Registration};
use crate::client::{Client, ClientError};
use crate::model::wire::{HeartbeatRequest, RegisterRequest};

/// `POST /register`.
pub async fn register(client: &Client, request: &RegisterRequest) -> Input {
    Input::Registered(match client.register(request).await {
        Ok(response) => {
            let bind_ip = bind_ip(&response.address).await;
            Ok(Registration { response, bind_ip })
        }
        Err(error) => Err(sorted(error)),
    })
}

/// `POST /heartbeat`.
pub async fn heartbeat(client: &Client, request: &HeartbeatRequest) -> Input {
    let outcome = client.heartbeat(request).await.map_err(sorted);
    Input::Beat { seq: request.seq, outcome }
}

fn sorted(error: ClientError) -> CallError {
    match error {
        ClientError::Api(error) => {
            CallError::Refused { status: error.status, message: error.error }
        }
        other => CallError::Unreachable(other.to_string()),
    }
}

/// The one address that ports are published on, from the `host:port` the agent
/// is known under. A name is looked up; one that cannot be leaves every IPv4
/// interface, which is at least the same port on each.
async fn bind_ip(address: &str) -> IpAddr {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return ip;
    }
    let looked_up = tokio::net::lookup_host((bare, 0));
    let found: Vec<SocketAddr> = match tokio::time::timeout(Duration::from_secs(5), looked_up).await
    {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    let v4 = found.iter().find(|found| found.is_ipv4());
    v4.or(found.first()).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |found| found.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ports_are_published_on_the_address_the_agent_is_known_under() {
        for (address, ip) in [
            ("127.0.0.1:8081", "127.0.0.1"),
            ("10.1.2.3:8081", "10.1.2.3"),
            ("[::1]:8081", "::1"),
            ("localhost:8081", "127.0.0.1"),
        ] {
            assert_eq!(bind_ip(address).await.to_string(), ip, "{address}");
        }
    }
}
