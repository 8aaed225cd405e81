//! One HTTP probe: a GET to the container's own address, answered in time with
//! 2xx or 3xx. No redirect is followed, no body is read, nothing is kept open.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::message::Probe;

/// A status line and headers fit in this.
const LARGEST_HEAD: usize = 64 * 1024;

/// Sends the probe. An error says in one sentence why it failed.
pub async fn probe(probe: &Probe) -> Result<(), String> {
    let limit = Duration::from_millis(probe.timeout_ms);
    let url = format!("http://{}:{}{}", host(&probe.ip), probe.port, probe.path);
    match tokio::time::timeout(limit, get(probe)).await {
        Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
        Ok(Ok(status)) => Err(format!("GET {url} answered with status {status}")),
        Ok(Err(why)) => Err(format!("GET {url} failed: {why}")),
        Err(_) => Err(format!("GET {url} was not answered within {} s", limit.as_secs_f64())),
    }
}

async fn get(probe: &Probe) -> Result<u16, String> {
    let stream =
        TcpStream::connect((probe.ip.as_str(), probe.port)).await.map_err(|e| in_short(&e))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| in_short(&error))?;
    let request = Request::get(&probe.path)
        .header(HOST, format!("{}:{}", host(&probe.ip), probe.port))
        .header(USER_AGENT, concat!("kube-lite-probe/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the path is not usable: {error}"))?;
    // Both in this one task: when the time is up, the connection goes too.
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let response = tokio::select! {
        response = &mut answer => response,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => return Err(in_short(&error)),
        },
    };
    response.map(|response| response.status().as_u16()).map_err(|error| in_short(&error))
}

fn host(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

/// The last cause is the one that says something: `connection refused`.
fn in_short(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn to(port: u16, timeout_ms: u64) -> Probe {
        Probe {
            id: "web".into(),
            container_id: "c1".into(),
            ip: "127.0.0.1".into(),
            port,
            path: "/healthz?deep=1".into(),
            timeout_ms,
        }
    }

    /// Serves one connection with these bytes; returns what it was asked.
    async fn answered(bytes: &'static str, limit_ms: u64) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            stream.write_all(bytes.as_bytes()).await.unwrap();
            if bytes.is_empty() {
                let _ = stream.read(&mut [0]).await; // hang until the prober leaves
            }
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        let outcome = probe(&to(port, limit_ms)).await;
        (outcome, server.await.unwrap())
    }

    #[tokio::test]
    async fn two_and_three_hundreds_pass_and_no_redirect_is_followed() {
        for status in ["200 OK", "204 No Content", "302 Found\r\nLocation: http://192.0.2.1/"] {
            let bytes = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").leak();
            let (outcome, asked) = answered(bytes, 5_000).await;
            assert_eq!(outcome, Ok(()), "{status}");
            assert!(asked.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{asked}");
            assert!(asked.to_lowercase().contains("connection: close"), "{asked}");
        }
    }

    #[tokio::test]
    async fn everything_else_fails_and_says_how() {
        for (bytes, says) in [
            ("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", "status 500"),
            ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "status 404"),
            ("SSH-2.0-OpenSSH\r\n", "failed"),
            ("", "not answered within 0.2 s"),
        ] {
            let (outcome, _) = answered(bytes, 200).await;
            let why = outcome.unwrap_err();
            assert!(why.contains(says), "{bytes:?}: {why}");
        }
    }

    #[tokio::test]
    async fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let why = probe(&to(port, 5_000)).await.unwrap_err();
        assert!(why.ends_with("failed: connection refused"), "{why}");
    }
}
